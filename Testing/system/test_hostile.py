"""A trusted peer that does not follow the protocol: it is told so, nothing leaves uncounted, others are served on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from system_support import (
    OPEN,
    SOON,
    Owner,
    Phantom,
    account_numbers,
    answer,
    call,
    last_words,
    motion_of,
    owner,
    plain_grid,
    session_files,
    shared,
    try_to_send,
    two_sites,
    wait_until,
)

from PPIRLogic.errors import BudgetError, PeerError, PPIRError, ProtocolError
from PPIRLogic.local_processes import Site
from PPIRLogic.network.channel import Channel
from PPIRLogic.network.messages import PROTOCOL_VERSION
from PPIRLogic.registration.losses import LOSSES
from PPIRLogic.registration.parameters import Parameters
from PPIRLogic.registration.party1.register import register
from PPIRLogic.registration.request import Request
from PPIRLogic.secure.fhe.bfv import answer_bytes
from PPIRLogic.secure.fhe.protocol import COPIES, FheFixed
from PPIRLogic.transforms import parameter_count

GEOMETRY = plain_grid(2)
PHANTOM = Phantom.make(GEOMETRY)
REQUEST = Request("fixed", "fhe", "translation", "ssd", (4, 2))
EACH = len(LOSSES[REQUEST.loss].terms(parameter_count(REQUEST.transform, 2)))
NONCE = bytes(range(32))
SEED = bytes(32)
ANSWER = answer_bytes(1, COPIES)


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> tuple[Site, Site]:
    return two_sites(tmp_path_factory.mktemp("hostile"))


@pytest.fixture(scope="module")
def served(sites: tuple[Site, Site]) -> Iterator[Owner]:
    """After all tests an honest run works and is counted: no place is lost."""
    rules = {"protocols": frozenset({"fhe", "clear", "mpc"}), "disclosed_sampling": True}
    budget = replace(OPEN, percent_per_level=1e6, bits_percent_per_level=1e9)
    with owner(sites[1], shared(PHANTOM.on(GEOMETRY), budget=budget, **rules)) as one:
        yield one
        moving = PHANTOM.on(GEOMETRY, motion_of("translation", GEOMETRY))
        p = Parameters(transform="translation", loss="ssd", levels=(4,))
        before = account_numbers(one.home)
        result = register(moving, one.address, home=sites[0].home, parameters=p)
        assert result.complete and account_numbers(one.home) - before == result.numbers


@pytest.fixture(autouse=True)
def the_server_serves_on(served: Owner, sites: tuple[Site, Site]) -> Iterator[None]:
    """After every test: no bug was hit, and another session is opened."""
    yield
    assert served.told("session failed") == []

    def opens() -> bool:
        with call(sites[0], served.address) as channel:
            channel.send("open", {**REQUEST.to_dict(), "nonce": NONCE})
            return channel.receive(SOON).kind == "opened"

    assert wait_until(opens), "a place is free as soon as the other side has noticed that one was left"


@contextlib.contextmanager
def client(served: Owner, sites: tuple[Site, Site], stage: str = "", request: Request = REQUEST) -> Iterator[Channel]:
    """A raw client that has followed the protocol up to a stage: '', 'open' or 'level'."""
    with call(sites[0], served.address) as channel:
        if stage:
            channel.send("open", {**request.to_dict(), "nonce": NONCE})
            answer(channel, "opened")
        if stage == "level":
            open_level(channel, 0)
        yield channel


def open_level(channel: Channel, index: int) -> None:
    channel.send("level", {"index": index, "seed": SEED})
    answer(channel, "level")
    answer(channel, "key")
    for _ in range(data_frames()):
        answer(channel, "data")


def data_frames() -> int:
    """Operands of the loss and the pads, under both secrets; a level of this small image fits one frame each."""
    return COPIES * (len(LOSSES[REQUEST.loss].operands) + 1)


def blinded(fill: int = 0, count: int = EACH) -> bytes:
    """A request of the right size: so many ciphertexts of small residues."""
    return np.full(count * ANSWER // 8, fill, "<u8").tobytes()


def said(channel: Channel, *words: str) -> PPIRError:
    error = last_words(channel)
    assert isinstance(error, PPIRError) and not isinstance(error, PeerError), repr(error)
    assert all(w in str(error) for w in words), str(error)
    return error


# -------------------------------------------------------------------------------------------------- wrong order


@pytest.mark.parametrize("kind", ["level", "evaluate", "finish", "request", "opened", "answer", "nonsense"])
def test_before_a_session_is_open(kind: str, served: Owner, sites: tuple[Site, Site]) -> None:
    with client(served, sites) as channel:
        channel.send(kind, {"index": 0, "level": 0, "evaluation": 0, "seed": SEED}, b"x" * 100)
        assert isinstance(said(channel, kind, "before a session"), ProtocolError)


@pytest.mark.parametrize("kind", ["evaluate", "request", "open", "info", "opened", "data", "key", "nonsense"])
def test_after_the_opening_only_a_level_comes(kind: str, served: Owner, sites: tuple[Site, Site]) -> None:
    before = session_files(served.home)
    with client(served, sites, "open") as channel:
        channel.send(kind, {"level": 0, "evaluation": 0}, b"x" * 100)
        said(channel, kind)
    assert session_files(served.home) == before, "nothing was opened"


@pytest.mark.parametrize("kind", ["request", "open", "data", "answer", "joined", "nonsense"])
def test_in_a_level_only_an_evaluation_comes(kind: str, served: Owner, sites: tuple[Site, Site]) -> None:
    with client(served, sites, "level") as channel:
        channel.send(kind, {}, blinded())
        said(channel, kind)


@pytest.mark.parametrize("indices", [(0,), (1, 0), (1, 1), (2,)])
def test_a_level_is_opened_once_and_coarse_to_fine(
    indices: tuple[int, ...], served: Owner, sites: tuple[Site, Site]
) -> None:
    """Two encryptions of the same operand under the same seed, or an order of one's own, are not to be had."""
    with client(served, sites, "level") as channel:
        for index in indices[:-1]:
            open_level(channel, index)
        channel.send("level", {"index": indices[-1], "seed": SEED})
        said(channel, "once", "in their order")


def test_an_evaluation_of_another_level(served: Owner, sites: tuple[Site, Site]) -> None:
    before = account_numbers(served.home)
    with client(served, sites, "level") as channel:
        channel.send("evaluate", {"level": 1, "evaluation": 0, "stage": "value"})
        try_to_send(channel, "request", {}, blinded())
        said(channel, "not open")
    assert account_numbers(served.home) == before


def test_after_the_end_there_is_nothing(served: Owner, sites: tuple[Site, Site]) -> None:
    with client(served, sites, "level") as channel:
        channel.send("finish", {})
        assert answer(channel, "finished").data == {"numbers": 0}
        with contextlib.suppress(PPIRError):
            channel.send("evaluate", {"level": 0, "evaluation": 0, "stage": "value"})
        assert isinstance(last_words(channel), PPIRError)


# ------------------------------------------------------------------------------------------------- wrong fields

OPENINGS: dict[str, dict[str, Any]] = {
    "no such image": {"image": "crown jewels"},
    "image is a number": {"image": 7},
    "image is a map": {"image": {"a": 1}},
    "a name with control characters": {"image": "\x1b[2J"},
    "no such protocol": {"protocol": "trust me"},
    "no such loss": {"loss": "mi"},
    "no such transform": {"transform": "bspline"},
    "no such sampling": {"sampling": "all of it"},
    "no levels": {"levels": []},
    "nine levels": {"levels": [1] * 9},
    "a level of zero": {"levels": [0]},
    "a huge level": {"levels": [2**40]},
    "a level that is text": {"levels": ["1"]},
    "levels twice": {"levels": [2, 2]},
    "levels up": {"levels": [1, 2]},
    "per cent zero": {"percent": 0.0},
    "per cent NaN": {"percent": float("nan")},
    "per cent of more": {"percent": 101.0},
    "per cent next to nothing": {"sampling": "urs", "percent": 1e-300},
    "evaluations below zero": {"evaluations": -1},
    "evaluations without end": {"evaluations": 2**40},
    "a negative seed": {"seed": -5},
    "a flag that is a number": {"disclose_sampling": 1},
    "a mask that is not there": {"fixed_mask": "private"},
    "no such use of a mask": {"fixed_mask": "show me"},
    "no nonce": {"nonce": b""},
    "a nonce that is text": {"nonce": "0" * 32},
    "a long name": {"image": "x" * 5000},
    "no version": {"version": None},
}


@pytest.mark.parametrize("what", OPENINGS)
def test_a_malformed_opening(what: str, served: Owner, sites: tuple[Site, Site]) -> None:
    before = len(session_files(served.home))
    with client(served, sites) as channel:
        channel.send("open", {**REQUEST.to_dict(), "nonce": NONCE, **OPENINGS[what]})
        error = said(channel)
        assert str(error).isprintable() and len(str(error)) < 600
    assert len(session_files(served.home)) == before, "nothing was opened"


@pytest.mark.parametrize(
    "data",
    [
        {}, {"index": 0}, {"seed": SEED}, {"index": -1, "seed": SEED}, {"index": 65, "seed": SEED},
        {"index": True, "seed": SEED}, {"index": 0.0, "seed": SEED}, {"index": 0, "seed": b"short"},
        {"index": 0, "seed": "0" * 32}, {"index": [0], "seed": SEED},
    ],
)  # fmt: skip
def test_a_malformed_level(data: dict[str, Any], served: Owner, sites: tuple[Site, Site]) -> None:
    with client(served, sites, "open") as channel:
        channel.send("level", data)
        assert isinstance(said(channel, "Field"), ProtocolError)


@pytest.mark.parametrize(
    "data",
    [
        {}, {"level": 0}, {"evaluation": 0}, {"level": 0, "evaluation": -1}, {"level": 0, "evaluation": 10**6 + 1},
        {"level": "0", "evaluation": 0}, {"level": 0, "evaluation": None}, {"level": 0, "evaluation": 2**63},
    ],
)  # fmt: skip
def test_a_malformed_evaluation(data: dict[str, Any], served: Owner, sites: tuple[Site, Site]) -> None:
    before = account_numbers(served.home)
    with client(served, sites, "level") as channel:
        channel.send("evaluate", data)
        try_to_send(channel, "request", {}, blinded())
        assert isinstance(said(channel, "Field"), ProtocolError)
    assert account_numbers(served.home) == before


@pytest.mark.parametrize("size", [0, 1, ANSWER * EACH + 8, 2 * ANSWER * EACH])
def test_a_request_of_a_wrong_size(size: int, served: Owner, sites: tuple[Site, Site]) -> None:
    """Also the beginning of a request whose rest never comes: nothing is answered, nothing is counted."""
    before = account_numbers(served.home)
    with client(served, sites, "level") as channel:
        channel.send("evaluate", {"level": 0, "evaluation": 0, "stage": "value"})
        channel.send("request", {}, bytes(size))
        if size == 1:
            with pytest.raises(PeerError, match="sent nothing"):
                channel.receive(0.5)
            channel.send("finish", {})
        said(channel)
    assert account_numbers(served.home) == before


@pytest.mark.parametrize("fill", [2**64 - 1, 2**63, 0x5555555555555555])
def test_ciphertexts_out_of_range(fill: int, served: Owner, sites: tuple[Site, Site]) -> None:
    """Garbage of the right size: refused, or counted, and then to be tested before anything is released."""
    before = account_numbers(served.home)
    with client(served, sites, "level") as channel:
        channel.send("evaluate", {"level": 0, "evaluation": 0, "stage": "value"})
        channel.send("request", {}, blinded(fill))
        message = channel.receive(SOON)
        assert message.kind in ("test", "error")
    assert account_numbers(served.home) - before == EACH or message.kind == "error"


def test_blocks_do_not_belong_to_every_session(served: Owner, sites: tuple[Site, Site]) -> None:
    """Naming the voxels one wants under fhe would make single voxels measurable."""
    with client(served, sites, "open") as channel:
        channel.send("level", {"index": 0, "seed": SEED}, np.array([0], "<u4").tobytes())
        assert isinstance(said(channel, "blocks"), ProtocolError)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | st.text(max_size=20)
    | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
FIELDS = st.sampled_from([*REQUEST.to_dict(), "nonce", "index", "evaluation", "level", "x"])
DATA = st.dictionaries(FIELDS, JUNK, max_size=5)
KINDS = st.sampled_from(["open", "level", "evaluate", "request", "finish", "info", "error", "bye", "join", "order"])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stage=st.sampled_from(["", "open", "level"]), kind=KINDS, data=DATA, payload=st.binary(max_size=200))
def test_any_message_at_any_stage(
    stage: str, kind: str, data: dict[str, Any], payload: bytes, served: Owner, sites: tuple[Site, Site]
) -> None:
    """Whatever comes: an answer or an error of the package, no bug, and nothing is opened."""
    before = account_numbers(served.home)
    good = REQUEST.to_dict() | {"nonce": NONCE, "index": 0, "seed": SEED, "level": 0, "evaluation": 0}
    with contextlib.suppress(PPIRError), client(served, sites, stage) as channel:
        channel.send(kind, good | data, payload)
        channel.receive(0.3)
    assert served.told("session failed") == []
    assert account_numbers(served.home) == before


# --------------------------------------------------------------------------------------------- repeated requests


@pytest.fixture
def untested(monkeypatch: pytest.MonkeyPatch) -> None:
    """A party 2 that leaves the test of equality out, so that garbage is answered: what is looked at is the count."""

    def release(side: FheFixed, numbers: Any, secret: Any) -> None:
        side.link.channel.send("answer", {}, numbers.astype("<u8").data)

    monkeypatch.setattr(FheFixed, "_release", release)


def ask(channel: Channel, number: int, payload: bytes, level: int = 0) -> bytes:
    channel.send("evaluate", {"level": level, "evaluation": number, "stage": "value"})
    channel.send("request", {}, payload)
    return bytes(answer(channel, "answer").payload)


@pytest.mark.usefixtures("untested")
def test_the_same_request_twice_is_counted_once(served: Owner, sites: tuple[Site, Site]) -> None:
    before = account_numbers(served.home)
    with client(served, sites, "level") as channel:
        first = ask(channel, 0, blinded(1))
        assert account_numbers(served.home) - before == EACH, "counted before it was answered"
        assert ask(channel, 0, blinded(1)) == first
        assert account_numbers(served.home) - before == EACH
        ask(channel, 0, blinded(2))
        assert account_numbers(served.home) - before == 2 * EACH, "another request under the same number"
        ask(channel, 1, blinded(1))
        assert account_numbers(served.home) - before in (2 * EACH, 3 * EACH)
        counted = account_numbers(served.home) - before
        channel.send("finish", {})
        assert answer(channel, "finished").data == {"numbers": counted}


@pytest.mark.usefixtures("untested")
def test_the_same_request_in_another_session_is_counted_again(served: Owner, sites: tuple[Site, Site]) -> None:
    """Its answer belongs to other keys, so it says something new."""
    before = account_numbers(served.home)
    for count in (1, 2):
        with client(served, sites, "level") as channel:
            ask(channel, 0, blinded(1))
        assert account_numbers(served.home) - before == count * EACH


def test_a_client_that_leaves_before_the_answer_has_spent_it(served: Owner, sites: tuple[Site, Site]) -> None:
    before = account_numbers(served.home)
    with client(served, sites, "level") as channel:
        channel.send("evaluate", {"level": 0, "evaluation": 0, "stage": "value"})
        channel.send("request", {}, blinded(1))
    assert wait_until(lambda: account_numbers(served.home) - before in (0, EACH))


@pytest.mark.usefixtures("untested")
def test_the_budget_ends_a_raw_client(tmp_path: Path, sites: tuple[Site, Site], served: Owner) -> None:
    mine, theirs = two_sites(tmp_path)
    permitted = 3 * EACH + EACH - 1
    image = shared(PHANTOM.on(GEOMETRY), budget=replace(OPEN, numbers_per_session=permitted, numbers_per_image=10**6))
    request = replace(REQUEST, levels=(4,))
    with owner(theirs, image) as one:
        with client(one, (mine, theirs), "level", request) as channel:
            for number in range(3):
                ask(channel, number, blinded(number))
            channel.send("evaluate", {"level": 0, "evaluation": 3, "stage": "value"})
            channel.send("request", {}, blinded(3))
            assert isinstance(said(channel, "used up", f"{EACH} numbers", f"{EACH - 1} are left"), BudgetError)
        assert account_numbers(one.home) == 3 * EACH
        assert wait_until(lambda: any("BudgetError" in e["reason"] for e in one.told("session ended")))
        # The session's limit binds a session: the next one has its own.
        with client(one, (mine, theirs), "level", request) as channel:
            ask(channel, 0, blinded(0))
        assert account_numbers(one.home) == 4 * EACH


def test_clear_by_a_raw_client_only_where_it_is_permitted(tmp_path: Path) -> None:
    mine, theirs = two_sites(tmp_path)
    image = shared(PHANTOM.on(GEOMETRY), protocols=frozenset({"fhe"}))
    with owner(theirs, image) as one, call(mine, one.address) as channel:
        channel.send("open", {**replace(REQUEST, protocol="clear").to_dict(), "nonce": NONCE})
        said(channel, "clear", "not permitted")
        assert one.told("session") == []


def test_the_words_of_a_hostile_server_are_shown_plain(tmp_path: Path) -> None:
    """What the peer calls an error is printed; it must not be able to write to the terminal."""
    from PPIRLogic.network.channel import Listener
    from PPIRLogic.network.identity import load_or_create_identity
    from PPIRLogic.network.trust import TrustStore

    mine, theirs = two_sites(tmp_path)
    identity, trust = load_or_create_identity(theirs.home), TrustStore(theirs.home)
    answers: list[tuple[str, dict[str, Any]]] = [
        ("error", {"error": "PolicyError", "text": "\x1b[2J\x07gone\nTrusted: yes" + "x" * 10_000}),
        ("error", {"error": "KeyboardInterrupt", "text": "stop"}),
        ("error", {"error": 5, "text": ["?"]}),
        ("info", {"version": PROTOCOL_VERSION, "images": "all"}),
        ("info", {"version": PROTOCOL_VERSION, "images": [{"name": "a"}]}),
        ("info", {"version": PROTOCOL_VERSION, "images": [3] * 300}),
        ("info", {"version": "x", "images": []}),
        ("opened", {}),
    ]
    with Listener("127.0.0.1:0", identity, trust) as listener:
        import threading

        def serve() -> None:
            for kind, data in answers:
                channel = listener.accept(SOON)
                assert channel is not None
                with channel:
                    channel.receive(SOON)
                    if kind == "error":
                        channel.close(kind, data)
                    else:
                        channel.send(kind, data)
                        wait_until(lambda: channel.interrupted)  # noqa: B023

        thread = threading.Thread(target=serve)
        thread.start()
        for kind, data in answers:
            with pytest.raises(PPIRError) as caught:
                register(PHANTOM.on(GEOMETRY), listener.address, home=mine.home)
            assert str(caught.value).isprintable() and len(str(caught.value)) < 3000, (kind, data)
        thread.join(SOON)
        assert not thread.is_alive()
