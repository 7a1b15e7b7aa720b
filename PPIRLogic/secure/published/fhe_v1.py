"""The published PPIR(FHE)-v1: party 2 encrypts J in sub-arrays, party 1 computes Σ J_i·S_i, party 2 decrypts it.

For comparison with the paper, never by default. PARTY 2 SEES THE RESULTS: sums of party 1's gradient images weighted by
its own image. The sums are approximate (see `ckks` for parameters, noise and what was hardened): their error is about
1e-5·√N·‖S‖·max|V|.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from PPIRLogic.arrays import Array
from PPIRLogic.errors import ProtocolError
from PPIRLogic.secure.prg import new_key
from PPIRLogic.secure.product import Columns, ColumnSource, FixedSide, LevelInfo, Link, PrivateProduct, Term
from PPIRLogic.secure.protocol import Protocol
from PPIRLogic.secure.published import ckks
from PPIRLogic.secure.published.ckks import BITS, Ciphertexts, Key
from PPIRLogic.secure.published.common import (
    MAX_SAMPLES,
    check_terms,
    encoded_operands,
    encrypted_length,
    gather,
    names_in,
    nonce_of,
    receive_parts,
    send_parts,
    to_integers,
)

_MAX_SUM = 2**53


class FheV1Product(PrivateProduct):
    name = "fhe_v1"
    bits_per_number = BITS

    def __init__(self, link: Link) -> None:
        super().__init__(link)
        self._level: LevelInfo | None = None
        self._first = b""

    def open_level(self, level: LevelInfo, first: bytes) -> None:
        self._level, self._first = level, first

    def evaluate(
        self, source: ColumnSource, terms: Sequence[Term], evaluation: int, announce: Callable[[], None]
    ) -> list[int]:
        """The sums of the terms, approximate, as integers."""
        level = self._level
        assert level is not None
        check_terms(terms)
        columns, factors = gather(source, terms, level, self.link)
        announce()
        key = self.link.receive("key")
        seed = ckks.joint_seed(self.link.session, level.index, evaluation, self._first, nonce_of(key.data))
        request = self._products(columns, terms, seed, bytes(key.payload))
        send_parts(self.link, "request", {}, request)
        return to_integers(self._answer(len(terms)), terms, level, factors)

    def _products(self, columns: Array, terms: Sequence[Term], seed: bytes, public: bytes) -> bytes:
        count = columns.shape[1]
        length = encrypted_length(count)
        fixed = {
            name: Ciphertexts.read(receive_parts(self.link, "data", length), seed, name, count)
            for name in names_in(terms)
        }
        plain: dict[int, ckks.Polynomials] = {}
        totals = []
        for term in terms:
            self.link.check()
            if term.column not in plain:
                plain = {term.column: ckks.transformed(ckks.encode(ckks.split(columns[term.column])))}
            totals.append(ckks.dot(plain[term.column], fixed[term.operand]))
        return ckks.blind(totals, seed, public)

    def _answer(self, count: int) -> Array:
        payload = self.link.receive("answer").payload
        if len(payload) != 8 * count:
            raise ProtocolError(f"Expected {count} numbers from the peer, got {len(payload) / 8:g}.")
        values = np.frombuffer(payload, "<i8")
        if (np.abs(values.astype(np.float64)) > _MAX_SUM).any():
            raise ProtocolError("The peer's answer holds a number out of range.")
        return values.astype(np.float64)


class FheV1Fixed(FixedSide):
    name = "fhe_v1"
    bits_per_number = BITS

    def __init__(self, link: Link) -> None:
        super().__init__(link)
        self._level: LevelInfo | None = None
        self._values: dict[str, Array] = {}
        self._first = self._request = self._reply = b""
        self._key: Key | None = None
        self._count = 0

    def open_level(self, level: LevelInfo, operands: Mapping[str, Columns], first: bytes, second: bytes) -> None:
        """Nothing is sent yet: every evaluation has a key, and so an encryption, of its own."""
        self._level, self._first = level, first
        self._values = encoded_operands(operands, level)

    def receive(self, header: Mapping[str, Any], terms: Sequence[Term]) -> bytes:
        level, evaluation = self._level, header.get("evaluation")
        assert level is not None and isinstance(evaluation, int)
        check_terms(terms)
        nonce = new_key()
        seed = ckks.joint_seed(self.link.session, level.index, evaluation, self._first, nonce)
        self._key = Key(seed)
        self.link.channel.send("key", {"nonce": nonce}, self._key.public())
        for name in names_in(terms):
            send_parts(self.link, "data", {"operand": name}, self._key.encrypt(self._values[name], name))
        self._count, self._reply = len(terms), b""
        self._request = receive_parts(self.link, "request", len(terms) * ckks.ANSWER_BYTES)
        # the same bytes under another key are another request: what they open is new
        return hashlib.sha256(nonce + self._request).digest()

    def answer(self) -> None:
        assert self._key is not None and self._level is not None
        if not self._reply:
            sums = self._key.open(self._request, self._count)
            self._reply = np.rint(ckks.flood(sums)).astype("<i8").tobytes()
        self.link.channel.send("answer", {}, self._reply)


PROTOCOL = Protocol(
    "fhe_v1", FheV1Product, FheV1Fixed, BITS, reveals_sampling=True, party2_learns="result", exact=False,
    encrypts_anew=True, max_samples=MAX_SAMPLES,
    words="The published protocol fhe_v1 was used, for comparison: the fixed image reached this site encrypted, but the"
    " other side saw every result, a sum of this site's values weighted by its own image.",
)  # fmt: skip
