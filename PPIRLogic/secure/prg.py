"""Cryptographic randomness: AES-256-CTR streams with one derived key per purpose.

Every byte that hides data (masks, noise, keys' public polynomials) comes from here or from `secrets`.
A `Stream` is addressed by (key, label parts); the same address always gives the same bytes, so a caller
that must not repeat a mask must not repeat an address.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

KEY_BYTES = 32


def new_key() -> bytes:
    """A fresh 32-byte key from the operating system's generator."""
    return secrets.token_bytes(KEY_BYTES)


def derive_key(key: bytes, *label: bytes | str | int) -> bytes:
    """A 32-byte key for one purpose: SHA-256 over the key and length-prefixed label parts."""
    digest = hashlib.sha256(b"PPIR-PRG-1" + key)
    for part in label:
        kind = "bytes" if isinstance(part, bytes) else "str" if isinstance(part, str) else "int"
        data = part if isinstance(part, bytes) else str(part).encode()
        digest.update(kind.encode())
        digest.update(len(data).to_bytes(4, "big") + data)
    return digest.digest()


class Stream:
    """AES-256-CTR keystream for `derive_key(key, *label)`; successive calls continue it."""

    def __init__(self, key: bytes, *label: bytes | str | int) -> None:
        self._cipher = Cipher(algorithms.AES(derive_key(key, *label)), modes.CTR(bytes(16))).encryptor()

    def bytes(self, count: int) -> NDArray[np.uint8]:
        """`count` fresh bytes as a uint8 array."""
        out = np.empty(count + 15, np.uint8)  # update_into wants room for one block more
        self._cipher.update_into(bytes(count), out.data)
        return out[:count]

    def words(self, count: int, dtype: type[np.generic] = np.uint32) -> NDArray[Any]:
        """`count` uniform little-endian integers of an unsigned or signed type (full range)."""
        size = np.dtype(dtype).itemsize
        return self.bytes(count * size).view(np.dtype(dtype).newbyteorder("<")).astype(dtype, copy=False)

    def int64(self, count: int) -> NDArray[np.int64]:
        """`count` uniform elements of the ring of 64-bit integers."""
        return self.words(count, np.int64)


def secret_stream() -> Stream:
    """A stream under a fresh key that nobody keeps."""
    return Stream(new_key(), "secret")
