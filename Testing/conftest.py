"""Both sides of a protocol in one process, for tests that need real messages but no network."""

from __future__ import annotations

import gc
import locale
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from PPIRLogic.network.channel import Channel, Message, memory_pair
from PPIRLogic.network.service import UnrecordedAudit
from PPIRLogic.registration.control_points import ControlPointMap
from PPIRLogic.registration.dealer.dealer import DealerSession, Dealing, Joined
from PPIRLogic.registration.losses.cross_correlation import HalfColumns
from PPIRLogic.registration.protocols import PROTOCOLS
from PPIRLogic.registration.symmetric.shares import CcShares
from PPIRLogic.secure.layout import CHUNK, LANES
from PPIRLogic.secure.product import ColumnSource, LevelInfo, Link, OperandInfo, PrivateProduct, Term

SESSION = bytes(range(32))
for name in ("HTTPS_PROXY", "https_proxy"):  # of the network that the tests run in: sites here call each other directly
    os.environ.pop(name, None)


def pytest_collection_finish() -> None:
    """A server collects garbage after every connection: it need not look at all libraries and tests each time."""
    gc.collect()
    gc.freeze()


class ArrayColumns:
    """A ColumnSource over an integer array (columns, samples) of which only the active chunks are used."""

    def __init__(self, values: NDArray[np.int32], active: NDArray[np.int64]) -> None:
        used = np.isin(np.arange(values.shape[1]) // CHUNK, active)
        self._values, self._active = np.where(used, values, 0).astype(np.int32), active
        self.columns, self.groups = len(values), -(-len(active) // LANES)

    def prepare(self, workers: int) -> None:
        pass

    def block(self, group: int, worker: int, out: NDArray[np.int32]) -> None:
        out[:] = 0
        for lane, chunk in enumerate(self._active[group * LANES : (group + 1) * LANES]):
            part = self._values[:, chunk * CHUNK : (chunk + 1) * CHUNK]
            out[:, lane * CHUNK : lane * CHUNK + part.shape[1]] = part

    def finish(self) -> None:
        pass

    def absolute_sums(self) -> NDArray[np.int64]:
        return np.abs(self._values).sum(axis=1, dtype=np.int64)

    def norms(self) -> NDArray[np.float64]:
        return np.linalg.norm(self._values.astype(np.float64), axis=1)

    def column_scales(self) -> NDArray[np.float64]:
        return np.ones(self.columns)


class Exchange:
    """One open level of a protocol: party 1 in this thread, party 2 and the dealer in threads of their own.

    `sent` lists (sender, receiver, message) of everything that was sent, in order of sending.
    """

    def __init__(
        self,
        protocol: str,
        operands: Mapping[str, NDArray[np.int32]],
        active: Sequence[int] | None = None,
        threads: int = 2,
        keys: tuple[bytes, bytes] = (b"K" * 31 + b"0", b"K" * 31 + b"1"),
        control_points: ControlPointMap | None = None,
        vectors: int = 1,
    ) -> None:
        samples = len(next(iter(operands.values())))
        infos = tuple(
            OperandInfo(k, int(np.abs(v, dtype=np.int64).max()), control_points is not None, vectors)
            for k, v in operands.items()
        )
        chunks = np.arange(-(-samples // CHUNK)) if active is None else np.array(active, np.int64)
        self.level = LevelInfo(0, samples, infos, chunks, control_points)
        self.sent: list[tuple[str, str, Message]] = []
        self.problems: list[BaseException] = []
        self._channels: list[Channel] = []
        self._threads: list[threading.Thread] = []
        self._terms: Sequence[Term] = ()
        mine, theirs = self._pair("party 1", "party 2")
        links = [Link(c, SESSION, threads, lambda: None, 30.0) for c in (mine, theirs)]
        if PROTOCOLS[protocol].dealer:
            self._add_dealer(*links, keys)
        self._product: PrivateProduct = PROTOCOLS[protocol].product(links[0])
        self._side = PROTOCOLS[protocol].fixed_side(links[1])
        self._start(self._party_2, theirs, {k: v.copy() for k, v in operands.items()})
        self._product.open_level(self.level, b"1" * 32)

    def evaluate(
        self, columns: NDArray[np.int32] | ColumnSource, terms: Sequence[Term], evaluation: int = 0
    ) -> list[int]:
        self._terms = terms
        source = ArrayColumns(columns, self.level.active) if isinstance(columns, np.ndarray) else columns

        def announce() -> None:
            self._channels[0].send("evaluate", {"evaluation": evaluation})

        return self._product.evaluate(source, terms, evaluation, announce)

    def close(self) -> None:
        for channel in self._channels:
            channel.close()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()

    def _pair(self, one: str, two: str) -> tuple[Channel, Channel]:
        pair = memory_pair(one, two)
        for channel, sender, receiver in zip(pair, (one, two), (two, one), strict=True):
            self._record(channel, sender, receiver)
        self._channels += pair
        return pair

    def _record(self, channel: Channel, sender: str, receiver: str) -> None:
        send = channel.send

        def recorded(kind: str, data: dict[str, Any] | None = None, payload: Any = b"") -> None:
            self.sent.append((sender, receiver, Message(kind, data or {}, bytes(payload))))
            send(kind, data, payload)

        channel.send = recorded  # type: ignore[method-assign]

    def _add_dealer(self, first: Link, second: Link, keys: tuple[bytes, bytes]) -> None:
        session = Joined(keys)
        for role, link in enumerate((first, second), 1):
            link.dealer, session.channels[role] = self._pair(f"party {role}", "dealer")
            link.dealer_key = session.keys[role - 1]
        dealing = Dealing(UnrecordedAudit(lambda event: None))  # the real dealing, without a listener
        self._start(DealerSession(dealing, session.channels[1], session, 1, b"").deal)

    def _start(self, work: Callable[..., None], *args: Any) -> None:
        def run() -> None:
            try:
                work(*args)
            except BaseException as error:
                self.problems.append(error)
                for channel in self._channels:  # as a service does: the others need not wait
                    channel.close()

        self._threads.append(threading.Thread(target=run, daemon=True))
        self._threads[-1].start()

    def _party_2(self, channel: Channel, operands: Mapping[str, NDArray[np.int32]]) -> None:
        self._side.open_level(self.level, operands, b"1" * 32, b"2" * 32)
        while (message := channel.receive(30.0)).kind == "evaluate":
            self._side.receive(message.data, self._terms)
            self._side.answer()


class CcExchange(Exchange):
    """Both sides of one evaluation of local cross-correlation on shares, and the dealer, in threads of their own."""

    def __init__(
        self, control_points: ControlPointMap, first: HalfColumns, second: HalfColumns, evaluation: int = 0,
        level: int = 0,
        keys: tuple[bytes, bytes] = (b"K" * 31 + b"0", b"K" * 31 + b"1"),
    ) -> None:  # fmt: skip
        self.sent: list[tuple[str, str, Message]] = []
        self.problems: list[BaseException] = []
        self._channels: list[Channel] = []
        self._threads: list[threading.Thread] = []
        links = [Link(c, SESSION, 1, lambda: None, 30.0) for c in self._pair("party 1", "party 2")]
        self._add_dealer(*links, keys)
        self.sides = [
            CcShares(links[k], k, level, evaluation, control_points, own) for k, own in enumerate((first, second))
        ]

    def both(self, work: Callable[[CcShares], Any]) -> tuple[Any, Any]:
        """What each side gets from the same piece of work."""
        theirs: list[Any] = []
        self._start(lambda: theirs.append(work(self.sides[1])))
        mine = work(self.sides[0])
        self._threads[-1].join(30)
        assert not self.problems, self.problems
        return mine, theirs[0]


@pytest.fixture
def cc_exchange() -> Iterator[Callable[..., CcExchange]]:
    """Opens them and closes them after the test."""
    opened: list[CcExchange] = []

    def make(*args: Any, **options: Any) -> CcExchange:
        opened.append(CcExchange(*args, **options))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


@pytest.fixture
def exchange() -> Iterator[Callable[..., Exchange]]:
    """Opens exchanges and closes them after the test."""
    opened: list[Exchange] = []

    def make(*args: Any, **options: Any) -> Exchange:
        if args[0] == "mpc":
            pytest.importorskip("torch", reason="mpc is an extra that is not installed here")
        opened.append(Exchange(*args, **options))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


@pytest.fixture(autouse=True, scope="module")
def measured_processes(request: pytest.FixtureRequest) -> Iterator[None]:
    """Coverage costs a process .2 CPU seconds, and hundreds are started: only those are measured that run commands."""
    with pytest.MonkeyPatch.context() as patch:
        if not any(word in request.path.name for word in ("commands", "paths", "bad_input")):
            patch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
        yield


@pytest.fixture(autouse=True)
def keep_locale() -> Iterator[None]:
    """ITK's DICOM writer leaves the whole process in the language "C", in which other tests could not read UTF-8."""
    spoken = locale.setlocale(locale.LC_ALL)
    yield
    locale.setlocale(locale.LC_ALL, spoken)
