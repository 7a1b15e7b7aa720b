"""Figures j to m, o: deformations of the lung pair (landmarks) and of a brain bent by a known thin-plate spline."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from Benchmarks import pairs
from Benchmarks.commands import Run, register_once
from Benchmarks.rows import Options, Row, at_least, at_most, attempt

Array = NDArray[np.float64]
DATA_VARIABLE = "PPIR_BENCH_DATA"
DIFFEO = ("--transform", "diffeo")
LUNG_AFFINE = ("--loss", "ncc", "--levels", "4,2", "--mask", str(pairs.LUNG_MASKS[1]), "--fixed-mask", "fill")
SYMMETRIC_ITERATIONS = "20,14"
BENT = ("t1_thinplate.mha", "t1.mha", "t1_thinplate_field_4mm.mha")  # fixed, moving, true displacements of the fixed


def lungs(options: Options) -> Iterator[Row]:
    """j: the lung pair, B-spline of 10 mm after an affine, without masks, both parties as processes."""
    runs = [("ncc", "clear")] if options.quick else [("ncc", "clear"), ("ncc", "fhe"), ("ncc", "mpc"), ("lncc", "fhe")]
    for loss, protocol in runs:
        what = f"lung pair, bspline {loss}, {protocol}"
        yield from attempt("j", what, _lung, options.folder, loss, protocol, what)


def bent_brain(options: Options) -> Iterator[Row]:
    """k: a brain volume bent by a known thin-plate spline, B-spline of 10 mm after an affine."""
    yield from _bent_rows("k", "bspline", options)


def flowing_lungs(options: Options) -> Iterator[Row]:
    """l: the lung pair, diffeomorphic with lncc, after an affine with a mask on each side; 1/4 and 1/2."""
    for protocol in ("clear",) if options.quick else ("clear", "fhe", "mpc"):
        what = f"lung pair, diffeo lncc, {protocol}"
        yield from attempt("l", what, _flowing_lung, options.folder, protocol, what)


def symmetric_lungs(options: Options) -> Iterator[Row]:
    """o: the lung pair, symmetric diffeomorphic with cc from a stored affine, clear and mpc; 1/4 and 1/2."""
    start = options.folder / "affine.h5"
    register_once(*pairs.LUNG, "clear", start, *LUNG_AFFINE, mask=pairs.LUNG_MASKS[0])
    found: list[Run] = []
    for protocol in ("clear",) if options.quick else ("clear", "mpc"):
        what = f"lung pair, symmetric cc, {protocol}"
        yield from attempt("o", what, _symmetric_lung, options.folder, start, protocol, what, found)
    if len(found) == 2:
        inside = sitk.GetArrayFromImage(sitk.ReadImage(str(pairs.LUNG_MASKS[0]))) > 0
        fields = [_displacements(run, pairs.LUNG[0]) for run in found]
        off = np.square(fields[0] - fields[1]).sum(axis=-1)
        yield Row(
            "o", "lung pair, symmetric cc: mpc against clear, rms over the image", f"{np.sqrt(off.mean()):.3f} mm"
        )
        rms = float(np.sqrt(off[inside].mean()))
        yield at_most("o", "lung pair, symmetric cc: mpc against clear, rms in the lung", rms, 0.01, "mm")


def flowing_brain(options: Options) -> Iterator[Row]:
    """m: the bent brain of k, diffeomorphic after an affine; 1/8, 1/4 and 1/2."""
    yield from _bent_rows("m", "diffeo", options, *DIFFEO, "--levels", "8,4,2", "--iterations", "6,6,4")


def _bent_rows(figure: str, kind: str, options: Options, *settings: str) -> Iterator[Row]:
    folder = Path(os.environ.get(DATA_VARIABLE, ""))
    if not all((folder / name).is_file() for name in BENT):
        yield Row(
            figure, "brain bent by a thin-plate spline", f"not measured: {DATA_VARIABLE} must name the images' folder"
        )
        return
    for protocol in ("clear",) if options.quick else ("clear", "fhe"):
        what = f"brain bent by a thin-plate spline, {kind} ncc, {protocol}"
        yield from attempt(figure, what, _bent, figure, options.folder, folder, protocol, what, *settings)


def _register(
    folder: Path, fixed: Path, moving: Path, loss: str, protocol: str, *settings: str
) -> tuple[Run, dict[str, Any]]:
    report = folder / "deformable.json"
    run = register_once(
        fixed, moving, protocol, folder / "deformable.h5", "--loss", loss, "--report", str(report),
        *(settings or ("--transform", "bspline")),
    )  # fmt: skip
    return run, json.loads(report.read_text())


def _lung(folder: Path, loss: str, protocol: str, what: str) -> Iterator[Row]:
    run, report = _register(folder, *pairs.LUNG, loss, protocol)
    errors = _landmark_errors(run)
    yield at_most("j", f"{what}: mean landmark error", float(errors.mean()), 1.5, "mm", wall=run.wall)
    yield at_most("j", f"{what}: median landmark error", float(np.median(errors)), 1.1, "mm")
    inside = sitk.GetArrayFromImage(sitk.ReadImage(str(pairs.LUNG_MASKS[0]))) > 0
    yield _jacobian("j", f"{what}: smallest Jacobian in the lung", _determinants(run, pairs.LUNG[0])[inside], 0.1)
    yield from _disclosed("j", what, run, report)


def _flowing_lung(folder: Path, protocol: str, what: str) -> Iterator[Row]:
    """The masks take part in the affine run alone: 'fill' makes an edge that a deformation bends towards."""
    start = folder / "affine.h5"
    register_once(*pairs.LUNG, protocol, start, *LUNG_AFFINE, mask=pairs.LUNG_MASKS[0])
    run, report = _register(
        folder, *pairs.LUNG, "lncc", protocol, *DIFFEO, "--levels", "4,2", "--iterations", "10,8",
        "--initial", str(start),
    )  # fmt: skip
    errors = _landmark_errors(run)
    yield at_most("l", f"{what}: mean landmark error", float(errors.mean()), 1.7, "mm", wall=run.wall)
    yield Row("l", f"{what}: median landmark error", f"{np.median(errors):.2f} mm")
    yield at_least("l", f"{what}: Dice of the lung masks", pairs.lung_dice(run.transform), 0.98)
    yield from _diffeo_rows("l", what, report)
    yield from _disclosed("l", what, run, report)


def _symmetric_lung(folder: Path, start: Path, protocol: str, what: str, found: list[Run]) -> Iterator[Row]:
    run, report = _register(
        folder, *pairs.LUNG, "cc", protocol, *DIFFEO, "--levels", "4,2", "--iterations", SYMMETRIC_ITERATIONS,
        "--initial", str(start),
    )  # fmt: skip
    found.append(run)
    errors = _landmark_errors(run)
    yield at_most("o", f"{what}: mean landmark error", float(errors.mean()), 1.7, "mm", wall=run.wall)
    yield Row("o", f"{what}: median landmark error", f"{np.median(errors):.2f} mm")
    yield at_least("o", f"{what}: Dice of the lung masks", pairs.lung_dice(run.transform), 0.98)
    yield from _diffeo_rows("o", what, report)
    voxels = {v["factor"]: v["samples"] for v in report["levels"]}
    rows = {(r["kind"], r["to"], r["level"]): r["numbers"] for r in report["disclosed"]["rows"]}
    for level in report["levels"]:
        factor, steps = level["factor"], max(1, level["iterations"])
        each = {to: rows.get(("coarse force", to, factor), 0) / steps for to in ("party 1", "party 2")}
        if not any(each.values()):
            continue
        share = 64 * max(each.values()) / (3 * voxels[factor])
        yield at_most("o", f"{what}: numbers per step and side at 1/{factor}, in 64ths of 3 per voxel", share, 1.0, "")
        seconds = level["seconds"] / level["evaluations"]
        yield Row("o", f"{what}: seconds per iteration at 1/{factor}", f"{seconds:.1f} s", data={"value": seconds})
    yield from _disclosed("o", what, run, report)


def _landmark_errors(run: Run) -> Array:
    fixed, moving = (np.loadtxt(name, skiprows=2) for name in pairs.LANDMARKS)
    mapped = np.array([run.transform.TransformPoint(p) for p in fixed.tolist()])
    return np.asarray(np.linalg.norm(mapped - moving, axis=1))


def _diffeo_rows(figure: str, what: str, report: dict[str, Any]) -> Iterator[Row]:
    """Of the report: folding, the inverse, and what a step opens beside three numbers per voxel."""
    found, levels = report["transform"]["diffeo"], report["levels"]
    least, error = found["jacobian"]["smallest"], found["inverse_error_voxels"]["mean"]
    yield Row(figure, f"{what}: smallest Jacobian anywhere", f"{least:.3f}", "> 0", least > 0, {"value": least})
    yield at_most(figure, f"{what}: there and back by the inverse, mean", error, 0.5, "voxels")
    gradients = {r["level"]: r["numbers"] for r in report["disclosed"]["rows"] if r["kind"] == "gradient"}
    flows = [v for v in levels if v["kind"] == "diffeo" and v["factor"] in gradients]
    steps = [v["iterations"] + (v["reason"] not in ("iterations", "loss")) for v in flows]  # the last one led nowhere
    shares = [
        64 * (gradients[v["factor"]] / n + 3) / (3 * np.prod(v["shape"])) for v, n in zip(flows, steps, strict=True)
    ]
    if shares:
        yield at_most(figure, f"{what}: numbers per step, in 64ths of three per voxel", float(max(shares)), 1.0, "")


def _bent(figure: str, folder: Path, data: Path, protocol: str, what: str, *settings: str) -> Iterator[Row]:
    fixed, moving, field = (data / name for name in BENT)
    run, report = _register(folder, fixed, moving, "ncc", protocol, *settings)
    truth, image = sitk.ReadImage(str(field)), pairs.grey(fixed)
    index = np.argwhere(np.ones(sitk.GetArrayViewFromImage(truth).shape[:3], bool))[:, ::-1].tolist()
    bright = float(np.percentile(sitk.GetArrayViewFromImage(image), 99))
    errors = []
    for at in index:
        point = truth.TransformIndexToPhysicalPoint(at)
        voxel = image.TransformPhysicalPointToIndex(point)
        inside = all(0 <= v < n for v, n in zip(voxel, image.GetSize(), strict=True))
        if inside and image[voxel] > 0.1 * bright:
            wanted = np.add(point, truth[at])
            errors.append(float(np.linalg.norm(np.subtract(run.transform.TransformPoint(point), wanted))))
    yield at_most(figure, f"{what}: mean TRE over the foreground", float(np.mean(errors)), 0.1, "mm", wall=run.wall)
    yield _jacobian(figure, f"{what}: smallest Jacobian anywhere", _determinants(run, fixed), 0.0)
    yield from _disclosed(figure, what, run, report)


def _field(run: Run, fixed: Path) -> sitk.Image:
    """Of the whole transform: displacements in mm at the fixed voxels."""
    grid = pairs.grey(fixed)
    return sitk.TransformToDisplacementField(
        run.transform, sitk.sitkVectorFloat64, grid.GetSize(), grid.GetOrigin(), grid.GetSpacing(), grid.GetDirection()
    )


def _displacements(run: Run, fixed: Path) -> Array:
    return np.asarray(sitk.GetArrayFromImage(_field(run, fixed)), np.float64)


def _determinants(run: Run, fixed: Path) -> Array:
    """Of the derivative of the whole transform at the fixed voxels, as ITK finds it from displacements."""
    image = sitk.DisplacementFieldJacobianDeterminant(_field(run, fixed))
    return np.asarray(sitk.GetArrayFromImage(image), np.float64)


def _jacobian(figure: str, what: str, values: Array, limit: float) -> Row:
    least = float(values.min())
    return Row(figure, what, f"{least:.3f}", f"> {limit:g}", least > limit, {"value": least})


def _disclosed(figure: str, what: str, run: Run, report: dict[str, Any]) -> Iterator[Row]:
    """Numbers opened, as share of the fixed voxels and level by level; the unprotected protocol has none to count."""
    if report["request"]["protocol"] == "clear":
        return
    voxels = float(np.prod(report["fixed"]["size"]))
    total = report["totals"]
    share = 100 * total["numbers"] / voxels
    yield at_most(figure, f"{what}: numbers opened, of the fixed voxels", share, 10.0, "%", numbers=total["numbers"])
    rows = report["disclosed"]["per_level"]
    parts = [f"1/{r['level']}: {r['percent']:.2g} % (bits {r['bits_percent']:.2g} %)" for r in rows if r["level"]]
    yield Row(figure, f"{what}: share of each level", "; ".join(parts), data={"levels": rows})
    traffic = (
        f"{run.wall:.0f} s, {total['bytes_sent'] / 1e6:.0f} MB sent, {total['bytes_received'] / 1e6:.0f} MB received"
    )
    yield Row(figure, f"{what}: whole command", traffic)
