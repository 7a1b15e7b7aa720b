"""Figures j and k: B-splines on the lung pair (landmarks) and on a brain bent by a known thin-plate spline."""

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
from Benchmarks.rows import Options, Row, at_most, attempt

Array = NDArray[np.float64]
DATA_VARIABLE = "PPIR_BENCH_DATA"
BENT = ("t1_thinplate.mha", "t1.mha", "t1_thinplate_field_4mm.mha")  # fixed, moving, true displacements of the fixed


def lungs(options: Options) -> Iterator[Row]:
    """j: the lung pair, B-spline of 10 mm after an affine, without masks, both parties as processes."""
    runs = [("ncc", "clear")] if options.quick else [("ncc", "clear"), ("ncc", "fhe"), ("ncc", "mpc"), ("lncc", "fhe")]
    for loss, protocol in runs:
        what = f"lung pair, bspline {loss}, {protocol}"
        yield from attempt("j", what, _lung, options.folder, loss, protocol, what)


def bent_brain(options: Options) -> Iterator[Row]:
    """k: a brain volume bent by a known thin-plate spline, B-spline of 10 mm after an affine."""
    folder = Path(os.environ.get(DATA_VARIABLE, ""))
    if not all((folder / name).is_file() for name in BENT):
        yield Row(
            "k", "brain bent by a thin-plate spline", f"not measured: {DATA_VARIABLE} must name the images' folder"
        )
        return
    for protocol in ("clear",) if options.quick else ("clear", "fhe"):
        what = f"brain bent by a thin-plate spline, bspline ncc, {protocol}"
        yield from attempt("k", what, _bent, options.folder, folder, protocol, what)


def _register(folder: Path, fixed: Path, moving: Path, loss: str, protocol: str) -> tuple[Run, dict[str, Any]]:
    report = folder / "deformable.json"
    run = register_once(
        fixed, moving, protocol, folder / "deformable.h5", "--transform", "bspline", "--loss", loss,
        "--report", str(report),
    )  # fmt: skip
    return run, json.loads(report.read_text())


def _lung(folder: Path, loss: str, protocol: str, what: str) -> Iterator[Row]:
    run, report = _register(folder, *pairs.LUNG, loss, protocol)
    fixed, moving = (np.loadtxt(name, skiprows=2) for name in pairs.LANDMARKS)
    mapped = np.array([run.transform.TransformPoint(p) for p in fixed.tolist()])
    errors = np.linalg.norm(mapped - moving, axis=1)
    yield at_most("j", f"{what}: mean landmark error", float(errors.mean()), 1.5, "mm", wall=run.wall)
    yield at_most("j", f"{what}: median landmark error", float(np.median(errors)), 1.1, "mm")
    inside = sitk.GetArrayFromImage(sitk.ReadImage(str(pairs.LUNG_MASKS[0]))) > 0
    yield _jacobian("j", f"{what}: smallest Jacobian in the lung", _determinants(run, pairs.LUNG[0])[inside], 0.1)
    yield from _disclosed("j", what, run, report)


def _bent(folder: Path, data: Path, protocol: str, what: str) -> Iterator[Row]:
    fixed, moving, field = (data / name for name in BENT)
    run, report = _register(folder, fixed, moving, "ncc", protocol)
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
    yield at_most("k", f"{what}: mean TRE over the foreground", float(np.mean(errors)), 0.1, "mm", wall=run.wall)
    yield _jacobian("k", f"{what}: smallest Jacobian anywhere", _determinants(run, fixed), 0.0)
    yield from _disclosed("k", what, run, report)


def _determinants(run: Run, fixed: Path) -> Array:
    """Of the derivative of the whole transform at the fixed voxels, as ITK finds it from displacements."""
    grid = pairs.grey(fixed)
    field = sitk.TransformToDisplacementField(
        run.transform, sitk.sitkVectorFloat64, grid.GetSize(), grid.GetOrigin(), grid.GetSpacing(), grid.GetDirection()
    )
    return np.asarray(sitk.GetArrayFromImage(sitk.DisplacementFieldJacobianDeterminant(field)), np.float64)


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
