"""A malicious party 2 against products voxel by voxel: phases of its own making, and what the pads leave of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from recording import Record
from unprotected import flooded_slots

from PPIRLogic.secure.fhe import ring, slots
from PPIRLogic.secure.fhe.bfv import GROUP
from PPIRLogic.secure.fhe.evaluator import Evaluator, Operand
from PPIRLogic.secure.fhe.key_holder import KeyHolder
from PPIRLogic.secure.fhe.parameters import PRIMES, Q_KEPT, Q
from PPIRLogic.secure.fhe.ring import DEGREE, crt
from PPIRLogic.secure.fhe.slots import SLOT_MODULI, SlotMultiplier, encrypt_slots, reduced, slots_to_polynomials
from PPIRLogic.secure.layout import LANES

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
            table, e = ring.tables(prime), np.zeros(GROUP, np.uint32)
            e[::LANES] = [x % prime for x in added]
            ring.forward(e, table.forward, table.forward_quotient, prime)
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
