"""Files of points: what is read into LPS, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from PPIRLogic.errors import InputError
from PPIRLogic.points.files import read_points

Array = NDArray[np.float64]
SQUARE = np.array([[0.0, 0, 0], [10, 0, 0], [0, 20, 0], [3, 4, 5]])
RAS = "\n".join(
    ["# Markups fiducial file version = 4.11", "# CoordinateSystem = {system}", "# columns = id,x,y,z,ow,ox"]
    + [f"P_{i},{x},{y},{z},0,0,0,1,1,1,0,F-{i},," for i, (x, y, z) in enumerate(SQUARE.tolist())]
)
FLIP = np.array([-1.0, -1.0, 1.0])


def markups(points: Array, **fields: object) -> str:
    control = [{"id": str(i), "position": p, "positionStatus": "defined"} for i, p in enumerate(points.tolist())]
    return json.dumps({"markups": [{"type": "Fiducial", "controlPoints": control, **fields}]})


@pytest.mark.parametrize(
    ("name", "text", "flip"),
    [
        ("a.fcsv", RAS.format(system="RAS"), True),
        ("a.fcsv", RAS.format(system="LPS"), False),
        ("a.fcsv", RAS.format(system="0"), True),
        ("a.fcsv", "\n".join(RAS.splitlines()[3:]), True),
        ("a.mrk.json", markups(SQUARE, coordinateSystem="LPS", coordinateUnits="mm"), False),
        ("a.mrk.json", markups(SQUARE, coordinateSystem="RAS"), True),
        ("a.csv", "label,r,a,s\n" + "\n".join(f"x,{a},{b},{c}" for a, b, c in SQUARE.tolist()), True),
        ("a.csv", "x,y,z\n" + "\n".join(f"{a},{b},{c}" for a, b, c in SQUARE.tolist()), False),
        ("a.csv", "\ufeff" + "\r\n".join(f"{a},{b},{c}" for a, b, c in SQUARE.tolist()), False),
        ("a.txt", "point\n4\n" + "\n".join(f"{a} {b} {c}" for a, b, c in SQUARE.tolist()), False),
        ("a.txt", "# mine\n" + "\n".join(f"{a}, {b}\t{c}" for a, b, c in SQUARE.tolist()), False),
    ],
)
def test_files_are_read_into_lps(name: str, text: str, flip: bool, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert np.array_equal(read_points(tmp_path / name).points, SQUARE * (FLIP if flip else 1))


def test_two_coordinates_are_two_dimensions(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y\n0,0\n1,0\n0,2\n")
    assert read_points(tmp_path / "a.csv").dimension == 2


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.txt", "index\n3\n1 2 3\n", "voxel indices"),
        ("a.txt", "point\n5\n1 2 3\n", "announce 5 points and hold 1"),
        ("a.txt", "point\nmany\n1 2 3\n", "number of points"),
        ("a.txt", "1 2 3\n4 five 6\n7 8 9\n", "line 2"),
        ("a.txt", "1 2 3\n4 nan 6\n7 8 9\n", "line 2"),
        ("a.txt", "1 2 3\n4 5\n7 8 9\n", "mix"),
        ("a.txt", "1 2 3 4\n", "4 columns"),
        ("a.txt", "", "no points"),
        ("a.csv", "", "empty"),
        ("a.csv", "name,value\na,1\n", "no columns x, y, z"),
        ("a.csv", "x,y,z\n1,2\n", "line 2"),
        ("a.fcsv", RAS.format(system="IJK"), "coordinate system"),
        ("a.fcsv", "1,2\n", "line 1"),
        ("a.mrk.json", "{", "markups file"),
        ("a.mrk.json", "[]", "markups file"),
        ("a.mrk.json", '{"markups": [{"controlPoints": [{"position": [null, 0, 0]}]}]}', "finite"),
        ("a.mrk.json", '{"markups": [{"controlPoints": [{"position": 3}]}]}', "three coordinates"),
        ("a.mrk.json", '{"markups": [{"controlPoints": [{"positionStatus": "undefined"}]}]}', "not placed"),
        ("a.mrk.json", '{"markups": [{}, {}]}', "2 lists"),
        ("a.mrk.json", markups(SQUARE, coordinateUnits="cm"), "mm"),
        ("a.png", "1 2 3", "no known ending"),
    ],
)
def test_unusable_files_are_refused(name: str, text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=words):
        read_points(tmp_path / name)


def test_missing_and_binary_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="do not exist"):
        read_points(tmp_path / "none.txt")
    (tmp_path / "b.txt").write_bytes(bytes(range(128, 256)))
    with pytest.raises(InputError, match="as text"):
        read_points(tmp_path / "b.txt")
