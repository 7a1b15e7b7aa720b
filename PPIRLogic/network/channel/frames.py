"""The frames of a connection: how a message is written, its limits, and how it is read from whoever sent it."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgpack
from msgpack.fallback import Unpacker  # the compiled one takes room for as many items as a list claims to have

from PPIRLogic.errors import PeerError, ProtocolError
from PPIRLogic.network.identity import clean_text

FRAME_VERSION = 1
MAX_HEADER = 64 * 1024  # bytes
MAX_PAYLOAD = 16 * 1024 * 1024  # bytes
MAX_DEPTH = 16  # levels of maps and lists in a header
MAX_ITEMS = 8192  # in one of them
_STEP = 64 * 1024  # bytes for which room is taken at first; then for twice what has come

_MAGIC = b"PPIR"
_PREFIX = struct.Struct("!4sBII")
_KIND = re.compile(r"[A-Za-z0-9_.:/-]{1,64}")


@dataclass(frozen=True)
class Message:
    """A frame as the application sees it."""

    kind: str
    data: dict[str, Any] = field(default_factory=dict)
    payload: bytes | bytearray = b""


def encode_head(kind: str, sequence: int, data: dict[str, Any], payload_length: int) -> bytes:
    """Prefix and header of a frame. Raises ProtocolError if it would break a limit that the peer enforces."""
    if not _KIND.fullmatch(kind):
        raise ProtocolError(f"{clean_text(kind)!r} is not a kind of message")
    header = msgpack.packb({"kind": kind, "seq": sequence, "data": data}, use_bin_type=True)
    if len(header) > MAX_HEADER or payload_length > MAX_PAYLOAD:
        raise ProtocolError(
            f"a message of kind {kind!r} is too large to send: header {len(header)} of at most {MAX_HEADER} bytes, "
            f"payload {payload_length} of at most {MAX_PAYLOAD} bytes"
        )
    return _PREFIX.pack(_MAGIC, FRAME_VERSION, len(header), payload_length) + header


def parse_prefix(prefix: bytes | bytearray, max_payload: int = MAX_PAYLOAD) -> tuple[int, int]:
    """Lengths of header and payload in bytes. Raises ProtocolError for anything but the start of a frame."""
    try:
        magic, version, header_length, payload_length = _PREFIX.unpack(prefix)
    except struct.error:
        raise ProtocolError("a frame is cut short") from None
    if magic != _MAGIC:
        raise ProtocolError("what arrived is not a frame of this protocol")
    if version != FRAME_VERSION:
        raise ProtocolError(f"a frame has version {version}, this program speaks {FRAME_VERSION}: update the older one")
    if not 0 < header_length <= MAX_HEADER:
        raise ProtocolError(f"a frame's header has {header_length} bytes instead of 1 to {MAX_HEADER}")
    if payload_length > max_payload:
        raise ProtocolError(f"a frame's payload has {payload_length} bytes instead of at most {max_payload}")
    return header_length, payload_length


def parse_header(header: bytes | bytearray, expected_sequence: int) -> tuple[str, dict[str, Any]]:
    """Kind and data of a frame. Raises ProtocolError unless the header is well-formed and next in sequence."""
    try:
        content = _unpacked(header)
    except (ValueError, TypeError, RecursionError, OverflowError, MemoryError, msgpack.UnpackException):
        raise ProtocolError("a frame's header cannot be decoded") from None
    if not isinstance(content, dict) or content.keys() != {"kind", "seq", "data"}:
        raise ProtocolError("a frame's header does not have exactly the fields kind, seq and data")
    kind, sequence, data = content["kind"], content["seq"], content["data"]
    if not isinstance(kind, str) or not _KIND.fullmatch(kind):
        raise ProtocolError("a frame's kind is not a short word")
    if type(sequence) is not int or sequence != expected_sequence:
        raise ProtocolError(f"a frame is out of order: number {expected_sequence} was due (repeated, lost or moved)")
    if not isinstance(data, dict) or not _is_plain(data, MAX_DEPTH):
        raise ProtocolError("a frame's data is not a map of plain values")
    return kind, data


def _unpacked(header: bytes | bytearray) -> Any:
    unpacker = Unpacker(
        raw=False,
        strict_map_key=True,
        max_buffer_size=MAX_HEADER,
        max_str_len=MAX_HEADER,
        max_bin_len=MAX_HEADER,
        max_array_len=MAX_ITEMS,
        max_map_len=MAX_ITEMS,
        max_ext_len=0,
    )
    unpacker.feed(header)
    content = unpacker.unpack()
    if unpacker.tell() != len(header):
        raise ValueError("bytes follow the map")
    return content


def _is_plain(value: Any, depth: int) -> bool:
    if depth < 0:
        return False
    if type(value) is dict:
        return all(type(key) is str and _is_plain(item, depth - 1) for key, item in value.items())
    if type(value) is list:
        return all(_is_plain(item, depth - 1) for item in value)
    # msgpack's extension types, which no frame may use, fail here.
    return value is None or type(value) in (bool, int, float, str, bytes)


class FrameReader:
    """Reads the frames of one direction from `read_into`, which fills part of a buffer or returns 0 at the end."""

    def __init__(self, read_into: Callable[[memoryview], int]) -> None:
        self._read_into = read_into
        self._expected = 0
        self.max_payload = MAX_PAYLOAD  # bytes; looked at when a frame begins

    def next(self) -> Message | None:
        """The next frame, or None if the other side ended between two frames.

        Raises ProtocolError for a malformed frame and PeerError for one that breaks off.
        """
        prefix = self._exactly(_PREFIX.size, may_end=True)
        if not prefix:
            return None
        header_length, payload_length = parse_prefix(prefix, self.max_payload)
        kind, data = parse_header(self._exactly(header_length), self._expected)
        payload = self._exactly(payload_length)
        self._expected += 1
        return Message(kind, data, payload)

    def _exactly(self, length: int, may_end: bool = False) -> bytearray:
        """`length` bytes; none at all if the other side ended before the first one and `may_end` allows that.

        Room is taken as they come: what is only announced costs nothing.
        """
        content, filled = bytearray(min(length, _STEP)), 0
        while filled < length:
            if filled == len(content):
                content.extend(bytes(min(length, 2 * filled) - filled))
            with memoryview(content) as view, view[filled:] as rest:
                count = self._read_into(rest)
            if count == 0:
                if may_end and filled == 0:
                    return bytearray()
                raise PeerError("the connection broke off in the middle of a frame")
            filled += count
        return content
