"""A connection lost during a run: the run goes on where it was, with the undisturbed run's result bit for bit."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from proxy import Proxy
from resume_support import PROTOCOLS, Place, a_place, at, path_of, undisturbed_path
from system_support import (
    OPEN,
    PATIENCE,
    SOON,
    Phantom,
    account_numbers,
    call,
    last_words,
    motion_of,
    opened_numbers,
    owner,
    plain_grid,
    rows_of,
    save,
    session_files,
    shared,
    wait_until,
)

from PPIRLogic.errors import BudgetError, PeerError, RefusedError
from PPIRLogic.local_processes import make_sites
from PPIRLogic.network.channel import Channel
from PPIRLogic.progress import CancelToken, Progress
from PPIRLogic.registration.losses import LOSSES
from PPIRLogic.registration.parameters import Parameters
from PPIRLogic.registration.party1.register import register
from PPIRLogic.registration.result import RegistrationResult

GEOMETRY = plain_grid(2)
PHANTOM = Phantom.make(GEOMETRY)
FIXED, MOVING = PHANTOM.on(GEOMETRY), PHANTOM.on(GEOMETRY, motion_of("affine", GEOMETRY))
RUN = Parameters(
    levels=(4, 2, 1), step_tolerance=1e-6, loss_tolerance=0.0, evaluations=8, threads=1, initial="identity",
    skip_check=True,
)  # fmt: skip
COMPARED = replace(RUN, initial="compare", skip_check=False)


def under(protocol: str) -> Parameters:
    return replace(RUN, protocol=protocol)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    with a_place(tmp_path_factory.mktemp("calm"), FIXED, MOVING) as one:
        return undisturbed_path(one, RUN)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with a_place(tmp_path, FIXED, MOVING) as one:
        yield one


# ------------------------------------------------------------------------------------------------- the line


@pytest.mark.parametrize(
    "protocol", [p if p in ("fhe", "mpc") else pytest.param(p, marks=pytest.mark.long) for p in PROTOCOLS]
)
def test_a_line_that_is_cut_twice(protocol: str, place: Place, undisturbed: list[Any]) -> None:
    """Once within a level, once before the next one is opened."""
    if protocol == "mpc":
        pytest.importorskip("torch")
        place.deal()
    place.share()
    line = place.line()
    seen: list[str] = []
    cuts = at(("evaluation", 12, line.cut), ("level", 20, line.cut))

    def progress(step: Progress) -> None:
        seen.append(step.stage)
        cuts(step)

    result = place.run(line.address, parameters=under(protocol), progress=progress)
    assert path_of(result) == undisturbed
    assert result.reconnections == 2 and seen.count("reconnecting") == 2
    place.both_sides_agree(result)
    events = [r["event"] for r in rows_of(place.sites["B"].home / "audit.jsonl")]
    assert events.count("session resumed") == 2 and events.count("session finished") == 1


@pytest.mark.long
def test_a_line_that_is_cut_between_starts_search_and_check(
    place: Place, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with a_place(tmp_path_factory.mktemp("calm"), FIXED, MOVING) as one:
        undisturbed = undisturbed_path(one, COMPARED)
    place.share()
    line = place.line()
    result = place.run(
        line.address,
        parameters=COMPARED,
        progress=at(("evaluation", 12, line.cut), ("check", 0, line.cut)),
    )
    assert path_of(result) == undisturbed and result.reconnections == 2
    assert result.starts is not None and result.check is not None
    place.both_sides_agree(result)


def test_bytes_that_are_damaged_on_the_way(place: Place, undisturbed: list[Any]) -> None:
    """TLS notices a single flipped bit in either direction; nothing of it is used."""
    place.share()
    line = place.line()

    def damage() -> None:
        line.damage = 1

    result = place.run(
        line.address, parameters=RUN, progress=at(("evaluation", 12, damage), ("evaluation", 22, damage))
    )
    assert path_of(result) == undisturbed
    assert result.reconnections >= 2
    place.both_sides_agree(result)


@pytest.mark.long
def test_a_slow_line_is_not_a_lost_one(place: Place, undisturbed: list[Any]) -> None:
    place.share()
    line = place.line()

    def slow() -> None:
        line.delay = 0.2

    def fast() -> None:
        line.delay = 0.0

    result = place.run(line.address, parameters=RUN, progress=at(("evaluation", 12, slow), ("evaluation", 13, fast)))
    assert path_of(result) == undisturbed and result.reconnections == 0


def test_an_answer_that_was_counted_and_lost(place: Place, undisturbed: list[Any]) -> None:
    """Party 2 counts, the answer does not arrive: it is asked and counted again, and party 1's ledger has both."""
    place.share()
    line = place.line()
    before: list[int] = []

    def hold_answers() -> None:
        before.append(account_numbers(place.sites["B"].home))

        def cut_when_counted() -> None:
            assert wait_until(lambda: account_numbers(place.sites["B"].home) > before[0], PATIENCE)
            line.cut()

        threading.Thread(target=cut_when_counted, daemon=True).start()
        line.delay = 0.5  # the answer is still on its way when the account has it

    def go() -> None:
        line.delay = 0.0

    result = place.run(
        line.address, parameters=RUN, progress=at(("evaluation", 12, hold_answers), ("reconnecting", 0, go))
    )  # fmt: skip
    assert path_of(result) == undisturbed and result.reconnections == 1
    evaluations = sum(record.evaluations for record in result.levels)
    each = len(LOSSES["ncc"].terms(6))
    assert result.numbers == (evaluations + 1) * each, "the lost answer is counted as well"
    place.both_sides_agree(result)


# ----------------------------------------------------------------------------------------------- the programs


@pytest.mark.parametrize("protocol", ["fhe", pytest.param("mpc", marks=pytest.mark.long)])
def test_party_2_is_killed_and_started_again(protocol: str, place: Place, undisturbed: list[Any]) -> None:
    if protocol == "mpc":
        pytest.importorskip("torch")
        place.deal()
    place.serve()

    result = place.run(parameters=under(protocol), progress=at(("evaluation", 22, place.serve_again)))
    assert path_of(result) == undisturbed and result.reconnections == 1
    place.both_sides_agree(result)


@pytest.mark.parametrize("when, protocol", [
    ("before", "fhe"), *(pytest.param(*c, marks=pytest.mark.long) for c in (("before", "mpc"), ("after", "fhe"))),
])  # fmt: skip
def test_party_2_is_killed_at_its_last_word(when: str, protocol: str, place: Place, undisturbed: list[Any]) -> None:
    """Before 'finished' is out: the run asks again for the end. After it, before party 1's goodbye: all is well."""
    if protocol == "mpc":
        pytest.importorskip("torch")
        place.deal()
    place.serve(within=(sys.executable, str(Path(__file__).with_name("last_word.py")), when))
    assert place.second is not None
    first = place.second

    def start_again() -> None:
        first.process.wait()
        place.serve()

    owner_of_2 = threading.Thread(target=start_again)
    owner_of_2.start()
    result = place.run(parameters=under(protocol))
    owner_of_2.join(PATIENCE)
    assert not owner_of_2.is_alive() and first.process.returncode == -signal.SIGKILL
    assert path_of(result) == undisturbed and result.reconnections == (when == "before")
    if when == "after":  # party 1 knows of the end, party 2 does not know that it does
        (left,) = (place.sites["B"].home / "ledger" / "unfinished").iterdir()
        left.unlink()
    place.both_sides_agree(result)


def test_the_last_word_is_lost_on_its_way(tmp_path: Path) -> None:
    """Party 2 said 'finished' and goes on; the line broke before party 1 read it."""
    sites, lost = make_sites(tmp_path, ("A", "B")), []
    send = Channel.send

    def cut_instead(channel: Channel, kind: str, *rest: Any, **more: Any) -> None:
        if kind == "finished" and not lost:
            lost.append(kind)
            line.cut()
        send(channel, kind, *rest, **more)

    with (
        owner(sites["B"], shared(PHANTOM.on(GEOMETRY))) as one,
        Proxy(one.address) as line,
        mock.patch.object(Channel, "send", cut_instead),
    ):
        result = register(MOVING, line.address, home=sites["A"].home, parameters=replace(RUN, levels=(4,)))
        assert lost and result.complete and result.reconnections == 1, result.error
        assert result.numbers == result.peer_numbers == account_numbers(one.home)
        unfinished = one.home / "ledger" / "unfinished"
        assert wait_until(lambda: not any(unfinished.iterdir()))


def test_what_the_account_alone_has_is_entered_once(place: Place, undisturbed: list[Any]) -> None:
    """Party 2 killed between its account and its session's ledger, and then once more."""
    place.serve()

    def kill_between() -> None:
        place.kill()
        (path,) = session_files(place.sites["B"].home)
        *whole, last = path.read_text().splitlines(keepends=True)
        assert '"evaluation":' in last
        path.write_text("".join(whole))
        place.serve()

    moments = at(("evaluation", 12, kill_between), ("evaluation", 22, place.serve_again))
    result = place.run(parameters=RUN, progress=moments)
    assert path_of(result) == undisturbed and result.reconnections == 2
    files = session_files(place.sites["B"].home)
    assert [r["kind"] for f in files for r in rows_of(f)[1:]].count("lost") == 1
    home = place.sites["B"].home
    assert result.numbers == result.peer_numbers == account_numbers(home) == sum(map(opened_numbers, files))


def test_the_dealer_is_killed_and_started_again(place: Place, undisturbed: list[Any]) -> None:
    pytest.importorskip("torch")
    place.deal()
    place.serve()

    def kill() -> None:
        assert place.third is not None
        place.third.process.kill()
        place.third.process.wait()
        place.deal()

    result = place.run(parameters=under("mpc"), progress=at(("evaluation", 22, kill)))
    assert path_of(result) == undisturbed and result.reconnections >= 1
    place.both_sides_agree(result)


@pytest.mark.long
def test_party_2_is_suspended_for_longer_than_the_deadline(place: Place, undisturbed: list[Any]) -> None:
    """Signs of life stop for 10 seconds: the connection counts as lost. Afterwards it is called again and goes on."""
    place.serve()

    def suspend() -> None:
        assert place.second is not None
        process = place.second.process
        process.send_signal(signal.SIGSTOP)
        threading.Timer(14.0, lambda: process.send_signal(signal.SIGCONT)).start()

    result = place.run(parameters=RUN, progress=at(("evaluation", 12, suspend)))
    assert path_of(result) == undisturbed and result.reconnections >= 1
    place.both_sides_agree(result)


# -------------------------------------------------------------------------------------------- where it must end


def test_the_patience_ends(place: Place) -> None:
    """Nobody comes back: the run ends with the best so far, and with the reason of the loss."""
    place.serve()
    assert place.second is not None
    result = place.run(parameters=RUN, progress=at(("evaluation", 22, place.second.process.kill)), reconnect=1.0)
    assert not result.complete and isinstance(result.error, PeerError) and "lost" in str(result.error)
    assert result.levels[-1].transforms and result.reconnections == 0


def test_a_cancel_while_reconnecting(place: Place) -> None:
    place.serve()
    token = CancelToken()
    results: list[RegistrationResult] = []

    def gone() -> None:
        assert place.second is not None
        place.second.process.kill()

    progress = at(("evaluation", 12, gone), ("reconnecting", 0, lambda: threading.Timer(0.5, token.cancel).start()))
    thread = threading.Thread(target=lambda: results.append(place.run(parameters=RUN, progress=progress, cancel=token)))
    thread.start()
    thread.join(PATIENCE)
    assert not thread.is_alive() and results[0].stop_reason == "Cancelled" and results[0].levels[0].transforms


def test_an_owner_that_stops_is_not_called_again(place: Place) -> None:
    place.serve()
    assert place.second is not None
    began = time.monotonic()
    result = place.run(
        parameters=RUN, progress=at(("evaluation", 12, place.second.process.terminate)), reconnect=1000.0
    )
    assert not result.complete and time.monotonic() - began < 500
    assert "stopped sharing" in str(result.error)


def test_another_image_under_the_same_name_is_not_gone_on_with(place: Place, tmp_path: Path) -> None:
    place.serve()
    other = Phantom.make(GEOMETRY, seed=9).on(GEOMETRY)

    def exchange() -> None:
        assert place.second is not None
        place.second.process.kill()
        place.second.process.wait()
        place.serve(fixed=save(other, tmp_path / "other.mha"))

    result = place.run(parameters=RUN, progress=at(("evaluation", 12, exchange)))
    assert not result.complete and isinstance(result.error, RefusedError)
    assert "image was changed" in str(result.error)


def test_the_limit_of_a_session_is_not_escaped_by_reconnecting(tmp_path: Path) -> None:
    """Cut after every evaluation: what party 2 gives out in all stays within one session's limit."""
    sites = make_sites(tmp_path, ("A", "B"))
    limit = 60
    image = shared(PHANTOM.on(GEOMETRY), budget=replace(OPEN, numbers_per_session=limit))
    p = replace(RUN, transform="translation", loss="ssd", levels=(1,), evaluations=30, step_tolerance=1e-12)
    with owner(sites["B"], image) as one, Proxy(one.address) as line:

        def progress(step: Progress) -> None:
            if step.stage == "evaluation":
                line.cut()

        result = register(MOVING, line.address, home=sites["A"].home, parameters=p, progress=progress)
        assert result.reconnections > 1
        assert result.complete or isinstance(result.error, BudgetError)
        assert account_numbers(one.home) <= limit


def test_a_session_is_gone_on_with_by_its_own_peer_only(tmp_path: Path) -> None:
    """Another trusted peer, another request, or a name that never was: refused, nothing disclosed."""
    from PPIRLogic.registration.request import Request
    from PPIRLogic.registration.session import session_name

    sites = make_sites(tmp_path, ("A", "B", "C"))
    request = Request("fixed", "fhe", "translation", "ssd", (4, 2))
    with owner(sites["B"], shared(PHANTOM.on(GEOMETRY))) as one:
        with call(sites["A"], one.address) as channel:
            channel.send("open", {**request.to_dict(), "nonce": bytes(32)})
            opened = channel.receive(SOON)
            assert opened.kind == "opened"
        name = session_name(request, bytes(32), opened.data["nonce"])
        for who, wanted, resumes in (
            ("C", request, name), ("A", replace(request, seed=2), name), ("A", request, bytes(32)),
        ):  # fmt: skip
            with call(sites[who], one.address) as channel:
                channel.send("open", {**wanted.to_dict(), "nonce": bytes(32), "resumes": resumes})
                assert "no unfinished session" in str(last_words(channel))
        with call(sites["A"], one.address) as channel:
            channel.send("open", {**request.to_dict(), "nonce": bytes(32), "resumes": name})
            assert channel.receive(SOON).kind == "opened"
            channel.send("finish", {})
            assert channel.receive(SOON).kind == "finished"
        with call(sites["A"], one.address) as channel:
            channel.send("open", {**request.to_dict(), "nonce": bytes(32), "resumes": name})
            assert "no unfinished session" in str(last_words(channel)), "it has ended in order"


def test_the_person_is_asked_once(tmp_path: Path) -> None:
    sites = make_sites(tmp_path, ("A", "B"))
    asked: list[str] = []

    def ask(peer: str, *_: Any) -> bool:
        asked.append(peer)
        return True

    with owner(sites["B"], shared(PHANTOM.on(GEOMETRY), ask=ask)) as one, Proxy(one.address) as line:
        result = register(
            MOVING, line.address, home=sites["A"].home, parameters=RUN, progress=at(("evaluation", 12, line.cut))
        )
        assert result.complete and result.reconnections == 1
        assert len(asked) == 1 and asked[0].startswith("'A' (fingerprint ")
