"""The escrow: all keys that open this site's sealed images, sealed for one recipient's card or under a passphrase.

A lost home loses them all, so its owner writes an escrow file once, and again after the keys were changed, and keeps it
elsewhere. Whoever opens it can open every image that this site sealed, and every grant it got.
"""

from __future__ import annotations

import secrets
import struct
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from PPIRLogic.errors import InputError
from PPIRLogic.primis.cards import Card
from PPIRLogic.primis.grant_records import GrantRecords
from PPIRLogic.primis.keys import KeyRing, change_keys, key_id, load_keys, load_or_make_keys
from PPIRLogic.primis.signing import point_of, unwrap, wrap

MAGIC = b"PPIE"
VERSION = 1
SUFFIX = ".ppie"
MAX_ESCROW = 128 * 1024  # bytes
SHORTEST = 12  # characters of a passphrase
_PASSPHRASE, _CARD = 1, 2
_HEAD = struct.Struct(">4sBB16s")  # magic, version, kind, salt or the recipient's key id
_WRAP = b"PPIR primis escrow"
COST = {"n": 2**17, "r": 8, "p": 1}  # of scrypt: 128 MiB


def write_escrow(home: Path, *, passphrase: str | None = None, card: Card | None = None) -> bytes:
    """All keys of this site, for whoever knows the passphrase or holds the card's key. On record before it returns.

    InputError: not exactly one of the two, or a passphrase below 12 characters.

    >>> write_escrow(Path("/home/me/ppir"), passphrase="too short")
    Traceback (most recent call last):
    PPIRLogic.errors.InputError: The passphrase has 9 characters. Use at least 12: six random words.
    """
    if (passphrase is None) == (card is None):
        raise InputError("An escrow file is for a passphrase or for a card: give one of the two.")
    if passphrase is not None and len(passphrase) < SHORTEST:
        raise InputError(f"The passphrase has {len(passphrase)} characters. Use at least {SHORTEST}: six random words.")
    ring = load_or_make_keys(home).to_bytes()
    if card is not None:
        head = _HEAD.pack(MAGIC, VERSION, _CARD, card.key_id)
        data = head + wrap(ring, card.point, _WRAP, head)
    else:
        assert passphrase is not None
        head = _HEAD.pack(MAGIC, VERSION, _PASSPHRASE, secrets.token_bytes(16))
        data = head + AESGCM(_stretched(passphrase, head)).encrypt(bytes(12), ring, head)
    GrantRecords(home).escrowed(card.fingerprint if card is not None else "")
    return data


def needs_passphrase(data: bytes) -> bool:
    """Whether an escrow file is under a passphrase; InputError if it is no escrow file."""
    return _kind(data) == _PASSPHRASE


def restore_escrow(data: bytes, home: Path, *, passphrase: str | None = None) -> KeyRing:
    """Take the keys of an escrow file into this home, beside those that are there; returns all.

    For a card, this home must hold the card's key. InputError: damaged, another passphrase, or another card's.

    >>> restore_escrow(b"something else", Path("/home/me/ppir"))
    Traceback (most recent call last):
    PPIRLogic.errors.InputError: This is no escrow file. One is made by `ppir primis escrow`.
    """
    ring = _opened(data, home, passphrase)
    return change_keys(home, lambda now: now.joined(ring))


def _opened(data: bytes, home: Path, passphrase: str | None) -> KeyRing:
    kind, head, rest = _kind(data), data[: _HEAD.size], data[_HEAD.size :]
    text: bytes | None = None
    if kind == _PASSPHRASE:
        if passphrase is None:
            raise InputError("The escrow file is under a passphrase. Give it.")
        try:
            text = AESGCM(_stretched(passphrase, head)).decrypt(bytes(12), rest, head)
        except (InvalidTag, ValueError):
            raise InputError("The passphrase is not the one of this escrow file, or the file was changed.") from None
    else:
        for key in load_keys(home).private_keys():
            if key_id(point_of(key.public_key())) == head[-16:]:
                text = unwrap(rest, key, _WRAP, head)
    try:
        return KeyRing.from_bytes(text or b"")
    except (ValueError, KeyError):
        raise InputError(
            "The escrow file was changed, or is for a card whose key is not in this home. Restore it where that"
            " card was made (--home)."
        ) from None


def _kind(data: bytes) -> int:
    if len(data) < _HEAD.size or data[:4] != MAGIC or data[5] not in (_PASSPHRASE, _CARD):
        raise InputError("This is no escrow file. One is made by `ppir primis escrow`.")
    if data[4] != VERSION:
        raise InputError(f"The escrow file has version {data[4]}, and this software reads {VERSION}. Update it.")
    return data[5]


def _stretched(passphrase: str, head: bytes) -> bytes:
    """A key used once: the salt is new in every file, so the nonce may be zero."""
    return Scrypt(salt=head[-16:], length=32, **COST).derive(passphrase.encode())
