"""What each image's public side is: a sealed file as anybody sees it, and a code with decoys."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.arrays import AnyArray
from PPIRLogic.primis.ambiguated import hide, true_entries
from PPIRLogic.primis.code_maps import Quantised, quantise
from PPIRLogic.primis.codec import Coded, encode
from PPIRLogic.primis.extras import Extras
from PPIRLogic.primis.keys import KEY_BYTES, LevelKey, new_image_id, top_key
from PPIRLogic.primis.sealed_file import SealedFile, seal_codes
from PPIRLogic.primis.study import Study
from PPIRLogic.progress import CancelToken


@dataclass(frozen=True)
class Published:
    """One image, both ways. What an attacker has: `sealed`, `public`. What he has of training patients alone: the rest.

    true: which entries of `public` are so. loose: lengths of the codes where they are not filled up.
    """

    image: NDArray[np.uint8]
    coded: Coded
    sealed: SealedFile
    key: LevelKey
    loose: tuple[int, ...]
    maps: Quantised
    public: Quantised
    decoy_key: bytes
    true: NDArray[np.bool_]


def publish(image: NDArray[np.uint8]) -> Published:
    """Seal an image under a key of its own, as `PPIRLogic.primis.seal` does, and hide its maps among decoys."""
    coded = encode(image)
    key = new_key()
    sealed = seal_again(coded, key)
    loose = seal_again(coded, key, pad=False)
    maps = quantise(image)
    public, decoy_key = hide(maps)
    lengths = tuple(code.length for code in loose.header.codes)
    return Published(image, coded, sealed, key, lengths, maps, public, decoy_key, true_entries(maps, public))


def new_key() -> LevelKey:
    """Of a new image."""
    return top_key(secrets.token_bytes(KEY_BYTES), new_image_id())


def payloads_of(coded: Coded) -> list[bytes]:
    """What is sealed, code by code."""
    return [Extras().pack() + coded.codes[0], *coded.codes[1:]]


def seal_again(coded: Coded, key: LevelKey, *, pad: bool = True) -> SealedFile:
    """A sealed file. pad: with the codes filled up, as they are by default."""
    return seal_codes(payloads_of(coded), key, coded.model, coded.shape, coded.dtype, pad=pad)


def publish_all(
    study: Study, progress: Callable[[int, int], None], cancel: CancelToken | None = None
) -> list[Published]:
    """All images of a study; progress(done, of)."""
    out = []
    for image in study.images:
        if cancel is not None:
            cancel.check()
        out.append(publish(image))
        progress(len(out), len(study))
    return out


_BYTES_OF_A_CODE = 256


def bytes_seen(sealed: SealedFile) -> AnyArray:
    """All of a file that is not its shape or a length: id, nonces, checks, and the first 256 bytes of each code, from
    -0.5 to 0.5. A shorter code is repeated: what lengths tell is measured by itself."""
    parts = [sealed.header.image_id, *(entry.nonce + entry.check for entry in sealed.header.codes)]
    parts += [(code * (_BYTES_OF_A_CODE // len(code) + 1))[:_BYTES_OF_A_CODE] for code in sealed.codes]
    return np.frombuffer(b"".join(parts), np.uint8) / 255 - 0.5


def lengths_seen(lengths: AnyArray) -> AnyArray:
    """Of (n, codes) lengths: their logarithms, the differences and the squares of these."""
    logarithms = np.log(np.asarray(lengths, np.float64))
    both = np.hstack([logarithms, np.diff(logarithms, axis=1)])
    centred = both - both.mean(0)
    return np.hstack([centred, centred**2])
