"""Sums per control point under encryption: the messages around `slots`, for both sides of the fhe protocol.

Party 1 sends every voxel's padded product, as ciphertexts; party 2 opens them, applies the public map of the level
and answers with one number of 58 bits per sum: its residues modulo the two primes.

Of an operand of T vectors (the bins of mutual information) each is encrypted apart, over the samples; party 1 adds up
its T products per sample before the pad, so that as much travels as for one vector.

Before the answer the products are tested, all at once. Every value is there as J under the first secret and as α·J
under the second, α uniform in [1, t). When all products x_j = m_j·J_j + r₁ⱼ have come, party 2 draws χ_j uniform modulo
t, and party 1 sends one ciphertext under the second secret that opens to y = α·Σ χ_j·(m_j·J_j + r₁ⱼ) + r₂. The test is
whether y − α·Σ χ_j·x_j is r₂, in all slots. What is no product passes with a probability of 1/t + 2/(t − 1) < 2^-27.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.errors import FixedPointError, ProtocolError
from PPIRLogic.network.messages import Fields
from PPIRLogic.secure.exact_range import IMPOSSIBLE
from PPIRLogic.secure.fhe import ring
from PPIRLogic.secure.fhe.evaluator import Evaluator, Operand
from PPIRLogic.secure.fhe.key_holder import KeyHolder
from PPIRLogic.secure.fhe.slots import (
    ALPHA,
    RANGE,
    SLOT_MODULI,
    Combination,
    SlotMultiplier,
    challenges,
    combine_moduli,
    combined,
    encrypt_factor,
    encrypt_slots,
    open_slots,
    reduced,
    slot_name,
)
from PPIRLogic.secure.integer_sums import by_vector
from PPIRLogic.secure.layout import CHUNK, GROUP, LANES, group_size
from PPIRLogic.secure.prg import new_key
from PPIRLogic.secure.product import (
    Columns,
    ColumnSource,
    FactorSource,
    LevelInfo,
    Link,
    OperandInfo,
    Term,
    is_factored,
    numbers_of,
    over_groups,
)

CHANNELS = range(len(SLOT_MODULI))
_DIGIT = 29  # bits of a residue in an answer


Release = Callable[[bytes, NDArray[np.uint64], int, Callable[[NDArray[np.uint64]], list[int]]], list[int]]
Work = Callable[[int, int, int, Columns], None]  # group, worker, term, columns (vectors, GROUP)
SEED_BYTES = 32


def _digest_of(products: Mapping[tuple[int, int, int], bytes], seed: bytes, checks: Sequence[bytes]) -> bytes:
    """What both sides hash of a request that was tested."""
    return hashlib.sha256(_digest_of_products(products) + seed + b"".join(checks)).digest()


def _digest_of_products(products: Mapping[tuple[int, int, int], bytes]) -> bytes:
    return hashlib.sha256(b"".join(products[key] for key in sorted(products))).digest()


class ControlPointProduct:
    """Party 1's side of one level: `operands` are the encrypted slots by operand, one for each plaintext modulus."""

    def __init__(
        self, link: Link, level: LevelInfo, evaluator: Evaluator, receive: Callable[[str, int, int], Operand]
    ) -> None:
        """receive: the ciphertexts of a name, over so many chunks, under so many secrets."""
        self._link, self._level, self._evaluator = link, level, evaluator
        self._operands: dict[str, list[list[Operand]]] = {
            o.name: [
                [receive(slot_name(vector, c), _chunks(level.samples // o.vectors), 2) for c in CHANNELS]
                for vector in vector_names(o)
            ]
            for o in level.operands
            if o.per_control_point
        }
        self._alpha = [receive(slot_name(ALPHA, c), 1, 1).data[0] for c in CHANNELS]

    def evaluate(
        self, source: ColumnSource, terms: Sequence[Term], announce: Callable[[], None], released: Release
    ) -> list[int]:
        """The exact sums, term by term. released: what comes of party 2's answer after the test of a request."""
        control_points = self._level.control_points
        assert control_points is not None
        samples = self._level.samples // terms[0].vectors
        groups = -(-samples // GROUP)
        workers = max(1, min(self._link.threads, groups))
        multipliers = [SlotMultiplier(self._evaluator) for _ in range(workers)]
        pads = np.zeros((len(terms), len(CHANNELS), groups * GROUP), np.uint32)
        peaks = np.zeros((workers, len(terms)), np.int64)
        digests: dict[tuple[int, int, int], bytes] = {}
        announce()

        def multiply(group: int, worker: int, i: int, columns: Columns) -> None:
            peaks[worker, i] = max(peaks[worker, i], np.abs(columns).max())
            vectors = self._operands[terms[i].operand]
            for channel in CHANNELS:  # all vectors, empty ones too: the time must not tell which bins an image has
                pairs = (
                    (reduced(column, channel), _pair(vector[channel], group, 0))
                    for column, vector in zip(columns, vectors, strict=True)
                )
                chunks = _chunks(group_size(samples, group))
                message, pad = multipliers[worker].multiply(pairs, channel, chunks)
                pads[i, channel, group * GROUP : (group + 1) * GROUP] = pad
                digests[group, i, channel] = hashlib.sha256(message.data).digest()
                where = {"group": group, "term": i, "channel": channel}
                self._link.channel.send("request", where, message.data)

        self._over(source, terms, groups, workers, multiply)
        largest = [
            peak * self._level.bound(term.operand) * control_points.largest
            for term, peak in zip(terms, peaks.max(axis=0).tolist(), strict=True)
        ]
        if max(largest) > RANGE // 2:
            raise FixedPointError("A sum could leave the exact range of the encrypted sums per control point.")

        def read(answer: NDArray[np.uint64]) -> list[int]:
            mine = np.stack([[control_points.sums(p[:samples]) for p in term] for term in pads])
            opened = _residues(answer, len(terms), control_points.count)
            values = [combine_moduli(o - m) for o, m in zip(opened, mine, strict=True)]
            if any(max(map(abs, value)) > most for value, most in zip(values, largest, strict=True)):
                raise ProtocolError(IMPOSSIBLE)
            return [v for value in values for v in value]

        digest, secret = self._checked(source, terms, pads, groups, workers, digests)
        return released(digest, secret, numbers_of(terms), read)

    def _over(self, source: ColumnSource, terms: Sequence[Term], groups: int, workers: int, work: Work) -> None:
        """Run work(group, worker, term, columns) over all groups and terms."""
        if is_factored(terms):
            _over_samples(cast(FactorSource, source), terms, groups, workers, self._link, work)
            return

        def over_terms(group: int, worker: int, block: Columns) -> None:
            for i, term in enumerate(terms):
                work(group, worker, i, block[term.column][None])

        over_groups(source, self._link, over_terms)

    def _checked(
        self, source: ColumnSource, terms: Sequence[Term], pads: NDArray[np.uint32], groups: int, workers: int,
        digests: Mapping[tuple[int, int, int], bytes],
    ) -> tuple[bytes, NDArray[np.uint64]]:  # fmt: skip
        """Answer party 2's challenge to the products of this request; the request's digest, and r₂ of all slots."""
        seed = bytes(self._link.receive("test").payload)
        if len(seed) != SEED_BYTES:
            raise ProtocolError("A challenge of a wrong length.")
        chunks = _chunks(self._level.samples // terms[0].vectors)
        factors = [factors_of(seed, c, len(terms), chunks, groups) for c in CHANNELS]
        sums = [[Combination(c) for c in CHANNELS] for _ in range(workers)]

        def combine(group: int, worker: int, i: int, columns: Columns) -> None:
            for channel in CHANNELS:
                own = factors[channel][i, group * LANES : (group + 1) * LANES]
                for column, vector in zip(columns, self._operands[terms[i].operand], strict=True):
                    sums[worker][channel].add(reduced(column, channel), own, _pair(vector[channel], group, 1))

        self._over(source, terms, groups, workers, combine)
        multiplier, checks, held = SlotMultiplier(self._evaluator, 1), [], []
        for channel in CHANNELS:
            for other in sums[1:]:
                sums[0][channel].merge(other[channel])
            slots = pads[:, channel].reshape(-1, CHUNK)
            own = combined(slots, factors[channel].reshape(-1), SLOT_MODULI[channel])
            message, r2 = multiplier.checked(sums[0][channel].total, own, self._alpha[channel], channel)
            self._link.channel.send("request", {"channel": channel}, message.data)
            checks.append(hashlib.sha256(message.data).digest())
            held.append(r2.astype(np.uint64))
        return _digest_of(digests, seed, checks), np.concatenate(held)


def factors_of(seed: bytes, channel: int, terms: int, chunks: int, groups: int) -> NDArray[np.uint32]:
    """χ of every chunk of every term, (terms, groups·8); 0 for the lanes of a group that hold no chunk."""
    out = np.zeros((terms, groups * LANES), np.uint32)
    out[:, :chunks] = challenges(seed, channel, terms * chunks).reshape(terms, chunks)
    return out


def _pair(operand: Operand, group: int, copy: int) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """c0 under one of the secrets, and the c1 that they share, of a group."""
    return operand.data[group, copy], operand.data[group, -1]


def _residues(answer: NDArray[np.uint64], terms: int, count: int) -> NDArray[np.int64]:
    """Residues (terms, moduli, count) of the sums; ProtocolError if one is none."""
    shifts = (np.arange(len(CHANNELS), dtype=np.uint64) * _DIGIT).reshape(-1, 1)
    residues = (answer.reshape(terms, 1, count) >> shifts).astype(np.int64)
    residues[:, :-1] &= (1 << _DIGIT) - 1
    if (residues < 0).any() or (residues >= np.array(SLOT_MODULI)[:, None]).any():
        raise ProtocolError("The peer's answer holds a number out of range.")
    return residues


def _over_samples(
    source: FactorSource, terms: Sequence[Term], groups: int, workers: int, link: Link,
    work: Callable[[int, int, int, Columns], None],
) -> None:  # fmt: skip
    """Run work(group, worker, term, U(x,t)·S(x)) over all groups of samples, (vectors, GROUP) for each term."""
    vectors = terms[0].vectors

    def run(worker: int) -> None:
        for group in range(worker, groups, workers):
            parts = [source.factors(g) for g in range(group * vectors, min((group + 1) * vectors, source.groups))]
            slopes = np.concatenate([by_vector(u, vectors) for u, _ in parts], axis=1)
            factors = np.concatenate([s for _, s in parts], axis=1)
            for i, term in enumerate(terms):
                link.check()
                columns = np.zeros((vectors, GROUP), np.int32)
                np.multiply(slopes, factors[term.column], out=columns[:, : slopes.shape[1]], casting="unsafe")
                work(group, worker, i, columns)

    with ThreadPoolExecutor(workers) as pool:
        for future in [pool.submit(run, w) for w in range(workers)]:
            future.result()


def vector_names(operand: OperandInfo) -> list[str]:
    """The labels of an operand's vectors; they enter the seeds of their c1."""
    return [operand.name] if operand.vectors == 1 else [f"{operand.name}/{v}" for v in range(operand.vectors)]


def _chunks(samples: int) -> int:
    return -(-samples // CHUNK)


class ControlPointFixed:
    """Party 2's side of one level."""

    def __init__(self, link: Link, level: LevelInfo, keys: Sequence[KeyHolder]) -> None:
        self._link, self._level, self._keys = link, level, keys
        self._factors = [1 + secrets.randbelow(t - 1) for t in SLOT_MODULI]  # α modulo each
        self._values: NDArray[np.uint32] = np.empty(0, np.uint32)
        self._digests: dict[tuple[int, int, int], bytes] = {}

    def send(self, operands: Mapping[OperandInfo, Columns]) -> None:
        """Operands, vector by vector, one value per slot, for every plaintext modulus, as J and as α·J; and α."""
        for info, values in operands.items():
            vectors = by_vector(values, info.vectors) if info.vectors > 1 else values[None]
            for name, vector in zip(vector_names(info), vectors, strict=True):
                for channel in CHANNELS:
                    self._send_vector(name, vector, channel)
        for channel, factor in enumerate(self._factors):
            packed = encrypt_factor(self._keys[1], factor, channel)
            self._link.channel.send("data", {"operand": ALPHA, "start": 0, "channel": channel}, packed.data)

    def _send_vector(self, name: str, vector: Columns, channel: int) -> None:
        for start in range(0, len(vector), GROUP):
            for keys, factor in zip(self._keys, (1, self._factors[channel]), strict=True):
                self._link.check()
                part = vector[start : start + GROUP]
                packed = encrypt_slots(keys, part, name, channel, start // CHUNK, factor)
                self._link.channel.send("data", {"operand": name, "start": start, "channel": channel}, packed.data)

    def receive(self, terms: Sequence[Term]) -> tuple[bytes, NDArray[np.uint64]]:
        """Opens padded products as they come in. The request's hash, and what may leave once it was tested."""
        control_points, samples = self._level.control_points, self._level.samples // terms[0].vectors
        assert control_points is not None
        groups = -(-samples // GROUP)
        values = np.zeros((len(terms), len(CHANNELS), groups * GROUP), np.uint32)
        digests: dict[tuple[int, int, int], bytes] = {}
        while len(digests) < groups * len(terms) * len(CHANNELS):
            message = self._link.receive("request")
            where = Fields(message.data, "request")
            group, term = where.integer("group", 0, groups - 1), where.integer("term", 0, len(terms) - 1)
            channel = where.integer("channel", 0, len(CHANNELS) - 1)
            if (group, term, channel) in digests:
                raise ProtocolError("An encrypted product that came before.")
            chunks = _chunks(group_size(samples, group))
            opened = open_slots(self._keys[0], message.payload, channel, chunks)
            values[term, channel, group * GROUP : group * GROUP + len(opened)] = opened
            digests[group, term, channel] = hashlib.sha256(message.payload).digest()
        answer = np.zeros((len(terms), control_points.count), np.uint64)
        for term, channels in enumerate(values):
            for channel, modulus in enumerate(SLOT_MODULI):
                residues = ring.modulo(control_points.sums(channels[channel, :samples]), modulus).astype(np.uint64)
                answer[term] |= residues << np.uint64(_DIGIT * channel)
        self._values, self._digests, self._chunks = values, digests, _chunks(samples)
        return _digest_of_products(digests), answer.reshape(-1)

    def challenge(self) -> tuple[bytes, NDArray[np.uint64]]:
        """Challenge the products received last. The request's digest, and what party 1 must hold: y − α·Σ χ·x."""
        seed = new_key()
        self._link.channel.send("test", {}, seed)
        terms, _, size = self._values.shape
        checks, due = {}, []
        for _ in CHANNELS:
            message = self._link.receive("request")
            channel = Fields(message.data, "request").integer("channel", 0, len(CHANNELS) - 1)
            checks[channel] = message.payload
        if len(checks) != len(CHANNELS):
            raise ProtocolError("A ciphertext to be compared came twice.")
        for channel, t in enumerate(SLOT_MODULI):
            factors = factors_of(seed, channel, terms, self._chunks, size // GROUP).reshape(-1)
            x = combined(self._values[:, channel].reshape(-1, CHUNK), factors, t)
            y = open_slots(self._keys[1], checks[channel], channel, 1)
            due.append(ring.modulo(y - self._factors[channel] * x, t))
        digests = [hashlib.sha256(checks[c]).digest() for c in CHANNELS]
        return _digest_of(self._digests, seed, digests), np.concatenate(due).astype(np.uint64)

    def forget(self) -> None:
        """Nothing that was opened, nor α, is kept."""
        self._factors, self._values = [], np.empty(0, np.uint32)
