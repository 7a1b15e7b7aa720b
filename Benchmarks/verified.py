"""What holding both parties to the counted numbers costs: fhe without its checks, fhe, and reversed roles.

Only fhe is a protocol. This plays the arithmetic of the others with its classes: one secret and no test of equality;
and the sides exchanged, where party 1 holds the key and sends its columns encrypted at every evaluation, party 2
multiplies them by its image and returns one re-randomised, padded coefficient per number.

    python -m Benchmarks.verified [--samples 262144] [--columns 14]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from PPIRLogic.secure.fhe import bfv
from PPIRLogic.secure.fhe.bfv import GROUP
from PPIRLogic.secure.fhe.equality import PARTY_1, PARTY_2, SHARE_BYTES, TAG_BYTES, EqualityTest
from PPIRLogic.secure.fhe.evaluator import Accumulator, Evaluator, Operand
from PPIRLogic.secure.fhe.key_holder import KeyHolder, multiples, open_answers
from PPIRLogic.secure.fhe.parameters import PLAIN_MODULUS
from PPIRLogic.secure.fhe.protocol import PAD, pad_block, pad_values
from PPIRLogic.secure.fhe.ring import DEGREE
from PPIRLogic.secure.layout import LANES

SEED = bytes(32)
Rows = list[tuple[str, float, float, float, float, float]]


class Clock:
    """CPU seconds by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def run(self, name: str, work: Callable[[], Any]) -> Any:
        before = time.process_time()
        out = work()
        self.seconds[name] = self.seconds.get(name, 0.0) + time.process_time() - before
        return out


def encrypted(holders: Sequence[KeyHolder], copies: Sequence[Any], name: str, clock: Clock) -> tuple[Operand, int]:
    """One operand at the other side, as values for each of the secrets, and the bytes it took."""
    size = copies[0].size
    operand, sent = Operand(-(-size // DEGREE), len(copies)), 0
    for start in range(0, size, GROUP):
        chunk = start // DEGREE
        for copy, (holder, values) in enumerate(zip(holders, copies, strict=True)):
            part = values[start : start + GROUP]
            packed = clock.run("encrypt", lambda h=holder, p=part, c=chunk: h.encrypt(p, name, c))
            sent += packed.size
            for k in range(packed.size // bfv.CHUNK_BYTES):
                one = packed[k * bfv.CHUNK_BYTES : (k + 1) * bfv.CHUNK_BYTES].tobytes()
                clock.run("expand", lambda c=chunk + k, o=one, y=copy: operand.fill(SEED, name, c, c, o, y))
    return operand, sent


def products(columns: Any, operand: Operand, copies: int) -> Accumulator:
    total = Accumulator(len(columns), copies)
    for group in range(len(operand.data)):
        part = columns[:, group * GROUP : (group + 1) * GROUP]
        block = np.zeros((len(columns), GROUP), np.int32)
        block[:, : part.shape[1]] = part
        for k in range(len(columns)):
            total.add(block, [k], operand.data[group], [k])
    return total


def unchecked(columns: Any, image: Any) -> tuple[float, ...]:
    """Setup MB and CPU s, then per evaluation MB, CPU s of party 1 and of party 2: one secret, no test."""
    holder, clock = KeyHolder(SEED), Clock()
    evaluator = Evaluator(SEED, holder.public_key().tobytes())
    operand, sent = encrypted([holder], [image], "J", clock)
    message, pads = clock.run("party 1", lambda: evaluator.blind(products(columns, operand, 1).total))
    opened = clock.run("party 2", lambda: open_answers([holder], message, len(columns))).reshape(-1)
    assert Evaluator.unblind(opened, pads) == (columns.astype(np.int64) @ image.astype(np.int64)).tolist()
    setup = clock.seconds["encrypt"] + clock.seconds["expand"]
    return sent / 1e6, setup, len(message) / 1e6, clock.seconds["party 1"], clock.seconds["party 2"]


def checked(columns: Any, image: Any) -> tuple[float, ...]:
    """The same of fhe: two secrets, and a test of equality."""
    holders, clock, factor = [KeyHolder(SEED), KeyHolder(SEED)], Clock(), 12345678901
    evaluator = Evaluator(SEED, *(h.public_key().tobytes() for h in holders))
    operand, sent = encrypted(holders, [image, clock.run("encrypt", lambda: multiples(image, factor))], "J", clock)
    hidden = [0 * pad_values(), multiples(pad_values(), factor)]
    own, more = encrypted(holders, hidden, PAD, clock)
    first, second = bfv.new_pads(len(columns)), bfv.new_pads(len(columns))

    def request() -> bytes:
        total = products(columns, operand, 2)
        for k, pad in enumerate(first):
            total.add(pad_block([bfv.floor_modulo_t(pad)]), [0], own.data[0], [k])
        return evaluator.hide(total.total, [pad for both in zip(first, second, strict=True) for pad in both])

    def opened(message: bytes) -> tuple[Any, EqualityTest]:
        both = open_answers(holders, message, len(columns))[..., 0].astype(np.int64)
        left = (both[:, 1] - multiples(both[:, 0], factor)) % PLAIN_MODULUS
        return both[:, 0], EqualityTest(PARTY_2, SEED, left.astype(np.uint64))

    message = clock.run("party 1", request)
    x, two = clock.run("party 2", lambda: opened(message))
    shown = np.array([bfv.floor_modulo_t(pad) for pad in second], np.uint64)
    one = clock.run("party 1", lambda: EqualityTest(PARTY_1, SEED, shown))
    clock.run("party 1", lambda: one.meet(two.share))
    clock.run("party 2", lambda: two.meet(one.share))
    assert two.confirms(one.tag()) and one.confirms(two.tag())
    assert Evaluator.unblind(x.astype(np.uint64), first) == (columns.astype(np.int64) @ image.astype(np.int64)).tolist()
    setup = clock.seconds["encrypt"] + clock.seconds["expand"]
    size = len(message) + 2 * (SHARE_BYTES + TAG_BYTES)
    return (sent + more) / 1e6, setup, size / 1e6, clock.seconds["party 1"], clock.seconds["party 2"]


def reversed_roles(columns: Any, image: Any) -> tuple[float, ...]:
    holder, clock, sent, results = KeyHolder(SEED), Clock(), 0, []
    evaluator = Evaluator(SEED, holder.public_key().tobytes())
    for k, column in enumerate(columns):
        operand, more = encrypted([holder], [column], f"S{k}", clock)
        sent += more
        total = clock.run("multiply", lambda o=operand: products(image[None], o, 1).total)
        message, pads = clock.run("multiply", lambda t=total: evaluator.blind(t))
        sent += len(message)
        results += Evaluator.unblind(
            clock.run("open", lambda m=message: open_answers([holder], m, 1)).reshape(-1), pads
        )
    assert results == (columns.astype(np.int64) @ image.astype(np.int64)).tolist()
    one = clock.seconds["encrypt"] + clock.seconds["open"]
    return 0.0, 0.0, sent / 1e6, one, clock.seconds["expand"] + clock.seconds["multiply"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=262_144)
    parser.add_argument("--columns", type=int, default=14, help="14: an affine transform in 3D")
    a = parser.parse_args()
    draw = np.random.default_rng(0)
    image = draw.integers(-2048, 2049, a.samples).astype(np.int32)
    columns = draw.integers(-100, 101, (a.columns, a.samples)).astype(np.int32)
    checked(columns[:1, : LANES * DEGREE], image[: LANES * DEGREE])  # compiles
    print(f"{a.samples} samples, {a.columns} numbers per evaluation; one thread")
    print(
        "| design | setup MB | setup CPU s | MB per evaluation | party 1 CPU s | party 2 CPU s |\n"
        "|---|---|---|---|---|---|"
    )
    for name, row in (
        ("fhe without its checks", unchecked(columns, image)),
        ("fhe", checked(columns, image)),
        ("reversed roles", reversed_roles(columns, image)),
    ):
        print(f"| {name} | " + " | ".join(f"{v:.3g}" for v in row) + " |")


if __name__ == "__main__":
    main()
