"""How long either party computes, for two images that differ in nothing but their content: told apart or not?

Every piece of work is repeated for both contents in random order. What is compared is processor time of the thread
that works (`time.thread_time_ns`), a finer view than the other party has over a network: by a rank test, and by the
trained classifier of `views`. The control is the same work with a delay for one of the contents.

All but the first test are long forms: `make test-all` and `make attacks` run them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from unittest import mock

import numpy as np
import pytest
from numpy.typing import NDArray
from parties import Parties
from recording import Record
from scipy import stats
from views import Verdict, tell_apart

from PPIRLogic.disclosure.accounts import Budget
from PPIRLogic.images.geometry import Geometry
from PPIRLogic.images.interpolation import MovingImage
from PPIRLogic.images.volume import Volume
from PPIRLogic.local_processes import make_sites
from PPIRLogic.network.channel import Channel, Message
from PPIRLogic.registration.columns.linear import LinearColumns, widest_scales
from PPIRLogic.registration.columns.mutual_information import FactorColumns, moves_bins, parzen_source
from PPIRLogic.registration.losses import LOSSES
from PPIRLogic.registration.losses.mutual_information import (
    FACTOR,
    HIGH,
    LOW,
    JointHistogram,
    as_factor,
    bin_position,
    one_hot,
    slopes_of,
)
from PPIRLogic.registration.parameters import Parameters
from PPIRLogic.registration.party1.register import register
from PPIRLogic.registration.party2.fixed_image import FixedImage
from PPIRLogic.registration.party2.policy import Policy
from PPIRLogic.registration.party2.server import Server
from PPIRLogic.registration.party2.site import Shared
from PPIRLogic.registration.request import Request
from PPIRLogic.registration.symmetric.one_time_masks import SHIFTS, numbers_of_round
from PPIRLogic.registration.symmetric.shares import CcShares
from PPIRLogic.registration.terms import loss_of
from PPIRLogic.secure.fhe.evaluator import Evaluator
from PPIRLogic.secure.fhe.key_holder import KeyHolder
from PPIRLogic.secure.fhe.parameters import PRIMES
from PPIRLogic.secure.fhe.slots import SlotMultiplier, encrypt_slots
from PPIRLogic.secure.integer_sums import ring_bytes
from PPIRLogic.secure.layout import CHUNK, GROUP
from PPIRLogic.secure.mpc.protocol import MpcFixed, MpcProduct
from PPIRLogic.secure.product import Columns, ColumnSource, LevelInfo, Link, OperandInfo, Term
from PPIRLogic.secure.published import ckks
from PPIRLogic.transforms import LinearTransform

Array = NDArray[Any]
LIMIT = 5.0  # standard errors
FEW = GROUP // 4  # samples of a level under mpc
DELAYS = (0.1, 0.3, 1.0)  # of the work, in the control: the later ones where a busy machine hides the first
RNG = np.random.default_rng(7)
Work = Callable[[], Any]


@dataclass(frozen=True)
class Times:
    """Standard errors of the rank test, and the classifier's verdict."""

    repeats: int
    rank: float
    verdict: Verdict

    @property
    def worst(self) -> float:
        return max(abs(self.rank), abs(self.verdict.excess))

    def __str__(self) -> str:
        return f"rank test {self.rank:+.1f} standard errors, classifier {self.verdict} ({self.repeats} times each)"


def compared(one: Array, two: Array) -> Times:
    ranks = stats.rankdata(np.concatenate([one, two]))
    n, m = len(one), len(two)
    excess = ranks[:n].sum() - n * (n + m + 1) / 2
    rank = float(excess / np.sqrt(n * m * (n + m + 1) / 12))
    middle = float(np.median(np.concatenate([one, two])))
    rows = [np.stack([t / middle, np.log(t / middle), (t / middle) ** 2], axis=1) for t in (one, two)]
    return Times(n, rank, tell_apart(*rows))


def timed(one: Work, two: Work, repeats: int, best_of: int = 1) -> tuple[Array, Array]:
    """Processor time of this thread for either, in ns, in random order after a warm-up.

    best_of: turns that make one measurement, the shortest; what the machine's other work adds is left out.
    """
    draw, works = np.random.default_rng(0), (one, two)
    out: tuple[list[int], list[int]] = ([], [])
    for work in works:
        work()
    for _ in range(repeats):
        for k in draw.permutation(2):
            out[k].append(min(_once(works[k]) for _ in range(best_of)))
    return np.array(out[0], float), np.array(out[1], float)


def _once(work: Work) -> int:
    before = time.thread_time_ns()
    work()
    return time.thread_time_ns() - before


def delayed(work: Work, share: float, best_of: int = 1) -> Work:
    """The same work, and so much longer."""
    extra = share * min(_once(work) for _ in range(best_of))

    def longer() -> None:
        work()
        end = time.thread_time_ns() + extra
        while time.thread_time_ns() < end:
            pass

    return longer


def caught(make: Callable[[float], tuple[Array, Array]]) -> str:
    """The smaller delay that the same tests notice, in words. make: times without and with a delay."""
    for share in DELAYS:
        control = compared(*make(share))
        if control.rank < -LIMIT:
            return f"{100 * share:g} % longer for one content: {control}"
    raise AssertionError(f"a delay of {100 * share:g} % goes unnoticed: {control}")


def judge(name: str, one: Work, two: Work, repeats: int, record: Record, best_of: int = 1) -> None:
    """Neither is told from the other, and either is from one that is delayed. A suspicion is looked into once more."""
    one()
    control = caught(lambda share: timed(one, delayed(one, share, best_of), repeats, best_of))
    found = compared(*timed(one, two, repeats, best_of))
    if found.worst > LIMIT - 1:
        found = compared(*timed(one, two, 2 * repeats, best_of))
    assert found.worst < LIMIT, (name, found)
    record(f"time: {name}", control, str(found))


def contents(size: int) -> dict[str, Columns]:
    """Integers of an image: noise, nearly empty, smooth; the largest value is public."""
    noise = RNG.integers(-2048, 2049, size).astype(np.int32)
    wave = (2000 * np.sin(np.arange(size) / 900)).astype(np.int32)
    out = {"noise": noise, "empty": np.full(size, -2048, np.int32), "smooth": wave}
    for values in out.values():
        values[0] = 2048
    return out


# ------------------------------------------------------------------------------------------------ in short


@pytest.mark.alone
def test_one_piece_of_work_of_either_party_in_short() -> None:
    """Party 2 encrypts; party 1 makes a request under mpc."""
    images = contents(GROUP)
    parties = Parties(images["noise"]).open()
    judge("party 2 encrypts, fhe, in short: noise, or empty?", _encryption(parties, images["noise"]),
          _encryption(parties, images["empty"]), 30, _not_in_the_table)  # fmt: skip
    judge("party 1 makes a request, mpc, in short: noise, or empty?",
          *(_ssd_at_party_1(images[v]) for v in ("noise", "empty")), 30, _not_in_the_table, 2)  # fmt: skip


def _not_in_the_table(attack: str, unprotected: str, ours: str) -> None:
    """Docs/results/attacks.md has the long forms."""


def _encryption(parties: Parties, values: Columns) -> Work:
    def work() -> None:
        parties.two._send_operand("J", values, values)
        parties.two.link.channel.sent.clear()  # type: ignore[attr-defined]

    return work


# -------------------------------------------------------------------------------------------- party 2 at work


@pytest.mark.long
@pytest.mark.parametrize("other", ["empty", "smooth"])
def test_encrypting_a_fixed_image(other: str, record: Record) -> None:
    images = contents(GROUP)
    parties = Parties(images["noise"]).open()
    judge(f"party 2 encrypts, fhe: noise, or {other}?", _encryption(parties, images["noise"]),
          _encryption(parties, images[other]), 80, record)  # fmt: skip


@pytest.mark.long
def test_encrypting_for_mutual_information_and_for_splines(record: Record) -> None:
    samples, bins = GROUP // 32, 32
    hot = [one_hot(v, np.ones(samples, bool), bins) for v in (RNG.integers(0, bins, samples), np.zeros(samples, int))]
    keys = KeyHolder(bytes(32))
    judge("party 2 encrypts the bins of mi: all bins, or one?", lambda: keys.encrypt(hot[0], "B", 0),
          lambda: keys.encrypt(hot[1], "B", 0), 80, record)  # fmt: skip
    images = contents(GROUP)
    judge("party 2 encrypts slots (B-splines): noise, or empty?",
          lambda: encrypt_slots(keys, images["noise"], "J", 0, 0),
          lambda: encrypt_slots(keys, images["empty"], "J", 0, 0), 80, record)  # fmt: skip


@pytest.mark.long
def test_encrypting_under_the_published_protocols(record: Record) -> None:
    key = ckks.Key(bytes(32))
    one, two = RNG.normal(size=4096) * 100, np.full(4096, -100.0)
    judge("party 2 encrypts, fhe_v1: noise, or empty?", lambda: key.encrypt(one, "J"), lambda: key.encrypt(two, "J"),
          60, record)  # fmt: skip


@pytest.mark.long
def test_answering_for_two_fixed_images(record: Record) -> None:
    """And for two moving ones: the requests are made of different columns."""
    images, hidden = contents(GROUP), [RNG.integers(-30, 31, (6, GROUP)).astype(np.int32) for _ in range(2)]
    works = []
    for values, columns in zip((images["noise"], images["empty"]), hidden, strict=True):
        parties = Parties(values).open()
        request = parties.request(columns)[0]
        works.append(lambda parties=parties, request=request: [parties.seen(request, 6) for _ in range(4)])
    judge("party 2 opens, fhe: which fixed and moving image?", *works, 80, record)


@pytest.mark.long
@pytest.mark.parametrize("loss", ["ssd", "mi", "lncc"])
def test_preparing_the_fixed_image(loss: str, record: Record) -> None:
    """Smoothing, resampling, bins or windows of a level, as the server does it. All threads' time, ITK's among them."""
    geometry = Geometry((56, 56, 40), (1.0, 1.0, 1.2), (0.0, 0.0, 0.0), tuple(np.eye(3).ravel()))
    spot = np.zeros(geometry.array_shape, np.float32)
    spot[15:25, 20:30, 20:30] = RNG.uniform(50, 80, (10, 10, 10))
    noise = RNG.normal(100, 20, geometry.array_shape).astype(np.float32)
    request = Request("fixed", "fhe", "affine", loss, (1,), radius_mm=5.0 if loss == "lncc" else 0.0)
    works = []
    for array in (noise, spot):
        image = FixedImage("fixed", Volume(array, geometry, "fixed"))
        level = image.levels(request, bytes(16))[0]
        works.append(lambda i=image, v=level: i.operands(v, loss_of(request).operands, request))
    judge(f"party 2 prepares a level, {loss}: noise, or nearly empty?", *works, 60, record)


# -------------------------------------------------------------------------------------------- party 1 at work


def moving(kind: str, geometry: Geometry) -> MovingImage:
    array = RNG.random(geometry.array_shape).astype(np.float32)
    if kind == "empty":
        array = np.zeros(geometry.array_shape, np.float32)
        array[10:16, 10:20, 10:20] = 1
    return MovingImage(Volume(array, geometry, kind), (1, 1, 1))


@pytest.mark.long
@pytest.mark.parametrize("what", ["noise or empty", "all or half inside"])
def test_a_request_of_party_1(what: str, record: Record) -> None:
    """Warping, products and masks, for two moving images or two transforms of one of them."""
    geometry = Geometry((64, 64, 32), (1.0, 1.0, 1.2), (0.0, 0.0, 0.0), tuple(np.eye(3).ravel()))
    size = 64 * 64 * 32
    start = LinearTransform.identity("translation", geometry.centre())
    away = LinearTransform("translation", start.matrix, np.array([30.0, 0.0, 0.0]), start.centre)
    noise = moving("noise", geometry)
    pair = ((noise, start), (moving("empty", geometry), start) if what.startswith("noise") else (noise, away))
    parties = Parties(contents(size)["noise"]).open()
    terms = [Term(k, "J", "gradient") for k in range(start.parameters + 1)]
    samples, active = np.arange(size, dtype=np.int32), np.arange(-(-size // CHUNK))

    def request(image: MovingImage, transform: LinearTransform) -> Work:
        scales = widest_scales(image, geometry, start, 30.0)

        def work() -> None:
            columns = LinearColumns(
                image, geometry, samples, np.ones(size, bool), active, transform, 30.0, scales
            )  # fmt: skip
            parties.one._blind(parties.one._accumulate(columns, terms), 1)

        return work

    judge(f"party 1 makes a request, fhe: {what}?", request(*pair[0]), request(*pair[1]), 50, record)


@pytest.mark.long
def test_a_product_of_slots(record: Record) -> None:
    keys = KeyHolder(bytes(32))
    evaluator = Evaluator(bytes(32), keys.public_key().tobytes())
    operand = RNG.integers(0, min(PRIMES), (2, len(PRIMES), GROUP)).astype(np.uint32)
    multiplier, images = SlotMultiplier(evaluator), contents(GROUP)
    images["none"] = np.zeros(GROUP, np.int32)
    judge("party 1 multiplies slots (B-splines): noise, or zeros?",
          lambda: multiplier.multiply([(images["noise"], operand)], 0, 8),
          lambda: multiplier.multiply([(images["none"], operand)], 0, 8), 50, record)  # fmt: skip


# ------------------------------------------------------------------------------------------------------ mpc


class _Line:
    """A channel to nowhere, which answers from what it was given; a rewound one answers the same again."""

    def __init__(self, answers: list[Message]) -> None:
        self._answers, self._at = answers, 0

    def rewind(self) -> None:
        self._at = 0

    def send(self, kind: str, data: dict[str, Any] | None = None, payload: Any = b"") -> None:
        bytes(payload)

    def receive(self, timeout: float = 0.0) -> Message:
        self._at += 1
        return self._answers[self._at - 1]


def _link(answers: list[Message], dealt: list[Message]) -> tuple[Link, Callable[[], None]]:
    """A side's link, and what makes it begin again."""
    lines = _Line(answers), _Line(dealt)
    link = Link(cast(Channel, lines[0]), bytes(32), 1, lambda: None, 1.0, cast(Channel, lines[1]), bytes(range(32)))

    def rewind() -> None:
        for line in lines:
            line.rewind()

    return link, rewind


def _uniform(numbers: int) -> bytes:
    """What a masked message looks like, whatever it hides."""
    return RNG.integers(-(2**63), 2**63, numbers, np.int64).tobytes()


class Filled:
    """Columns as they are (a `ColumnSource`), of one group."""

    groups = 1

    def __init__(self, values: Columns) -> None:
        self.columns, self._values = len(values), values

    def prepare(self, workers: int) -> None: ...

    def block(self, group: int, worker: int, out: Columns) -> None:
        out[:] = self._values

    def finish(self) -> None: ...


def _ssd_at_party_1(values: Columns) -> Work:
    """An affine evaluation: seven columns, masked and multiplied with the masked J."""
    info = LevelInfo(0, FEW, (OperandInfo("J", 2048),), np.arange(FEW // CHUNK))
    terms = [Term(k, "J", "gradient") for k in range(7)]
    link, rewind = _link([Message("data", {}, _uniform(FEW)), Message("answer", {}, _uniform(7))], [])
    product, source = MpcProduct(link), Filled(np.stack([np.roll(values, k) for k in range(7)]))

    def work() -> None:
        rewind()
        product._used.clear()
        product.open_level(info, bytes(32))
        product.evaluate(cast(ColumnSource, source), terms, 0, lambda: None)

    return work


def _ssd_at_party_2(values: Columns) -> Work:
    """The masked J of a level, and its share of an evaluation."""
    info = LevelInfo(0, FEW, (OperandInfo("J", 2048),), np.arange(FEW // CHUNK))
    terms = [Term(k, "J", "gradient") for k in range(7)]
    requests = [Message("request", {"group": 0, "first": 0}, _uniform(7 * FEW))]
    dealt = [Message("correlation", {"level": 0, "evaluation": 0}, _uniform(7))]
    link, rewind = _link(requests, dealt)
    side = MpcFixed(link)

    def work() -> None:
        rewind()
        side._opened.clear()
        side.open_level(info, {"J": values}, bytes(32), bytes(32))
        side.receive({"evaluation": 0}, terms)
        side.answer()

    return work


@pytest.mark.long
def test_an_evaluation_under_mpc(record: Record) -> None:
    images = contents(GROUP)
    judge("party 1 makes a request, mpc: noise, or empty?", *(_ssd_at_party_1(images[v]) for v in ("noise", "empty")),
          40, record, 3)  # fmt: skip
    judge("party 2 masks and answers, mpc: noise, or empty?", *(_ssd_at_party_2(images[v]) for v in ("noise", "empty")),
          40, record, 3)  # fmt: skip


def _mi_at_party_1(position: Array, samples: int, bins: int) -> Work:
    """The Parzen columns of a histogram and their products, then the slopes and steepest descents of a gradient."""
    infos = (OperandInfo("B", 1, vectors=bins),)
    info = LevelInfo(0, samples * bins, infos, np.arange(samples * bins // CHUNK))
    loss, draw = LOSSES["mi"].configured(Request("", "", "affine", "mi", (1,), bins=bins)), np.random.default_rng(3)
    terms, gradient = loss.terms(6), loss.gradient_terms(6)
    masked = [Message("data", {}, _uniform(min(GROUP, samples * bins - g))) for g in range(0, samples * bins, GROUP)]
    wide = ring_bytes(terms, info), ring_bytes(gradient, info)
    per = GROUP // bins
    sums = [
        Message("data", {"group": g}, _uniform(per)[: wide[1] * min(per, samples - g * per)])
        for g in range(-(-samples // per))
    ]
    answers = [*masked, Message("answer", {}, _uniform(bins * bins)), *sums, Message("answer", {}, _uniform(6))]
    link, rewind = _link(answers, [])
    product, use = MpcProduct(link), np.ones(samples, bool)
    histogram = JointHistogram(np.full((bins, bins), 1.0 / bins**2), float(samples))
    steepest = draw.normal(size=(6, samples))

    def work() -> None:
        rewind()
        product._used.clear()
        product.open_level(info, bytes(32))
        product.evaluate(parzen_source(position, use, bins), terms, 0, lambda: None)
        slopes, _ = as_factor(slopes_of(position, use & moves_bins(position, bins), histogram), FACTOR)
        factors, _ = as_factor(steepest, FACTOR)
        product.evaluate(FactorColumns(slopes, factors, bins), gradient, 1, lambda: None)

    return work


@pytest.mark.long
def test_mutual_information_under_mpc(record: Record) -> None:
    samples, bins = GROUP // 16, 16
    wave = bin_position(RNG.uniform(LOW, HIGH, samples), bins)
    flat = bin_position(np.full(samples, LOW), bins)
    works = [_mi_at_party_1(position, samples, bins) for position in (wave, flat)]
    judge("party 1 makes the requests of a step, mi under mpc: noise, or empty?", *works, 40, record, 3)


# ------------------------------------------------------------------------------------------------------- cc


def _cc_at_party_2(array: Array, geometry: Geometry, whole: bool) -> Work:
    """The half of a level prepared (whole), or one position of it: warped, normalised, and both rounds answered."""
    request = Request("fixed", "mpc", "diffeo", "cc", (1,), iterations=(1,), stride=8, bending=30.0)
    image = FixedImage("fixed", Volume(array, geometry, "fixed"))
    level = image.levels(request, bytes(16))[0]
    if whole:
        return lambda: image.half(level, request, None, 1)
    half, control_points = image.half(level, request, None, 1), level.control_points
    assert control_points is not None
    count, dim = len(level.samples), geometry.dimension
    names = ["x", "root", "scaled", *SHIFTS["shift"][1], "rho", "unit", *SHIFTS["shorten"][1], "term", "square"]
    names += [f"{n}{k}" for n in "ab" for k in range(dim)]
    theirs = [Message("data", {"name": n, "first": 0}, _uniform(count)) for n in names]
    rounds = ("product", "scale", "shift", "square", "terms", "shorten", "force")
    dealt = [
        Message("correlation", {"level": 0, "evaluation": 0, "cc": r, "first": 0},
                _uniform(numbers_of_round(r, count, control_points)))
        for r in rounds
    ]  # fmt: skip
    link, rewind = _link(theirs, dealt)

    def work() -> None:
        rewind()
        half.try_step(0.0)
        shares = CcShares(link, 1, 0, 0, control_points, half.columns())
        shares.similarity()
        shares.forces()

    return work


@pytest.mark.long
@pytest.mark.parametrize("what", ["prepares a level", "answers for a position of its half"])
def test_a_half_of_a_symmetric_registration(what: str, record: Record) -> None:
    geometry = Geometry((28, 24, 20), (1.0, 1.0, 1.2), (0.0, 0.0, 0.0), tuple(np.eye(3).ravel()))
    spot = np.zeros(geometry.array_shape, np.float32)
    spot[8:16, 10:18, 10:18] = RNG.uniform(50, 80, (8, 8, 8))
    noise = RNG.normal(100, 20, geometry.array_shape).astype(np.float32)
    works = [_cc_at_party_2(array, geometry, what.startswith("prepares")) for array in (noise, spot)]
    judge(f"party 2 {what}, cc under mpc: noise, or nearly empty?", *works, 40, record, 2)


# ------------------------------------------------------------------------------------------- whole sessions


AFTER = {"evaluate": "answer", "test": "request", "answer": "test"}  # what is sent, and what was received before it


class Clock:
    """Processor time between what a thread receives and what it sends next, over whole sessions on real sockets."""

    def __init__(self) -> None:
        self.spent: dict[str, list[float]] = {kind: [] for kind in AFTER}
        self._since = threading.local()

    def __enter__(self) -> Clock:
        send, receive = Channel.send, Channel.receive

        def sent(channel: Channel, kind: str, *rest: Any, **more: Any) -> None:
            received, began = getattr(self._since, "last", ("", 0))
            if AFTER.get(kind) == received:
                self.spent[kind].append(time.thread_time_ns() - began)
            send(channel, kind, *rest, **more)

        def received(channel: Channel, *rest: Any, **more: Any) -> Any:
            message = receive(channel, *rest, **more)
            self._since.last = message.kind, time.thread_time_ns()
            return message

        self._patches = [mock.patch.object(Channel, "send", sent), mock.patch.object(Channel, "receive", received)]
        for patch in self._patches:
            patch.start()
        return self

    def __exit__(self, *_: object) -> None:
        for patch in self._patches:
            patch.stop()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    geometry = Geometry((96, 80), (1.0, 1.2), (-10.0, 5.0), (1.0, 0.0, 0.0, 1.0))
    sites = make_sites(tmp_path, ("A", "B"))
    from PPIRLogic.network.identity import load_or_create_identity

    policy = Policy(protocols=frozenset({"fhe"}), budget=Budget(1e6, 1e9, 10**9, 10**9))
    image = Shared(FixedImage("fixed", blobs(geometry, 0)), policy)
    server = Server("127.0.0.1:0", load_or_create_identity(sites["B"].home), sites["B"].home, [image], threads=1)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    yield str(server.listener.address), sites["A"].home
    server.stop()
    thread.join(15)


def blobs(geometry: Geometry, seed: int) -> Volume:
    """Smooth blobs; other ones for another seed."""
    draw = np.random.default_rng(seed)
    y, x = np.indices(geometry.array_shape)
    array = sum(
        draw.uniform(0.4, 1) * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / draw.uniform(40, 200))
        for cx, cy in draw.uniform(20, 60, (12, 2))
    )
    return Volume((1000 * array).astype(np.float32), geometry, "blobs")


def sessions(address: str, home: Path, turns: int) -> dict[str, tuple[Array, Array]]:
    """Both parties' times of every evaluation but the first session's, for two moving images in random order."""
    geometry = blobs(Geometry((96, 80), (1.0, 1.2), (-10.0, 5.0), (1.0, 0.0, 0.0, 1.0)), 0).geometry
    run = Parameters(
        transform="affine", loss="ssd", levels=(1,), evaluations=9, step_tolerance=1e-9, loss_tolerance=0.0, threads=1,
        initial="identity", skip_check=True,
    )  # fmt: skip
    images, draw = (blobs(geometry, 1), blobs(geometry, 2)), np.random.default_rng(0)
    times: dict[str, tuple[list[float], list[float]]] = {kind: ([], []) for kind in AFTER}
    for turn in range(turns):
        for k in draw.permutation(2):
            with Clock() as clock:
                register(images[k], address, home=home, parameters=run)
            if turn:
                for kind, spent in clock.spent.items():
                    times[kind][k].extend(spent)
    return {kind: (np.array(one), np.array(two)) for kind, (one, two) in times.items()}


@pytest.mark.long
def test_whole_sessions_with_two_moving_images(served: tuple[str, Path], record: Record) -> None:
    """The number of evaluations is fixed. A busy spell slows a whole session, so a suspicion asks for new sessions."""
    times = sessions(*served, 8)
    if any(compared(*pair).worst > LIMIT - 2 for pair in times.values()):
        times = sessions(*served, 16)
    for kind, who in (
        ("evaluate", "party 1, from an answer to the next request"),
        ("test", "party 2 opens a request"),
        ("answer", "party 2 releases the answer"),
    ):
        one, two = times[kind]
        found, control = compared(one, two), caught(lambda share, one=one: (one, one * (1 + share)))
        assert len(one) > 30 and found.worst < LIMIT, (who, len(one), found)
        record(f"time over whole sessions, fhe: {who}: which moving image?", control, str(found))
