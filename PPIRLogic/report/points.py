"""The report of a registration of point sets, ready for JSON, with the parts of an image's report that apply."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from PPIRLogic.registration.points.register import PointsResult
from PPIRLogic.report import Report, write_report
from PPIRLogic.report.build import SCHEMA_VERSION, disclosed_rows, json_values, software_versions, transform_entry


def points_report(result: PointsResult, transform_file: str | None) -> Report:
    """Everything worth keeping about a run. `levels` of the disclosure: the one level of the points, factor 1."""
    request = result.request
    report = {
        "schema_version": SCHEMA_VERSION,
        "kind": "points",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "software": software_versions(),
        "complete": True,
        "peer": result.peer,
        "request": request.to_dict(),
        "fixed": result.layout.to_dict(),
        "residual_mm": result.fit.residual_mm,
        "reflection": result.fit.reflection,
        "mirrored_residual_mm": result.fit.mirrored_residual_mm,
        "warnings": result.warnings,
        "totals": {
            "seconds": result.seconds,
            "bytes_sent": result.bytes_sent,
            "bytes_received": result.bytes_received,
            "dealer_bytes_sent": result.dealer_bytes_sent,
            "dealer_bytes_received": result.dealer_bytes_received,
            "numbers": result.numbers,
        },
        "disclosed": disclosed_rows(result.ledger, {1: result.layout.count * result.layout.dimension}),
        "peer_numbers": result.peer_numbers,
        "counts_agree": result.peer_numbers == result.numbers,
        "transform": transform_entry(result.fit.transform, transform_file),
    }
    return json_values(report)


def write_points_report(result: PointsResult, path: Path, transform_file: str | None) -> None:
    """OutputError if that fails; then `path` is as it was before."""
    write_report(points_report(result, transform_file), path)
