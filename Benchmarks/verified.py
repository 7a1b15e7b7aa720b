"""What holding party 1 to the counted numbers costs: fhe, verified products, and reversed roles, on one level.

Reversed roles are not a protocol here: this plays their arithmetic with the classes of `fhe`, the sides exchanged.
Party 1 holds the key and sends its columns encrypted at every evaluation, party 2 multiplies them by its image and
returns one re-randomised, flooded coefficient per number.

    python -m Benchmarks.verified [--samples 262144] [--columns 14]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from PPIRLogic.secure.fhe import bfv
from PPIRLogic.secure.fhe import verified as fhe_verified
from PPIRLogic.secure.fhe.bfv import GROUP
from PPIRLogic.secure.fhe.evaluator import Accumulator, Evaluator, Operand
from PPIRLogic.secure.fhe.key_holder import KeyHolder, multiples
from PPIRLogic.secure.fhe.ring import DEGREE
from PPIRLogic.secure.fhe.verified import PAD, pad_block, pad_values
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


def encrypted(holder: KeyHolder, values: Any, name: str, copies: int, factor: int, clock: Clock) -> tuple[Operand, int]:
    """One operand at the other side, and the bytes it took."""
    operand, sent = Operand(-(-values.size // DEGREE), copies), 0
    for start in range(0, values.size, GROUP):
        for copy in range(copies):
            part = multiples(values[start : start + GROUP], factor if copy else 1)
            chunk, label = start // DEGREE, f"{name}{copy}"
            packed = clock.run("encrypt", lambda p=part, n=label, c=chunk: holder.encrypt(p, n, c))
            sent += packed.size
            for k in range(packed.size // bfv.CHUNK_BYTES):
                one = packed[k * bfv.CHUNK_BYTES : (k + 1) * bfv.CHUNK_BYTES].tobytes()
                clock.run("expand", lambda n=label, c=chunk + k, o=one, y=copy: operand.fill(SEED, n, c, c, o, y))
    return operand, sent


def products(columns: Any, operand: Operand, copies: int) -> Accumulator:
    total = Accumulator(len(columns), copies)
    for group in range(len(operand.data)):
        part = columns[:, group * GROUP : (group + 1) * GROUP]
        block = np.zeros((len(columns), GROUP), np.int32)
        block[:, : part.shape[1]] = part
        for k in range(len(columns)):
            total.add(block, k, operand.data[group], k)
    return total


def forward_roles(columns: Any, image: Any, verified: bool) -> tuple[float, ...]:
    """Setup MB and CPU s, then per evaluation MB, CPU s of party 1 and of party 2."""
    holder, clock, copies = KeyHolder(SEED), Clock(), 2 if verified else 1
    evaluator = Evaluator(SEED, holder.public_key().tobytes())
    factor = bfv.new_pads(1)[0]
    operand, sent = encrypted(holder, image, "J", copies, factor, clock)
    pads = bfv.new_pads(len(columns))
    if verified:
        own, more = encrypted(holder, pad_values(), PAD, copies, factor, clock)
        sent += more

    def party_1() -> bytes:
        total = products(columns, operand, copies)
        if not verified:
            return evaluator.hide(total.total, pads)
        for k, pad in enumerate(pads):
            total.add(pad_block([pad]), 0, own.data[0], k)
        return evaluator.hide(total.total.reshape(-1, 2, *total.total.shape[2:]), [0] * (2 * len(pads)))

    message = clock.run("party 1", party_1)
    opened = clock.run("party 2", lambda: holder.open(message, copies * len(columns)))[::copies]
    expected = columns.astype(np.int64) @ image.astype(np.int64)
    assert Evaluator.unblind(opened, pads) == expected.tolist()
    setup = clock.seconds["encrypt"] + clock.seconds["expand"]
    return sent / 1e6, setup, len(message) / 1e6, clock.seconds["party 1"], clock.seconds["party 2"]


def reversed_roles(columns: Any, image: Any) -> tuple[float, ...]:
    holder, clock, sent, results = KeyHolder(SEED), Clock(), 0, []
    evaluator = Evaluator(SEED, holder.public_key().tobytes())
    for k, column in enumerate(columns):
        operand, more = encrypted(holder, column, f"S{k},", 1, 1, clock)
        sent += more
        total = clock.run("multiply", lambda o=operand: products(image[None], o, 1).total)
        message = clock.run("multiply", lambda t=total: evaluator.hide(t, [0]))
        sent += len(message)
        results += Evaluator.unblind(clock.run("open", lambda m=message: holder.open(m, 1)), [0])
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
    forward_roles(columns[:1, : LANES * DEGREE], image[: LANES * DEGREE], True)  # compiles
    print(f"{a.samples} samples, {a.columns} numbers per evaluation; one thread")
    print(
        "| design | setup MB | setup CPU s | MB per evaluation | party 1 CPU s | party 2 CPU s |\n"
        "|---|---|---|---|---|---|"
    )
    for name, row in (
        ("fhe", forward_roles(columns, image, False)),
        (fhe_verified.VerifiedProduct.name, forward_roles(columns, image, True)),
        ("reversed roles", reversed_roles(columns, image)),
    ):
        print(f"| {name} | " + " | ".join(f"{v:.3g}" for v in row) + " |")


if __name__ == "__main__":
    main()
