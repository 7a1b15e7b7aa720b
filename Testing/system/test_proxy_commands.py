"""`ppir proxy key`, `make`, `unmake`, `segment` and `serve` as people and programs call them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from heads_support import NAMES, brain_of, head
from proxy_support import grey_network
from system_support import Program, events_of, here

from PPIRLogic.images.volume import Volume
from PPIRLogic.images.writing import write_volume
from PPIRLogic.local_processes import Site, make_sites
from PPIRLogic.proxy.both_sites import simulate
from PPIRLogic.proxy.sent_records import SentRecords

SCAN, LABELS = head(1)


@dataclass
class World:
    """A hospital with a scan and a mask in files, and a site that segments, as a process."""

    a: Site
    address: str
    scan: Path
    mask: Path


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("proxy commands")
    sites = make_sites(folder, ("A", "B"))
    scan, mask, model = folder / "patient_name.nrrd", folder / "mask.nrrd", folder / "greys.onnx"
    write_volume(SCAN, scan)
    write_volume(Volume(brain_of(LABELS).astype(np.float32), SCAN.geometry), mask)
    model.write_bytes(grey_network())
    arguments = ("proxy", "serve", "--model", model, "--allow", "A", "--listen", "127.0.0.1:0")
    with Program(sites["B"].home, *arguments, with_parent=True) as program:
        yield World(sites["A"], str(program.wait_for("listening")["address"]), scan, mask)
        program.process.stdin.write("end\n")  # type: ignore[union-attr]
        program.process.stdin.close()  # type: ignore[union-attr]
        assert program.ends() == 0 and program.event("stopped")


def test_a_scan_is_segmented_and_a_report_says_what_was_disclosed(world: World, tmp_path: Path) -> None:
    done = here(
        world.a.home, "proxy", "segment", world.scan, "--mask", world.mask, "--peer", world.address, "--model", "any",
        "--strength", "low", "--yes", "--output", tmp_path / "tissues.nrrd", "--report", tmp_path / "report", "--json",
    )  # fmt: skip
    said = events_of(done)[-1]
    assert done.returncode == 0 and said["event"] == "segmented", done.stderr
    image = sitk.ReadImage(str(tmp_path / "tissues.nrrd"))
    assert image.GetSize() == SCAN.geometry.size and image.GetOrigin() == SCAN.geometry.origin
    assert image.GetDirection() == SCAN.geometry.direction
    found = sitk.GetArrayFromImage(image)
    both = 2 * ((found == 2) & (LABELS == 2)).sum() / ((found == 2).sum() + (LABELS == 2).sum())
    assert both > 0.85
    assert [row["name"] for row in said["labels"]] == list(NAMES[1:])
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    page = (tmp_path / "report" / "report.html").read_text()
    assert report["bits"] == said["bits"] == SentRecords(world.a.home).all()[-1]["bits"]
    assert "not encrypted" in page and "white matter" in page and "patient_name" not in page
    told = here(world.a.home, "ledger").stdout
    assert "1 proxies, whole images" in told


def test_nobody_is_asked_where_there_is_nobody(world: World, tmp_path: Path) -> None:
    before = len(SentRecords(world.a.home).all())
    done = here(
        world.a.home, "proxy", "segment", world.scan, "--mask", world.mask, "--peer", world.address, "--model", "any",
        "--output", tmp_path / "t.nrrd", "--json",
    )  # fmt: skip
    assert done.returncode == 2 and "nobody to ask" in done.stdout + done.stderr
    other = here(
        world.a.home, "proxy", "segment", world.scan, "--mask", world.mask, "--peer", world.address, "--model", "any",
        "--yes", "--only", "00" * 16, "--output", tmp_path / "t.nrrd",
    )  # fmt: skip
    assert other.returncode == 2 and "which was looked at" in other.stderr
    assert len(SentRecords(world.a.home).all()) == before and not (tmp_path / "t.nrrd").exists()


def test_make_and_unmake_and_a_wrong_key(world: World, tmp_path: Path) -> None:
    home, proxy = world.a.home, tmp_path / "proxy.nrrd"
    made = here(home, "proxy", "make", world.scan, "--mask", world.mask, "--output", proxy, "--preview",
                tmp_path / "look.png", "--json")  # fmt: skip
    assert made.returncode == 0 and (tmp_path / "look.png").read_bytes()[:4] == b"\x89PNG", made.stderr
    image = sitk.ReadImage(str(proxy))
    values = sitk.GetArrayFromImage(image)
    assert image.GetOrigin() == (0.0, 0.0, 0.0) and image.GetDirection() == (1.0, 0, 0, 0, 1, 0, 0, 0, 1)
    assert not image.GetMetaDataKeys() or "patient" not in str([image.GetMetaData(k) for k in image.GetMetaDataKeys()])
    answer = sitk.GetImageFromArray((values > 120).astype(np.uint8) + (values > 175))
    answer.CopyInformation(image)
    sitk.WriteImage(answer, str(tmp_path / "answer.nrrd"))
    arguments = ("proxy", "unmake", tmp_path / "answer.nrrd", "--proxy", proxy, "--scan", world.scan, "--mask",
                 world.mask, "--output", tmp_path / "back.nrrd")  # fmt: skip
    done = here(home, *arguments)
    assert done.returncode == 0, done.stderr
    back = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "back.nrrd")))
    inside = LABELS == 2
    assert back.shape == LABELS.shape and (back[inside] > 0).mean() > 0.85
    here(home, "proxy", "key", "--key", tmp_path / "other")
    wrong = here(home, *arguments, "--key", tmp_path / "other")
    assert wrong.returncode == 2 and "made under the key" in wrong.stderr
    no_mask = here(home, *(a for a in arguments if a not in ("--mask", world.mask)))
    assert no_mask.returncode == 2 and "give it (--mask)" in no_mask.stderr
    lost = here(home, *arguments, "--key", tmp_path / "nowhere")
    assert lost.returncode == 6 and "segmented again under a new one" in lost.stderr


def test_the_key_is_made_once(world: World, tmp_path: Path) -> None:
    path = tmp_path / "key"
    first = here(world.a.home, "proxy", "key", "--key", path, "--json")
    again = here(world.a.home, "proxy", "key", "--key", path)
    new = here(world.a.home, "proxy", "key", "--key", path, "--new", "--json")
    assert first.returncode == new.returncode == 0 and again.returncode == 2 and "another proxy" in again.stderr
    assert events_of(first)[0]["id"] != events_of(new)[0]["id"] and (tmp_path / "key.old").exists()


def test_both_sites_on_one_machine(tmp_path: Path) -> None:
    model = tmp_path / "greys.onnx"
    model.write_bytes(grey_network())
    found = simulate(SCAN, "low", model=model, mask=brain_of(LABELS))
    both = 2 * ((found.labels == 2) & (LABELS == 2)).sum() / ((found.labels == 2).sum() + (LABELS == 2).sum())
    assert both > 0.85 and found.facts["bytes_received"] > 0


def test_a_model_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "none.onnx").write_bytes(b"nothing")
    done = here(tmp_path / "home", "proxy", "serve", "--model", tmp_path / "none.onnx", "--listen", "127.0.0.1:0")
    assert done.returncode == 2 and "is not a model of the proxy" in done.stderr
