"""Parties that deviate, against products voxel by voxel: phases of party 2's making, and products that are none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
import pytest
from numpy.typing import NDArray
from recording import Record
from unprotected import flooded_slots

from PPIRLogic.errors import PPIRError, VerificationError
from PPIRLogic.images.geometry import Geometry
from PPIRLogic.images.pyramid import level_geometry
from PPIRLogic.registration.control_points import control_point_map_of
from PPIRLogic.secure.fhe import control_point_sums, ring, slots
from PPIRLogic.secure.fhe.bfv import GROUP
from PPIRLogic.secure.fhe.evaluator import Evaluator, Operand
from PPIRLogic.secure.fhe.key_holder import KeyHolder
from PPIRLogic.secure.fhe.parameters import KEPT, PRIMES, Q_KEPT, Q
from PPIRLogic.secure.fhe.ring import DEGREE, crt
from PPIRLogic.secure.fhe.slots import SLOT_MODULI, SlotMultiplier, encrypt_slots, reduced, slots_to_polynomials
from PPIRLogic.secure.layout import LANES
from PPIRLogic.secure.product import Term

Array = NDArray[Any]
SEED = bytes(range(32))
USED = 300  # coefficients of each product that the attack looks at


def one_hot(slot: int, t: int) -> Array:
    """The polynomial that is 1 in one slot and 0 in all others."""
    values = np.zeros(GROUP, np.int32)
    values[slot] = 1
    return slots_to_polynomials(slots._by_lane(values), t)[::LANES].astype(np.int64)


def spoiled(keys: KeyHolder, image: Array, channel: int, targets: list[int]) -> Operand:
    """The image's ciphertexts with round(Q/t²)·P added to each chunk, P one-hot in the target's slot."""
    t = SLOT_MODULI[channel]
    packed = encrypt_slots(keys, image, "J", channel, 0)
    chunks = ring.unpack30(packed).reshape(LANES, len(PRIMES), DEGREE).astype(np.uint64)
    for lane, slot in enumerate(targets):
        added = [(int(x) * Q + t * t // 2) // (t * t) for x in one_hot(slot, t).tolist()]
        for i, prime in enumerate(PRIMES):
            e = np.zeros(GROUP, np.uint32)
            e[::LANES] = [x % prime for x in added]
            ring.forward(e, prime)
            chunks[lane, i] = (chunks[lane, i] + e[::LANES]) % prime
    operand = Operand(LANES)
    for lane in range(LANES):
        data = ring.pack30(chunks[lane].astype(np.uint32)).tobytes()
        operand.fill(SEED, slots.slot_name("J", channel), lane, lane, data)
    return operand


def read_values(keys: KeyHolder, message: bytes, t: int, targets: list[int]) -> list[int]:
    """The likeliest value of the column at each target: the phases of a product turn with value·P_j/t."""
    phases = slots.phases(keys, message, LANES).reshape(3, DEGREE, LANES)
    candidates, found = np.arange(-10000, 10001), []
    for lane, slot in enumerate(targets):
        residues = phases[:, :USED, lane].tolist()
        whole = [crt([residues[i][j] for i in range(3)], PRIMES[:3]) for j in range(USED)]
        turns = np.array([v * t % Q_KEPT / Q_KEPT for v in whole])
        expected = candidates[:, None] * one_hot(slot, t)[None, :USED] % t / t
        found.append(int(candidates[np.cos(2 * np.pi * (turns - expected)).sum(axis=1).argmax()]))
    return found


def test_spoiled_ciphertexts_read_exact_gradients_through_floods_and_nothing_through_full_pads(record: Record) -> None:
    """One value of party 1's gradient image per ciphertext, exactly, from 300 half-bits of its coefficients."""
    rng = np.random.default_rng(3)
    image = rng.integers(-2048, 2049, GROUP).astype(np.int32)
    column = rng.integers(-9000, 9001, GROUP).astype(np.int32)
    keys = KeyHolder(SEED)
    multiplier = SlotMultiplier(Evaluator(SEED, keys.public_key().tobytes()))
    former = ours = 0
    for channel, t in enumerate(SLOT_MODULI):
        targets = rng.integers(0, DEGREE, LANES).tolist()
        true = [int(column[lane * DEGREE + slot]) for lane, slot in enumerate(targets)]
        data = spoiled(keys, image, channel, targets).data[0]
        sent = flooded_slots(multiplier, reduced(column, channel), data, channel)
        former += sum(a == b for a, b in zip(read_values(keys, sent, t, targets), true, strict=True))
        message, _ = multiplier.multiply([(reduced(column, channel), data)], channel, LANES)
        ours += sum(a == b for a, b in zip(read_values(keys, message.tobytes(), t, targets), true, strict=True))
    record(
        "spoiled ciphertexts of a B-spline level (malicious party 2)",
        f"floods, as up to version 2: {former} of 16 values of the gradient image exactly",
        f"full pads: {ours} of 16",
    )
    assert former >= 15 and ours == 0


# ------------------------------------------------------------------------------------------ a malicious party 1


def crafted(chunks: int) -> bytes:
    """No product: c1 is one step at X^0, so that the coefficients of the key are what is opened."""
    message = np.zeros((2, KEPT, chunks * DEGREE), np.uint32)
    for i, prime in enumerate(PRIMES[:KEPT]):
        message[0, i] = Q_KEPT // (2 * SLOT_MODULI[0]) % prime  # half a step, so that floors are safe
        message[1, i, ::DEGREE] = Q_KEPT // SLOT_MODULI[0] % prime
    return ring.pack30(message).tobytes()


def test_a_crafted_product_opens_the_key_and_is_not_answered(exchange: Callable[..., Any], record: Record) -> None:
    keys, t = KeyHolder(SEED), SLOT_MODULI[0]
    opened = slots.floors(slots.phases(keys, crafted(1), 1), t).reshape(DEGREE, LANES)[:, 0].astype(np.int64)
    assert np.array_equal(np.where(opened > t // 2, opened - t, opened), keys._ternary)
    refused = [refused_by(exchange, kind) for kind in ("crafted", "one coefficient", "another column", "one modulus")]
    assert refused == [True] * 4
    record(
        "crafted products of a B-spline level (malicious party 1)",
        f"opened as they come, as up to version 2: all {DEGREE} coefficients of the key in one product",
        "fhe: 4 of 4 strategies refused, no sum released, keys destroyed",
    )


def refused_by(exchange: Callable[..., Any], kind: str) -> bool:
    """Whether a request with one product that is none is refused, with the keys gone and a failure at each side."""
    geometry = Geometry((40, 36, 14), (1.0, 1.2, 2.0), (0.0, 0.0, 0.0), tuple(np.eye(3).ravel()))
    p = control_point_map_of(geometry, level_geometry(geometry, 1), 1, 2.0, 9.0, 1, 2)
    opened = exchange("fhe", {"J": np.full(len(p.samples), 7, np.int32)}, control_points=p)
    honest = SlotMultiplier.multiply

    def dishonest(self: SlotMultiplier, pairs: Any, channel: int, chunks: int) -> Any:
        if kind == "another column":
            pairs = [(column + np.int32(1), operand) for column, operand in pairs]
        message, pads = honest(self, pairs, channel, chunks)
        if kind == "crafted" and channel == 0:
            message = np.frombuffer(crafted(chunks), np.uint8)
        if kind == "one coefficient" or (kind == "one modulus" and channel == 1):
            residues = ring.unpack30(message).reshape(2, KEPT, -1)
            for i, prime in enumerate(PRIMES[:KEPT]):
                step = Q_KEPT // SLOT_MODULI[channel] % prime
                residues[0, i, 5] = (int(residues[0, i, 5]) + step) % prime
            message = ring.pack30(residues)
        return message, pads

    columns = np.full((1, len(p.samples)), 5, np.int32)
    terms = [Term(0, "J", "gradient", p.count, per_control_point=True)]
    with mock.patch.object(SlotMultiplier, "multiply", dishonest), pytest.raises(VerificationError):
        _evaluate(opened, columns, terms)
    return opened._side._keys == () and opened._side._control_points is None


def _evaluate(opened: Any, columns: Array, terms: list[Term]) -> None:
    """An evaluation; raises what party 2 raised."""
    try:
        opened.evaluate(columns, terms)
    except PPIRError:
        opened.close()
        raise opened.problems[0] from None


def test_values_that_do_not_belong_together_are_noticed_by_party_1(exchange: Callable[..., Any]) -> None:
    """Party 2 encrypts K ≠ αJ under its second secret: its own test fails, and it cannot answer."""
    with mock.patch.object(control_point_sums, "encrypt_slots", _besides), pytest.raises(VerificationError):
        geometry = Geometry((40, 36, 14), (1.0, 1.2, 2.0), (0.0, 0.0, 0.0), tuple(np.eye(3).ravel()))
        p = control_point_map_of(geometry, level_geometry(geometry, 1), 1, 2.0, 9.0, 1, 2)
        opened = exchange("fhe", {"J": np.full(len(p.samples), 7, np.int32)}, control_points=p)
        terms = [Term(0, "J", "gradient", p.count, per_control_point=True)]
        _evaluate(opened, np.full((1, len(p.samples)), 5, np.int32), terms)


def _besides(keys: KeyHolder, values: Array, operand: str, channel: int, first: int, factor: int = 1) -> Array:
    if factor != 1:
        values = values.copy()
        values[3] += 1
    return encrypt_slots(keys, values, operand, channel, first, factor)
