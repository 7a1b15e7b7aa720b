"""What two sites say to each other about sealed images, as checked values; versioned apart from other methods.

The site that asks (party 1) speaks first in every exchange; a session holds any number of them:

    primis    → primis                    opens the session; how many sealed images there are for this peer
    catalogue → catalogue                 a page of them: public headers only
    fetch     → chunk + bytes             a part of a sealed file, from an offset: goes on after a lost line
    ask + card → (waiting) grant + bytes  a grant for one level, or an error: who decides is the owner's business
    bye, error                            the end, from either side, at any time

Every field that comes from the network is checked here for type and range before anything uses it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PPIRLogic.errors import InputError, ProtocolError
from PPIRLogic.network.messages import Fields, check_version
from PPIRLogic.primis.grants import MAX_PURPOSE, check_purpose
from PPIRLogic.primis.levels import LEVELS, NOBODY
from PPIRLogic.primis.sealed_file import DTYPES, MAX_FILE, MAX_SIDE

PRIMIS_VERSION = 1  # raised with every change of a message below
ASKS, SHARES = "the site that asks (party 1)", "the site that shares (party 2)"
OPENS = "primis"
PAGE = 32  # images of one answer to 'catalogue'
MAX_IMAGES = 100_000  # of a site
CHUNK = 2**20  # bytes of a sealed file in one message
MAX_NAME = 64  # characters of what an image is offered as
DIGEST_BYTES = 32


def opening(images: int = -1) -> dict[str, Any]:
    """The fields of 'primis', either way."""
    return {"version": PRIMIS_VERSION, **({"images": images} if images >= 0 else {})}


def check_opening(data: Mapping[str, Any], here: str, there: str) -> None:
    """VersionError unless the other side speaks this version of these messages."""
    check_version(data, OPENS, here, there, PRIMIS_VERSION, "the messages about sealed images")


def level_field(f: Fields, name: str, *others: str) -> str:
    """A level's name, or one of the `others`; ProtocolError for anything else."""
    level = f.text(name, 32)
    if level not in (*LEVELS, *others):
        raise ProtocolError(f"Field '{name}' is no level: {', '.join((*LEVELS, *others))}.")
    return level


@dataclass(frozen=True)
class SealedOffer:
    """One sealed image as its owner tells a peer of it: what is public in the file, and what may be asked for.

    digest: SHA-256 of the file. codes: bytes of each code, in the order of the levels. level: the highest that this
    peer may be granted, 'none' for no more grants. asks: a person decides on each. left: grants that this peer may
    still get.
    """

    name: str
    size: int
    digest: bytes
    shape: tuple[int, ...]
    dtype: str
    codes: tuple[int, ...]
    level: str
    asks: bool
    left: int

    def to_dict(self) -> dict[str, Any]:
        """For the wire."""
        return {
            "name": self.name, "size": self.size, "digest": self.digest, "shape": list(self.shape),
            "dtype": self.dtype, "codes": list(self.codes), "level": self.level, "asks": self.asks, "left": self.left,
        }  # fmt: skip

    @classmethod
    def from_dict(cls, data: Any) -> SealedOffer:
        """ProtocolError for anything that is none."""
        if not isinstance(data, dict):
            raise ProtocolError("An image of the catalogue is not a map.")
        f = Fields(data, "catalogue")
        return cls(
            name=name_field(f),
            size=f.integer("size", 1, MAX_FILE),
            digest=f.raw("digest", DIGEST_BYTES),
            shape=_whole(f.items("shape", 3), "shape", 1, MAX_SIDE),
            dtype=_dtype(f),
            codes=_whole(f.items("codes", len(LEVELS)), "codes", 0, MAX_FILE),
            level=level_field(f, "level", NOBODY),
            asks=f.flag("asks"),
            left=f.integer("left", 0, 2**31),
        )


def name_field(f: Fields) -> str:
    """What an image is offered as: printable, not empty."""
    name = f.text("name", MAX_NAME)
    if not name.strip():
        raise ProtocolError("Field 'name' is empty.")
    return name


def _dtype(f: Fields) -> str:
    dtype = f.text("dtype", 16)
    if dtype not in DTYPES:
        raise ProtocolError(f"Field 'dtype' of 'catalogue' is none of {', '.join(DTYPES)}.")
    return dtype


def _whole(values: Sequence[Any], name: str, low: int, high: int) -> tuple[int, ...]:
    whole = all(isinstance(v, int) and not isinstance(v, bool) and low <= v <= high for v in values)
    if not values or not whole:
        raise ProtocolError(f"Field '{name}' of 'catalogue' must hold whole numbers from {low} to {high}.")
    return tuple(values)


@dataclass(frozen=True)
class Page:
    """Which part of the catalogue is asked for."""

    first: int

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Page:
        """ProtocolError for anything that is none."""
        return cls(Fields(data, "catalogue").integer("first", 0, MAX_IMAGES))


@dataclass(frozen=True)
class Fetch:
    """A part of a sealed file, from an offset. digest: of the file that was begun, so that no two are mixed."""

    name: str
    digest: bytes
    offset: int

    def to_dict(self) -> dict[str, Any]:
        """For the wire."""
        return {"name": self.name, "digest": self.digest, "offset": self.offset}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Fetch:
        """ProtocolError for anything that is none."""
        f = Fields(data, "fetch")
        return cls(name_field(f), f.raw("digest", DIGEST_BYTES), f.integer("offset", 0, MAX_FILE))


@dataclass(frozen=True)
class Ask:
    """A question for a grant: up to which level, and what for. The asker's card is the message's payload."""

    name: str
    digest: bytes
    level: str
    purpose: str

    def to_dict(self) -> dict[str, Any]:
        """For the wire."""
        return {"name": self.name, "digest": self.digest, "level": self.level, "purpose": self.purpose}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Ask:
        """ProtocolError for anything that is none."""
        f = Fields(data, "ask")
        try:
            purpose = check_purpose(f.text("purpose", MAX_PURPOSE))
        except InputError as error:
            raise ProtocolError(f"Field 'purpose' of 'ask' cannot be used. {error}") from None
        return cls(name_field(f), f.raw("digest", DIGEST_BYTES), level_field(f, "level"), purpose)
