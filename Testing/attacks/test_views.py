"""What each party receives against a simulator that has the ledger and the sizes only, and against another secret.

Party 1's view is compared for J and J' that differ only where S = 0 (the numbers it is entitled to are the same), party
2's for S and S', and both with a simulator. Each comparison has a positive control: the same view with one protection
taken away, which the same battery must tell apart. Sample sizes are in the table of Docs/results/attacks.md.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from parties import Parties
from recording import Record
from unprotected import with_pads_alone
from views import Verdict, features, tell_apart

from PPIRLogic.secure.fhe import bfv, ring
from PPIRLogic.secure.fhe.bfv import C1_BYTES, CHUNK_BYTES, answer_bytes
from PPIRLogic.secure.fhe.key_holder import KeyHolder, _coefficient_of_product
from PPIRLogic.secure.fhe.parameters import KEPT, PLAIN_MODULUS, PRIMES, Q_KEPT, Q
from PPIRLogic.secure.fhe.protocol import COPIES, DIGITS
from PPIRLogic.secure.fhe.ring import DEGREE, crt
from PPIRLogic.secure.layout import LANES
from PPIRLogic.secure.mpc.one_time_masks import mask_of_columns
from PPIRLogic.secure.prg import new_key
from PPIRLogic.secure.product import Columns, Term

Array = NDArray[Any]
LIMIT = 5.0  # standard errors
ANSWER_BYTES = answer_bytes(1, COPIES)
CHUNKS = 32
ZEROS = slice(0, DEGREE // 2)  # of every chunk: where S is zero


def images() -> tuple[Columns, Columns]:
    """J, and J' that differs where S is zero."""
    rng = np.random.default_rng(1)
    one = rng.integers(-2048, 2049, (CHUNKS, DEGREE)).astype(np.int32)
    two = one.copy()
    two[:, ZEROS] = rng.integers(-2048, 2049, two[:, ZEROS].shape)
    one[0, -1] = two[0, -1] = 2048  # the largest value is public
    return one.reshape(-1), two.reshape(-1)


def columns(rows: int, seed: int = 2) -> Columns:
    out = np.random.default_rng(seed).integers(-40, 41, (rows, CHUNKS, DEGREE)).astype(np.int32)
    out[:, :, ZEROS] = 0
    return out.reshape(rows, -1)


def backward(residues: Array, prime: int) -> Array:
    """Eight polynomials (8, n) from the transform domain to their coefficients."""
    x = np.ascontiguousarray(residues.T).reshape(-1).astype(np.uint32)
    ring.inverse(x, prime)
    return x.reshape(DEGREE, LANES).T


# ---------------------------------------------------------------------------------------- party 1's view


class Received:
    """What party 1 gets of one level of `fhe`, and what it can compute from it."""

    def __init__(self, values: Columns, wanted: list[Array], bare: bool = False) -> None:
        parties = Parties(values)
        if bare:  # the control: a key that hides nothing
            parties.two.open_level = _without_key(parties)  # type: ignore[method-assign]
        parties.open_side()
        self.shape = [(m.kind, len(m.payload)) for m in parties.sent]
        groups = [m.payload for m in parties.sent if len(m.payload) == LANES * CHUNK_BYTES]  # the pads hold no image
        assert len(groups) == COPIES * CHUNKS // LANES
        self.rows = rows_of(
            np.stack([ring.unpack30(g) for g in groups]).reshape(-1, COPIES, LANES, len(PRIMES), DEGREE), wanted
        )


def _without_key(parties: Parties) -> Callable[..., None]:
    original = parties.two.open_level

    def open_level(*args: Any) -> None:
        made = KeyHolder.__post_init__

        def spoiled(holder: KeyHolder) -> None:
            made(holder)
            holder._secret.fill(0)
            holder._secret_quotient.fill(0)

        KeyHolder.__post_init__ = spoiled  # type: ignore[method-assign]
        try:
            original(*args)
        finally:
            KeyHolder.__post_init__ = made  # type: ignore[method-assign]

    return open_level


def rows_of(polynomials: Array, wanted: list[Array]) -> Array:
    """Features of every received chunk, its copies side by side, in both domains; wanted: images as (chunks, n).

    polynomials: (groups, copies, lanes, primes, n).
    """
    out = []
    for group, copies in enumerate(polynomials):
        coefficients = [backward(copy[:, 0], PRIMES[0]) for copy in copies]
        for lane in range(LANES):
            looked_for = [w[(group * LANES + lane) % len(w)] for w in wanted]
            row = [features(c[lane] / PRIMES[0], looked_for) for c in coefficients]
            out.append(np.concatenate([*row, *(features(copy[lane, 1] / PRIMES[1]) for copy in copies)]))
    return np.array(out)


def encoded(values: Columns) -> Array:
    """What the curious side looks for: the values as they would stand in a polynomial without key and noise."""
    scaled = [(Q * int(v) + PLAIN_MODULUS // 2) // PLAIN_MODULUS % PRIMES[0] for v in range(-2048, 2049)]
    return np.array(scaled, float)[values + 2048]


def simulated_operands(count: int, copies: int, wanted: list[Array], seed: int) -> Array:
    """The simulator of party 1's view: uniform residues, as many as the sizes say."""
    rng, shape = np.random.default_rng(seed), (count // LANES, copies, LANES, DEGREE)
    return rows_of(np.stack([rng.integers(0, p, shape, dtype=np.uint32) for p in PRIMES], axis=3), wanted)


def test_party_1_cannot_tell_two_images_apart_nor_from_a_simulation(record: Record) -> None:
    values = images()
    wanted = [encoded(v).reshape(CHUNKS, DEGREE) for v in values]
    views = [[Received(v, wanted) for _ in range(4)] for v in values]
    assert len({tuple(view.shape) for side in views for view in side}) == 1  # same messages, same lengths
    one, two = (np.concatenate([view.rows for view in side]) for side in views)
    between = tell_apart(one, two)
    simulator = tell_apart(np.concatenate([one, two]), simulated_operands(len(one) + len(two), COPIES, wanted, 7))
    bare = [np.concatenate([Received(v, wanted, bare=True).rows for _ in range(6)]) for v in values]
    control = tell_apart(*bare)
    assert control.accuracy > 0.95, control
    assert abs(between.excess) < LIMIT and abs(simulator.excess) < LIMIT, (between, simulator)
    record(
        "party 1's view, fhe: which of two images? real or simulated?",
        f"without a key: {control}",
        f"images: {between}; simulator: {simulator}",
    )


def test_the_numbers_party_1_gets_are_the_same_for_both_images() -> None:
    hidden, found = columns(3), []
    for values in images():
        found.append(Parties(values).open().product(hidden))
    assert found[0] == found[1]


# ---------------------------------------------------------------------------------------- party 2's view


def answers(parties: Parties, hidden: Columns, count: int, full_pad: bool = True) -> bytes:
    """So many requests with the same columns, as party 2 receives them."""
    with nullcontext() if full_pad else with_pads_alone():
        return b"".join(parties.request(hidden)[0] for _ in range(count))


def seen_by_the_key_holder(parties: Parties, sent: bytes, wanted: list[Array]) -> Array:
    """Of every answer: c1 (and c1 divided by the public polynomial), under each secret what is opened, and the rest."""
    out = []
    for k in range(len(sent) // ANSWER_BYTES):
        part = sent[k * ANSWER_BYTES : (k + 1) * ANSWER_BYTES]
        c1 = ring.unpack30(part[:C1_BYTES]).reshape(KEPT, DEGREE)
        known: list[float] = []
        for i, holder in enumerate(parties.two._keys):
            dots = [_coefficient_of_product(c1[j], holder._ternary, DEGREE - 1, PRIMES[j]) for j in range(KEPT)]
            b = int.from_bytes(part[C1_BYTES + 12 * i :][:12], "little")
            phase = (b + crt([int(d) for d in dots], PRIMES[:KEPT])) % Q_KEPT
            known += beside(phase)
        out.append(row_of_answer(c1, known, wanted))
    return np.array(out)


def beside(phase: int) -> list[float]:
    """The number that a phase opens to, and what is left of it, in steps."""
    number, rest = divmod(phase * PLAIN_MODULUS, Q_KEPT)
    rest = rest / Q_KEPT
    return [number / PLAIN_MODULUS, rest, (rest - 0.5) ** 2, min(rest, 1 - rest) < 0.1, min(rest, 1 - rest) < 1e-6]


def row_of_answer(c1: Array, known: list[float], wanted: list[Array]) -> Array:
    scaled = c1 / np.array(PRIMES[:KEPT])[:, None]
    return np.concatenate([features(scaled[0], wanted), features(scaled[1], wanted), known])


def simulated_answers(count: int, wanted: list[Array], seed: int) -> Array:
    """The simulator of party 2's view: c1 uniform, and two phases uniform modulo Q'."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        c1 = np.stack([rng.integers(0, p, DEGREE) for p in PRIMES[:KEPT]])
        uniform = [int.from_bytes(rng.bytes(16), "little") % Q_KEPT for _ in range(COPIES)]
        rows.append(row_of_answer(c1, [v for phase in uniform for v in beside(phase)], wanted))
    return np.array(rows)


def test_party_2_cannot_tell_two_moving_images_apart_nor_from_a_simulation(record: Record) -> None:
    values = images()[0][: 8 * DEGREE]
    parties = Parties(values).open()
    hidden = [columns(8, seed)[:, : 8 * DEGREE] for seed in (3, 4)]
    wanted = [h[0, :DEGREE][::-1].astype(float) for h in hidden]
    rounds = 12
    sent = [answers(parties, h, rounds) for h in hidden]
    assert len({len(s) for s in sent}) == 1
    one, two = (seen_by_the_key_holder(parties, s, wanted) for s in sent)
    between = tell_apart(one, two)
    simulator = tell_apart(np.concatenate([one, two]), simulated_answers(len(one) + len(two), wanted, 5))
    assert abs(between.excess) < LIMIT and abs(simulator.excess) < LIMIT, (between, simulator)
    dry = [seen_by_the_key_holder(parties, answers(parties, h, rounds, full_pad=False), wanted) for h in hidden]
    no_pad = tell_apart(np.concatenate(dry), simulated_answers(2 * len(dry[0]), wanted, 6))
    assert no_pad.accuracy > 0.9, no_pad
    bare = _bare_second_polynomials(parties, hidden, wanted, rounds)
    assert bare.accuracy > 0.95, bare
    record(
        "party 2's view, fhe: which of two moving images? real or simulated?",
        f"c1 not re-randomised: {bare}; pads modulo t alone: {no_pad}",
        f"moving images: {between}; simulator: {simulator}",
    )


def _bare_second_polynomials(parties: Parties, hidden: list[Columns], wanted: list[Array], rounds: int) -> Verdict:
    """c1 as the product leaves it, divided by the public polynomial of the first chunk (S there is all there is)."""
    a = bfv.uniform_polynomial(parties.one._seed, "J", 0)[0].astype(np.uint64)
    inverse = np.array([pow(int(v), -1, PRIMES[0]) for v in a], np.uint64)
    rows = []
    for h in hidden:
        alone = np.zeros_like(h)
        alone[:, :DEGREE] = h[0, :DEGREE] + np.random.default_rng(1).integers(-40, 41, (8, DEGREE))
        c1 = parties.totals(alone)[:, -1, 0]
        polynomial = backward(c1 * inverse % np.uint64(PRIMES[0]), PRIMES[0]).astype(np.int64)
        signed = np.where(polynomial > PRIMES[0] // 2, polynomial - PRIMES[0], polynomial)
        rows.append(np.array([features(row / 2**12 + 0.5, wanted) for row in signed] * (rounds // 2)))
    return tell_apart(*rows)


# -------------------------------------------------------------------------------------------------- mpc


def test_masked_blocks_of_mpc_are_uniform_to_whoever_lacks_the_key(
    exchange: Callable[..., Any], record: Record
) -> None:
    """Party 2's view of two moving images; the control is a mask of 14 bits."""
    pytest.importorskip("torch")
    size, rows = 4096, 8
    hidden = [np.random.default_rng(s).integers(-32767, 32768, (rows, size)).astype(np.int32) for s in (1, 2)]
    wanted = [h[0].astype(float) for h in hidden]
    terms = [Term(k, "J", "gradient") for k in range(rows)]
    found: list[list[Array]] = []
    for h in hidden:
        opened = exchange("mpc", {"J": np.full(size, 2048, np.int32)}, keys=(new_key(), new_key()))
        for evaluation in range(24):
            opened.evaluate(h, terms, evaluation)
        sent = [m.payload for _, to, m in opened.sent if to == "party 2" and m.kind == "request"]
        found.append([pieces(np.frombuffer(p, "<u8").reshape(-1, size), wanted) for p in sent])
    one, two = (np.concatenate(side) for side in found)
    between = tell_apart(one, two)
    noise = np.random.default_rng(3).integers(0, 2**64, (len(one) + len(two), size), np.uint64)
    simulator = tell_apart(np.concatenate([one, two]), pieces(noise, wanted))
    key, weak = new_key(), []
    for h in hidden:
        masks = [mask_of_columns(key, 0, e, 0, rows, size) & (2**14 - 1) for e in range(20)]
        weak.append(np.concatenate([pieces((h - m + 2**20).astype(np.uint64) << 43, wanted) for m in masks]))
    control = tell_apart(*weak)
    assert control.accuracy > 0.9, control
    assert abs(between.excess) < LIMIT and abs(simulator.excess) < LIMIT, (between, simulator)
    record(
        "party 2's view, mpc: which of two moving images? real or simulated?",
        f"masks of 14 bits: {control}",
        f"moving images: {between}; simulator: {simulator}",
    )


def pieces(words: Array, wanted: list[Array]) -> Array:
    return np.array([features(row / 2.0**64, wanted) for row in words])


def test_sizes_are_what_they_are_said_to_be() -> None:
    """Lengths depend on public sizes only."""
    parties = Parties(images()[0])
    parties.open_side()
    lengths = [len(m.payload) for m in parties.sent if m.kind == "data"]
    assert sum(lengths) == COPIES * CHUNK_BYTES * (CHUNKS + DIGITS)
