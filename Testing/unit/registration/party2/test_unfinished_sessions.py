"""Grants that outlive a connection: whose they are, what they allow, and when they end."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from PPIRLogic.disclosure.chain import Chain
from PPIRLogic.registration.party2.unfinished_sessions import (
    GRANT_SECONDS,
    MAX_UNFINISHED_OF_PEER,
    SessionGrant,
    UnfinishedSessions,
)
from PPIRLogic.registration.request import LOST_ANSWERS, LevelGrant, Request

ASKED = Request("fixed", "fhe", "rigid", "ncc", (2, 1))
LEVELS = [LevelGrant(2, 900, 5, 3, 45), LevelGrant(1, 3600, 5, 4, 180)]


def test_a_grant_is_for_its_peer_image_and_request_alone(tmp_path: Path) -> None:
    kept = UnfinishedSessions(tmp_path)
    kept.begin("s", "A", "image", ASKED, LEVELS)
    grant = UnfinishedSessions(tmp_path).granted("s", "A", "image", ASKED)
    assert grant is not None and (grant.most(2), grant.most(1), grant.most(4)) == (15, 20, 0)
    others = [("t", "A", "image", ASKED), ("s", "B", "image", ASKED), ("s", "A", "other", ASKED)]
    others.append(("s", "A", "image", replace(ASKED, evaluations=61)))
    assert all(kept.granted(*other) is None for other in others)
    kept.end("s")
    assert kept.granted("s", "A", "image", ASKED) is None


def test_each_loss_allows_one_answer_more_up_to_a_number(tmp_path: Path) -> None:
    kept = UnfinishedSessions(tmp_path)
    grant = kept.begin("s", "A", "image", ASKED, LEVELS)
    for losses in range(1, LOST_ANSWERS + 3):
        grant = kept.go_on("s", "A", "image", ASKED, grant)
        assert grant.most(2) == 15 + 5 * min(losses, LOST_ANSWERS)
        assert UnfinishedSessions(tmp_path).granted("s", "A", "image", ASKED) == grant


@pytest.mark.parametrize("shift", [-GRANT_SECONDS - 1, GRANT_SECONDS + 60])
def test_it_ends_after_a_day_whatever_the_clock_does(tmp_path: Path, shift: float) -> None:
    """A clock that is set back makes no grant longer."""
    assert SessionGrant({}, time.time() + GRANT_SECONDS + shift).expired
    assert not SessionGrant({}, time.time() + 60).expired


def test_abandoned_sessions_do_not_fill_the_disk(tmp_path: Path) -> None:
    kept = UnfinishedSessions(tmp_path)
    for n in range(3 * MAX_UNFINISHED_OF_PEER):
        kept.begin(f"{n:016x}", "A", "image", ASKED, LEVELS)
    kept.begin("other", "B", "image", ASKED, LEVELS)
    assert len(list(tmp_path.iterdir())) == MAX_UNFINISHED_OF_PEER + 1
    assert kept.granted(f"{3 * MAX_UNFINISHED_OF_PEER - 1:016x}", "A", "image", ASKED) is not None
    (tmp_path / "old.json").write_text('{"peer":"A"}')
    kept.begin("last", "B", "image", ASKED, LEVELS)
    assert not (tmp_path / "old.json").exists()


def test_a_grant_that_was_changed_or_put_back_is_none(tmp_path: Path) -> None:
    """A session goes on only under the grant as it was written last, and not after its end."""
    kept, mine = UnfinishedSessions(tmp_path / "ledger" / "unfinished", Chain(tmp_path)), ("s", "A", "image", ASKED)
    first = kept.begin(*mine, LEVELS)
    path = tmp_path / "ledger" / "unfinished" / "s.json"
    before = path.read_text()
    assert kept.granted(*mine) == first
    path.write_text(before.replace("[2,15,", "[2,95,"))
    assert kept.granted(*mine) is None
    path.write_text(before)
    second = kept.go_on(*mine, first)
    now = path.read_text()
    assert kept.granted(*mine) == second and second.losses == 1
    path.write_text(before)
    assert kept.granted(*mine) is None
    path.write_text(now)
    path.with_name("t.json").write_text(now)
    assert kept.granted("t", *mine[1:]) is None, "under the name of another session"
    kept.end("s")
    path.write_text(now)
    assert kept.granted(*mine) is None and not UnfinishedSessions(path.parent).granted("u", *mine[1:])


def test_a_kill_between_a_grant_and_its_entry_looks_like_no_rollback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, mine = UnfinishedSessions(tmp_path / "ledger" / "unfinished", Chain(tmp_path)), ("s", "A", "image", ASKED)
    grant = kept.begin(*mine, LEVELS)

    def killed(*args: object) -> None:
        raise KeyboardInterrupt

    for _ in range(2):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(UnfinishedSessions, "_enter", killed)
            kept.go_on(*mine, grant)
        assert Chain(tmp_path).verify().faults == []
        grant = kept.go_on(*mine, grant)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(UnfinishedSessions, "_enter", killed)
        kept.end("s")
    assert Chain(tmp_path).verify().faults == [] and kept.granted(*mine) is None
