"""What comes from the network is checked for type and range before anything uses it."""

from __future__ import annotations

import re
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from PPIRLogic import errors
from PPIRLogic.errors import Cancelled, PeerError, PPIRError, ProtocolError, VersionError
from PPIRLogic.network.channel import Message, memory_pair
from PPIRLogic.network.messages import (
    DEALER,
    PARTY_1,
    PARTY_2,
    PROTOCOL_VERSION,
    Fields,
    check_version,
    error_from,
    send_error,
    wait_for_message,
)
from PPIRLogic.registration.request import LevelGrant, Request

GOOD = Request("brain", "fhe", "affine", "ncc", (4, 2, 1), "urs", 12.5, False, "private", 40, 7, dealer="ab-cd")

scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(), st.text(max_size=200), st.binary()
)
junk = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=10) | st.dictionaries(st.text(), inner), max_leaves=10
)
words = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=16)
requests = st.builds(
    Request,
    image=words,
    protocol=words,
    transform=words,
    loss=words,
    levels=st.lists(st.integers(1, 64), min_size=1, max_size=8).map(tuple),
    sampling=words,
    percent=st.floats(1e-6, 100),
    disclose_sampling=st.booleans(),
    fixed_mask=words,
    evaluations=st.integers(1, 10_000),
    iterations=st.lists(st.integers(1, 1000), max_size=8).map(tuple),
    grid_spacing=st.floats(0, 1e4),
    stride=st.integers(0, 4096),
    radius_mm=st.floats(0, 1e4),
    seed=st.integers(0, 2**62),
    dealer=words,
    software=words,
)


@settings(max_examples=100, deadline=None)
@given(requests)
def test_a_request_survives_the_wire(request_: Request) -> None:
    received = Request.from_dict(msgpack.unpackb(msgpack.packb(request_.to_dict())))
    assert received == request_ and received.software == request_.software
    assert msgpack.packb(received.to_dict()) == msgpack.packb(request_.to_dict())  # both sides hash these bytes


@settings(max_examples=120, deadline=None)
@given(
    st.dictionaries(st.sampled_from(sorted(GOOD.to_dict())), junk, min_size=1),
    st.sets(st.sampled_from(sorted(GOOD.to_dict())), max_size=2),
)
def test_any_map_is_a_request_in_range_or_refused(over: dict[str, Any], drop: set[str]) -> None:
    data = {k: v for k, v in (GOOD.to_dict() | over).items() if k not in drop}
    try:
        request = Request.from_dict(data)
    except (ProtocolError, VersionError):
        return
    assert not drop
    assert all(type(v) is int and 1 <= v <= 64 for v in request.levels) and 1 <= len(request.levels) <= 8
    assert 1e-6 <= request.percent <= 100 and 1 <= request.evaluations <= 10_000
    assert 0 <= request.seed <= 2**62 and request.version == PROTOCOL_VERSION
    assert all(isinstance(v, str) and v.isprintable() and len(v) <= 128 for v in (request.image, request.protocol))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("levels", []), ("levels", [0]), ("levels", [65]), ("levels", [True]), ("levels", [1.0]), ("levels", [1] * 9),
        ("levels", "421"), ("percent", 0), ("percent", 101), ("percent", float("nan")), ("percent", "5"),
        ("evaluations", 0), ("evaluations", 10_001), ("evaluations", True), ("seed", -1), ("image", "a\nb"),
        ("image", "\x1b[2J"), ("image", "x" * 129), ("image", b"brain"), ("disclose_sampling", 1), ("loss", None),
    ],
)  # fmt: skip
def test_a_field_out_of_range_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(ProtocolError, match=f"'{field}' of 'open'"):
        Request.from_dict(GOOD.to_dict() | {field: value})


@pytest.mark.parametrize("field", sorted(GOOD.to_dict()))
def test_no_field_may_be_missing(field: str) -> None:
    data = GOOD.to_dict()
    del data[field]
    with pytest.raises(ProtocolError, match=field):
        Request.from_dict(data)


@pytest.mark.parametrize("version, update", [(0, PARTY_1), (PROTOCOL_VERSION - 1, PARTY_1), (99, PARTY_2)])
def test_another_version_is_refused_and_says_where_to_update(version: int, update: str) -> None:
    with pytest.raises(VersionError, match=rf"Update PPIRExtension at {re.escape(update)}\.") as caught:
        Request.from_dict(GOOD.to_dict() | {"version": version})
    assert f"version {version}" in str(caught.value) and f"version {PROTOCOL_VERSION}" in str(caught.value)


def test_another_version_may_have_other_fields() -> None:
    with pytest.raises(VersionError):
        Request.from_dict({"version": PROTOCOL_VERSION + 1, "something": "new"})


def test_a_message_of_the_first_builds_says_no_version() -> None:
    with pytest.raises(VersionError, match=rf"{re.escape(DEALER)} version 1\. Update PPIRExtension at {DEALER}\."):
        check_version({"key": bytes(32)}, "joined", PARTY_1, DEALER)
    with pytest.raises(ProtocolError, match="'version'"):
        check_version({"version": "2"}, "info", PARTY_1, PARTY_2)
    check_version({"version": PROTOCOL_VERSION}, "info", PARTY_1, PARTY_2)


# ------------------------------------------------------------------------------------------------- grants


@settings(max_examples=60, deadline=None)
@given(st.builds(LevelGrant, *[st.integers(1, 64)] * 3, st.integers(0, 10_000), st.integers(0, 2**62)))
def test_a_grant_survives_the_wire(grant: LevelGrant) -> None:
    assert LevelGrant.from_dict(msgpack.unpackb(msgpack.packb(grant.to_dict()))) == grant


@settings(max_examples=100, deadline=None)
@given(junk | st.dictionaries(st.sampled_from(["factor", "samples", "evaluations", "numbers_left"]), junk))
def test_no_junk_is_a_grant(data: Any) -> None:
    with pytest.raises(ProtocolError):
        LevelGrant.from_dict(data)


# ------------------------------------------------------------------------------------------------- fields


@settings(max_examples=120, deadline=None)
@given(junk)
def test_every_getter_gives_its_own_type_or_a_protocol_error(value: Any) -> None:
    f = Fields({"v": value}, "test")
    getters = {
        int: lambda: f.integer("v", -5, 5),
        float: lambda: f.number("v", -5, 5),
        str: lambda: f.text("v", 8),
        bool: lambda: f.flag("v"),
        bytes: lambda: f.raw("v", 2),
        list: lambda: f.items("v", 3),
        dict: lambda: f.map("v"),
    }
    for kind, getter in getters.items():
        try:
            got = getter()
        except ProtocolError as error:
            assert "'v' of 'test'" in str(error)
        else:
            assert type(got) is kind and got == value
            assert kind not in (int, float) or -5 <= got <= 5
            assert kind not in (str, list) or len(got) <= 8


def test_missing_fields_are_refused() -> None:
    f = Fields({}, "test")
    for getter in (lambda: f.integer("x", 0, 1), lambda: f.text("x"), lambda: f.flag("x"), lambda: f.map("x")):
        with pytest.raises(ProtocolError, match="'x' of 'test'"):
            getter()


# ------------------------------------------------------------------------------------------------- errors


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["error", "bye", "answer"]), st.dictionaries(st.sampled_from(["error", "text"]), junk))
def test_any_report_of_the_peer_becomes_one_deliberate_error(kind: str, data: dict[str, Any]) -> None:
    error = error_from(Message(kind, data))
    assert isinstance(error, PPIRError) and len(str(error)) <= 2000
    assert str(error).isprintable()


@pytest.mark.parametrize(
    "cls", [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, PPIRError) and c is not PPIRError]
)
def test_every_error_arrives_as_what_it_is(cls: type[PPIRError]) -> None:
    here, there = memory_pair()
    send_error(here, cls("what happened"))
    received = error_from(there.receive(5))
    there.close()
    expected = str(cls("what happened"))  # of a failed check nothing is told
    assert type(received) is cls and str(received) == expected
    assert (expected == "what happened") == (cls is not errors.VerificationError)


@pytest.mark.parametrize("name", ["PPIRError", "KeyboardInterrupt", "SystemExit", "os.system", ""])
def test_unknown_names_become_a_refusal(name: str) -> None:
    assert type(error_from(Message("error", {"error": name, "text": "x"}))) is errors.RefusedError


def test_terminal_codes_and_length_are_taken_out_of_the_peers_text() -> None:
    error = error_from(Message("error", {"error": "PeerError", "text": "a\x1b[31mb\nc" + "x" * 5000}))
    assert str(error).startswith("a [31mb c") and len(str(error)) == 2000


# ------------------------------------------------------------------------------------------------- waiting


def cancelled() -> None:
    raise Cancelled("stop")


def test_a_wait_ends_with_the_message_a_cancel_or_the_end_of_its_time() -> None:
    here, there = memory_pair()
    with here, there:
        there.send("answer", {"n": 1})
        assert wait_for_message(here, 5, cancelled).data == {"n": 1}  # what is there is taken without a look
        with pytest.raises(Cancelled):
            wait_for_message(here, 5, cancelled)
        with pytest.raises(PeerError, match="sent nothing"):
            wait_for_message(here, 0.01, lambda: None)


def test_a_message_is_not_lost_to_the_farewell_that_follows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last answer and the goodbye both arrive between a time-out and the look at the channel."""
    here, there = memory_pair()
    receive, times = here.receive, []

    def late(timeout: float) -> Message:
        times.append(timeout)
        if len(times) > 1:
            return receive(timeout)
        there.send("finished", {"numbers": 3})
        there.close()
        assert here.interrupted  # `close` waits until the other side has hung up
        raise PeerError("nothing yet")

    monkeypatch.setattr(here, "receive", late)
    with here:
        assert wait_for_message(here, 5, cancelled).data == {"numbers": 3}
        assert wait_for_message(here, 5, cancelled).kind == "bye"  # in its turn
        with pytest.raises(PeerError, match="ended the connection"):
            wait_for_message(here, 5, cancelled)
