"""What fhe_v1 and fhe_v2 share: party 1's columns as reals, party 2's operands in one range, messages in parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from PPIRLogic.arrays import Array
from PPIRLogic.errors import PolicyError, ProtocolError
from PPIRLogic.network.channel import MAX_PAYLOAD
from PPIRLogic.secure.layout import GROUP
from PPIRLogic.secure.product import Columns, ColumnSource, LevelInfo, Link, Term, over_groups, packing
from PPIRLogic.secure.published import ckks

MAX_SAMPLES = 2**20  # of a level: all are encrypted anew at each evaluation, about 2 GB at party 2


def check_terms(terms: Sequence[Term]) -> None:
    """PolicyError for terms that open several numbers each: the published protocols have no such thing."""
    if packing(terms) != 1:
        raise PolicyError("The protocols fhe_v1 and fhe_v2 do not work with this loss. Use fhe.")


def gather(source: ColumnSource, terms: Sequence[Term], level: LevelInfo, link: Link) -> tuple[Array, Array]:
    """Party 1's columns scaled to the norm the parameters allow, (m, N), and the factors that scale them back, (m,)."""
    if level.active.size != level.chunks:
        raise ProtocolError("Under fhe_v1 and fhe_v2 all samples of the level take part; choose them before the level.")
    columns = max(t.column for t in terms) + 1
    out = np.zeros((columns, level.samples))

    def work(group: int, worker: int, block: Columns) -> None:
        part = out[:, group * GROUP : (group + 1) * GROUP]
        part[:] = block[:columns, : part.shape[1]]

    over_groups(source, link, work)
    factors = np.linalg.norm(out, axis=1) / ckks.MAX_NORM
    return np.divide(out, factors[:, None], out=out, where=factors[:, None] > 0), factors


def operand_factor(level: LevelInfo, operand: str) -> float:
    """What brings an operand into the range in which it is encoded."""
    return level.bound(operand) / ckks.fixed_range(level.samples)


def encoded_operands(operands: Mapping[str, Columns], level: LevelInfo) -> dict[str, Array]:
    return {name: values / operand_factor(level, name) for name, values in operands.items()}


def to_integers(sums: Array, terms: Sequence[Term], level: LevelInfo, factors: Array) -> list[int]:
    """The sums in the integers of the exact protocols, rounded: what the losses expect, with an error."""
    return [
        round(float(v) * float(factors[t.column]) * operand_factor(level, t.operand))
        for v, t in zip(sums, terms, strict=True)
    ]


def send_parts(link: Link, kind: str, data: dict[str, Any], payload: bytes) -> None:
    """One payload of any length as messages of this kind."""
    view = memoryview(payload)
    for start in range(0, max(1, len(view)), MAX_PAYLOAD):
        link.check()
        link.channel.send(kind, data, view[start : start + MAX_PAYLOAD])


def receive_parts(link: Link, kind: str, length: int) -> bytes:
    """The payload that `send_parts` sent, of a length both sides know. ProtocolError."""
    parts, missing = [], length
    while missing > 0:
        part = link.receive(kind).payload
        if not 0 < len(part) <= missing:
            raise ProtocolError(f"A message '{kind}' whose length does not fit its level.")
        parts.append(bytes(part))
        missing -= len(part)
    return b"".join(parts)


def encrypted_length(values: int) -> int:
    """Bytes of the encrypted sub-arrays of so many values."""
    return -(-values // ckks.SPLIT) * ckks.POLYNOMIAL_BYTES


def names_in(terms: Sequence[Term]) -> list[str]:
    """The operands of a request, each once, in a fixed order."""
    return sorted({t.operand for t in terms})


def nonce_of(data: Mapping[str, Any]) -> bytes:
    """The other side's contribution to a seed. ProtocolError."""
    nonce = data.get("nonce")
    if not isinstance(nonce, bytes) or len(nonce) != 32:
        raise ProtocolError("A public key came without its seed.")
    return nonce
