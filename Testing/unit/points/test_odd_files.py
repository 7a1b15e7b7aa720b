"""Point files that could be read as other points than they mean are refused, with the line."""

from __future__ import annotations

from pathlib import Path

import pytest

from PPIRLogic.errors import InputError
from PPIRLogic.points.files import read_points


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.txt", "12,5\n13,5\n14,7\n", ("line 1", "decimal")),
        ("a.txt", "1.0 2.0 3.0\n12,5 1,5 3,0\n", ("line 2", "decimal")),
        ("a.txt", "1;2;3\n", ("line 1", "semicolons")),
        ("a.txt", "1_000 2 3\n", ("line 1", "not a number")),
        ("a.csv", "x;y;z\n1,5;2,5;3,5\n", ("line 1", "semicolons", "commas")),
        ("a.csv", "1;2;3\n", ("line 1", "semicolons")),
        ("a.csv", "x,y,z\n1,5,2,5,3,5\n", ("line 2", "6 cells", "decimal commas")),
        ("a.csv", 'x,y,z\n"1,5","2,5","3,5"\n', ("line 2", "decimal comma")),
        ("a.csv", "x,y,z\n1,2," + "9" * 200_000 + "\n", ("line 2",)),
        ("a.csv", 'x,y,z\n1,2,"3\n', ("line 2", "quotes")),
        ("a.csv", "label,l,p,s,defined\nA,1,2,3,1\nB,0,0,0,0\n", ("line 3", "not placed")),
        ("a.csv", "x,y,z,units\n1,2,3,m\n", ("line 2", "in mm")),
        ("a.fcsv", "# CoordinateSystem = LPS\n" + ",".join("1" * 17) + "\n", ("line 2", "columns")),
        ("a.fcsv", "# CoordinateSystem = LPS\n1,1,2,3,0,0,0,1,1,1,0,F-1,,,0,0\n", ("line 2", "not placed")),
        ("a.mrk.json", '{"markups": [{"type": "Plane", "controlPoints": []}]}', ("'Plane'", "point list")),
        ("a.mrk.json", '{"markups": [{"coordinateUnits": ["m", "m", "m"], "controlPoints": []}]}', ("in mm",)),
    ],
)
def test_points_that_are_not_clear(name: str, text: str, words: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_points(path)
    said = str(caught.value)
    assert not [w for w in (name, *words) if w not in said], said


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "sep=,\nx,y,z\n1,2,3\n4,5,6\n7,8,0\n"),
        (
            "a.fcsv",
            "# Markups fiducial file version = 5.12\n# CoordinateSystem = LPS\n"
            "# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID\n"
            "1,1,2,3,0,0,0,1,1,1,0,F-1,,,2,0\n2,4,5,6,0,0,0,1,1,1,0,F-2,,,2,0\n3,7,8,0,0,0,0,1,1,1,0,F-3,,,2,0\n",
        ),
        ("a.txt", "1,2,3\n4,5,6\n7,8,0\n"),
        ("a.txt", "1, 2, 3\n4, 5, 6\n7, 8, 0\n"),
        ("a.txt", "1 2 3\n4 5 6\n7 8 0\n"),
        ("a.csv", "1,2,3\n4,5,6\n7,8,0\n"),
        ("a.csv", "x,y,z,\n1,2,3,\n4,5,6,\n7,8,0,\n"),
        ("a.csv", "label,l,p,s,defined\nA,1,2,3,1\nB,4,5,6,1\nC,7,8,0,1\n"),
    ],
)
def test_points_that_are_clear(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    assert read_points(tmp_path / name).points.tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 0]]


_POINTS = "1,1,2,3\n2,4,5,6\n3,7,8,0\n"
_PLACES = '{"position":[1,2,3]},{"position":[4,5,6]},{"position":[7,8,0]}'


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.fcsv", "1,1,2,3\n# CoordinateSystem = LPS\n2,4,5,6\n3,7,8,0\n", "line 2: a second coordinate system"),
        ("a.fcsv", "# CoordinateSystem = RAS\n# CoordinateSystem = LPS\n" + _POINTS, "line 2: a second"),
        ("a.fcsv", "# CoordinateSystem = LPS\n# columns = id,z,y,x,ow\n" + _POINTS, "not an id, x, y, z"),
        ("a.mrk.json", '{"markups":[{"coordinateSystem":"LPS","coordinateSystem":"RAS","controlPoints":['
                       + _PLACES + "]}]}", "'coordinateSystem' twice"),
        ("a.mrk.json", '{"markups":[{"controlPoints":[{"position":[1,2,null]}]}]}', ", point 1: a coordinate is not"),
        ("a.csv", "x,y,z,x\n1,2,3,9\n4,5,6,9\n7,8,0,9\n", "the column 'x' twice"),
        ("a.csv", "x,y,z,r,a,s\n1,2,3,-1,-2,3\n4,5,6,-4,-5,6\n7,8,0,-7,-8,0\n", "two coordinate systems"),
        ("a.csv", "x,y,z,unit\n1,2,3,cm\n4,5,6,cm\n7,8,0,cm\n", "is in 'cm'"),
        ("a.csv", "x (mm),y (mm),z (mm)\n1,2,3\n4,5,6\n7,8,0\n", "have no columns x, y, z"),
        ("a.txt", "# RAS\n1 2 3\n4 5 6\n7 8 0\n", "line 1: a comment names RAS"),
        ("a.txt", "point\n\u00b2\n1 2 3\n4 5 6\n", "number of points"),
    ],
)  # fmt: skip
def test_what_a_file_says_twice_or_otherwise_is_not_guessed(name: str, text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=words):
        read_points(tmp_path / name)


def test_a_row_that_ends_before_its_unit_is_in_mm(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y,z,units\n1,2,3\n4,5,6,mm\n7,8,0,mm\n")
    assert read_points(tmp_path / "a.csv").points.tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 0]]
