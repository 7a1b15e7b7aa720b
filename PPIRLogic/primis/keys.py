"""The keys of sealed images: a site's own file of them, and how one key opens a code and all before it.

    master (32 bytes, in home/primis/keys)
      └─ image key     = HMAC(master, image id)            opens the whole image
           └─ key of "exact" → "texture" → … → "overview"   each = HMAC(the one above it, image id, its number)

So the key of a level is 32 bytes and gives the keys of the levels below it, never of one above: that would need HMAC's
inverse. `home/primis/keys` also holds the site's private key to which grants are encrypted. It is not the TLS key.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import stat
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from PPIRLogic.disclosure.record_file import locked_file, on_disk
from PPIRLogic.errors import IdentityError, InputError
from PPIRLogic.files import make_private_directory, read_bounded, write_private_file
from PPIRLogic.primis.levels import LEVELS

KEY_BYTES = 32
ID_BYTES = 16  # of an image
CHECK_BYTES = 16
_FIRST_LINE = "PPIR primis keys 1"
_MAX_FILE = 64 * 1024  # bytes
GRANTS_ON_RECORD = "ledger/primis.jsonl"  # below the home
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # of P-256


def key_file(home: Path) -> Path:
    """Where a site's keys of sealed images lie."""
    return Path(home) / "primis" / "keys"


def level_number(level: str | int) -> int:
    """1 to 5 for a level's name or number; InputError for anything else.

    >>> level_number("overview"), level_number(5)
    (1, 5)
    """
    if isinstance(level, int) and not isinstance(level, bool) and 1 <= level <= len(LEVELS):
        return level
    if isinstance(level, str) and level in LEVELS:
        return LEVELS.index(level) + 1
    raise InputError(f"There is no level {level!r:.40}. The levels are {', '.join(LEVELS)} (or 1 to {len(LEVELS)}).")


# ------------------------------------------------------------------------------------------------ the keys of an image


@dataclass(frozen=True)
class LevelKey:
    """The key of one image up to a level (1 to 5): 32 bytes, which give the keys of all levels below.

    >>> key = LevelKey(bytes(32), 5, bytes(16))
    >>> key.down_to(2).down_to(1) == key.down_to(1), key.down_to(4).secret == key.secret
    (True, False)
    """

    secret: bytes
    level: int
    image_id: bytes

    def __repr__(self) -> str:
        return f"LevelKey(level={self.level}, image_id={self.image_id.hex()})"

    def down_to(self, level: int) -> LevelKey:
        """The key of a level that is not above this one. ValueError for one that is: no key leads upwards."""
        if not 1 <= level <= self.level:
            raise ValueError(f"a key of level {self.level} does not open level {level}")
        secret = self.secret
        for number in range(self.level - 1, level - 1, -1):
            secret = _step(secret, self.image_id, number)
        return replace(self, secret=secret, level=level)

    @property
    def sealing(self) -> bytes:
        """The AES-256 key of this level's code."""
        return hmac.digest(self.secret, b"PPIR ppis 1 seal", "sha256")

    @property
    def check(self) -> bytes:
        """What the header holds of this key: says whether a key is the file's, and nothing of the key."""
        return hmac.digest(self.secret, b"PPIR ppis 1 check", "sha256")[:CHECK_BYTES]


def _step(secret: bytes, image_id: bytes, number: int) -> bytes:
    return hmac.digest(secret, b"PPIR ppis 1 level" + image_id + bytes([number]), "sha256")


def top_key(image_key: bytes, image_id: bytes) -> LevelKey:
    """The key of the highest level, from the 32 bytes that open the whole image."""
    return LevelKey(_step(image_key, image_id, len(LEVELS)), len(LEVELS), image_id)


def new_image_id() -> bytes:
    """16 random bytes."""
    return secrets.token_bytes(ID_BYTES)


# ------------------------------------------------------------------------------------------------ the site's own keys


@dataclass(frozen=True)
class KeyRing:
    """A site's keys of sealed images. The first of each kind is in use; others open what was made under them.

    masters: 32 bytes each. encryption: private P-256 numbers, 32 bytes each.
    """

    masters: tuple[bytes, ...] = ()
    encryption: tuple[bytes, ...] = ()

    def __repr__(self) -> str:
        return f"KeyRing({len(self.masters)} masters, {len(self.encryption)} encryption keys)"

    def image_keys(self, image_id: bytes) -> list[bytes]:
        """The 32 bytes that open the whole image, under each master; the first is of the one in use."""
        return [hmac.digest(master, b"PPIR primis image" + image_id, "sha256") for master in self.masters]

    def to_bytes(self) -> bytes:
        lines = [_FIRST_LINE, *(f"master {k.hex()}" for k in self.masters)]
        return ("\n".join([*lines, *(f"encryption {k.hex()}" for k in self.encryption)]) + "\n").encode()

    @staticmethod
    def from_bytes(data: bytes) -> KeyRing:
        """ValueError for anything that `to_bytes` did not make."""
        lines = [line.split(" ") for line in data.decode("ascii").splitlines()[1:]]
        kept = {kind: tuple(bytes.fromhex(key) for k, key in lines if k == kind) for kind in ("master", "encryption")}
        ring = KeyRing(kept["master"], kept["encryption"])
        scalars = [int.from_bytes(key, "big") for key in ring.encryption]
        whole = {len(key) for key in (*ring.masters, *ring.encryption)} <= {KEY_BYTES}
        if ring.to_bytes() != data or not whole or not all(0 < number < _ORDER for number in scalars):
            raise ValueError
        return ring

    def joined(self, other: KeyRing) -> KeyRing:
        """This ring, with what another has beside it; this one's keys stay in use."""
        return KeyRing(
            (*self.masters, *(k for k in other.masters if k not in self.masters)),
            (*self.encryption, *(k for k in other.encryption if k not in self.encryption)),
        )

    def private_keys(self) -> list[ec.EllipticCurvePrivateKey]:
        """The keys to which grants for this site are encrypted; the first is the one in its card."""
        return [ec.derive_private_key(int.from_bytes(key, "big"), ec.SECP256R1()) for key in self.encryption]


def load_keys(home: Path) -> KeyRing:
    """The site's keys; an empty ring where there is no file.

    IdentityError if others can read the file, or it is damaged.
    """
    path = key_file(home)
    try:
        if os.name == "posix" and stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise IdentityError(
                f"The keys of sealed images {path} can be read by other users of this computer: run `chmod 600 {path}`,"
                " and if somebody may have copied it, re-seal the images (ppir primis reseal) under a new master"
                " (ppir primis card --new-keys)."
            )
        return KeyRing.from_bytes(read_bounded(path, _MAX_FILE))
    except FileNotFoundError:
        return KeyRing()
    except OSError as error:
        raise IdentityError(f"The keys of sealed images {path} cannot be read: {error.strerror}.") from None
    except ValueError:
        raise IdentityError(
            f"The keys of sealed images {path} are damaged: put the file back from a backup, or move it away and run"
            " `ppir primis escrow --restore` with the escrow file."
        ) from None


def load_or_make_keys(home: Path) -> KeyRing:
    """The site's keys, each kind made on first use (0600).

    IdentityError: as `load_keys`, or there were keys once, and they are gone. OutputError: not writable.
    """
    ring = load_keys(home)
    return ring if ring.masters and ring.encryption else change_keys(home, lambda now: _unless_gone(home, now))


def _unless_gone(home: Path, ring: KeyRing) -> KeyRing:
    """What is there; IdentityError where that is nothing, and was not always."""
    if ring == KeyRing() and (_made(home).exists() or (Path(home) / GRANTS_ON_RECORD).exists()):
        raise IdentityError(
            f"The keys of sealed images {key_file(home)} are gone: without them nothing opens that this site sealed."
            " Put the file back from a backup, or restore the escrow file (ppir primis escrow --restore). If there is"
            " none, begin anew with `ppir primis card --new-keys`: then the former files stay closed, and peers need"
            " the new card."
        )
    return ring


def _made(home: Path) -> Path:
    """Says that there were keys once; holds nothing."""
    return key_file(home).with_name("made")


def change_keys(home: Path, change: Callable[[KeyRing], KeyRing]) -> KeyRing:
    """Replace the site's keys by what `change` makes of them, as they are then; missing kinds are made."""
    path = key_file(home)
    on_disk(lambda: make_private_directory(path.parent), "nothing is sealed")
    with locked_file(path.parent / "lock", lambda: None):
        ring = change(load_keys(home))
        ring = KeyRing(ring.masters or (secrets.token_bytes(KEY_BYTES),), ring.encryption or (new_encryption_key(),))
        on_disk(lambda: write_private_file(path, ring.to_bytes()), "nothing is sealed")
        on_disk(lambda: write_private_file(_made(home), b""), "nothing is sealed")
        return ring


def renew_keys(home: Path) -> KeyRing:
    """A new master and a new encryption key in use from now on; the former ones open what was made under them."""
    return change_keys(
        home, lambda now: KeyRing((secrets.token_bytes(KEY_BYTES),), (new_encryption_key(),)).joined(now)
    )


def new_encryption_key() -> bytes:
    """A private P-256 number as 32 bytes."""
    return ec.generate_private_key(ec.SECP256R1()).private_numbers().private_value.to_bytes(KEY_BYTES, "big")


def key_id(point: bytes) -> bytes:
    """16 bytes by which a recipient's public key is known."""
    return hashlib.sha256(b"PPIR primis recipient" + point).digest()[:16]
