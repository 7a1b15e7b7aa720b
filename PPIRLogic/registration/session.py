"""What both ends of a session derive alike: its name, the view of a level, the ledger entries of an answer."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgpack
import numpy as np
from numpy.typing import NDArray

from PPIRLogic.disclosure.ledger import Entry
from PPIRLogic.registration.levels import Level
from PPIRLogic.registration.losses import Loss
from PPIRLogic.registration.operands import operand_infos
from PPIRLogic.registration.request import Request
from PPIRLogic.secure.layout import CHUNK
from PPIRLogic.secure.product import LevelInfo, Term, numbers_of
from PPIRLogic.secure.protocol import Protocol

NONCE_BYTES = 32
POOL_SEED_BYTES = 16


def session_name(request: Request, first: bytes, second: bytes) -> bytes:
    """32 bytes that bind a session to both nonces and to every parameter of the request."""
    return hashlib.sha256(b"PPIR-session-1" + first + second + msgpack.packb(request.to_dict())).digest()


def level_info(level: Level, loss: Loss, samples: int, active: NDArray[np.int64] | None = None) -> LevelInfo:
    """The protocol's view of a level; without `active`, every chunk takes part."""
    entries = samples * loss.width
    chunks = np.arange(-(-entries // CHUNK)) if active is None else active
    infos = operand_infos(loss.operands, samples, level.control_points is not None, loss.width)
    return LevelInfo(level.index, entries, infos, chunks, level.control_points)


def entries_of(terms: Sequence[Term], bits: int, factor: int, evaluation: int, request: str = "") -> list[Entry]:
    """The ledger entries of one evaluation, by kind."""
    kinds: dict[str, int] = {}
    for term in terms:
        kinds[term.kind] = kinds.get(term.kind, 0) + term.outputs
    return [Entry(kind, "party 1", n, bits, factor, evaluation, request) for kind, n in kinds.items()]


def entries_for_party2(terms: Sequence[Term], protocol: Protocol, factor: int) -> list[Entry]:
    """What party 2 learns of party 1's image from one evaluation; nothing under most protocols."""
    numbers = numbers_for_party2(terms, protocol)
    return (
        [Entry(protocol.party2_learns, "party 2", numbers, protocol.bits, factor)]
        if protocol.party2_learns and numbers
        else []
    )


def numbers_for_party2(terms: Sequence[Term], protocol: Protocol) -> int:
    """How many numbers of these terms, or of as many, party 2 learns if it learns any."""
    return numbers_of([t for t in terms if t.revealed_to_both] if protocol.two_sided else terms)
