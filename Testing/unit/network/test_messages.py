"""What comes from the network is checked for type and range before anything uses it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from junk_support import junk

from PPIRLogic import errors
from PPIRLogic.errors import Cancelled, PeerError, PPIRError, ProtocolError
from PPIRLogic.network.channel import Message, memory_pair
from PPIRLogic.network.messages import (
    Fields,
    error_from,
    send_error,
    wait_for_message,
)


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


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["error", "bye", "answer"]), st.dictionaries(st.sampled_from(["error", "text"]), junk))
def test_any_report_of_the_peer_becomes_one_deliberate_error(kind: str, data: dict[str, Any]) -> None:
    error = error_from(Message(kind, data))
    assert isinstance(error, PPIRError) and len(str(error)) <= 2000
    assert str(error).isprintable()


EVERY = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, PPIRError) and c is not PPIRError]
OUR_OWN = (
    errors.InputError, errors.OverlapError, errors.OutputError, errors.MissingDependencyError, errors.FixedPointError,
    errors.IdentityError, errors.DoubtfulError, errors.Cancelled, errors.RecordError,
)  # fmt: skip


@pytest.mark.parametrize("cls", EVERY)
def test_every_error_that_a_peer_may_raise_arrives_as_what_it_is_and_marked(cls: type[PPIRError]) -> None:
    here, there = memory_pair()
    send_error(here, cls("what happened"))
    received = error_from(there.receive(5))
    there.close()
    assert type(received) is (errors.RefusedError if cls in OUR_OWN else cls)
    told = {c: f"The peer says: {c.FOR_PEERS}" for c in (errors.OutputError, errors.RecordError)}  # without a path
    told[errors.VerificationError] = str(cls())
    assert str(received) == told.get(cls, "The peer says: what happened")  # of a failed check nothing is told


def test_words_that_are_passed_on_are_marked_once() -> None:
    error = error_from(Message("error", {"error": "PeerError", "text": "gone"}))
    assert str(error_from(Message("error", {"error": "PeerError", "text": str(error)}))) == "The peer says: gone"


@pytest.mark.parametrize("name", ["PPIRError", "KeyboardInterrupt", "SystemExit", "os.system", ""])
def test_unknown_names_become_a_refusal(name: str) -> None:
    assert type(error_from(Message("error", {"error": name, "text": "x"}))) is errors.RefusedError


def test_terminal_codes_and_length_are_taken_out_of_the_peers_text() -> None:
    error = error_from(Message("error", {"error": "PeerError", "text": "a\x1b[31mb\nc" + "x" * 5000}))
    assert str(error).startswith("The peer says: a [31mb c") and len(str(error)) == 2000


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
