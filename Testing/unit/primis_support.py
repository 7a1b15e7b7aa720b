"""Two sites that trust each other, and sealed files of payloads that no codec made."""

from __future__ import annotations

import secrets
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.network.identity import load_or_create_identity
from PPIRLogic.network.trust import TrustStore
from PPIRLogic.primis.keys import LevelKey, new_image_id, top_key
from PPIRLogic.primis.sealed_file import SealedFile, seal_codes

MODEL = "5a" * 32
PAYLOADS = [bytes([number]) * (20 + 9 * number) for number in range(1, 6)]


def two_homes(folder: Path) -> tuple[Path, Path]:
    """Homes of an owner and a recipient, who trust each other."""
    owner, recipient = folder / "owner", folder / "recipient"
    one = load_or_create_identity(owner, "Hospital A").fingerprint
    two = load_or_create_identity(recipient, "Hospital B").fingerprint
    TrustStore(owner).add(two, "Hospital B")
    TrustStore(recipient).add(one, "Hospital A")
    return owner, recipient


def sealed_payloads(
    payloads: list[bytes] | None = None, key: LevelKey | None = None, pad: bool = False
) -> tuple[SealedFile, LevelKey]:
    """A sealed file of these payloads, of an image of 48 × 32 pixels, and the key that opens all of it."""
    key = key or top_key(secrets.token_bytes(32), new_image_id())
    return seal_codes(payloads or PAYLOADS, key, MODEL, (32, 48), "uint8", pad=pad), key


def picture(dtype: str = "uint8", shape: tuple[int, ...] = (40, 56)) -> NDArray[np.generic]:
    """A smooth picture with noise, of many greys."""
    places = np.indices(shape)[-2:]
    smooth = 900 * np.sin(places[0] / 9) + 700 * np.cos(places[1] / 7)
    smooth += np.random.default_rng(3).normal(0, 20, shape)
    limits = {"uint8": (0, 255), "uint16": (0, 4095), "int16": (-1024, 3071)}[dtype]
    low, high = smooth.min(), smooth.max()
    return np.rint(limits[0] + (smooth - low) / (high - low) * (limits[1] - limits[0])).astype(dtype)
