"""Framing and the life of a channel, without TLS."""

from __future__ import annotations

import io
import socket
import threading
import time
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from PPIRLogic.errors import InputError, PeerError, ProtocolError
from PPIRLogic.network.channel import (
    MAX_HEADER,
    MAX_PAYLOAD,
    MAX_QUEUE,
    Channel,
    FrameReader,
    encode_head,
    memory_pair,
    parse_address,
    parse_header,
    parse_prefix,
)
from PPIRLogic.network.channel.timed_socket import Wire


def reader_of(content: bytes, step: int = 1 << 30) -> FrameReader:
    stream = io.BytesIO(content)
    return FrameReader(lambda view: stream.readinto(view[:step]))


def raw_pair(**options: float) -> tuple[Channel, socket.socket]:
    """A running channel and the bare socket that plays its peer."""
    mine, theirs = socket.socketpair()
    dead_after = options.get("dead_after", 10.0)
    channel = Channel(Wire(mine, dead_after), peer_name="them", dead_after=dead_after, heartbeat=60)
    channel.start()
    return channel, theirs


def wait_for(condition: Any, seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return bool(condition())


# ---------------------------------------------------------------------------------------------- addresses


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("host:1234", ("host", 1234)),
        ("host", ("host", 7443)),
        (" 10.0.0.1:0 ", ("10.0.0.1", 0)),
        ("[::1]:7443", ("::1", 7443)),
        ("[fe80::1%eth0]", ("fe80::1%eth0", 7443)),
        ("a.b-c.example:65535", ("a.b-c.example", 65535)),
    ],
)
def test_addresses(text: str, expected: tuple[str, int]) -> None:
    assert parse_address(text) == expected


@pytest.mark.parametrize(
    "text", ["", ":1", "h:", "h:x", "h:65536", "::1", "[::1", "https://h", "a b", "u@h", "h:-1", "h:1:2"]
)
def test_no_addresses(text: str) -> None:
    with pytest.raises(InputError, match="not an address"):
        parse_address(text)


# ---------------------------------------------------------------------------------------------- frames

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


# ---------------------------------------------------------------------------------------------- the channel


def test_messages_of_many_kinds_arrive() -> None:
    one, two = memory_pair("one", "two")
    assert (one.peer_name, two.peer_name) == ("two", "one")
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    with one, two:
        one.send("empty")
        one.send("array", {"shape": [3, 4]}, array)
        one.send("view", None, memoryview(b"abcdef")[2:4])
        one.send("none", {}, np.empty((0, 3)))
        assert two.receive(5).payload == b""
        message = two.receive(5)
        assert message.data == {"shape": [3, 4]}
        assert np.array_equal(np.frombuffer(message.payload, np.float32).reshape(3, 4), array)
        assert two.receive(5).payload == b"cd"
        assert two.receive(5).kind == "none"
        two.send("back")
        assert one.receive(5).kind == "back"
        one.check()


def test_a_large_payload_arrives_whole() -> None:
    one, two = memory_pair()
    content = np.random.default_rng(1).bytes(MAX_PAYLOAD)
    with one, two:
        sender = threading.Thread(target=one.send, args=("big", {}, content))
        sender.start()
        assert two.receive(20).payload == content
        sender.join(5)


def test_unsendable_messages_do_no_harm() -> None:
    one, two = memory_pair()
    with one, two:
        for kind, data, payload in (
            ("alive", {}, b""),
            ("two words", {}, b""),
            ("k", {"x": "y" * MAX_HEADER}, b""),
            ("k", {}, bytes(MAX_PAYLOAD + 1)),
        ):
            with pytest.raises(ProtocolError):
                one.send(kind, data, payload)
        one.send("fine")
        assert two.receive(5).kind == "fine"


def test_threads_may_send_at_the_same_time() -> None:
    one, two = memory_pair()
    with one, two:
        threads = [
            threading.Thread(target=lambda n=n: [one.send("k", {"n": n, "i": i}, bytes([n]) * 5000) for i in range(20)])
            for n in range(4)
        ]
        for thread in threads:
            thread.start()
        seen: dict[int, list[int]] = {n: [] for n in range(4)}
        for _ in range(80):
            message = two.receive(5)
            assert message.payload == bytes([message.data["n"]]) * 5000
            seen[message.data["n"]].append(message.data["i"])
        assert all(order == list(range(20)) for order in seen.values())


def test_waiting_in_vain_names_the_peer_and_the_time() -> None:
    one, two = memory_pair("one", "two")
    with one, two:
        with pytest.raises(PeerError, match=r"two sent nothing for 0\.05 seconds"):
            one.receive(0.05)
        two.send("late")
        assert one.receive(5).kind == "late"


def test_a_goodbye_is_delivered_last_and_noticed_first() -> None:
    one, two = memory_pair()
    one.send("work")
    one.send("more")
    one.close("error", {"reason": "policy"})
    assert wait_for(lambda: two.interrupted)
    assert two.closing_message is not None and two.closing_message.data == {"reason": "policy"}
    with pytest.raises(PeerError, match="has ended"):
        two.check()
    assert [two.receive(1).kind for _ in range(3)] == ["work", "more", "error"]
    with pytest.raises(PeerError, match="has ended"):
        two.receive(1)
    with pytest.raises(PeerError, match="has ended"):
        two.send("too late")
    with pytest.raises(PeerError, match="this side"):
        one.receive(1)
    two.close()
    two.close()


def test_leaving_the_block_by_an_error_says_so() -> None:
    one, two = memory_pair()
    with pytest.raises(KeyError), one:
        raise KeyError
    assert two.receive(5).kind == "error"
    two.close()


def test_byte_counts_agree() -> None:
    one, two = memory_pair(heartbeat=0.05)
    one.send("k", {}, b"x" * 100_000)
    two.receive(5)
    two.send("k", {}, b"y" * 1000)
    time.sleep(0.2)
    one.close()
    assert wait_for(lambda: two.bytes_received == one.bytes_sent)
    two.close()
    assert two.bytes_sent == one.bytes_received > 1000


def test_no_thread_is_left() -> None:
    before = set(threading.enumerate())
    for _ in range(3):
        one, two = memory_pair()
        one.close()
        two.close()
    assert set(threading.enumerate()) <= before


def test_a_full_queue_holds_the_sender_back() -> None:
    one, two = memory_pair(dead_after=5)
    with one, two:
        sent = []

        def send() -> None:
            for number in range(3 * MAX_QUEUE):
                one.send("k", {}, bytes(1024 * 1024))
                sent.append(number)

        sender = threading.Thread(target=send)
        sender.start()
        wait_for(lambda: len(sent) >= MAX_QUEUE)
        time.sleep(0.2)
        assert len(sent) <= MAX_QUEUE + 4
        for _ in range(3 * MAX_QUEUE):
            two.receive(5)
        sender.join(5)
        assert len(sent) == 3 * MAX_QUEUE


def test_a_peer_that_does_not_read_ends_a_send() -> None:
    channel, theirs = raw_pair(dead_after=0.5)
    with theirs, pytest.raises(PeerError, match="was lost"):
        channel.send("k", {}, bytes(MAX_PAYLOAD))
    assert channel.interrupted
    channel.close()


def test_closing_elsewhere_frees_those_who_wait() -> None:
    channel, theirs = raw_pair(dead_after=60)
    problems: list[Exception] = []

    def attempt(action: Any) -> None:
        try:
            action()
        except PeerError as error:
            problems.append(error)

    actions = (lambda: channel.send("k", {}, bytes(MAX_PAYLOAD)), lambda: channel.receive(60))
    threads = [threading.Thread(target=attempt, args=(action,)) for action in actions]
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    started = time.monotonic()
    channel.close()
    for thread in threads:
        thread.join(5)
    assert time.monotonic() - started < 4
    assert len(problems) == 2
    theirs.close()


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([b"GET / HTTP/1.1\r\n\r\n"], "not a frame"),
        ([b"PPIR\x01" + b"\xff" * 8], "header has"),
        ([encode_head("a", 0, {}, 0), encode_head("a", 0, {}, 0)], "out of order"),
        ([encode_head("a", 1, {}, 0)], "out of order"),
        ([encode_head("a", 0, {}, 0), encode_head("a", 2, {}, 0)], "out of order"),
        ([encode_head("alive", 0, {"x": 1}, 0)], "sign of life"),
    ],
)
def test_a_malformed_frame_ends_the_channel(frames: list[bytes], message: str) -> None:
    channel, theirs = raw_pair()
    with theirs:
        theirs.sendall(b"".join(frames))
        assert wait_for(lambda: channel.interrupted)
        for _ in range(len(frames) - 1):
            channel.receive(1)
        with pytest.raises(ProtocolError, match=message):
            channel.receive(1)
        with pytest.raises(ProtocolError, match=message):
            channel.check()
    channel.close()


def test_a_frame_that_breaks_off_is_a_lost_peer() -> None:
    channel, theirs = raw_pair()
    theirs.sendall(encode_head("a", 0, {}, 100) + b"only this")
    theirs.close()
    with pytest.raises(PeerError, match="middle of a frame"):
        channel.receive(5)
    channel.close()


def test_silence_and_signs_of_life() -> None:
    channel, theirs = raw_pair(dead_after=0.5)
    with theirs, pytest.raises(PeerError, match=r"nothing came for 0\.5 seconds"):
        channel.receive(5)
    channel.close()
    one, two = memory_pair(heartbeat=0.1, dead_after=0.6)
    time.sleep(1.2)
    one.check()
    two.check()
    one.close()
    two.close()
