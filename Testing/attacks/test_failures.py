"""A failed check answers one guess, so three are three: at any number of sessions, of peers that collude, too."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from recording import Record
from system_support import Phantom, account_numbers, grid, owner, shared
from thief import Thief

from PPIRLogic.disclosure.failed_checks import MAX_FAILURES, FailedChecks
from PPIRLogic.errors import PolicyError, PPIRError, VerificationError
from PPIRLogic.local_processes import make_sites
from PPIRLogic.registration.protocols import protocol_named
from PPIRLogic.secure.product import FixedSide

SESSIONS = 8
GRID = grid((64, 64), (1.0, 1.0), (0.0, 0.0))


def guess(failures: FailedChecks, names: list[str], *, every: bool) -> int:
    """Sessions that were all open before the first failure, each with a wrong guess; how many were told so.

    every: the check before every answer; else the one when a session begins, as it was.
    """
    open_now, told = threading.Barrier(len(names)), []

    def session(peer: str) -> None:
        failures.check(peer, "image")
        open_now.wait(10)
        try:
            if every:
                with failures.test(peer, "s", subject="image"):
                    raise VerificationError("failed")
            failures.record(peer, "s", "image")
        except VerificationError:
            pass
        except PolicyError:
            return
        told.append(peer)

    threads = [threading.Thread(target=session, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    return len(told)


@pytest.mark.parametrize("peers", [1, SESSIONS])
def test_sessions_that_are_open_already_have_no_guesses_of_their_own(
    peers: int, tmp_path: Path, record: Record
) -> None:
    names = [f"peer {n % peers}" for n in range(SESSIONS)]
    unprotected = guess(FailedChecks(tmp_path / "unprotected"), names, every=False)
    ours = guess(failures := FailedChecks(tmp_path / "ours"), names, every=True)
    assert unprotected == SESSIONS and ours == MAX_FAILURES == failures.count_of_subject("image")
    record(
        f"guesses at a check in {SESSIONS} sessions at once, of {peers} peer{'s' if peers > 1 else ''}",
        f"{unprotected} answered",
        f"{ours} answered, then nobody is served until a person lifts it",
    )


def test_three_are_three_over_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two peers, five sessions at once, every check fails; a lift of those that failed lets the image be served."""

    def failing(self: FixedSide) -> None:
        with self.testing():
            raise VerificationError

    monkeypatch.setattr(protocol_named("fhe").fixed_side, "answer", failing)
    sites = make_sites(tmp_path, ("A", "B", "C"))
    with owner(sites["B"], shared(Phantom.make(GRID).on(GRID)), max_sessions=5) as one:
        thieves = [Thief(sites[name], one.address) for name in "AACCC"]
        for thief in thieves:
            assert thief.read([1]) == {}
            thief.close()
        kinds = [type(t.stopped) for t in thieves]
        assert kinds == [VerificationError] * MAX_FAILURES + [PolicyError] * 2
        failures = FailedChecks(one.home)
        assert (failures.count(sites["A"].fingerprint), failures.count(sites["C"].fingerprint)) == (2, 1)
        with pytest.raises(PPIRError, match="serves this image to nobody"):
            Thief(sites["C"], one.address)
        failures.lift(sites["C"].fingerprint)
        Thief(sites["C"], one.address).close()
        assert account_numbers(one.home) > 0
