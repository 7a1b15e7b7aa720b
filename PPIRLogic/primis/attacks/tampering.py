"""Changes of files and grants, keys that are not theirs, and nonces used twice."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from PPIRLogic.arrays import AnyArray
from PPIRLogic.errors import PPIRError
from PPIRLogic.primis.code_maps import Quantised
from PPIRLogic.primis.codec import Coded, decode
from PPIRLogic.primis.extras import split_extras
from PPIRLogic.primis.keys import KEY_BYTES, LevelKey
from PPIRLogic.primis.sealed_file import TAG_BYTES, SealedFile, open_codes, parse_file

KINDS = (
    "bit flipped",
    "byte changed",
    "codes swapped",
    "code of another file",
    "cut",
    "lengthened",
    "header of another",
)


def tampered(file: SealedFile, other: SealedFile, draw: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    """One change of each kind after the other, without end. `other`: a sealed file of the same site."""
    whole, codes = file.to_bytes(), file.codes
    while True:
        at = int(draw.integers(len(whole)))
        yield KINDS[0], _with(whole, at, whole[at] ^ (1 << int(draw.integers(8))))
        yield KINDS[1], _with(whole, at, (whole[at] + int(draw.integers(1, 256))) % 256)
        if len(codes) > 1:
            one, two = draw.choice(len(codes), 2, replace=False).tolist()
            swapped = list(codes)
            swapped[one], swapped[two] = swapped[two], swapped[one]
            yield KINDS[2], file.header.raw + b"".join(swapped)
        number = int(draw.integers(len(codes)))
        mixed = [*codes[:number], other.codes[number], *codes[number + 1 :]]
        yield KINDS[3], file.header.raw + b"".join(mixed)
        yield KINDS[4], whole[: int(draw.integers(len(whole)))]
        yield KINDS[5], whole + draw.bytes(int(draw.integers(1, 64)))
        yield KINDS[6], other.header.raw + b"".join(codes)


def _with(data: bytes, at: int, value: int) -> bytes:
    return data[:at] + bytes([value]) + data[at + 1 :]


def opened_anyway(
    file: SealedFile, other: SealedFile, key: LevelKey, count: int, seed: int = 0
) -> tuple[Counter[str], Counter[str]]:
    """How many of `count` changed files were tried, by kind, and how many of them opened. Other errors than those of
    this program are raised: they would be a crash."""
    tried: Counter[str] = Counter()
    opened: Counter[str] = Counter()
    changes = tampered(file, other, np.random.default_rng(seed))
    for kind, data in (next(changes) for _ in range(count)):
        tried[kind] += 1
        try:
            open_codes(parse_file(data), key)
            opened[kind] += 1
        except PPIRError:
            pass
    return tried, opened


def changed_maps(public: Quantised, draw: np.random.Generator) -> Quantised:
    """One entry of a code with decoys changed, as somebody on the way could."""
    level = int(draw.integers(len(public.maps)))
    entries = public.maps[level].copy()
    at = int(draw.choice(np.flatnonzero(entries)))
    entries.flat[at] += (1 if entries.flat[at] > 0 else -1) * int(draw.integers(1, 40))
    return replace(public, maps=(*public.maps[:level], entries, *public.maps[level + 1 :]))


def forced(sealed: SealedFile, coded: Coded, levels: int) -> AnyArray | None:
    """The image of a sealed file under a key that somebody made up, with the check of each code left out; None where
    the decoder finds nothing in what comes out."""
    payloads = []
    for number in range(levels):
        nonce = sealed.header.codes[number].nonce
        # AES-GCM is AES-CTR from counter 2 on, with a check
        stream = Cipher(algorithms.AES(secrets.token_bytes(KEY_BYTES)), modes.CTR(nonce + b"\0\0\0\2")).decryptor()
        payloads.append(stream.update(sealed.codes[number][:-TAG_BYTES]))
    try:
        _, payloads[0] = split_extras(payloads[0], coded.shape, "The file")
        return decode(payloads, coded.shape, coded.dtype, coded.model)
    except PPIRError:
        return None


def with_one_nonce(payloads: Sequence[bytes]) -> list[bytes]:
    """How not to do it: all payloads under one key and one nonce."""
    cipher, nonce = AESGCM(secrets.token_bytes(KEY_BYTES)), secrets.token_bytes(12)
    return [cipher.encrypt(nonce, p, None)[:-TAG_BYTES] for p in payloads]


def read_by_xor(known_plain: bytes, known_cipher: bytes, cipher: bytes) -> bytes:
    """What another code says if it was encrypted under the same key and nonce as one whose content is known."""
    n = min(len(known_plain), len(known_cipher), len(cipher))
    arrays = [np.frombuffer(b[:n], np.uint8) for b in (known_plain, known_cipher, cipher)]
    return bytes(arrays[0] ^ arrays[1] ^ arrays[2])


def share_right(guess: bytes, truth: bytes) -> float:
    """Of the bytes that were guessed; chance is 1/256."""
    n = min(len(guess), len(truth))
    return float(np.mean(np.frombuffer(guess[:n], np.uint8) == np.frombuffer(truth[:n], np.uint8)))
