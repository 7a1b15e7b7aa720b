"""Framing: what survives the way, and what is refused."""

from __future__ import annotations

import io
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from PPIRLogic.errors import PeerError, ProtocolError
from PPIRLogic.network.channel import (
    MAX_HEADER,
    MAX_PAYLOAD,
    FrameReader,
    encode_head,
    parse_header,
    parse_prefix,
)


def reader_of(content: bytes, step: int = 1 << 30) -> FrameReader:
    stream = io.BytesIO(content)
    return FrameReader(lambda view: stream.readinto(view[:step]))


plain_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
    | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.text(max_size=8), plain_values, max_size=4), st.binary(max_size=300), st.integers(1, 50))
def test_frames_survive_the_way(data: dict[str, Any], payload: bytes, step: int) -> None:
    frame = encode_head("some.kind", 0, data, len(payload)) + payload
    reader = reader_of(frame, step)
    message = reader.next()
    assert message is not None
    assert (message.kind, message.data, bytes(message.payload)) == ("some.kind", data, payload)
    assert reader.next() is None


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_arbitrary_bytes_never_do_more_than_end_the_channel(content: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_prefix(content)
    with pytest.raises(ProtocolError):
        parse_header(content, 0)


@settings(max_examples=300, deadline=None)
@given(st.binary(min_size=1, max_size=200), st.booleans(), st.data())
def test_damaged_frames_are_refused_or_read(content: bytes, start_well: bool, data: st.DataObject) -> None:
    good = encode_head("kind", 0, {"a": [1, "b", b"c"], "d": {"e": 1.5}}, 3) + b"xyz"
    position = data.draw(st.integers(0, len(good)))
    damaged = good[:position] + content + (good[position:] if start_well else b"")
    reader = reader_of(damaged)
    try:
        while (message := reader.next()) is not None:
            assert isinstance(message.data, dict)
    except (ProtocolError, PeerError):
        pass  # PeerError: the bytes end within a frame that began well


@settings(max_examples=100, deadline=None)
@given(plain_values)
def test_any_other_header_is_refused(value: Any) -> None:
    with pytest.raises(ProtocolError):
        parse_header(msgpack.packb(value), 0)


GOOD = {"kind": "k", "seq": 0, "data": {}}


@pytest.mark.parametrize(
    "header",
    [
        {**GOOD, "more": 1},
        {"kind": "k", "seq": 0},
        {**GOOD, "kind": ""},
        {**GOOD, "kind": "x" * 65},
        {**GOOD, "kind": "a b"},
        {**GOOD, "kind": 1},
        {**GOOD, "seq": 1},
        {**GOOD, "seq": -1},
        {**GOOD, "seq": False},
        {**GOOD, "seq": 0.0},
        {**GOOD, "data": []},
        {**GOOD, "data": {"x": msgpack.ExtType(5, b"")}},
        {**GOOD, "data": {"x": msgpack.ExtType(5, b"abcd")}},
        {**GOOD, "data": {"x": msgpack.Timestamp(1)}},
        {**GOOD, "data": {b"bytes": 1}},
    ],
)
def test_bad_headers_are_refused(header: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError):
        parse_header(msgpack.packb(header), 0)


def test_deep_nesting_is_refused() -> None:
    deep: Any = 1
    for _ in range(20):
        deep = [deep]
    with pytest.raises(ProtocolError):
        parse_header(msgpack.packb({**GOOD, "data": {"x": deep}}), 0)
    with pytest.raises(ProtocolError):
        parse_header(b"\x91" * MAX_HEADER, 0)
    with pytest.raises(ProtocolError):
        parse_header(b"\xdd\xff\xff\xff\xff", 0)


def test_limits_hold_on_both_sides() -> None:
    with pytest.raises(ProtocolError, match="too large"):
        encode_head("k", 0, {"x": b"x" * MAX_HEADER}, 0)
    with pytest.raises(ProtocolError, match="too large"):
        encode_head("k", 0, {}, MAX_PAYLOAD + 1)
    for header, payload in ((0, 0), (MAX_HEADER + 1, 0), (1, MAX_PAYLOAD + 1), (2**32 - 1, 2**32 - 1)):
        prefix = b"PPIR\x01" + header.to_bytes(4, "big") + payload.to_bytes(4, "big")
        with pytest.raises(ProtocolError):
            parse_prefix(prefix)
    with pytest.raises(ProtocolError, match="version 2"):
        parse_prefix(b"PPIR\x02" + bytes(8))
