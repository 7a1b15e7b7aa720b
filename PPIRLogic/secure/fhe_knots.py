"""Sums per control point under encryption: the messages around `slots`, for both sides of the fhe protocol.

Party 1 sends every voxel's padded product, as ciphertexts; party 2 opens them, applies the public map of the level
(`knots`) and answers with one number of 60 bits per sum: its residues modulo the three primes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.errors import ProtocolError
from PPIRLogic.peer.messages import Fields
from PPIRLogic.secure import bfv
from PPIRLogic.secure.base import (
    CHUNK,
    GROUP,
    Columns,
    ColumnSource,
    LevelInfo,
    Link,
    Term,
    group_size,
    numbers_of,
    over_groups,
)
from PPIRLogic.secure.exact import IMPOSSIBLE
from PPIRLogic.secure.slots import SLOT_MODULI, SlotMultiplier, combine_moduli, encrypt_slots, open_slots, slot_name

CHANNELS = range(len(SLOT_MODULI))
_DIGIT = 20  # bits of a residue in an answer


class KnotProduct:
    """Party 1's side of one level: `operands` are the encrypted slots by operand, one for each plaintext modulus."""

    def __init__(
        self, link: Link, level: LevelInfo, evaluator: bfv.Evaluator, receive: Callable[[str], bfv.Operand]
    ) -> None:
        self._link, self._level, self._evaluator = link, level, evaluator
        self._operands = {
            o.name: [receive(slot_name(o.name, c)) for c in CHANNELS] for o in level.operands if o.by_knot
        }

    def evaluate(self, source: ColumnSource, terms: Sequence[Term], announce: Callable[[], None]) -> list[int]:
        """The exact sums, term by term."""
        knots = self._level.knots
        assert knots is not None
        workers = max(1, min(self._link.threads, source.groups))
        multipliers = [SlotMultiplier(self._evaluator) for _ in range(workers)]
        pads = np.zeros((len(terms), len(CHANNELS), source.groups * GROUP), np.uint32)
        peaks = np.zeros((workers, len(terms)), np.int64)
        announce()

        def work(group: int, worker: int, block: Columns) -> None:
            chunks = -(-group_size(self._level.samples, group) // CHUNK)
            for i, term in enumerate(terms):
                peaks[worker, i] = max(peaks[worker, i], np.abs(block[term.column]).max())
                for channel in CHANNELS:
                    operand = self._operands[term.operand][channel].data[group]
                    message, pad = multipliers[worker].multiply(block[term.column], operand, channel, chunks)
                    pads[i, channel, group * GROUP : (group + 1) * GROUP] = pad
                    where = {"group": group, "term": i, "channel": channel}
                    self._link.channel.send("request", where, message.data)

        over_groups(source, self._link, work)
        mine = np.stack([[knots.sums(p[: self._level.samples]) for p in term] for term in pads])
        values = [combine_moduli(o - m) for o, m in zip(self._answer(terms, knots.count), mine, strict=True)]
        for value, term, peak in zip(values, terms, peaks.max(axis=0).tolist(), strict=True):
            if max(map(abs, value)) > peak * self._level.bound(term.operand) * knots.largest:
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


class KnotFixed:
    """Party 2's side of one level."""

    def __init__(self, link: Link, level: LevelInfo, keys: bfv.KeyHolder) -> None:
        self._link, self._level, self._keys = link, level, keys

    def send(self, name: str, values: Columns) -> None:
        """An operand, one value per slot, for every plaintext modulus."""
        for channel in CHANNELS:
            for start in range(0, len(values), GROUP):
                self._link.check()
                packed = encrypt_slots(self._keys, values[start : start + GROUP], name, channel, start // CHUNK)
                self._link.channel.send("data", {"operand": name, "start": start, "channel": channel}, packed.data)

    def receive(self, terms: Sequence[Term]) -> tuple[bytes, NDArray[np.uint64]]:
        """Opens padded products as they come in. The request's hash, and what may leave once it was counted."""
        knots, samples = self._level.knots, self._level.samples
        assert knots is not None
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
            chunks = -(-group_size(samples, group) // CHUNK)
            opened = open_slots(self._keys, message.payload, channel, chunks)
            values[term, channel, group * GROUP : group * GROUP + len(opened)] = opened
            digests[group, term, channel] = hashlib.sha256(message.payload).digest()
        answer = np.zeros((len(terms), knots.count), np.uint64)
        for term, channels in enumerate(values):
            for channel, modulus in enumerate(SLOT_MODULI):
                residues = (knots.sums(channels[channel, :samples]) % modulus).astype(np.uint64)
                answer[term] |= residues << np.uint64(_DIGIT * channel)
        return hashlib.sha256(b"".join(digests[key] for key in sorted(digests))).digest(), answer.reshape(-1)
