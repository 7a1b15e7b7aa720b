"""The report itself: everything worth keeping about a run, ready for JSON, as `report_schema.json` describes it."""

from __future__ import annotations

import importlib.metadata
import importlib.resources
import json
import math
import os
import platform
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import numpy as np

from PPIRLogic.disclosure.ledger import METADATA, VOXEL_BITS
from PPIRLogic.images.geometry import Geometry
from PPIRLogic.images.volume import Volume
from PPIRLogic.registration.result import LevelRecord, RegistrationResult
from PPIRLogic.transforms import BSPLINE, DIFFEO, BSplineTransform, DiffeoTransform, LinearTransform
from PPIRLogic.version import __version__

SCHEMA_VERSION = 1
CONVENTION = (
    "Maps points of the fixed image to points of the moving image, as resampling the moving image on the fixed grid"
    " needs it: y = A(x - c) + c + t, with A the matrix (row by row), t the translation and c the centre, in mm in the"
    " LPS coordinates of DICOM and ITK."
)
SPLINE_CONVENTION = (
    "With a B-spline, x + u(x) takes the place of x: the B-spline is applied first, the affine part after it."
)
DIFFEO_CONVENTION = (
    "With a diffeomorphic part, x + u(x) takes the place of x: the displacement field is applied first, the affine part"
    " after it."
)
LIBRARIES = ("numpy", "SimpleITK", "numba", "tenseal", "torch", "crypten")

Report = dict[str, Any]


def schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of the report."""
    text = importlib.resources.files("PPIRLogic").joinpath("report_schema.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def build_report(
    result: RegistrationResult,
    *,
    transform_file: str | None,
    warped_file: str | None,
    inverse_file: str | None = None,
    moving: Volume | None = None,
) -> Report:
    """Everything worth keeping about a run, ready for JSON: what is not finite becomes null.

    transform_file, warped_file, inverse_file: where results were written, None if they were not. moving: the raw image,
    of which only the size and spacing are taken.
    """
    grid = moving.geometry if moving is not None else None
    agree = None if result.peer_numbers is None else result.peer_numbers == result.numbers
    report = {
        "schema_version": SCHEMA_VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "software": software_versions(),
        "complete": result.complete,
        "stop_reason": result.stop_reason,
        "error": None if result.error is None else str(result.error),
        "doubts": result.doubts,
        "peer": {key: result.peer.get(key, "") for key in ("name", "fingerprint", "address", "software")},
        "request": result.request.to_dict(),
        "parameters": result.parameters,
        "moving": {
            "size": grid.size if grid else None,
            "spacing_mm": grid.spacing if grid else None,
            "normalisation": result.normalisation,
        },
        "fixed": _geometry(result.fixed_geometry),
        "levels": [_level(record) for record in result.levels],
        "starts": None if result.starts is None else asdict(result.starts),
        "check": None if result.check is None else asdict(result.check),
        "totals": {
            "seconds": result.seconds,
            "bytes_sent": result.bytes_sent,
            "bytes_received": result.bytes_received,
            "dealer_bytes_sent": result.dealer_bytes_sent,
            "dealer_bytes_received": result.dealer_bytes_received,
            "numbers": result.numbers,
            "reconnections": result.reconnections,
        },
        "disclosed": disclosed_rows(result.ledger, _samples(result)),
        "peer_numbers": result.peer_numbers,
        "counts_agree": agree,
        "transform": transform_entry(result.linear, transform_file, result.spline or result.diffeo, inverse_file),
        "warped": {"file": warped_file},
    }
    return json_values(report)


def software_versions() -> dict[str, Any]:
    """Versions; None for a library that is not installed. Nothing is imported to find out."""
    versions: dict[str, Any] = {"ppir": __version__, "python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return versions


def _samples(result: RegistrationResult) -> dict[int, int]:
    """Fixed voxels that took part, by shrink factor; of the search, where it has a level of that factor."""
    extra = {r.factor: r.samples for r in (result.starts, result.check) if r is not None}
    return extra | {r.factor: r.samples for r in result.levels}


def _geometry(grid: Geometry) -> dict[str, Any]:
    return {"size": grid.size, "spacing_mm": grid.spacing, "origin_mm": grid.origin, "direction": grid.direction}


def _level(record: LevelRecord) -> dict[str, Any]:
    names = (
        "factor", "shape", "samples", "evaluations", "iterations", "reason", "seconds", "values", "steps_mm", "overlap",
        "kind", "rigid_iterations", "smallest_jacobian",
    )  # fmt: skip
    return {**{n: getattr(record, n) for n in names}, "spacing_mm": record.spacing}


def transform_entry(
    linear: LinearTransform,
    file: str | None,
    part: BSplineTransform | DiffeoTransform | None = None,
    inverse_file: str | None = None,
) -> dict[str, Any]:
    kind, convention = linear.kind, CONVENTION
    if isinstance(part, BSplineTransform):
        kind, convention = BSPLINE, f"{CONVENTION} {SPLINE_CONVENTION}"
    elif part is not None:
        kind, convention = DIFFEO, f"{CONVENTION} {DIFFEO_CONVENTION}"
    return {
        "file": file,
        "inverse_file": inverse_file,
        "kind": kind,
        "matrix": linear.matrix.tolist(),
        "translation_mm": linear.translation.tolist(),
        "centre_mm": linear.centre.tolist(),
        "convention": convention,
        "spline": part.statistics() if isinstance(part, BSplineTransform) else None,
        "diffeo": part.statistics() if isinstance(part, DiffeoTransform) else None,
    }


def disclosed_rows(ledger: Iterable[Mapping[str, Any]], samples: Mapping[int, int]) -> dict[str, Any]:
    """The ledger's rows with their totals. `samples`: fixed voxels that took part, by shrink factor.

    What party 2 learns concerns no fixed voxel: no percentage there. The grid's geometry and its frame of reference
    say nothing of what an image holds: they are listed, not summed.
    """
    rows = [dict(row) for row in ledger]
    summed = [row for row in rows if row["kind"] not in METADATA]
    parties, levels = _totals(summed, ("to",)), _totals(summed, ("to", "level"))

    def taking_part(row: Mapping[str, Any]) -> int | None:
        return None if row["to"] == "party 2" else samples.get(row["level"])

    for row in levels:
        row["samples"] = count = taking_part(row)
        row["percent"] = _percent(row["numbers"], count)
        row["bits_percent"] = _percent(row["bits"], count and count * VOXEL_BITS)
    for row in rows:
        row["percent"] = _percent(row["numbers"], taking_part(row))
    return {"rows": rows, "per_party": parties, "per_level": levels}


def _totals(rows: Iterable[Mapping[str, Any]], keys: tuple[str, ...]) -> list[dict[str, Any]]:
    numbers: Counter[tuple[Any, ...]] = Counter()
    bits: Counter[tuple[Any, ...]] = Counter()
    for row in rows:
        name = tuple(row[k] for k in keys)
        numbers[name] += row["numbers"]
        bits[name] += row["bits"]
    return [{**dict(zip(keys, name, strict=True)), "numbers": n, "bits": bits[name]} for name, n in numbers.items()]


def _percent(part: float, whole: float | None) -> float | None:
    return 100.0 * part / whole if whole else None


def json_values(value: Any) -> Any:
    """Only what JSON knows: NumPy numbers and tuples become plain ones, numbers that are not finite None."""
    if isinstance(value, Mapping):
        return {str(k): json_values(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        return json_values(value.tolist())
    if isinstance(value, (list, tuple)):
        return [json_values(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value
