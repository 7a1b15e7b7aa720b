"""A site's card: the public key to which grants for it are encrypted, signed with the site's identity key.

It is public and may be sent by mail: who trusts the fingerprint (`ppir trust add`) can check it.
"""

from __future__ import annotations

import struct
import time
from dataclasses import dataclass
from pathlib import Path

from PPIRLogic.errors import InputError, TrustError
from PPIRLogic.network.identity import check_name, clean_text, load_or_create_identity
from PPIRLogic.network.names import PEER
from PPIRLogic.network.trust import TrustStore
from PPIRLogic.primis.keys import key_id, load_or_make_keys
from PPIRLogic.primis.signing import (
    POINT_BYTES,
    SIGNATURE_BYTES,
    fingerprint_of_point,
    identity_key,
    key_of,
    point_of,
    sign,
    signed,
)

MAGIC = b"PPIC"
VERSION = 1
SUFFIX = ".ppic"
DAYS = 365  # that a card holds
MAX_DAYS = 3650
DAY = 86_400  # seconds
_FIXED = struct.Struct(f">4sBII{POINT_BYTES}s{POINT_BYTES}sB")
_MAX_NAME = 255  # bytes
MAX_CARD = _FIXED.size + _MAX_NAME + SIGNATURE_BYTES  # bytes
_PURPOSE = b"PPIR primis card"


@dataclass(frozen=True)
class Card:
    """Whose card it is (name, fingerprint of its identity key), its encryption key, and from when to when it holds.

    issued, expires: seconds since 1970. point: the encryption key, 33 bytes.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as home:
    ...     card = read_card(own_card(Path(home), days=30))
    >>> (card.expires - card.issued) // DAY, len(card.point)
    (30, 33)
    """

    name: str
    fingerprint: str
    point: bytes
    issued: int
    expires: int

    @property
    def key_id(self) -> bytes:
        """16 bytes by which a grant says for which key it is."""
        return key_id(self.point)


def own_card(home: Path, *, days: int = DAYS) -> bytes:
    """This site's card, signed now; makes the site's keys on first use. At most MAX_CARD bytes.

    InputError: `days` out of 1 to 3650. IdentityError: the site's identity, or the file of its keys, is unusable.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as home:
    ...     len(own_card(Path(home))) <= MAX_CARD
    True
    """
    check_days(days)
    identity, signing = load_or_create_identity(home), identity_key(home)
    point = point_of(load_or_make_keys(home).private_keys()[0].public_key())
    name = identity.name.encode()[:_MAX_NAME].decode(errors="ignore").encode()
    now = int(time.time())
    text = _FIXED.pack(
        MAGIC, VERSION, now, now + days * DAY, point_of(signing.public_key()), point, len(name)
    ) + name  # fmt: skip
    return text + sign(signing, _PURPOSE, text)


def check_days(days: int, most: int = MAX_DAYS) -> None:
    """InputError for a number of days out of 1 to `most`."""
    if isinstance(days, bool) or not isinstance(days, int) or not 1 <= days <= most:
        raise InputError(f"It cannot hold {days!r:.40} days: give a whole number from 1 to {most}.")


def read_card(data: bytes, what: str = "The card") -> Card:
    """A card whose signature is right and which holds now. InputError, beginning with `what`, for anything else.

    It says nothing of trust: compare `fingerprint`, or see `trusted_card`.

    >>> read_card(b"something else")
    Traceback (most recent call last):
    PPIRLogic.errors.InputError: The card is no card. The other site makes one with `ppir primis card`.
    """
    if len(data) < _FIXED.size or data[:4] != MAGIC:
        raise InputError(f"{what} is no card. The other site makes one with `ppir primis card`.")
    _, version, issued, expires, identity, point, length = _FIXED.unpack_from(data)
    if version != VERSION:
        raise InputError(f"{what} has version {version}, and this software reads {VERSION}. Update it.")
    end = _FIXED.size + length
    try:
        name, fingerprint = data[_FIXED.size : end].decode(), fingerprint_of_point(identity)
        key_of(point)
        whole = len(data) == end + SIGNATURE_BYTES and check_name(name) == name
    except (ValueError, InputError):
        whole, name, fingerprint = False, "", ""
    if not whole or not signed(identity, _PURPOSE, data[:end], data[end:]):
        raise InputError(f"{what} is damaged, or was changed: its signature is not right. Ask the other site for it.")
    now = time.time()
    if not issued - DAY <= now < expires:
        when = f"expired on {day_of(expires)}" if now >= expires else f"is of {day_of(issued)}, which is still to come"
        raise InputError(
            f"{what} of {clean_text(name)!r} {when}. Check this computer's clock, or ask that site for a new one"
            " (ppir primis card)."
        )
    return Card(clean_text(name), fingerprint, point, issued, expires)


def trusted_card(data: bytes, home: Path, what: str = "The card") -> Card:
    """A card of a peer that this site trusts. InputError as `read_card`; TrustError if it does not trust it."""
    card = read_card(data, what)
    store = TrustStore(home)
    known = store.peer_of(card.fingerprint)
    if known is None or known.role != PEER:
        role = "" if known is None else f" It is trusted as a {known.role}, and as nothing else."
        raise TrustError(
            f"{what} is of a site that is not trusted here: {card.fingerprint}, which calls itself {card.name!r}.{role}"
            f" Compare the fingerprint by telephone, and if it is the same run `ppir trust add {card.fingerprint}`."
        )
    return Card(known.name, card.fingerprint, card.point, card.issued, card.expires)


def day_of(seconds: float) -> str:
    """A day for a message (UTC)."""
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))
