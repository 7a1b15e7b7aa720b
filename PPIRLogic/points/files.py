"""Reading point sets: Slicer's markups (.mrk.json, .fcsv), tables (.csv), elastix's and plain lists (.txt).

Everything becomes LPS mm. Slicer writes RAS or LPS and says which; tables say so by their column names (r, a, s or
l, p, s; x, y, z count as LPS), and plain lists are LPS.
"""

from __future__ import annotations

import csv
import json
import math
import os
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from PPIRLogic.arguments import as_path
from PPIRLogic.errors import InputError
from PPIRLogic.files import name_problem, shown_path
from PPIRLogic.points.pointset import MAX_POINTS, PointSet

POINT_FILES = (".fcsv", ".mrk.json", ".json", ".csv", ".txt", ".pts")
_MAX_FILE = 2**28
_POINT_LISTS = ("Fiducial", "Line", "Curve", "ClosedCurve")  # markups whose control points are what they mark
_SYSTEMS = {"lps": "lps", "ras": "ras", "0": "ras", "1": "lps"}  # Slicer 4 wrote numbers
_MAX_FIDUCIAL_COLUMNS, _STATUS_COLUMN, _DEFINED = 16, 14, "2"  # of Slicer's .fcsv, which names 14
_COLUMNS = (("x", "y", "z"), ("l", "p", "s"), ("r", "a", "s"))


def read_points(path: str | os.PathLike[str], role: str = "moving") -> PointSet:
    """The points of a file in LPS mm, in the file's order. InputError naming the file and the line or point.

    The format follows the ending (POINT_FILES). Points in RAS are turned into LPS.

    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table = Path(folder) / "points.csv"
    ...     _ = table.write_text("r,a,s\\n1,2,3\\n4,5,6\\n7,8,0\\n")
    ...     read_points(table).points.tolist()
    [[-1.0, -2.0, 3.0], [-4.0, -5.0, 6.0], [-7.0, -8.0, 0.0]]
    """
    file = as_path(path, f"The {role} points' path")
    what = f"The {role} points '{shown_path(file)}'"
    if problem := name_problem(file):
        raise InputError(f"{what} cannot be opened: {problem}")
    if not file.is_file():
        raise InputError(f"{what} do not exist or are a folder. Check the path.")
    if file.stat().st_size > _MAX_FILE:
        raise InputError(f"{what} are a file of more than {_MAX_FILE >> 20} MiB: is it a list of points?")
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        raise InputError(f"{what} cannot be read as text. Give one of {', '.join(POINT_FILES)}.") from None
    name = file.name.lower()
    if name.endswith(".json"):
        rows = _from_markups(text, what)
    elif name.endswith(".fcsv"):
        rows = _from_fiducials(text, what)
    elif name.endswith(".csv"):
        rows = _from_table(text, what)
    elif name.endswith((".txt", ".pts")):
        rows = _from_list(text, what)
    else:
        raise InputError(f"{what} have no known ending. Give one of {', '.join(POINT_FILES)}.")
    if len({len(r) for r in rows}) > 1:
        raise InputError(f"{what} mix points of two and of three coordinates.")
    if not rows:
        raise InputError(f"{what} hold no points.")
    return PointSet(np.array(rows, dtype=np.float64), file.name)


def _to_lps(point: Sequence[float], system: str) -> list[float]:
    return [-point[0], -point[1], *point[2:]] if system == "ras" else list(point)


def _system(name: str, what: str) -> str:
    found = _SYSTEMS.get(name.strip().lower())
    if found is None:
        raise InputError(f"{what} are in the coordinate system '{name[:20]}'. Export them in LPS or RAS.")
    return found


def _numbers(cells: Sequence[str], what: str, line: int, place: str = "") -> list[float]:
    """The coordinates of a line, or of what `place` names. InputError unless all are finite numbers."""
    where = place or f", line {line}"
    try:
        values = [float(c.replace("_", "?")) for c in cells]
    except ValueError:
        comma = any("," in c for c in cells)
        hint = " It has a decimal comma; write a point, such as 12.5." if comma else ""
        raise InputError(f"{what}{where}: a coordinate is not a number.{hint}") from None
    if not all(math.isfinite(v) for v in values):
        raise InputError(f"{what}{where}: a coordinate is not a finite number.")
    return values


def _from_markups(text: str, what: str) -> list[list[float]]:
    """Slicer's markups JSON: one list of control points."""
    try:
        lists = json.loads(text, object_pairs_hook=lambda pairs: _said_once(pairs, what))["markups"]
        if len(lists) != 1:
            raise InputError(f"{what} hold {len(lists)} lists; save the one that is meant on its own.")
        system = _system(str(lists[0].get("coordinateSystem", "LPS")), what)
        units = lists[0].get("coordinateUnits", "mm")
        if units not in ("mm", "[mm]", ["mm", "mm", "mm"]):
            raise InputError(f"{what} are in '{str(units)[:20]}'. Export them in mm.")
        if (kind := str(lists[0].get("type", "Fiducial"))) not in _POINT_LISTS:
            raise InputError(f"{what} are a '{kind[:20]}', not a list of points. Save the points as a point list.")
        return [_control_point(p, i, system, what) for i, p in enumerate(lists[0].get("controlPoints") or [], 1)]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise InputError(f"{what} are not a markups file of Slicer's. Save the list again.") from None


def _said_once(pairs: list[tuple[str, Any]], what: str) -> dict[str, Any]:
    """An object of a JSON file. InputError for a name that it has twice, such as two coordinate systems."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise InputError(f"{what} say '{name[:40]}' twice. Save the list again.")
        found[name] = value
    return found


def _control_point(point: dict[str, Any], number: int, system: str, what: str) -> list[float]:
    if point.get("positionStatus", "defined") != "defined":
        raise InputError(f"{what}: point {number} was not placed yet. Place or remove it.")
    position = point["position"]
    if not isinstance(position, list) or len(position) != 3:
        raise InputError(f"{what}: point {number} needs three coordinates.")
    return _to_lps(_numbers(["nan" if v is None else str(v) for v in position], what, 0, f", point {number}"), system)


def _from_fiducials(text: str, what: str) -> list[list[float]]:
    """Slicer's .fcsv: comments that name the coordinate system, then id, x, y, z, …"""
    system = ""
    rows: list[list[float]] = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip().startswith("#"):
            system = _fiducial_comment(line.strip(), system, bool(rows), f"{what}, line {number}") or system
        elif line.strip():
            cells = _cells(line, what, number)
            if not 4 <= len(cells) <= _MAX_FIDUCIAL_COLUMNS:
                raise InputError(
                    f"{what}, line {number}: expected an id, three coordinates and at most"
                    f" {_MAX_FIDUCIAL_COLUMNS - 4} columns more."
                )
            if cells[_STATUS_COLUMN : _STATUS_COLUMN + 1] not in ([], [""], [_DEFINED]):
                raise InputError(f"{what}, line {number}: this point was not placed yet. Place or remove it.")
            # RAS is what Slicer meant before it said so
            rows.append(_to_lps(_numbers(cells[1:4], what, number), system or "ras"))
    return rows


def _fiducial_comment(line: str, system: str, late: bool, where: str) -> str:
    """The coordinate system that a comment of an .fcsv names, if it does. InputError for one that comes after points or
    says something else than another comment, and for columns in another order."""
    key, _, value = line[1:].partition("=")
    key = key.strip().lower()
    if key == "columns" and [c.strip().lower() for c in value.split(",")][1:4] != ["x", "y", "z"]:
        raise InputError(f"{where}: its columns are not an id, x, y, z. Save the list again.")
    if key != "coordinatesystem":
        return ""
    found = _system(value, where)
    if late or system not in ("", found):
        raise InputError(f"{where}: a second coordinate system is named, or it comes after points. Name one, first.")
    return found


def _from_table(text: str, what: str) -> list[list[float]]:
    """A table with a row of column names, or two or three bare columns of numbers (LPS)."""
    rows = ((i, _cells(line, what, i)) for i, line in enumerate(text.splitlines(), 1))
    lines = [(i, row) for i, row in rows if any(c.strip() for c in row)]
    if lines and lines[0][1][0].strip().lower().startswith("sep="):  # Excel's word for what separates the columns
        lines = lines[1:]
    if not lines:
        raise InputError(f"{what} are an empty file.")
    head = [c.strip().lower() for c in lines[0][1]]
    if not _are_names(head):
        return [_bare(row, what, i) for i, row in lines]
    for i, row in lines[1:]:
        _check_row(head, row, what, i)
    if twice := [n for names in _COLUMNS for n in names if head.count(n) > 1]:
        raise InputError(f"{what} name the column '{twice[0]}' twice. Leave one.")
    if sum(all(n in head for n in names[:2]) for names in _COLUMNS) > 1:
        raise InputError(
            f"{what} hold the points in two coordinate systems: {', '.join(head)[:80]}. Leave one of them."
        )
    for names in _COLUMNS:
        columns = [head.index(n) for n in names if n in head]
        if len(columns) == 3 or (len(columns) == 2 and names[0] == "x" and "z" not in head):
            system = "ras" if names[0] == "r" else "lps"
            cells = [(i, [row[c] if c < len(row) else "" for c in columns]) for i, row in lines[1:]]
            return [_to_lps(_numbers(row, what, i), system) for i, row in cells]
    raise InputError(f"{what} have no columns x, y, z (or l, p, s, or r, a, s): name them in the first row.")


def _are_names(cells: Sequence[str]) -> bool:
    """Whether the first row of a table names its columns, such as x or 'x (mm)'."""
    return any(c.isidentifier() for c in cells) or all(c[:1].isalpha() or not c for c in cells)


def _cells(line: str, what: str, number: int) -> list[str]:
    """The cells of a line that commas separate."""
    try:
        cells = next(csv.reader([line], strict=True), [])
    except csv.Error:
        raise InputError(f"{what}, line {number}: a cell is too long, or its quotes do not close.") from None
    if len(cells) < 2 and (";" in line or "\t" in line):
        raise InputError(
            f"{what}, line {number}: its columns are separated by semicolons or tabs. Save it with commas between"
            " the columns and points as decimal signs."
        )
    return cells


def _check_row(head: Sequence[str], row: Sequence[str], what: str, line: int) -> None:
    """InputError for a row with more cells than there are columns, or of a point that was not placed."""
    if len(row) > len(head) and any(c.strip() for c in row[len(head) :]):
        raise InputError(
            f"{what}, line {line}: {len(row)} cells where the first row names {len(head)} columns. If the numbers have"
            " decimal commas, write points instead."
        )
    if "defined" in head and head.index("defined") < len(row) and row[head.index("defined")].strip() in ("0", "false"):
        raise InputError(f"{what}, line {line}: this point was not placed yet. Place or remove it.")
    for name in ("coordinateunits", "units", "unit"):
        if name in head[: len(row)] and (unit := row[head.index(name)].strip().lower()) not in ("", "mm", "[mm]"):
            raise InputError(f"{what}, line {line}: the point is in '{unit[:20]}'. Write it in mm.")


def _bare(cells: Sequence[str], what: str, line: int) -> list[float]:
    if len(cells) not in (2, 3):
        raise InputError(f"{what}, line {line}: {len(cells)} columns where two or three coordinates are due.")
    return _numbers(cells, what, line)


def _from_list(text: str, what: str) -> list[list[float]]:
    """elastix's point file ('point', the count, then the points), or nothing but points; LPS mm."""
    numbered = list(enumerate(text.splitlines(), 1))
    for i, line in numbered:
        if re.search(r"\b(RAS|ras)\b", line.partition("#")[2]):
            raise InputError(
                f"{what}, line {i}: a comment names RAS, and a list without column names is read as LPS. Write a .csv"
                " with the columns r, a, s."
            )
    lines = [(i, _words(line.split("#")[0], what, i)) for i, line in numbered]
    lines = [(i, cells) for i, cells in lines if cells]
    if lines and len(lines[0][1]) == 1 and lines[0][1][0].lower() in ("point", "index"):
        if lines[0][1][0].lower() == "index":
            raise InputError(f"{what} are voxel indices ('index'). Write them as physical points ('point'), in mm.")
        return _counted(lines[1:], what)
    return [_bare(cells, what, i) for i, cells in lines]


def _words(line: str, what: str, number: int) -> list[str]:
    """The numbers of a line between blanks or commas. InputError where a comma may be a decimal sign."""
    if ";" in line:
        raise InputError(f"{what}, line {number}: write blanks between the coordinates, not semicolons.")
    between = line.strip().split()
    if (len(between) > 1 and any("," in w.strip(",") for w in between)) or line.strip().count(",") == 1 == len(between):
        raise InputError(
            f"{what}, line {number}: its commas may be decimal signs. Write points in the numbers and"
            " blanks between them, such as 12.5 3.0 7.25."
        )
    return line.replace(",", " ").split()


def _counted(lines: list[tuple[int, list[str]]], what: str) -> list[list[float]]:
    if not lines or len(lines[0][1]) != 1 or not re.fullmatch(r"[0-9]{1,9}", lines[0][1][0]):
        raise InputError(f"{what}: after 'point' comes a line with the number of points.")
    count = int(lines[0][1][0])
    if count != len(lines) - 1 or count > MAX_POINTS:
        raise InputError(f"{what} announce {count} points and hold {len(lines) - 1}.")
    return [_bare(cells, what, i) for i, cells in lines[1:]]
