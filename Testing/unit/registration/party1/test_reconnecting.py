"""How often one and the same exchange is repeated after a lost connection."""

from __future__ import annotations

from typing import Any

import pytest

from PPIRLogic.errors import PeerError
from PPIRLogic.registration.party1.reconnecting import MAX_REPEATS, ReconnectingSession


class Mended(ReconnectingSession):
    """A session every loss of which can be mended."""

    def __init__(self) -> None:
        self.returned = 0

    def explain(self, problem: Any) -> Any:
        return problem

    def _is_loss(self, problem: Any) -> bool:
        return True

    def _return(self, problem: Any, level: Any) -> None:
        self.returned += 1


@pytest.mark.parametrize("losses", [0, 1, MAX_REPEATS, MAX_REPEATS + 1])
def test_an_exchange_that_is_lost_again_and_again_is_given_up(losses: int) -> None:
    session, left = Mended(), [PeerError("lost")] * losses

    def exchange() -> str:
        if left:
            raise left.pop()
        return "done"

    if losses > MAX_REPEATS:
        with pytest.raises(PeerError, match="lost"):
            session._repeated_until_done(exchange, None)
    else:
        assert session._repeated_until_done(exchange, None) == "done"
    assert session.returned == min(losses, MAX_REPEATS)
