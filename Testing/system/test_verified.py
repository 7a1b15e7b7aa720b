"""A peer whose answers do not belong together, over real TLS: counted, told nothing but that, blocked, and lifted."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from system_support import (
    SOON,
    Owner,
    Phantom,
    account_numbers,
    answer,
    call,
    here,
    last_words,
    motion_of,
    owner,
    plain_grid,
    rows_of,
    shared,
    two_sites,
)

from PPIRLogic.disclosure.failed_checks import FailedChecks
from PPIRLogic.errors import PeerError, PolicyError, VerificationError
from PPIRLogic.local_processes import Site
from PPIRLogic.registration.parameters import Parameters
from PPIRLogic.registration.party1.register import register
from PPIRLogic.registration.request import Request
from PPIRLogic.secure.fhe.bfv import answer_bytes
from PPIRLogic.secure.fhe.equality import PARTY_1, PARTY_2, EqualityTest
from PPIRLogic.secure.fhe.protocol import FheFixed

GEOMETRY = plain_grid(2)
PHANTOM = Phantom.make(GEOMETRY)
REQUEST = Request("fixed", "fhe", "translation", "ssd", (4,))
NUMBERS = 4  # of a translation in 2D with ssd: gradient 2, value, overlap


def forge(one: Owner, site: Site) -> Exception:
    """One session that asks with random ciphertexts; what it is told."""
    with call(site, one.address) as channel:
        channel.send("open", {**REQUEST.to_dict(), "nonce": bytes(32)})
        reply = channel.receive(SOON)
        if reply.kind != "opened":
            return last_words(channel)
        channel.send("level", {"index": 0, "seed": bytes(32)})
        for kind in ("level", "key", *["data"] * 6):  # two operands and the pads, two secrets each
            answer(channel, kind)
        channel.send("evaluate", {"level": 0, "evaluation": 0, "stage": "value"})
        channel.send("request", {}, np.ones(NUMBERS * answer_bytes(1, 2) // 8, "<u8").tobytes())
        test = EqualityTest(PARTY_1, bytes(32), np.zeros(NUMBERS, np.uint64))  # it does not know what to show
        test.meet(answer(channel, "test").payload)
        channel.send("test", {}, test.share + test.tag())
        return last_words(channel)


def test_three_forged_requests_block_a_peer_until_a_person_lifts_it(tmp_path: Path) -> None:
    mine, theirs = two_sites(tmp_path)
    image = shared(PHANTOM.on(GEOMETRY), protocols=frozenset({"fhe"}))
    for count in range(3):  # the owner restarts in between: failures are durable
        with owner(theirs, image) as one:
            told = forge(one, mine)
            assert isinstance(told, VerificationError) and str(told) == str(VerificationError())
            assert account_numbers(one.home) == (count + 1) * NUMBERS, "a failed check is counted like any other"
            failures = [r for r in rows_of(one.home / "ledger" / "failures.jsonl") if r["event"] == "failed"]
            assert len(failures) == count + 1
    moving = PHANTOM.on(GEOMETRY, motion_of("translation", GEOMETRY))
    p = Parameters(transform="translation", loss="ssd", levels=(4,))
    with owner(theirs, image) as one:
        assert isinstance(forge(one, mine), PolicyError)
        assert isinstance(forge(one, mine), PolicyError)
        done = here(theirs.home, "trust", "lift", mine.fingerprint)
        assert done.returncode == 0 and "3 failed or unfinished tests" in done.stdout
        assert register(moving, one.address, home=mine.home, parameters=p).complete


def test_a_party_2_that_cuts_the_line_at_every_test_is_left_after_three(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It sees a request and party 1's side of the test, again and again, and never has to answer."""
    mine, theirs = two_sites(tmp_path)
    honest, answered, cut = FheFixed._release, [], []

    def release(side: FheFixed, numbers: Any, secret: Any) -> None:
        if len(answered) < 2:
            answered.append(True)
            return honest(side, numbers, secret)
        channel = cast(Any, side.link.channel)
        channel.send("test", {}, EqualityTest(PARTY_2, bytes(32), secret).share)
        side.link.receive("test")
        cut.append(FailedChecks(mine.home).count(theirs.fingerprint))
        channel._channel._link.stop()
        raise PeerError("The line was cut.")

    monkeypatch.setattr(FheFixed, "_release", release)
    moving = PHANTOM.on(GEOMETRY, motion_of("translation", GEOMETRY))
    p = Parameters(transform="translation", loss="ssd", levels=(4,), initial="identity")
    with owner(theirs, shared(PHANTOM.on(GEOMETRY))) as one:
        result = register(moving, one.address, home=mine.home, parameters=p, reconnect=20.0)
        assert cut == [1, 2, 3], "each test was on record before it began"
        assert not result.complete and result.reconnections == 2 and result.levels[0].evaluations == 2
        assert isinstance(result.error, PolicyError) and f"ppir trust lift {theirs.fingerprint}" in str(result.error)
        assert FailedChecks(theirs.home).count(mine.fingerprint) == 0
        monkeypatch.setattr(FheFixed, "_release", honest)
        with pytest.raises(PolicyError, match="ppir trust lift"):  # another run, another process
            register(moving, one.address, home=mine.home, parameters=p)
        assert here(mine.home, "trust", "lift", theirs.fingerprint).returncode == 0
        assert [r["event"] for r in rows_of(mine.home / "audit.jsonl")] == ["tests lifted"]
        assert register(moving, one.address, home=mine.home, parameters=p).complete


def test_lines_that_break_outside_of_a_test_are_not_held_against_a_peer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Party 2 is lost four times after it had the request, and before party 1 showed anything."""
    mine, theirs = two_sites(tmp_path)
    honest, cut = FheFixed._release, []

    def release(side: FheFixed, numbers: Any, secret: Any) -> None:
        if len(cut) < 4:
            cut.append(True)
            cast(Any, side.link.channel)._channel._link.stop()
            raise PeerError("The line was cut.")
        honest(side, numbers, secret)

    monkeypatch.setattr(FheFixed, "_release", release)
    moving = PHANTOM.on(GEOMETRY, motion_of("translation", GEOMETRY))
    p = Parameters(transform="translation", loss="ssd", levels=(4,))
    with owner(theirs, shared(PHANTOM.on(GEOMETRY))) as one:
        result = register(moving, one.address, home=mine.home, parameters=p, reconnect=20.0)
        assert result.complete and result.reconnections == 4
        assert FailedChecks(mine.home).count(theirs.fingerprint) == 0
        assert FailedChecks(theirs.home).count(mine.fingerprint) == 0
