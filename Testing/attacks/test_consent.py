"""A person says yes to numbers, and to a site that it knows: it is held to them, also after a lost connection."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from recording import Record
from system_support import OPEN, Owner, Phantom, account_numbers, grid, owner, shared, two_sites, wait_until
from thief import WANTED, Thief

from PPIRLogic.disclosure.accounts import ImageAccount
from PPIRLogic.errors import BudgetError, RefusedError
from PPIRLogic.local_processes import Site
from PPIRLogic.network.identity import renew_identity
from PPIRLogic.registration.disclosure_estimate import grant_rows
from PPIRLogic.registration.party2 import session as party2_session
from PPIRLogic.registration.party2 import unfinished_sessions
from PPIRLogic.registration.party2.unfinished_sessions import GRANT_SECONDS
from PPIRLogic.registration.request import LOST_ANSWERS

GRID = grid((64, 64), (1.0, 1.0), (0.0, 0.0))
FIXED = Phantom.make(GRID).on(GRID)
ASKED = replace(WANTED, evaluations=3)
GRANTED = 3 * 4  # numbers: two of the gradient, the value and the overlap
VOXELS = range(800)


def yes(questions: list[tuple[Any, ...]]) -> Any:
    """A person who says yes, and what that person was shown."""

    def ask(*question: Any) -> bool:
        questions.append(question)
        return True

    return ask


def lost(site: Site, one: Owner, resumes: bytes = b"") -> bytes:
    """A session that reads what it can and then loses its connection without a word; its name."""
    thief = Thief(site, one.address, ASKED, resumes)
    thief.read(VOXELS)
    thief.session.channel._link.stop()
    assert wait_until(lambda: not one.server._running)
    return thief.session.first_name


def test_what_a_person_granted_is_what_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record: Record
) -> None:
    shown: list[tuple[Any, ...]] = []
    one_site, two = two_sites(tmp_path)
    with owner(two, shared(FIXED, budget=OPEN, ask=yes(shown))) as one, Thief(one_site, one.address, ASKED) as thief:
        thief.read(VOXELS)
        assert isinstance(thief.stopped, BudgetError) and "was granted 12 numbers" in str(thief.stopped)
        ours = account_numbers(two.home)
    assert ours == GRANTED and "in all at most 12 numbers" in grant_rows(shown[0][2])[-1]
    one_site, two = two_sites(tmp_path / "unprotected")
    spend = ImageAccount.spend
    with monkeypatch.context() as patch:
        patch.setattr(ImageAccount, "spend", lambda self, *given: spend(self, *given[:4]))
        with owner(two, shared(FIXED, budget=OPEN, ask=yes([]))) as one, Thief(one_site, one.address, ASKED) as thief:
            thief.read(VOXELS)
            unprotected = account_numbers(two.home)
    assert unprotected > 20 * ours
    record(
        f"more than a person granted ({GRANTED} numbers), of one session (party 1 goes on asking)",
        f"{unprotected} numbers, all that the budget allows",
        f"{ours} numbers",
    )


def test_a_session_that_goes_on_lives_on_what_is_left(tmp_path: Path, record: Record) -> None:
    """Also with the owner's program started anew, and with a person there who would now say no."""
    one_site, two = two_sites(tmp_path)
    with owner(two, shared(FIXED, budget=OPEN, ask=yes([]))) as one:
        name = lost(one_site, one)
    assert account_numbers(two.home) == GRANTED
    spent = []
    with owner(two, shared(FIXED, budget=OPEN, ask=lambda *question: False)) as one:
        for _ in range(LOST_ANSWERS + 3):
            lost(one_site, one, name)
            spent.append(account_numbers(two.home))
    assert spent[0] == GRANTED + 4 and max(spent) == GRANTED + 4 * LOST_ANSWERS
    record(
        "a granted session that is resumed again and again (party 1 pulls the cable)",
        "anything, without a person being asked",
        f"{4 * LOST_ANSWERS} numbers more, for {LOST_ANSWERS} answers that may be lost; the person was told of them",
    )


def test_a_grant_expires(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one_site, two = two_sites(tmp_path)
    with owner(two, shared(FIXED, budget=OPEN)) as one:
        name = lost(one_site, one)
        with Thief(one_site, one.address, ASKED) as thief:
            monkeypatch.setattr(party2_session, "_now", lambda: time.monotonic() + GRANT_SECONDS + 1)
            assert thief.read([1]) == {} and isinstance(thief.stopped, RefusedError)
        monkeypatch.setattr(unfinished_sessions, "GRANT_SECONDS", -1.0)
        with pytest.raises(RefusedError, match="the grant has expired"):
            Thief(one_site, one.address, ASKED, name)


def test_the_person_sees_whom_this_site_trusts_and_not_what_a_peer_calls_itself(tmp_path: Path) -> None:
    shown: list[tuple[Any, ...]] = []
    one_site, two = two_sites(tmp_path)
    renew_identity(one_site.home, name="University Hospital")  # the same key under a name that sounds better
    with owner(two, shared(FIXED, budget=OPEN, ask=yes(shown))) as one:
        Thief(one_site, one.address, ASKED).close()
    assert shown[0][0] == f"'A' (fingerprint {one_site.fingerprint})"
