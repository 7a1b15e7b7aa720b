"""The report: its JSON, its page, its pictures."""

from __future__ import annotations

import json
import os
import re
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from PPIRLogic import report as module
from PPIRLogic.disclosure.ledger import Entry, SessionLedger
from PPIRLogic.errors import BudgetError, InputError, OutputError
from PPIRLogic.images.geometry import Geometry
from PPIRLogic.images.intensities import Normalisation
from PPIRLogic.images.volume import Volume
from PPIRLogic.registration.parameters import Parameters
from PPIRLogic.registration.result import LevelRecord, RegistrationResult
from PPIRLogic.report import (
    Pictures,
    build_report,
    human_bytes,
    human_seconds,
    pictures_of,
    save_pictures,
    schema,
    write_html,
    write_report,
)
from PPIRLogic.report.slices import slices
from PPIRLogic.transforms import LinearTransform, parameter_count

PNG = b"\x89PNG\r\n\x1a\n"


def grid(dimension: int) -> Geometry:
    return Geometry(
        (20, 16, 12)[:dimension], (1.0, 2.0, 3.0)[:dimension], (5.0,) * dimension, np.eye(dimension).ravel()
    )


def volume(dimension: int, shift: float = 0.0) -> Volume:
    where = grid(dimension)
    axes = np.meshgrid(*(np.arange(n) for n in where.array_shape), indexing="ij")
    distance = sum((a - n / 2 - shift) ** 2 for a, n in zip(axes, where.array_shape, strict=True))
    return Volume(np.exp(-distance / 30).astype(np.float32) * 900, where, "moving")


def ledger(dimension: int, *extra: Entry) -> SessionLedger:
    book = SessionLedger(None, {})
    book.record(Entry("geometry", "party 1", 3 * dimension + dimension**2, 64, 0))
    for factor in (2, 1):
        for kind, numbers in (("gradient", parameter_count("affine", dimension)), ("value", 1), ("overlap", 2)):
            book.record(Entry(kind, "party 1", numbers, 46, factor))
    for entry in extra:
        book.record(entry)
    return book


def make(dimension: int = 3, *extra: Entry, **changes: Any) -> RegistrationResult:
    """A finished run of two levels, changed as asked."""
    fixed, book = grid(dimension), ledger(dimension, *extra)
    start = LinearTransform.identity("affine", fixed.centre())
    last = replace(start, translation=np.full(dimension, 2.0))
    records = [
        LevelRecord(
            factor, [10] * dimension, [2.0] * dimension, 1000 // factor, 5, 2, "loss", 1.5, [0.5, 0.25, 0.125],
            [1.0, 0.5], 0.9, [[*t.matrix.ravel().tolist(), *t.translation.tolist()] for t in (start, last)],
        )
        for factor in (2, 1)
    ]  # fmt: skip
    parameters = Parameters()
    found = RegistrationResult(
        transform=last.to_sitk(),
        linear=last,
        first=start,
        fixed_geometry=fixed,
        levels=records,
        ledger=book.summary(),
        parameters=parameters.to_dict(),
        request=parameters.request("thorax", fixed, "", "ppir 0.1.0"),
        normalisation=asdict(Normalisation(0.0, 800.0, "percentiles 1-99")),
        seconds=12.5,
        bytes_sent=123_456,
        bytes_received=7_654_321,
        dealer_bytes_sent=0,
        dealer_bytes_received=0,
        numbers=book.numbers,
        peer_numbers=book.numbers,
        complete=True,
        stop_reason="finished",
        peer={"name": "St Anne", "fingerprint": "ABCD-EFGH", "address": "host:7443", "software": "ppir 0.1.0"},
    )
    return replace(found, **changes)


def build(result: RegistrationResult, **options: Any) -> dict[str, Any]:
    """The report, checked against its schema after a round trip through JSON."""
    made = build_report(result, **{"transform_file": "t.tfm", "warped_file": None, **options})
    read = json.loads(json.dumps(made, allow_nan=False))
    assert read == made
    jsonschema.Draft202012Validator(schema()).validate(read)
    return made


def page(made: dict[str, Any], folder: Path, pictures: Pictures | None = None) -> str:
    write_html(made, folder / "report.html", pictures=pictures)
    return (folder / "report.html").read_text(encoding="utf-8")


# ---------------------------------------------------------------------------------------------------- JSON


def test_schema_is_a_strict_2020_12_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())

    def objects(node: Any) -> list[dict[str, Any]]:
        inner = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
        here = [node] if isinstance(node, dict) and node.get("type") == "object" else []
        return here + [found for value in inner for found in objects(value)]

    for node in objects(schema()):
        assert node["additionalProperties"] is False
        assert sorted(node["required"]) == sorted(node["properties"])


@pytest.mark.parametrize("dimension", [2, 3])
def test_report_of_a_finished_run(dimension: int) -> None:
    made = build(make(dimension), moving=volume(dimension))
    per_level = parameter_count("affine", dimension) + 3
    assert made["counts_agree"] is True
    assert made["totals"]["numbers"] == 2 * per_level
    assert made["disclosed"]["per_party"] == [{"to": "party 1", "numbers": 2 * per_level, "bits": 92 * per_level}]
    level = made["disclosed"]["per_level"][0]
    assert (level["level"], level["samples"]) == (2, 500)
    assert level["percent"] == pytest.approx(100 * per_level / 500)
    assert level["bits_percent"] == pytest.approx(100 * 46 * per_level / (500 * 12))
    assert made["disclosed"]["rows"][0]["kind"] == "geometry"
    assert made["disclosed"]["rows"][0]["percent"] is None
    assert made["moving"]["size"] == list(grid(dimension).size)
    assert made["transform"]["translation_mm"] == [2.0] * dimension


def test_report_of_a_run_that_ended_early() -> None:
    result = make(complete=False, stop_reason="BudgetError", error=BudgetError("Used up."), peer_numbers=None)
    result.levels[1] = LevelRecord(1, [20, 16, 12], [1.0, 2.0, 3.0], 3000)
    made = build(result)
    assert (made["error"], made["counts_agree"], made["moving"]["size"]) == ("Used up.", None, None)


def test_numbers_that_are_not_finite_become_null(tmp_path: Path) -> None:
    result = make()
    result.levels[0].values[1] = float("nan")
    result.levels[0].steps_mm[0] = float("inf")
    result.levels[0].overlap = np.float64("nan")  # type: ignore[assignment]
    result.levels[1].seconds = float("nan")
    made = build(result)
    assert made["levels"][0]["values"] == [0.5, None, 0.125]
    assert made["levels"][0]["steps_mm"][0] is None
    write_report(made, tmp_path / "r.json")
    assert json.loads((tmp_path / "r.json").read_text()) == made
    assert "nan" not in re.sub(r"base64,[^\"]+", "", page(made, tmp_path))


def test_the_other_sides_share_has_no_percentage() -> None:
    made = build(make(3, Entry("sampling", "party 2", 4000, 1, 1), Entry("image", "party 1", 1000, 12, 16)))
    rows = {row["kind"]: row for row in made["disclosed"]["rows"]}
    assert rows["sampling"]["percent"] is None
    assert rows["image"]["percent"] is None  # a level that was never recorded
    assert rows["value"]["percent"] == pytest.approx(0.1)
    assert {row["to"] for row in made["disclosed"]["per_party"]} == {"party 1", "party 2"}


# ---------------------------------------------------------------------------------------------------- page


def test_nothing_of_the_peer_reaches_the_page_as_html(tmp_path: Path) -> None:
    evil = "<script>alert('x')</script>"
    peer = {"name": evil, "fingerprint": evil, "address": evil, "software": evil}
    result = make(peer=peer, complete=False, stop_reason=evil, error=BudgetError(evil), peer_numbers=5)
    result = replace(result, request=replace(result.request, image=evil, dealer=evil))
    result.ledger.append({"kind": evil, "to": "party 1", "level": 1, "numbers": 1, "bits": 1})
    text = page(build(result, transform_file=evil), tmp_path)
    assert "<script" not in text.lower()
    assert "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;" in text


def test_page_is_self_contained(tmp_path: Path) -> None:
    text = page(build(make()), tmp_path, pictures_of(make(), volume(3)))
    assert not re.search(r"https?://|@import|url\(|<link|<iframe|javascript:", text)
    assert all(source.startswith("data:image/png;base64,") for source in re.findall(r'src="([^"]{0,40})', text))


def test_page_says_how_it_ended_and_what_was_disclosed(tmp_path: Path) -> None:
    text = page(build(make()), tmp_path)
    assert "Registration finished" in text
    assert "St Anne" in text
    assert "30 numbers about the fixed image; at most 3 % of the samples of a level" in text
    assert "7.65 MB received" in text
    early = make(complete=False, stop_reason="Cancelled", peer_numbers=None)
    text = page(build(early), tmp_path)
    assert "Registration ended early" in text
    assert "it was cancelled" in text


def test_page_warns(tmp_path: Path) -> None:
    assert 'class="alarm"' not in page(build(make()), tmp_path)
    text = page(build(make(peer_numbers=7)), tmp_path)
    assert 'class="alarm"' in text
    assert "counted differently" in text
    clear = make(3, Entry("image", "party 1", 2000, 12, 1))
    clear = replace(clear, request=replace(clear.request, protocol="clear"))
    text = page(build(clear), tmp_path)
    assert 'class="alarm"' in text
    assert "the fixed image itself" in text


def test_page_of_a_run_in_doubt(tmp_path: Path) -> None:
    found = make(3)
    made = build(replace(found, linear=replace(found.linear, matrix=np.diag([0.8, 0.7, 0.01]))))
    (doubt,) = made["doubts"]
    text = page(made, tmp_path)
    assert "Registration in doubt" in text and "0.80, 0.70, 0.01" in doubt and doubt.split("(")[0] in text
    assert "Registration in doubt" not in page(build(found), tmp_path)


def test_every_kind_of_number_is_explained(tmp_path: Path) -> None:
    others = ("mask", "mask grid", "image")
    extra = [Entry(kind, "party 1", 10, 1, 1) for kind in others] + [Entry("sampling", "party 2", 10, 1, 1)]
    text = page(build(make(3, *extra)), tmp_path)
    for kind in ("geometry", "gradient", "value", "overlap", "sampling", *others):
        assert f"({kind}): " in text


def test_page_without_any_level(tmp_path: Path) -> None:
    made = build(make(levels=[], ledger=[], numbers=0, peer_numbers=0))
    assert "No number was disclosed" in page(made, tmp_path)


# ------------------------------------------------------------------------------------------------ pictures


@pytest.mark.parametrize("dimension", [2, 3])
@pytest.mark.parametrize("both", [False, True])
def test_pictures(dimension: int, both: bool, tmp_path: Path) -> None:
    result, fixed = make(dimension), volume(dimension, 1.0) if both else None
    pictures = pictures_of(result, volume(dimension), fixed)
    names = [p.name for p in save_pictures(pictures, tmp_path, report=build(result))]
    if both:
        stems = [f"{what}_{when}.png" for what in ("checkerboard", "difference") for when in ("before", "after")]
    else:
        stems = ["moving_before.png", "moving_after.png"]
    assert names == [*stems, "convergence.png"]
    assert sorted(os.listdir(tmp_path)) == sorted(names)
    assert all((tmp_path / name).read_bytes().startswith(PNG) for name in names)
    text = page(build(result), tmp_path, pictures)
    assert text.count("<img ") == len(names)
    assert ("Checkerboard" in text) == both
    assert ("this site does not have it" in text) != both


def test_before_and_after_are_resampled_from_the_run() -> None:
    pictures = pictures_of(make(3), volume(3))
    np.testing.assert_allclose(pictures.before.array, volume(3).array, atol=1e-3)
    np.testing.assert_allclose(pictures.warped.array[:, :-1, :-2][:-1], pictures_shifted(), atol=1e-3)
    assert np.isnan(pictures.warped.array[:, :, -2:]).all()


def pictures_shifted() -> np.ndarray:
    """The moving image 2 mm further along each axis: 2 voxels in x, 1 in y, 2/3 of one in z."""
    values = volume(3).array[:, 1:, 2:]
    return values[:-1] / 3 + values[1:] * (2 / 3)


def test_pictures_need_one_grid() -> None:
    other = Volume(np.ones((4, 4), np.float32), Geometry((4, 4), (1, 1), (0, 0), (1, 0, 0, 1)))
    with pytest.raises(InputError, match="one grid"):
        Pictures(volume(2), volume(2), other)
    with pytest.raises(InputError, match="one grid"):
        Pictures(volume(2), volume(2), volume(2), other)


def test_a_constant_image_can_be_shown(tmp_path: Path) -> None:
    flat = Volume(np.full((12, 16, 20), np.nan, np.float32), grid(3))
    assert len(save_pictures(Pictures(volume(3), flat, flat, volume(3)), tmp_path)) == 4


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0), (1, 0, 2)])
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, -1)])
def test_planes_are_anatomical_for_any_grid(order: tuple[int, ...], signs: tuple[int, ...]) -> None:
    size, spacing = (8, 10, 12), (1.0, 2.0, 3.0)
    direction = np.zeros((3, 3))
    for axis, way in enumerate(order):
        direction[way, axis] = signs[axis]
    where = Geometry(size, spacing, (0, 0, 0), direction.ravel())
    index = np.stack(np.meshgrid(*(np.arange(n) for n in size), indexing="ij"), -1)
    points = index * spacing @ direction.T
    for way in range(3):  # an image of the L, P or S coordinate grows along that direction alone
        values = points[..., way].transpose(2, 1, 0).astype(np.float32)
        axial, coronal, sagittal = (s.plane for s in slices(Volume(values, where)))
        across = [np.sign(p[0, -1] - p[0, 0]) for p in (axial, coronal, sagittal)]
        down = [np.sign(p[-1, 0] - p[0, 0]) for p in (axial, coronal, sagittal)]
        assert across == [way == 0, way == 0, way == 1]  # to the left, to the left, to posterior
        assert down == [way == 1, -(way == 2), -(way == 2)]  # to posterior, to inferior, to inferior


# --------------------------------------------------------------------------------------------------- files


def test_a_missing_folder_is_an_output_error(tmp_path: Path) -> None:
    made, nowhere = build(make()), tmp_path / "missing"
    for write in (
        lambda: write_report(made, nowhere / "r.json"),
        lambda: write_html(made, nowhere / "r.html"),
        lambda: save_pictures(pictures_of(make(), volume(3)), nowhere),
    ):
        with pytest.raises(OutputError, match="missing"):
            write()
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(sys.platform == "win32" or getattr(os, "geteuid", lambda: 1)() == 0, reason="needs permissions")
def test_an_unwritable_folder_is_an_output_error(tmp_path: Path) -> None:
    made, folder = build(make()), tmp_path / "locked"
    folder.mkdir()
    for mode in (0o500, 0o000):
        folder.chmod(mode)
        try:
            with pytest.raises(OutputError):
                write_report(made, folder / "r.json")
        finally:
            folder.chmod(0o700)
        assert os.listdir(folder) == []


def test_a_failing_disk_leaves_the_former_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, target = build(make()), tmp_path / "report.json"
    target.write_text("before")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "fsync", full)
    for write in (write_report, write_html):
        with pytest.raises(OutputError, match="No space left"):
            write(made, target)
    assert os.listdir(tmp_path) == ["report.json"]
    assert target.read_text() == "before"


def test_file_names_that_are_not_unicode(tmp_path: Path) -> None:
    name = b"t\xff.tfm".decode("utf-8", "surrogateescape")
    made = build(make(), transform_file=name)
    write_report(made, tmp_path / "r.json")
    assert "t?.tfm" in page(made, tmp_path)


def test_human_units() -> None:
    assert [human_bytes(n) for n in (0, 999, 1000, 12_345, 999_600, 4.56e9, 1e16)] == [
        "0 B", "999 B", "1 kB", "12.3 kB", "1 MB", "4.56 GB", "10,000 TB",
    ]  # fmt: skip
    assert [human_seconds(s) for s in (None, 0.25, 12.34, 125, 3720)] == [
        "–", "0.25 s", "12.3 s", "2 min 5 s", "1 h 2 min",
    ]  # fmt: skip
