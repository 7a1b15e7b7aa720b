"""Grants: the key of one image up to a level, for one recipient, with a purpose and an end, signed by who gives it.

A grant is at most 400 bytes. It opens the levels up to its own and none above, at the one site that holds the key in
the recipient's card. Its end binds honest software: who has opened an image keeps what he saw.
"""

from __future__ import annotations

import base64
import struct
import time
from dataclasses import dataclass, field
from pathlib import Path

from PPIRLogic.errors import InputError, TrustError
from PPIRLogic.network.identity import load_or_create_identity
from PPIRLogic.network.names import PEER
from PPIRLogic.network.trust import TrustStore
from PPIRLogic.primis.cards import DAY, Card, check_days, day_of
from PPIRLogic.primis.keys import ID_BYTES, KEY_BYTES, LevelKey, key_id, load_keys
from PPIRLogic.primis.levels import LEVELS
from PPIRLogic.primis.signing import (
    POINT_BYTES,
    SIGNATURE_BYTES,
    WRAP_OVERHEAD,
    fingerprint_of_point,
    identity_key,
    point_of,
    sign,
    signed,
    unwrap,
    wrap,
)

MAGIC = b"PPIG"
VERSION = 1
SUFFIX = ".ppig"
MAX_GRANT = 400  # bytes
MAX_PURPOSE = 120  # bytes of UTF-8
DAYS = 90
MAX_DAYS = 3650
_SITE_BYTES, _KEY_ID_BYTES = 20, 16
_FIXED = struct.Struct(f">4sBB{ID_BYTES}sII{POINT_BYTES}s{_SITE_BYTES}s{_KEY_ID_BYTES}sB")
_WRAPPED = WRAP_OVERHEAD + KEY_BYTES
_SIGNED, _WRAP = b"PPIR primis grant", b"PPIR primis wrapped key"


@dataclass(frozen=True)
class Grant:
    """What a grant says, readable by anybody, and the wrapped key, which its recipient alone opens.

    image_id: 16 bytes. level: 1 to 5. issuer, recipient: fingerprints. issued, expires: seconds since 1970.

    >>> read_grant(Path("b.ppig").read_bytes()).level_name  # doctest: +SKIP
    'segmentation'
    """

    image_id: bytes
    level: int
    issuer: str
    recipient: str
    purpose: str
    issued: int
    expires: int
    recipient_key: bytes = field(repr=False)
    wrapped: bytes = field(repr=False)
    bound: bytes = field(repr=False)

    @property
    def level_name(self) -> str:
        return LEVELS[self.level - 1]

    def to_dict(self) -> dict[str, object]:
        """Plain values for a program or a person; no key."""
        return {
            "image": self.image_id.hex(), "level": self.level_name, "issuer": self.issuer, "recipient": self.recipient,
            "purpose": self.purpose, "issued": self.issued, "expires": self.expires,
        }  # fmt: skip


def check_purpose(purpose: str) -> str:
    """The purpose without surrounding blanks; InputError unless it is 1 to 120 bytes of printable text."""
    if isinstance(purpose, str):
        purpose = purpose.strip()
        if purpose.isprintable() and 1 <= len(purpose.encode(errors="replace")) <= MAX_PURPOSE:
            return purpose
    raise InputError(f"A grant names its purpose in 1 to {MAX_PURPOSE} bytes of printable text, on one line.")


def make_grant(key: LevelKey, card: Card, home: Path, *, purpose: str, days: int = DAYS) -> bytes:
    """A grant of a level's key for the site with this card, signed by this site. At most 400 bytes.

    It does not look at trust and puts nothing on record: `PPIRLogic.primis.grant` does. InputError: an unusable
    purpose or number of days.
    """
    check_days(days, MAX_DAYS)
    words, signing, now = check_purpose(purpose).encode(), identity_key(home), int(time.time())
    site = base64.b32decode(card.fingerprint.replace("-", ""))
    head = _FIXED.pack(
        MAGIC, VERSION, key.level, key.image_id, now, now + days * DAY, point_of(signing.public_key()), site,
        card.key_id, len(words),
    ) + words  # fmt: skip
    text = head + wrap(key.secret, card.point, _WRAP, head)
    return text + sign(signing, _SIGNED, text)


def read_grant(data: bytes, what: str = "The grant") -> Grant:
    """What a grant says; its signature is checked, its end is not. InputError, beginning with `what`, if it is none.

    It says nothing of trust: compare `issuer`, or see `open_grant`.

    >>> read_grant(b"something else")
    Traceback (most recent call last):
    PPIRLogic.errors.InputError: The grant is no grant. The owner of the image makes one with `ppir primis grant`.
    """
    if len(data) < _FIXED.size or data[:4] != MAGIC or len(data) > MAX_GRANT:
        raise InputError(f"{what} is no grant. The owner of the image makes one with `ppir primis grant`.")
    _, version, level, image_id, issued, expires, issuer, site, recipient, length = _FIXED.unpack_from(data)
    if version != VERSION:
        raise InputError(f"{what} has version {version}, and this software reads {VERSION}. Update it.")
    at = _FIXED.size + length
    end = at + _WRAPPED
    try:
        purpose, fingerprint = check_purpose(data[_FIXED.size : at].decode()), fingerprint_of_point(issuer)
        whole = len(data) == end + SIGNATURE_BYTES and 1 <= level <= len(LEVELS)
    except (ValueError, InputError):
        whole, purpose, fingerprint = False, "", ""
    if not whole or not signed(issuer, _SIGNED, data[:end], data[end:]):
        raise InputError(f"{what} is damaged, or was changed: its signature is not right. Ask its issuer for it again.")
    plain = base64.b32encode(site).decode()
    shown = "-".join(plain[i : i + 4] for i in range(0, len(plain), 4))
    return Grant(image_id, level, fingerprint, shown, purpose, issued, expires, recipient, data[at:end], data[:at])


def open_grant(data: bytes, image_id: bytes, home: Path, what: str = "The grant") -> LevelKey:
    """The key that a grant gives this site for this image.

    InputError: no grant, changed, expired, of another image, or for another recipient. TrustError: its issuer is not
    trusted here.
    """
    grant = read_grant(data, what)
    if grant.image_id != image_id:
        raise InputError(
            f"{what} is for another image ({grant.image_id.hex()[:8]}…), not for this one ({image_id.hex()[:8]}…). If"
            " the owner sealed it anew, ask for a new grant."
        )
    ring = load_keys(home)
    own = {key_id(point_of(key.public_key())): key for key in ring.private_keys()}
    if grant.recipient_key not in own:
        raise InputError(
            f"{what} is for another recipient, {grant.recipient}, or for a key that this site no longer has. Give the"
            " owner this site's card (ppir primis card) and ask for a grant."
        )
    _check_issuer(grant, home, what)
    now = time.time()
    if not grant.issued - DAY <= now < grant.expires:
        when = f"expired on {day_of(grant.expires)}" if now >= grant.expires else f"begins on {day_of(grant.issued)}"
        raise InputError(f"{what} {when}. Check this computer's clock, or ask {grant.issuer} for a new one.")
    secret = unwrap(grant.wrapped, own[grant.recipient_key], _WRAP, grant.bound)
    if secret is None or len(secret) != KEY_BYTES:
        raise InputError(f"{what} was made wrongly: the key in it does not open. Ask its issuer for another.")
    return LevelKey(secret, grant.level, image_id)


def _check_issuer(grant: Grant, home: Path, what: str) -> None:
    known = TrustStore(home).peer_of(grant.issuer)
    if (known is None or known.role != PEER) and grant.issuer != load_or_create_identity(home).fingerprint:
        raise TrustError(
            f"{what} was signed by a site that is not trusted here: {grant.issuer}. Compare the fingerprint with the"
            f" owner of the image by telephone, and if it is the same run `ppir trust add {grant.issuer}`."
        )
