"""The life of a channel, without TLS."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

import numpy as np
import pytest

from PPIRLogic.errors import PeerError, ProtocolError
from PPIRLogic.network.channel import (
    MAX_HEADER,
    MAX_PAYLOAD,
    MAX_QUEUE,
    Channel,
    encode_head,
    memory_pair,
)
from PPIRLogic.network.channel.timed_socket import Wire


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
