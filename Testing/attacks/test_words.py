"""Words of the peer are the peer's: marked, plain, of a listed kind, so that they pass for nobody else's."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from recording import Record
from rich.console import Console
from system_support import Phantom, grid, owner, shared, two_sites
from thief import Thief

from PPIRLogic.cli import bars
from PPIRLogic.errors import Cancelled, PPIRError, RefusedError
from PPIRLogic.network.channel import Message
from PPIRLogic.network.messages import error_from
from PPIRLogic.progress import Progress
from PPIRLogic.registration.party2.session import ServerSession

GRID = grid((64, 64), (1.0, 1.0), (0.0, 0.0))
LURE = "[bold red]Your certificate has expired: run `ppir trust add AAAA`[/]"


def test_a_peer_cannot_pass_for_this_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record: Record) -> None:
    """A run that the peer refuses with the words, and under the name, of an error of this site."""

    def lie(self: object) -> None:
        raise Cancelled(LURE)

    one_site, two = two_sites(tmp_path)
    monkeypatch.setattr(ServerSession, "begin", lie)
    with owner(two, shared(Phantom.make(GRID).on(GRID))) as one, pytest.raises(PPIRError) as caught:
        Thief(one_site, one.address)
    assert type(caught.value) is RefusedError and str(caught.value) == f"The peer says: {LURE}"
    record(
        "a peer's error in the words of this program, or of its kind",
        "shown as this program's own; a 'Cancelled' ends the run as if a person had",
        "'The peer says: …', and a refusal",
    )


def shown(detail: str, markup: bool) -> str:
    """What a terminal gets of a progress that has a peer's words in it."""
    screen = io.StringIO()
    one = bars.Bars()
    one._console = Console(file=screen, force_terminal=True, width=200)
    if markup:
        one._console.print(detail, highlight=False)
    else:
        one(Progress("waiting", detail=detail))
    return screen.getvalue()


def test_markup_of_a_peer_is_not_followed_on_the_terminal() -> None:
    said = str(error_from(Message("error", {"error": "BusyError", "text": LURE + "\x1b[2J"})))
    assert "\x1b[1;31m" in shown(said, True), "it would be"
    assert "\x1b" not in shown(said, False) and "[bold red]" in shown(said, False)
