"""The .ppis file: a header that anybody may read, and codes that their keys open (Docs/reference/ppis.md).

Nothing here decodes. The header is read by hand, field by field, before anything is trusted; the codes are handed on
only after their authentication.
"""

from __future__ import annotations

import math
import os
import secrets
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from PPIRLogic.errors import InputError
from PPIRLogic.files import name_problem, shown_path
from PPIRLogic.primis.filling import class_lengths
from PPIRLogic.primis.keys import CHECK_BYTES, ID_BYTES, LevelKey
from PPIRLogic.primis.levels import LEVELS

MAGIC = b"PPIS\r\n\x1a\n"  # a transfer that changes ends of lines damages it visibly
VERSION = 1
SUFFIX = ".ppis"
DTYPES = ("uint8", "uint16", "int16")
MIN_SIDE, MAX_SIDE = 2, 4096  # pixels, as everywhere here
MAX_PIXELS = 2**28
MAX_FILE = 2**31 - 1  # bytes
NONCE_BYTES, TAG_BYTES = 12, 16
_END = 0x80  # ends a code's payload; zeros may follow
_FIXED = struct.Struct(f">8sH{ID_BYTES}s32sBBB")  # magic, version, image id, model, type, axes, codes
_ENTRY = struct.Struct(f">I{NONCE_BYTES}s{CHECK_BYTES}s")
MAX_HEADER = _FIXED.size + 3 * 4 + len(LEVELS) * _ENTRY.size
OVERHEAD = _ENTRY.size + TAG_BYTES + 1  # bytes of a code beside its payload: table, tag, end mark


@dataclass(frozen=True)
class CodeEntry:
    """A line of the table of codes: the code's bytes in the file, its nonce, and the check value of its key."""

    length: int
    nonce: bytes
    check: bytes


@dataclass(frozen=True)
class Header:
    """What anybody can read of a sealed image: nothing of its content but its shape and the lengths of its codes.

    image_id: 16 random bytes. model: SHA-256 of the codec's weights, hex. shape: (y, x) or (z, y, x). codes: one entry
    a level, in the order of LEVELS. raw: the bytes themselves, which every code is bound to.

    >>> entry = CodeEntry(500, bytes(12), bytes(16))
    >>> Header(bytes(16), "00" * 32, (160, 160), "uint8", (entry, entry)).levels
    ('overview', 'segmentation')
    """

    image_id: bytes
    model: str
    shape: tuple[int, ...]
    dtype: str
    codes: tuple[CodeEntry, ...]
    raw: bytes = field(default=b"", repr=False, compare=False)

    @property
    def levels(self) -> tuple[str, ...]:
        """The names of the levels that the file holds."""
        return LEVELS[: len(self.codes)]

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return len(self.raw) + sum(code.length for code in self.codes)

    def bits(self, level: int) -> int:
        """What the code of a level (1 to 5) can tell at most, in bits."""
        return 8 * (self.codes[level - 1].length - TAG_BYTES)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as `ppir primis inspect --json` shows them and a catalogue sends them."""
        lengths = [{"level": name, "bytes": code.length} for name, code in zip(self.levels, self.codes, strict=True)]
        return {
            "version": VERSION, "image": self.image_id.hex(), "model": self.model, "shape": list(self.shape),
            "dtype": self.dtype, "codes": lengths, "bytes": self.size,
        }  # fmt: skip

    def pack(self) -> bytes:
        """The header as bytes."""
        fixed = _FIXED.pack(
            MAGIC, VERSION, self.image_id, bytes.fromhex(self.model), DTYPES.index(self.dtype) + 1, len(self.shape),
            len(self.codes),
        )  # fmt: skip
        table = b"".join(_ENTRY.pack(code.length, code.nonce, code.check) for code in self.codes)
        return fixed + struct.pack(f">{len(self.shape)}I", *self.shape) + table


@dataclass(frozen=True)
class SealedFile:
    """A whole .ppis file. codes: what lies in it for each level, ciphertext and tag (the nonce is in the header).

    >>> sealed = read_file(Path("chest.ppis"))  # doctest: +SKIP
    >>> [len(code) for code in sealed.codes]  # doctest: +SKIP
    [888, 1041, 1655, 2833, 10769]
    """

    header: Header
    codes: tuple[bytes, ...] = field(repr=False)

    def to_bytes(self) -> bytes:
        return self.header.raw + b"".join(self.codes)


# ------------------------------------------------------------------------------------------------------------- reading


def parse_header(data: bytes, size: int, what: str = "The sealed file") -> Header:
    """The header at the beginning of `data`, of a file of `size` bytes.

    InputError, beginning with `what`: no .ppis file, another version, a field out of its range, or a size other than
    the header says.
    """
    if len(data) < _FIXED.size or data[:8] != MAGIC:
        hint = "it was changed on its way (ends of lines)" if data[:4] == MAGIC[:4] else "it begins as another"
        raise InputError(f"{what} is no .ppis file: {hint}. Fetch it again, or give the file that was sealed.")
    _, version, image_id, model, kind, axes, count = _FIXED.unpack_from(data)
    if version != VERSION:
        raise InputError(f"{what} has version {version}, and this software reads {VERSION}. Update it, or seal anew.")
    if not 1 <= kind <= len(DTYPES) or axes not in (2, 3) or not 1 <= count <= len(LEVELS):
        raise _damaged(what, "its header names a type of pixels, a number of axes or of codes that there is not")
    end = _FIXED.size + 4 * axes + count * _ENTRY.size
    if len(data) < end:
        raise InputError(f"{what} is cut short: its header alone has {end} bytes, and {size} are there. Copy it again.")
    shape = struct.unpack_from(f">{axes}I", data, _FIXED.size)
    if not all(MIN_SIDE <= side <= MAX_SIDE for side in shape) or math.prod(shape) > MAX_PIXELS:
        raise _damaged(
            what, f"its header names a size outside {MIN_SIDE} to {MAX_SIDE} pixels a side, or more than {MAX_PIXELS}"
        )
    codes = tuple(CodeEntry(*_ENTRY.unpack_from(data, at)) for at in range(end - count * _ENTRY.size, end, _ENTRY.size))
    if any(code.length <= TAG_BYTES for code in codes):
        raise _damaged(what, "its header names a code without content")
    header = Header(image_id, model.hex(), shape, DTYPES[kind - 1], codes, data[:end])
    if header.size != size:
        how = "is cut short" if size < header.size else "has something behind its end"
        raise InputError(f"{what} {how}: {header.size} bytes by its header, {size} in all. Copy or fetch it again.")
    return header


def parse_file(data: bytes, what: str = "The sealed file") -> SealedFile:
    """A whole file in memory; InputError as `parse_header`."""
    header = parse_header(data[:MAX_HEADER], len(data), what)
    codes, at = [], len(header.raw)
    for code in header.codes:
        codes.append(data[at : at + code.length])
        at += code.length
    return SealedFile(header, tuple(codes))


def read_header(path: Path) -> Header:
    """The header of a file on disk; its codes are not read. InputError: missing, unreadable, or as `parse_header`."""
    what = f"The sealed file '{shown_path(path)}'"
    data, size = _read(path, what, MAX_HEADER)
    return parse_header(data, size, what)


def read_file(path: Path) -> SealedFile:
    """A file on disk; InputError: missing, unreadable, longer than 2 GiB, or as `parse_header`."""
    what = f"The sealed file '{shown_path(path)}'"
    read_header(path)  # so that nothing large is read in vain
    return parse_file(_read(path, what, MAX_FILE)[0], what)


def _read(path: Path, what: str, most: int) -> tuple[bytes, int]:
    if problem := name_problem(path):
        raise InputError(f"{what} cannot be opened: {problem}")
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > MAX_FILE:
                raise InputError(f"{what} is longer than {MAX_FILE} bytes, which no .ppis file is.")
            return file.read(most), size
    except FileNotFoundError:
        raise InputError(f"{what} does not exist. Check the path.") from None
    except OSError as error:
        raise InputError(f"{what} cannot be read: {error.strerror}.") from None


def _damaged(what: str, why: str) -> InputError:
    return InputError(f"{what} is damaged: {why}. Copy or fetch it again.")


# ------------------------------------------------------------------------------------------------- sealing and opening


def seal_codes(
    payloads: Sequence[bytes], key: LevelKey, model: str, shape: tuple[int, ...], dtype: str, *, pad: bool = True
) -> SealedFile:
    """Seal one payload a level. key: of the highest level, so of the image whose id it carries.

    pad: fill each code up to one of few lengths (`filling`), which then tell next to nothing of its content.
    """
    plain = [payload + bytes([_END]) for payload in payloads]
    if pad:
        lengths = class_lengths([len(text) for text in plain], shape, dtype)
        plain = [text.ljust(length, b"\0") for text, length in zip(plain, lengths, strict=True)]
    keys = [key.down_to(number) for number in range(1, len(plain) + 1)]
    entries = tuple(
        CodeEntry(len(text) + TAG_BYTES, secrets.token_bytes(NONCE_BYTES), k.check)
        for text, k in zip(plain, keys, strict=True)
    )
    bare = Header(key.image_id, model, shape, dtype, entries)
    header = Header(key.image_id, model, shape, dtype, entries, bare.pack())
    codes = tuple(
        AESGCM(k.sealing).encrypt(entry.nonce, text, _bound(header, number))
        for number, (k, entry, text) in enumerate(zip(keys, entries, plain, strict=True), 1)
    )
    return SealedFile(header, codes)


def key_fits(header: Header, key: LevelKey) -> bool:
    """Whether this is the key of that level of the file (16 bytes of the header say so)."""
    return (
        key.image_id == header.image_id
        and key.level <= len(header.codes)
        and secrets.compare_digest(header.codes[key.level - 1].check, key.check)
    )


def open_codes(sealed: SealedFile, key: LevelKey, what: str = "The sealed file") -> list[bytes]:
    """The payloads of the levels 1 to `key.level`, each authenticated with the whole header.

    InputError, naming the code and what is wrong: changed, swapped with another, or of another file; or not its key.
    """
    payloads = []
    for number in range(1, key.level + 1):
        own = key.down_to(number)
        if not key_fits(sealed.header, own):
            raise InputError(
                f"{what}: this key does not open its code {_named(number)}. It is of another image, or the header was"
                " changed. Fetch the file again, or ask its owner for a grant."
            )
        try:
            text = _decrypt(sealed, own, number)
        except InvalidTag:
            raise InputError(f"{what} was changed: {_why_refused(sealed, own, number)}. Fetch it again.") from None
        payloads.append(_emptied(text, what, number))
    return payloads


def _bound(header: Header, number: int) -> bytes:
    """What a code is bound to: the whole header, and its place."""
    return header.raw + bytes([number])


def _decrypt(sealed: SealedFile, key: LevelKey, number: int, code: bytes | None = None) -> bytes:
    entry = sealed.header.codes[number - 1]
    code = sealed.codes[number - 1] if code is None else code
    return AESGCM(key.sealing).decrypt(entry.nonce, code, _bound(sealed.header, number))


def _why_refused(sealed: SealedFile, key: LevelKey, number: int) -> str:
    """What can be told of a code that its key does not open."""
    for other, code in enumerate(sealed.codes, 1):
        if other != number and len(code) == len(sealed.codes[number - 1]):
            try:
                _decrypt(sealed, key, number, code)
            except InvalidTag:
                continue
            return f"its codes {_named(number)} and {_named(other)} are swapped"
    if number > 1:
        return f"its code {_named(number)} is not the one that was sealed there: changed, or taken from another file"
    return f"its header, or its code {_named(1)}, is not as it was sealed"


def _named(number: int) -> str:
    return f"{number} ({LEVELS[number - 1]})"


def _emptied(text: bytes, what: str, number: int) -> bytes:
    payload = text.rstrip(b"\0")
    if not payload or payload[-1] != _END:
        raise InputError(
            f"{what} was made wrongly: its code {_named(number)} has no end. Ask its owner to seal it again."
        )
    return payload[:-1]
