"""No number leaves uncounted: not by a protocol or a loss that forgets, not over restarts, repeats or clocks set back.

And what is counted after a run is what was estimated before it, method by method.
"""

from __future__ import annotations

import ast
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from system_support import (
    OPEN,
    SOON,
    Owner,
    Phantom,
    account_numbers,
    answer,
    ball,
    call,
    last_words,
    motion_of,
    owner,
    plain_grid,
    shared,
    try_to_send,
    two_sites,
    wait_until,
)

from PPIRLogic.disclosure.ledger import Receipt
from PPIRLogic.errors import BudgetError
from PPIRLogic.local_processes import Site
from PPIRLogic.registration.disclosure_estimate import most_numbers
from PPIRLogic.registration.losses import LOSSES
from PPIRLogic.registration.losses.ssd import SSD
from PPIRLogic.registration.parameters import Parameters
from PPIRLogic.registration.party1.register import register
from PPIRLogic.registration.party2 import session as party2_session
from PPIRLogic.registration.protocols import PROTOCOLS
from PPIRLogic.registration.request import Request
from PPIRLogic.secure.fhe.bfv import answer_bytes
from PPIRLogic.secure.fhe.protocol import COPIES, FheFixed
from PPIRLogic.secure.product import Term
from PPIRLogic.transforms import KINDS

GEOMETRY = plain_grid(2)
PHANTOM = Phantom.make(GEOMETRY)
REQUEST = Request("fixed", "fhe", "translation", "ssd", (4,))
EACH = 4  # numbers of an evaluation: two of the gradient, the value, the overlap
RICH = replace(OPEN, percent_per_level=1e6, bits_percent_per_level=1e9, histograms_per_level=10**9)


# ------------------------------------------------------------------------- a protocol that does not wait to be counted


class Untested(FheFixed):
    """Leaves the test of equality out: what is looked at is what is counted."""

    def _release(self, numbers: NDArray[np.uint64], secret: NDArray[np.uint64]) -> None:
        self.link.channel.send("answer", {}, numbers.astype("<u8").data)


class TooEarly(Untested):
    """Answers while it takes the request in."""

    def receive(self, header: Mapping[str, Any], terms: Sequence[Term]) -> bytes:
        digest = super().receive(header, terms)
        self.answer()
        return digest


class OneMore(Untested):
    """Answers one number more than the loss declared."""

    def answer(self) -> None:
        self.link.channel.send("answer", {}, self._opened()[0].astype("<u8").tobytes() + bytes(8))


class Twice(Untested):
    """Answers a second time under the same receipt."""

    def answer(self) -> None:
        super().answer()
        super().answer()


class InTheHeader(Untested):
    """Puts the numbers where nobody counts bytes."""

    def answer(self) -> None:
        self.link.channel.send("answer", {"numbers": self._opened()[0].tolist()})


class ByAnotherName(Untested):
    """Sends the numbers as if they were protected operands."""

    def answer(self) -> None:
        self.link.channel.send("data", {}, self._opened()[0].astype("<u8").data)


def forbidden(side: type[FheFixed], folder: Path, patch: pytest.MonkeyPatch) -> tuple[list[bytes], int]:
    """The answers that come from a server with this protocol, and the numbers it has on record."""
    patch.setitem(PROTOCOLS._loaded, "fhe", replace(PROTOCOLS["fhe"], fixed_side=side))
    mine, theirs = two_sites(folder)
    got: list[bytes] = []
    with owner(theirs, shared(PHANTOM.on(GEOMETRY))) as one, call(mine, one.address) as channel:
        open_level(channel)
        channel.send("evaluate", {"level": 0, "evaluation": 0, "stage": "value"})
        try_to_send(channel, "request", {}, bytes(EACH * answer_bytes(1, COPIES)))
        message = channel.receive(SOON)
        while message.kind not in ("error", "bye"):
            got.append(bytes(message.payload))
            message = channel.receive(SOON)
        assert "internal error" in str(last_words(channel))
        assert wait_until(lambda: [e["reason"] for e in one.told("session failed")] == ["UncountedError"])
        return got, account_numbers(one.home)


def open_level(channel: Any) -> None:
    channel.send("open", {**REQUEST.to_dict(), "nonce": bytes(32)})
    answer(channel, "opened")
    channel.send("level", {"index": 0, "seed": bytes(32)})
    for kind in ("level", "key", *["data"] * 6):
        answer(channel, kind)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize(
    ("side", "counted", "answered"),
    [(TooEarly, 0, 0), (OneMore, EACH, 0), (Twice, EACH, EACH), (InTheHeader, EACH, 0), (ByAnotherName, EACH, 0)],
)
def test_a_protocol_cannot_send_what_was_not_counted(
    side: type[FheFixed], counted: int, answered: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    got, on_record = forbidden(side, tmp_path, monkeypatch)
    assert on_record == counted
    assert sum(len(payload) for payload in got) == 8 * answered <= 8 * counted


def test_only_the_ledger_makes_receipts() -> None:
    with pytest.raises(TypeError, match="when it has counted"):
        Receipt(object(), 10**6)


def test_the_server_itself_sends_nothing_but_these() -> None:
    """Its own messages carry no numbers; everything a protocol sends passes the outlet."""
    calls = [
        node
        for node in ast.walk(ast.parse(Path(party2_session.__file__).read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "send"
    ]
    kinds = {c.args[0].value for c in calls if isinstance(c.args[0], ast.Constant)}
    assert len(kinds) == len(calls) and kinds <= {"info", "waiting", "opened", "level", "finished", "resumed"}


# -------------------------------------------------------------------------------------- a loss that forgets


class Forgetful(SSD):
    """Uses the value Σ I·J, and does not declare it."""

    def terms(self, parameters: int) -> Sequence[Term]:
        return [t for t in super().terms(parameters) if t.kind != "value"]


def test_a_loss_cannot_use_what_it_did_not_declare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number it forgot is not there; what it declared is counted."""
    monkeypatch.setitem(LOSSES._loaded, "ssd", Forgetful())
    mine, theirs = two_sites(tmp_path)
    moving = PHANTOM.on(GEOMETRY, motion_of("translation", GEOMETRY))
    p = Parameters("translation", levels=(4,), initial="centres")
    with owner(theirs, shared(PHANTOM.on(GEOMETRY))) as one:
        with pytest.raises(KeyError):
            register(moving, one.address, home=mine.home, parameters=replace(p, loss="ssd"))
        assert account_numbers(one.home) == EACH - 1


def test_a_request_for_more_than_the_loss_declares_is_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Party 1 asks for the value, too; party 2 knows nothing of it."""
    monkeypatch.setitem(LOSSES._loaded, "ssd", Forgetful())
    mine, theirs = two_sites(tmp_path)
    with owner(theirs, shared(PHANTOM.on(GEOMETRY))) as one, call(mine, one.address) as channel:
        open_level(channel)
        channel.send("evaluate", {"level": 0, "evaluation": 0, "stage": "value"})
        channel.send("request", {}, bytes(EACH * answer_bytes(1, COPIES)))
        assert "length" in str(last_words(channel))
        assert account_numbers(one.home) == 0


def test_the_stage_is_part_of_what_was_asked(tmp_path: Path) -> None:
    """The same bytes for another stage are another question; for one that the loss does not have, none."""
    mine, theirs = two_sites(tmp_path)
    with owner(theirs, shared(PHANTOM.on(GEOMETRY))) as one, call(mine, one.address) as channel:
        open_level(channel)
        channel.send("evaluate", {"level": 0, "evaluation": 0, "stage": "gradient"})
        assert "stage" in str(last_words(channel))
        assert account_numbers(one.home) == 0


# ------------------------------------------------------------------------------------- estimate and count


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Owner, Site]]:
    mine, theirs = two_sites(tmp_path_factory.mktemp("counting"))
    image = shared(
        PHANTOM.on(GEOMETRY), mask=ball(GEOMETRY), budget=RICH, masks=frozenset({"none", "fill", "private"}),
        protocols=frozenset({"fhe"}),
    )  # fmt: skip
    with owner(theirs, image) as one:
        yield one, mine


def methods() -> list[Any]:
    """Every loss with every transform, and with a private mask."""
    losses = [name for name, loss in LOSSES.items() if not loss.two_sided]  # those have tests of their own
    short = [(loss, "affine", "private") for loss in losses] + [("ssd", "rigid", "none")]
    others = [c for loss in losses for kind in KINDS if (c := (loss, kind, "none")) not in short]
    return [*short, *(pytest.param(*other, marks=pytest.mark.long) for other in others)]


@pytest.mark.parametrize(("loss", "transform", "mask"), methods())
def test_what_was_estimated_is_what_is_counted(loss: str, transform: str, mask: str, place: tuple[Owner, Site]) -> None:
    """Exactly, if no level ends early; never more, if one does."""
    one, site = place
    moving = PHANTOM.on(GEOMETRY, motion_of("translation", GEOMETRY))
    levels = (1,) if loss == "mi" else (4, 2)  # a joint histogram needs a pool
    endless = Parameters(
        transform=transform, loss=loss, levels=levels, evaluations=3, step_tolerance=1e-12, loss_tolerance=0.0,
        fixed_mask=mask,
    )  # fmt: skip
    early = replace(endless, evaluations=25, step_tolerance=0.5, loss_tolerance=0.2)
    for p, exact in ((endless, True), (early, False)):
        before = account_numbers(one.home)
        result = register(moving, one.address, home=site.home, parameters=p)
        assert result.complete
        counted = account_numbers(one.home) - before
        granted = most_numbers(result.request, GEOMETRY)
        assert result.numbers == result.peer_numbers == counted <= sum(grant.most for grant in granted)
        for extra in (result.starts, result.check):
            assert extra is not None and extra.numbers > 0
            counted -= extra.numbers
        granted = [grant for grant in granted if not grant.purpose]
        values = [n.evaluations * g.numbers_per_evaluation for n, g in zip(result.levels, granted, strict=True)]
        if not any(grant.numbers_per_gradient for grant in granted):
            assert counted == sum(values)
        else:
            assert counted > sum(values)
            assert (counted - sum(values)) % granted[0].numbers_per_gradient == 0
        if exact:
            assert [level.evaluations for level in result.levels] == [3] * len(granted)


# ------------------------------------------------------------------------------------------ restarts and clocks


def test_a_clock_set_back_and_a_restart_give_no_new_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, theirs = two_sites(tmp_path)
    tight = replace(OPEN, numbers_per_image=3 * EACH)
    moving = PHANTOM.on(GEOMETRY, motion_of("translation", GEOMETRY))
    p = Parameters(transform="translation", loss="ssd", levels=(4,), evaluations=3, step_tolerance=1e-12)
    now: Callable[[], float] = time.time
    for shift in (0.0, -4e8, 4e8):  # today, years ago, in years to come
        monkeypatch.setattr(time, "time", lambda s=shift: now() + s)
        with owner(theirs, shared(PHANTOM.on(GEOMETRY), budget=tight)) as one:
            if shift == 0.0:
                assert register(moving, one.address, home=mine.home, parameters=p).numbers == 3 * EACH
            else:
                with pytest.raises(BudgetError):
                    register(moving, one.address, home=mine.home, parameters=p)
            assert account_numbers(one.home) == 3 * EACH
