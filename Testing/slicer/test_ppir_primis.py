"""The panel "Seal and share" in the test host, with real processes behind its buttons, and the console's calls."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import ppir_support as support
import pytest
import SimpleITK as sitk
from ppir_panels import SealPanel as Panel

from PPIRLogic.primis import own_card, seal, unseal
from PPIRLogic.primis.grant_records import GrantRecords
from PPIRLogic.primis.levels import LEVELS

PIXELS = np.rint(sitk.GetArrayFromImage(support.phantom((40, 36, 3)))).astype(np.int16)


@pytest.fixture
def sites(tmp_path: Path) -> Iterator[support.Sites]:
    own = support.Sites(tmp_path)
    yield own
    own.stop()


@pytest.fixture
def panel(slicer_host: ModuleType, sites: support.Sites, monkeypatch: pytest.MonkeyPatch) -> Panel:
    monkeypatch.setenv("PPIR_HOME", str(sites.a.home))
    return Panel(slicer_host)


def volume(name: str = "chest") -> Any:
    image = sitk.GetImageFromArray(PIXELS)
    image.SetSpacing((2.0, 1.5, 3.0))
    image.SetOrigin((-4.0, 5.0, 6.0))
    return support.add_volume(image, name)


def voxels(node: Any) -> Any:
    import slicer.util

    return slicer.util.arrayFromVolume(node)


def newest() -> Any:
    import slicer.util

    opened = [n for n in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") if n.GetAttribute("PPIR.PrimisLevel")]
    return max(opened, key=lambda n: int(n.GetID().removeprefix("vtkMRMLScalarVolumeNode")))


def test_seal_look_grant_and_open(panel: Panel, sites: support.Sites, tmp_path: Path) -> None:
    ui, file = panel.ui, tmp_path / "chest.ppis"
    assert not ui.sealButton.enabled and not ui.askButton.enabled
    panel.seal(volume(), file)
    assert panel.cells(ui.codesTable, 1) == list(LEVELS) and panel.cells(ui.codesTable, 4)[-1] == "exact"
    sizes = [int(text.replace(",", "")) for text in panel.cells(ui.codesTable, 3)]
    assert sizes == sorted(sizes) and sizes[-1] < file.stat().st_size
    assert not ui.codesTable.item(0, 0).icon().isNull() and ui.grantFilePath.currentPath == str(file)

    (tmp_path / "b.ppic").write_bytes(own_card(sites.b.home))
    ui.cardPath.currentPath = str(tmp_path / "b.ppic")
    ui.grantButton.click()
    assert panel.failed and "purpose" in panel.status
    panel.node.sealPurpose, ui.grantLevelComboBox.currentText = "a second opinion", "segmentation"
    panel.host.dialogs.answer("file", str(tmp_path / "b"))  # without its ending
    panel.press(ui.grantButton)
    assert not panel.failed and sites.b.fingerprint in panel.status
    assert unseal(file, grant=tmp_path / "b.ppig", home=sites.b.home).level == "segmentation"
    assert [r["purpose"] for r in GrantRecords(sites.a.home).all()] == ["a second opinion"]
    panel.picture("seal")

    panel.press(ui.openButton)
    assert np.array_equal(voxels(newest()), PIXELS) and voxels(newest()).dtype.kind in "iu"
    assert newest().GetSpacing() == (2.0, 1.5, 3.0) and newest().GetAttribute("PPIR.PrimisLevel") == "exact"
    ui.openLevelComboBox.currentText = "overview"
    panel.press(ui.openButton)
    assert panel.failed and "Not for diagnosis" in panel.status, "a lossy image is said to be one"
    assert "(overview, not for diagnosis)" in newest().GetName() and newest().GetAttribute("PPIR.PrimisNote")


def test_what_goes_wrong_is_said(panel: Panel, sites: support.Sites, tmp_path: Path) -> None:
    ui = panel.ui
    seal(PIXELS, tmp_path / "theirs.ppis", home=sites.b.home)
    theirs = tmp_path / "theirs.ppis"
    for button, path, words in (
        (ui.openButton, "", "Choose the sealed file"), (ui.openButton, theirs, "not sealed by this site"),
        (ui.catalogueButton, "", "Enter the address"), (ui.grantButton, "", "Choose the sealed file"),
    ):  # fmt: skip
        ui.openFilePath.currentPath = str(path)
        panel.press(button)
        assert panel.failed and words in panel.status, panel.status
    panel.node.sealVolume = volume()
    panel.host.dialogs.answer("file", "")
    panel.press(ui.sealButton)  # given up in the dialog
    panel.host.dialogs.answer("file", str(tmp_path / "no" / "such.ppis"))
    panel.press(ui.sealButton)
    assert panel.failed and "does not exist" in panel.status
    assert not list(Path(tmp_path).glob("*.part*"))


@pytest.mark.parametrize("how", ["cancel", "scene closed"])
def test_a_sealing_that_is_ended_leaves_nothing(how: str, panel: Panel, tmp_path: Path) -> None:
    import slicer

    panel.node.sealVolume = volume()
    panel.host.dialogs.answer("file", str(tmp_path / "chest.ppis"))
    panel.ui.sealButton.click()
    folder = panel.panel._run.folder
    assert folder.is_dir() and not panel.ui.sealCancelButton.isHidden()
    if how == "cancel":
        panel.ui.sealCancelButton.click()
        assert panel.host.process_events(until=lambda: not panel.panel.busy, timeout=30)
        assert panel.status == "Cancelled."
    else:
        slicer.mrmlScene.Clear(0)
        assert not panel.panel.busy
    assert not folder.exists() and not (tmp_path / "chest.ppis").exists() and not support.children("primis", "seal")


def test_ask_another_hospital(panel: Panel, sites: support.Sites, tmp_path: Path) -> None:
    ui = panel.ui
    seal(PIXELS, tmp_path / "theirs.ppis", home=sites.b.home)
    rules = ("--name", "thorax", "--level", "texture", "--listen", "127.0.0.1:0")
    service = sites.start("primis", "serve", str(tmp_path / "theirs.ppis"), *rules)
    panel.node.askPeer = service.wait_for("listening")["address"]
    panel.press(ui.catalogueButton)
    assert panel.cells(ui.catalogueTable, 0) == ["thorax"] and panel.cells(ui.catalogueTable, 2) == ["texture"]
    panel.press(ui.askButton)
    assert panel.failed and "what the image is for" in panel.status
    panel.node.askPurpose, ui.askLevelComboBox.currentText = "a study", "classification"
    panel.host.dialogs.answer("file", str(tmp_path / "received"))
    panel.press(ui.askButton)
    assert panel.status == "Granted up to 'classification'. Press Open." and not panel.failed
    panel.press(ui.openButton)
    assert newest().GetAttribute("PPIR.PrimisLevel") == "classification" and voxels(newest()).shape == PIXELS.shape


def test_share_and_be_asked(panel: Panel, sites: support.Sites, tmp_path: Path) -> None:
    ui = panel.ui
    panel.seal(volume(), tmp_path / "mine.ppis")
    panel.node.serveAddress, panel.node.serveName = "127.0.0.1:0", "thorax"
    ui.serveButton.click()
    assert panel.host.process_events(until=lambda: panel.status.startswith("Sharing at "), timeout=60), panel.status
    address = panel.status.removeprefix("Sharing at ")
    wanted = (
        "primis",
        "ask",
        "thorax",
        "--peer",
        address,
        "--purpose",
        "<b>a study</b>",
        "--output",
        str(tmp_path / "in"),
    )
    for button, ended in ((ui.declineButton, "error"), (ui.allowButton, "granted")):
        asker = sites.start(*wanted)
        assert panel.host.process_events(until=lambda: not ui.questionLabel.isHidden(), timeout=60)
        assert "up to the level 'overview'. Purpose: ‹b›a study‹/b›" in ui.questionLabel.text.replace("&#x27;", "'")
        if ended == "granted":
            panel.picture("seal_question")
        button.click()
        assert ui.questionLabel.isHidden()
        events: list[Any] = []

        def over(events: list[Any] = events, asker: Any = asker) -> bool:
            while not asker.events.empty():
                events.append(asker.events.get()["event"])
            return "ended" in events

        assert panel.host.process_events(until=over, timeout=60) and ended in events
    ui.serveButton.click()
    assert panel.status == "Not sharing." and not support.children("serve", address)


def test_the_console_and_the_self_test(slicer_host: ModuleType, sites: support.Sites, tmp_path: Path) -> None:
    """The self-test calls sealVolume, grantSealed and unsealVolume, and compares voxels."""
    slicer_host.load_module(support.MODULE)
    from PPIRLib.selftest import check_sealed_volume

    logic = sys.modules["PPIR"].PPIRLogic()
    assert check_sealed_volume(logic) == ["overview", "exact"]
    seal(PIXELS, tmp_path / "x.ppis", home=sites.a.home)
    with pytest.raises(RuntimeError, match="not sealed by this site"):
        logic.unsealVolume(tmp_path / "x.ppis", home=sites.b.home)
