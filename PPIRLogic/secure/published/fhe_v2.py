"""The published PPIR(FHE)-v2: the samples are halved, and each party computes on the other's encrypted half.

Party 2 encrypts J_A and party 1 returns ⟦Σ S_A·J_A⟧; party 1 encrypts S_B (every column) and party 2 returns
⟦Σ S_B·J_B⟧. For comparison with the paper, never by default. PARTY 2 SEES THE RESULTS OF THE FIRST HALF. Published,
both partial results are shared and added; here party 2 adds its own (with the noise of `ckks`) under party 1's
encryption, so that party 1 learns the sums alone, not both halves. The sums are approximate, as in fhe_v1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from PPIRLogic.arrays import Array
from PPIRLogic.errors import ProtocolError
from PPIRLogic.secure.prg import new_key
from PPIRLogic.secure.product import ColumnSource, Term
from PPIRLogic.secure.protocol import Protocol
from PPIRLogic.secure.published import ckks
from PPIRLogic.secure.published.ckks import ANSWER_BYTES, BITS, Ciphertexts, Key
from PPIRLogic.secure.published.common import (
    MAX_SAMPLES,
    check_terms,
    encrypted_length,
    gather,
    names_in,
    nonce_of,
    receive_parts,
    send_parts,
    to_integers,
)
from PPIRLogic.secure.published.fhe_v1 import FheV1Fixed, FheV1Product


def first_half(samples: int) -> int:
    """How many samples party 2 encrypts; party 1 encrypts its columns over the others."""
    return -(-samples // 2)


def columns_in(terms: Sequence[Term]) -> list[int]:
    """The columns of a request, each once."""
    return sorted({t.column for t in terms})


class FheV2Product(FheV1Product):
    name = "fhe_v2"

    def evaluate(
        self, source: ColumnSource, terms: Sequence[Term], evaluation: int, announce: Callable[[], None]
    ) -> list[int]:
        """The sums of the terms, approximate, as integers."""
        level = self._level
        assert level is not None
        check_terms(terms)
        columns, factors = gather(source, terms, level, self.link)
        half = first_half(level.samples)
        announce()
        theirs = self.link.receive("key")
        seed = ckks.joint_seed(self.link.session, level.index, evaluation, self._first, nonce_of(theirs.data))
        request = self._products(columns[:, :half], terms, seed, bytes(theirs.payload))
        key, nonce = self._own_key(seed)
        send_parts(self.link, "request", {}, request)
        self.link.channel.send("key", {"nonce": nonce}, key.public())
        for column in columns_in(terms):
            payload = key.encrypt(columns[column, half:], f"S{column}")
            send_parts(self.link, "data", {"column": column}, payload)
        answer = receive_parts(self.link, "answer", len(terms) * ckks.ANSWER_BYTES)
        return to_integers(key.open(answer, len(terms)), terms, level, factors)

    @staticmethod
    def _own_key(seed: bytes) -> tuple[Key, bytes]:
        nonce = new_key()
        return Key(hashlib.sha256(seed + nonce).digest()), nonce


class FheV2Fixed(FheV1Fixed):
    name = "fhe_v2"

    def receive(self, header: Mapping[str, Any], terms: Sequence[Term]) -> bytes:
        level = self._level
        assert level is not None
        whole, half = self._values, first_half(level.samples)
        self._values = {name: values[:half] for name, values in whole.items()}
        try:
            digest = super().receive(header, terms)
        finally:
            self._values = whole
        theirs = self.link.receive("key")
        assert self._key is not None
        self._seed = hashlib.sha256(self._key.seed + nonce_of(theirs.data)).digest()
        self._public = bytes(theirs.payload)
        if len(self._public) != ckks.POLYNOMIAL_BYTES:
            raise ProtocolError(f"The public key takes {ckks.POLYNOMIAL_BYTES} bytes, not {len(self._public)}.")
        rest, state = level.samples - half, hashlib.sha256(digest + self._public)
        self._columns: dict[int, Ciphertexts] = {}
        for column in columns_in(terms):
            payload = receive_parts(self.link, "data", encrypted_length(rest))
            state.update(payload)
            self._columns[column] = Ciphertexts.read(payload, self._seed, f"S{column}", rest)
        self._terms = tuple(terms)
        return state.digest()

    def answer(self) -> None:
        if not self._reply:
            self._reply = self._other_half()
        send_parts(self.link, "answer", {}, self._reply)

    def _other_half(self) -> bytes:
        assert self._key is not None and self._level is not None
        own: Array = ckks.flood(self._key.open(self._request, self._count))
        half = first_half(self._level.samples)
        plain = {
            name: ckks.transformed(ckks.encode(ckks.split(self._values[name][half:]))) for name in names_in(self._terms)
        }
        totals = [ckks.dot(plain[t.operand], self._columns[t.column]) for t in self._terms]
        return ckks.blind(totals, self._seed, self._public, own)


PROTOCOL = Protocol(
    "fhe_v2", FheV2Product, FheV2Fixed, BITS, reveals_sampling=True, party2_learns="half of the result", exact=False,
    encrypts_anew=True, answer_bytes=ANSWER_BYTES, max_samples=MAX_SAMPLES,
    words="The published protocol fhe_v2 was used, for comparison: each side worked on encrypted values of the other,"
    " but the other side saw the results of its half of the voxels.",
)  # fmt: skip
