"""Sums per control point under encryption: the messages around `slots`, for both sides of the fhe protocol.

Party 1 sends every voxel's padded product, as ciphertexts; party 2 opens them, applies the public map of the level
and answers with one number of 58 bits per sum: its residues modulo the two primes.

Of an operand of T vectors (the bins of mutual information) each is encrypted apart, over the samples; party 1 adds up
its T products per sample before the pad, so that as much travels as for one vector.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.errors import ProtocolError
from PPIRLogic.network.messages import Fields
from PPIRLogic.secure.exact_range import IMPOSSIBLE
from PPIRLogic.secure.fhe.evaluator import Evaluator, Operand
from PPIRLogic.secure.fhe.key_holder import KeyHolder
from PPIRLogic.secure.fhe.slots import (
    SLOT_MODULI,
    SlotMultiplier,
    combine_moduli,
    encrypt_slots,
    open_slots,
    reduced,
    slot_name,
)
from PPIRLogic.secure.integer_sums import by_vector
from PPIRLogic.secure.layout import CHUNK, GROUP, group_size
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


class ControlPointProduct:
    """Party 1's side of one level: `operands` are the encrypted slots by operand, one for each plaintext modulus."""

    def __init__(
        self, link: Link, level: LevelInfo, evaluator: Evaluator, receive: Callable[[str, int], Operand]
    ) -> None:
        """receive: the ciphertexts of a name, over so many chunks."""
        self._link, self._level, self._evaluator = link, level, evaluator
        self._operands: dict[str, list[list[Operand]]] = {
            o.name: [
                [receive(slot_name(vector, c), _chunks(level.samples // o.vectors)) for c in CHANNELS]
                for vector in vector_names(o)
            ]
            for o in level.operands
            if o.per_control_point
        }

    def evaluate(self, source: ColumnSource, terms: Sequence[Term], announce: Callable[[], None]) -> list[int]:
        """The exact sums, term by term."""
        control_points = self._level.control_points
        assert control_points is not None
        samples = self._level.samples // terms[0].vectors
        groups = -(-samples // GROUP)
        workers = max(1, min(self._link.threads, groups))
        multipliers = [SlotMultiplier(self._evaluator) for _ in range(workers)]
        pads = np.zeros((len(terms), len(CHANNELS), groups * GROUP), np.uint32)
        peaks = np.zeros((workers, len(terms)), np.int64)
        announce()

        def multiply(group: int, worker: int, i: int, columns: Columns) -> None:
            """Term i; columns (vectors, GROUP)."""
            peaks[worker, i] = max(peaks[worker, i], np.abs(columns).max())
            vectors = self._operands[terms[i].operand]
            for channel in CHANNELS:  # all vectors, empty ones too: the time must not tell which bins an image has
                pairs = (
                    (reduced(column, channel), vector[channel].data[group])
                    for column, vector in zip(columns, vectors, strict=True)
                )
                chunks = _chunks(group_size(samples, group))
                message, pad = multipliers[worker].multiply(pairs, channel, chunks)
                pads[i, channel, group * GROUP : (group + 1) * GROUP] = pad
                where = {"group": group, "term": i, "channel": channel}
                self._link.channel.send("request", where, message.data)

        def work(group: int, worker: int, block: Columns) -> None:
            for i, term in enumerate(terms):
                multiply(group, worker, i, block[term.column][None])

        if is_factored(terms):
            _over_samples(cast(FactorSource, source), terms, groups, workers, self._link, multiply)
        else:
            over_groups(source, self._link, work)
        mine = np.stack([[control_points.sums(p[:samples]) for p in term] for term in pads])
        values = [combine_moduli(o - m) for o, m in zip(self._answer(terms, control_points.count), mine, strict=True)]
        for value, term, peak in zip(values, terms, peaks.max(axis=0).tolist(), strict=True):
            if max(map(abs, value)) > peak * self._level.bound(term.operand) * control_points.largest:
                raise ProtocolError(IMPOSSIBLE)
        return [v for value in values for v in value]

    def _answer(self, terms: Sequence[Term], count: int) -> NDArray[np.int64]:
        """Residues (terms, moduli, count)."""
        reply = self._link.receive("answer").payload
        if len(reply) != 8 * numbers_of(terms):
            raise ProtocolError(f"Expected {numbers_of(terms)} numbers from the peer, got {len(reply) / 8:g}.")
        packed = np.frombuffer(reply, "<u8").reshape(len(terms), 1, count) >> (
            np.arange(len(CHANNELS), dtype=np.uint64) * _DIGIT
        ).reshape(-1, 1)
        residues = packed.astype(np.int64)
        residues[:, :-1] &= (1 << _DIGIT) - 1
        if (residues >= np.array(SLOT_MODULI)[:, None]).any():
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

    def __init__(self, link: Link, level: LevelInfo, keys: KeyHolder) -> None:
        self._link, self._level, self._keys = link, level, keys

    def send(self, info: OperandInfo, values: Columns) -> None:
        """An operand, vector by vector, one value per slot, for every plaintext modulus."""
        vectors = by_vector(values, info.vectors) if info.vectors > 1 else values[None]
        for name, vector in zip(vector_names(info), vectors, strict=True):
            for channel in CHANNELS:
                for start in range(0, len(vector), GROUP):
                    self._link.check()
                    packed = encrypt_slots(self._keys, vector[start : start + GROUP], name, channel, start // CHUNK)
                    self._link.channel.send("data", {"operand": name, "start": start, "channel": channel}, packed.data)

    def receive(self, terms: Sequence[Term]) -> tuple[bytes, NDArray[np.uint64]]:
        """Opens padded products as they come in. The request's hash, and what may leave once it was counted."""
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
            opened = open_slots(self._keys, message.payload, channel, chunks)
            values[term, channel, group * GROUP : group * GROUP + len(opened)] = opened
            digests[group, term, channel] = hashlib.sha256(message.payload).digest()
        answer = np.zeros((len(terms), control_points.count), np.uint64)
        for term, channels in enumerate(values):
            for channel, modulus in enumerate(SLOT_MODULI):
                residues = (control_points.sums(channels[channel, :samples]) % modulus).astype(np.uint64)
                answer[term] |= residues << np.uint64(_DIGIT * channel)
        return hashlib.sha256(b"".join(digests[key] for key in sorted(digests))).digest(), answer.reshape(-1)
