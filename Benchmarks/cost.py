"""Figures c, e, g and h: seconds, memory and bytes."""

from __future__ import annotations

import secrets
import statistics
import time
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from Benchmarks import pairs
from Benchmarks.commands import Run, loopback_bytes, register, watched_peers
from Benchmarks.rows import Options, Row, at_most, attempt
from PPIRLogic.registration.simulate import peers
from PPIRLogic.secure.exact_range import check_range
from PPIRLogic.secure.fhe import bfv
from PPIRLogic.secure.fhe.evaluator import Accumulator, Evaluator, Operand
from PPIRLogic.secure.fhe.key_holder import KeyHolder, open_answers
from PPIRLogic.secure.fhe.ring import DEGREE
from PPIRLogic.secure.layout import LANES

PUBLISHED_SECONDS = 473.0
MEMORY_LIMIT = 4.0


# ------------------------------------------------------------------------------------------------------ c


def demo_seconds(options: Options) -> Iterator[Row]:
    """c: the whole command on the demonstration pair."""
    for protocol, limit in (("fhe", PUBLISHED_SECONDS / 100), ("mpc", 4.0)):
        aim = ", aim 2 s" if protocol == "fhe" else ""
        what = f"demonstration pair, affine ssd, full image, {protocol}: `ppir register`, wall time{aim}"
        yield from attempt("c", what, _demo_seconds, options, protocol, limit, what)


def _demo_seconds(options: Options, protocol: str, limit: float, what: str) -> Iterator[Row]:
    fixed, moving = pairs.DEMO
    repeats = 1 if options.quick else 3
    with peers(fixed, protocol=protocol) as world:
        out = options.folder / "c.h5"
        runs = [register(world, moving, protocol, out, *pairs.DEMO_OPTIONS) for _ in range(repeats)]
    walls = [r.wall for r in runs]
    inner = [r.result["seconds"] for r in runs]
    what += f" (median of {repeats}; registration alone {statistics.median(inner):.2f} s)"
    yield at_most("c", what, statistics.median(walls), limit, "s", all=walls, registration=inner)


# ------------------------------------------------------------------------------------------------------ e


def volumes(options: Options) -> Iterator[Row]:
    """e: seven million voxels with a known affine transform, open and protected."""
    for seed in (1,) if options.quick else (1, 2, 3):
        what = f"brain volume, noise seed {seed}"
        yield from attempt("e", what, _volume, options, seed, what)


def _volume(options: Options, seed: int, what: str) -> Iterator[Row]:
    pair = pairs.volume_pair(options.folder, seed, options.quick)
    runs: dict[str, Run] = {}
    for protocol in ("clear", "fhe"):
        with watched_peers(pair.fixed, protocol) as (world, memory):
            out = options.folder / f"e_{protocol}_{seed}.h5"
            run = register(world, pair.moving, protocol, out, "--loss", "ncc", "--levels", "4,2,1")
        runs[protocol] = run
        name = f"{what}, affine ncc, {protocol}"
        yield at_most("e", f"{name}: mean TRE", pair.error(run.transform), 0.02, "mm", wall=run.wall)
        for party, peak in (("1", run.peak), ("2", memory.peak)):
            yield _memory_row(f"{name}: peak memory of party {party}", peak)
    ratio = runs["fhe"].wall / runs["clear"].wall
    seconds = f"{runs['fhe'].wall:.1f} s and {runs['clear'].wall:.1f} s"
    yield at_most("e", f"{what}: wall time of fhe to clear, whole command ({seconds}), aim 1.5", ratio, 3.0, "")


def _memory_row(what: str, peak: int | None) -> Row:
    if peak is None:
        return Row("e", what, "not available here", f"≤ {MEMORY_LIMIT:g} GB")
    return at_most("e", what, peak / 1e9, MEMORY_LIMIT, "GB")


# ------------------------------------------------------------------------------------------------------ g


def product(options: Options) -> Iterator[Row]:
    """g: the encrypted inner products alone, without network or images."""
    n, d = (400_000, 12) if options.quick else (1_000_000, 12)
    rng = np.random.default_rng(1)
    fixed = rng.integers(-2048, 2049, n, dtype=np.int32)
    groups = -(-n // bfv.GROUP)
    columns = np.zeros((d, groups * bfv.GROUP), np.int32)
    columns[:, :n] = rng.integers(-16000, 16001, (d, n), dtype=np.int32)
    sums, norms = np.abs(columns).sum(axis=1), np.linalg.norm(columns.astype(float), axis=1)
    check_range(int(sums.max()) * 2048, float(norms.max()), int(sums.max()))
    seed = secrets.token_bytes(32)
    holder = KeyHolder(seed)
    evaluator = Evaluator(seed, holder.public_key().tobytes())
    operand, sent = _encrypted(holder, seed, fixed)
    expected = [int(v) for v in columns[:, :n].astype(np.int64) @ fixed.astype(np.int64)]
    timings, exact = [], True
    for _ in range(4):  # the first one compiles
        began = time.process_time()
        exact &= _iteration(holder, evaluator, operand, columns) == expected
        timings.append(time.process_time() - began)
    what = f"encrypted product under one secret, without the checks of fhe, N = {n:,}, d = {d}"
    yield Row("g", f"{what}: all sums", "exact" if exact else "wrong", "exact", exact)
    yield at_most("g", f"{what}: CPU time per iteration, both parties", statistics.median(timings[1:]), 1.5, "s",
                  all=timings)  # fmt: skip
    yield at_most("g", f"{what}: bytes per voxel sent before the first iteration", sent / n, 16, "")


def _encrypted(holder: KeyHolder, seed: bytes, fixed: NDArray[np.int32]) -> tuple[Operand, int]:
    """Party 1's copy of the encrypted fixed values, and the bytes sent for it with the public key."""
    operand, sent = Operand(-(-fixed.size // DEGREE)), holder.public_key().size
    for start in range(0, fixed.size, bfv.GROUP):
        packed = holder.encrypt(fixed[start : start + bfv.GROUP], "J", start // DEGREE).tobytes()
        sent += len(packed)
        for lane in range(len(packed) // bfv.CHUNK_BYTES):
            chunk = start // DEGREE + lane
            operand.fill(seed, "J", chunk, chunk, packed[lane * bfv.CHUNK_BYTES : (lane + 1) * bfv.CHUNK_BYTES])
    return operand, sent


def _iteration(holder: KeyHolder, evaluator: Evaluator, operand: Operand, columns: NDArray[np.int32]) -> list[int]:
    """One evaluation of both parties: multiply and add, blind, open, take off the pads."""
    total = Accumulator(len(columns))
    for group in range(columns.shape[1] // (LANES * DEGREE)):
        block = np.ascontiguousarray(columns[:, group * bfv.GROUP : (group + 1) * bfv.GROUP])
        for k in range(len(columns)):
            total.add(block, [k], operand.data[group], [k])
    message, pads = evaluator.blind(total.total)
    return Evaluator.unblind(open_answers([holder], message, len(pads)).reshape(-1), pads)


# ------------------------------------------------------------------------------------------------------ h


def wire_bytes(options: Options) -> Iterator[Row]:
    """h: the report's byte counts against the system's own count on the loopback interface."""
    what = "lung pair, fhe: bytes reported against the system's count on loopback"
    fixed, moving = pairs.LUNG
    with peers(fixed, protocol="fhe") as world:
        before = loopback_bytes()
        run = register(world, moving, "fhe", options.folder / "h.h5", "--loss", "ncc")
        after = loopback_bytes()
    reported = run.result["bytes_sent"] + run.result["bytes_received"]
    if before is None or after is None:
        yield Row("h", what, f"{reported:,} reported; count not available here", "within 2 %")
        return
    counted = after - before
    apart = abs(counted - reported) / counted
    value = f"{reported:,} reported, {counted:,} counted: {100 * apart:.2f} % apart"
    yield Row("h", what, value, "within 2 %", apart <= 0.02, {"reported": reported, "counted": counted})
