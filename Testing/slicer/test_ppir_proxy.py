"""The panel "Segment at a server" in the test host, with real processes behind its buttons, and the console's call."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import ppir_support as support
import pytest
from ppir_heads import LABELS, head_and_brain
from ppir_panels import ProxyPanel as Panel

from PPIRLogic.proxy.sent_records import SentRecords

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
from heads_support import NAMES
from proxy_support import grey_network


@pytest.fixture
def sites(tmp_path: Path) -> Iterator[support.Sites]:
    own = support.Sites(tmp_path)
    yield own
    own.stop()


@pytest.fixture
def panel(slicer_host: ModuleType, sites: support.Sites, monkeypatch: pytest.MonkeyPatch) -> Panel:
    monkeypatch.setenv("PPIR_HOME", str(sites.a.home))
    return Panel(slicer_host)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "greys.onnx"
    path.write_bytes(grey_network())
    return path


def test_preview_consent_and_a_segmentation_with_names_and_colours(
    panel: Panel, sites: support.Sites, model: Path
) -> None:
    import slicer
    import slicer.util

    ui, service = panel.ui, sites.start("proxy", "serve", "--model", str(model), "--listen", "127.0.0.1:0")
    assert not ui.proxyApplyButton.enabled and not ui.proxyPreviewButton.enabled
    assert ui.proxyApplyButton.toolTip == "Select a volume."
    panel.node.proxyVolume, panel.node.proxyMask = head_and_brain()
    panel.node.proxyPeer = service.wait_for("listening")["address"]
    assert not ui.proxyConsentCheckBox.enabled and ui.proxyApplyButton.toolTip == "Look at the preview first."
    panel.press(ui.proxyPreviewButton)
    assert not panel.failed and SentRecords(sites.a.home).all() == [], "a preview sends nothing"
    assert not ui.proxyPreviewLabel.pixmap.isNull() and "not encrypted" in ui.proxyWarningLabel.text
    assert "same person can be linked" in ui.proxyWarningLabel.text
    ui.proxyConsentCheckBox.checked, ui.proxyAnyModelCheckBox.checked = True, True
    panel.node.proxyStrength = "low"  # what was looked at is not what would be sent
    assert not ui.proxyConsentCheckBox.checked and not ui.proxyApplyButton.enabled
    panel.press(ui.proxyPreviewButton)
    ui.proxyConsentCheckBox.checked = True
    panel.picture("proxy_preview")
    panel.press(ui.proxyApplyButton)
    assert not panel.failed, panel.status
    (found,) = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
    segments = found.GetSegmentation()
    names = [segments.GetNthSegment(i).GetName() for i in range(segments.GetNumberOfSegments())]
    assert set(names) <= set(NAMES[1:]) and "white matter" in names
    assert len({segments.GetNthSegment(i).GetColor() for i in range(len(names))}) == len(names)
    assert panel.cells(ui.proxyTable, 0) == list(NAMES[1:])
    volume = float(panel.cells(ui.proxyTable, 1)[NAMES.index("white matter") - 1])
    assert volume == pytest.approx((LABELS == 2).sum() * 0.027, rel=0.25)
    assert [r["strength_mm"] for r in SentRecords(sites.a.home).all()] == [4.0]
    panel.picture("proxy")


def test_what_goes_wrong_is_said(panel: Panel, sites: support.Sites, model: Path) -> None:
    ui = panel.ui
    panel.node.proxyVolume, panel.node.proxyMask = head_and_brain()
    panel.node.proxyPeer = "127.0.0.1:1"
    panel.press(ui.proxyPreviewButton)
    ui.proxyConsentCheckBox.checked = True
    panel.press(ui.proxyApplyButton)
    assert panel.failed and "127.0.0.1:1" in panel.status and SentRecords(sites.a.home).all() == []


def test_a_model_is_shared_from_the_panel(panel: Panel, sites: support.Sites, model: Path) -> None:
    ui = panel.ui
    panel.node.proxyServeAddress, ui.proxyModelPath.currentPath = "127.0.0.1:0", str(model)
    ui.proxyServeButton.click()
    assert panel.host.process_events(until=lambda: "shared at" in ui.shareLogTextEdit.plainText, timeout=90)
    assert ui.proxyServeButton.text == "Stop sharing the model"
    panel.picture("proxy_share")
    ui.proxyServeButton.click()
    assert ui.proxyServeButton.text == "Share the model" and not support.children("proxy", "serve")


def test_the_console_and_the_self_test(slicer_host: ModuleType, model: Path) -> None:
    slicer_host.load_module(support.MODULE)
    from PPIRLib.selftest import check_segmentation

    logic = sys.modules["PPIR"].PPIRLogic()
    assert check_segmentation(logic, str(model))["white matter"] > 300
    with pytest.raises(RuntimeError, match="somebody has to agree"):
        logic.segmentAtServer(None, "127.0.0.1:1", agreed=False)
