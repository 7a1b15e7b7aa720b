"""Figure mi: two modalities, by mutual information: accuracy against known truth, and the cost of an iteration."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from statistics import mean

import SimpleITK as sitk

from Benchmarks import pairs
from Benchmarks.rows import DATA, Options, Row, at_most, attempt
from PPIRLogic.progress import Progress
from PPIRLogic.registration.parameters import Parameters
from PPIRLogic.registration.result import RegistrationResult
from PPIRLogic.registration.simulate import simulate

VOLUMES = (DATA / "brainweb_t1.mha", DATA / "brainweb_t2_rotated.mha")
SLICES = (DATA / "BrainT1SliceBorder20.png", DATA / "BrainProtonDensitySliceR10X13Y17.png")
SEEDS = (1, 2, 3)
START = Parameters(loss="mi", initial="identity")


def mutual_information(options: Options) -> Iterator[Row]:
    """mi: T1 against T2 in 3D, T1 against PD in 2D, and what an iteration costs."""
    transforms = ("rigid",) if options.quick else ("rigid", "affine")
    for transform in transforms:
        what = f"brain volumes T1 – T2, {transform}"
        yield from attempt("mi", what, _volumes, transform, options)
    for transform in ("rigid", "affine"):
        yield from attempt("mi", f"brain slices T1 – PD, {transform}", _slices, transform, options)


def volume_pair() -> pairs.Known:
    """The T2 volume is the T1 subject turned by 10 degrees about z and shifted by 15 mm."""
    truth = sitk.Euler3DTransform()
    truth.SetRotation(0, 0, math.radians(-10))
    truth.SetTranslation((-15, 0, 0))
    return pairs.Known(*VOLUMES, truth, pairs.grid_points(pairs.grey(VOLUMES[0]), 8, above=30))


def slice_pair() -> pairs.Known:
    """The PD slice is the T1 subject turned by 10 degrees and shifted; its file name says 17, measured is 16."""
    truth = sitk.Euler2DTransform()
    truth.SetCenter((110.5, 128.5))
    truth.SetAngle(math.radians(10))
    truth.SetTranslation((13, 16))
    return pairs.Known(*SLICES, truth, pairs.grid_points(pairs.grey(SLICES[0]), 5, above=30))


def _volumes(transform: str, options: Options) -> Iterator[Row]:
    pair, errors = volume_pair(), {}
    for protocol in ("fhe", "mpc"):
        found = []
        for seed in SEEDS[: 1 if options.quick else None]:
            p = replace(START, transform=transform, protocol=protocol, seed=seed)
            result, last = _run(pair, p)
            found.append(pair.error(result.transform))
            if seed == SEEDS[0]:
                yield from _cost(result, last, p)
        errors[protocol] = found
        what = f"brain volumes T1 – T2, {transform}, {protocol}: mean TRE over {len(found)} pools"
        yield at_most("mi", f"{what} ({', '.join(f'{e:.3f}' for e in found)})", mean(found), 0.06, "mm")
    yield Row("mi", f"brain volumes T1 – T2, {transform}: fhe and mpc", "identical" if errors["fhe"] == errors["mpc"]
              else f"differ: {errors}", "identical", errors["fhe"] == errors["mpc"])  # fmt: skip


def _slices(transform: str, options: Options) -> Iterator[Row]:
    pair, seeds = slice_pair(), SEEDS[: 1 if options.quick else None]
    found = [_run(pair, replace(START, transform=transform, seed=seed))[0] for seed in seeds]
    errors = [pair.error(result.transform) for result in found]
    what = f"brain slices T1 – PD, {transform}, fhe: mean TRE over {len(seeds)} seeds"
    text = f"{what} ({', '.join(f'{e:.3f}' for e in errors)})"
    yield at_most("mi", text, mean(errors), 0.08, "mm", numbers=found[0].numbers)


def _run(pair: pairs.Known, parameters: Parameters) -> tuple[RegistrationResult, list[Progress]]:
    """One run, and the progress of its last level: nothing but evaluations."""
    seen: list[Progress] = []

    def watch(progress: Progress) -> None:
        if progress.stage == "level":
            seen.clear()
        elif progress.stage == "evaluation":
            seen.append(progress)

    result = simulate(pair.fixed, pair.moving, parameters=parameters, progress=watch)
    if result.error is not None:
        raise result.error
    return result, seen


def _cost(result: RegistrationResult, last: list[Progress], p: Parameters) -> Iterator[Row]:
    """Per iteration of the last level: from one accepted step to the next, every refused trial included."""
    steps = len(last) - 1
    if steps < 1:
        return
    level = result.levels[-1]
    evaluations = last[-1].evaluation - last[0].evaluation
    sent = (last[-1].bytes_sent - last[0].bytes_sent) / evaluations / 1e6
    seconds = (last[-1].seconds - last[0].seconds) / evaluations
    what = (
        f"per evaluation of T1 – T2, {p.transform}, {level.samples} samples, {result.request.bins} bins, {p.protocol}"
    )
    if p.protocol == "fhe":
        yield at_most("mi", f"{what}: sent", sent, 5.0, "MB")
        yield at_most("mi", f"{what}: time", seconds, 3.0, "s")
    else:
        yield Row("mi", f"{what}: sent", f"{sent:.3g} MB")
        yield Row("mi", f"{what}: time", f"{seconds:.3g} s")
    shares = [100 * n / v.samples for v, n in zip(result.levels, _opened(result), strict=True)]
    text = f"{result.numbers} numbers; per level {', '.join(f'{s:.0f} %' for s in shares)} of its pool"
    yield Row("mi", f"disclosed by T1 – T2, {p.transform}, {p.protocol}", text)


def _opened(result: RegistrationResult) -> list[int]:
    """Numbers opened at every level."""
    return [
        sum(e["numbers"] for e in result.ledger if e["level"] == v.factor and e["kind"] != "geometry")
        for v in result.levels
    ]
