"""The pictures of the documentation: both hospitals' panels, step by step, and slice views before and after.

    python Testing/slicer/screenshots.py --output Resources/Screenshots

Nothing is posed: a second hospital's process is at the other end of every picture. Party 1 and party 2 are the same
panel at two sites, one after the other.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import demo
import host
import ppir_support as support
import slicer.util
import vtkmodules.vtkRenderingContextOpenGL2  # noqa: F401 (what draws the chart)
from ppir_heads import head_and_brain
from ppir_panels import ProxyPanel, RegisterPanel, SealPanel, SharePanel
from proxy_support import grey_network
from PySide6 import QtWidgets
from vtkmodules.vtkChartsCore import vtkAxis, vtkChart, vtkChartXY, vtkPlotPoints
from vtkmodules.vtkIOImage import vtkPNGWriter
from vtkmodules.vtkRenderingCore import vtkWindowToImageFilter
from vtkmodules.vtkViewsContext2D import vtkContextView

from PPIRLogic.cli.demo import DATA, PAIRS
from PPIRLogic.primis import own_card

SAMPLES = support.EXTENSION / "Resources" / "SampleData"
WIDTH = 460
PARAMETERS = {"transform": "affine", "loss": "ssd", "evaluations": 30}


def main(output: Path) -> None:
    output = output.resolve()  # pictures are taken in several folders
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        share(Path(folder, "b"), output)
        register(Path(folder, "a"), output)
        seal(Path(folder, "c"), output)
        segment(Path(folder, "d"), output)
        demo.run(Path(folder), PAIRS)
        for pair in PAIRS:
            shutil.copyfile(Path(folder, f"{pair.name}_slicer.png"), output / f"{pair.name}.png")
    print(f"Pictures are in {output}")


@contextlib.contextmanager
def at(folder: Path, site: str) -> Iterator[support.Sites]:
    """Two hospitals; the panel stands in one of them."""
    host.reset()
    sites = support.Sites(folder)
    former = os.environ.get("PPIR_HOME")
    os.environ["PPIR_HOME"] = str((sites.a if site == "A" else sites.b).home)
    try:
        yield sites
    finally:
        sites.stop()
        host.reset()
        os.environ.pop("PPIR_HOME") if former is None else os.environ.update(PPIR_HOME=former)


def share(folder: Path, output: Path) -> None:
    """Hospital B: fingerprints are exchanged, the fixed volume is shared, hospital A registers to it."""
    with at(folder, "B") as sites:
        sites.forget(sites.b.home, sites.a.fingerprint)
        panel = SharePanel(host)
        panel.ui.showIdentityButton.click()
        panel.ui.peerNameLineEdit.text, panel.ui.fingerprintLineEdit.text = "Hospital A", sites.a.fingerprint
        shot(panel, output / "share_trust.png")
        panel.ui.addPeerButton.click()
        volume = slicer.util.loadVolume(str(SAMPLES / "PPIRBrainFixed.nrrd"))
        panel.node.budgetPercent = 50.0
        address = panel.share(volume)
        moving = DATA / "BrainProtonDensitySliceR10X13Y17S12.png"
        party_1 = support.start(
            "Hospital A", sites.a.home, "register", str(moving), "--peer", address, "--loss", "ssd",
            "--output", str(folder / "T.h5"),
        )  # fmt: skip
        try:
            sessions = panel.ui.sessionsTable
            until(lambda: sessions.rowCount == 1 and int(panel.cell(sessions, 0, 4).replace(",", "")) > 50)
            shot(panel, output / "share.png")
        finally:
            party_1.stop()
        panel.ui.shareButton.click()


def register(folder: Path, output: Path) -> None:
    """Hospital A: asks the peer, reads what will be learned, registers."""
    with at(folder, "A") as sites:
        address = sites.serve(
            support.sitk.ReadImage(str(SAMPLES / "PPIRBrainFixed.nrrd"))[:, :, 0], "--budget-percent", "50"
        )
        panel = RegisterPanel(host)
        panel.node.peer, panel.node.movingVolume = (
            address,
            slicer.util.loadVolume(str(SAMPLES / "PPIRBrainMoving.nrrd")),
        )
        for name, value in PARAMETERS.items():
            setattr(panel.node, name, value)
        panel.ui.testButton.click()
        panel.wait()
        shot(panel, output / "register_peer.png")
        panel.ui.applyButton.click()
        assert panel.watch(lambda: panel.status.startswith("Level 3")), panel.said
        shot(panel, output / "register_running.png")
        panel.wait()
        assert panel.status.startswith("Done"), panel.said
        shot(panel, output / "register.png")
        chart(output / "plot.png")
        (consent,) = host.dialogs.shown
        dialog(consent, output / "consent.png")


def seal(folder: Path, output: Path) -> None:
    """Hospital A seals an X-ray and grants it to hospital B."""
    with at(folder, "A") as sites, contextlib.chdir(folder):
        Path("hospital_b.ppic").write_bytes(own_card(sites.b.home))
        panel = SealPanel(host)
        image = support.sitk.ReadImage(str(DATA / "chest_xray_00001308_002.png"))
        panel.seal(support.add_volume(image, "chest X-ray"), Path("chest.ppis"))
        panel.ui.cardPath.currentPath, panel.node.sealPurpose = "hospital_b.ppic", "a second opinion"
        panel.ui.grantLevelComboBox.currentText = "texture"
        host.dialogs.answer("file", "hospital_b.ppig")
        panel.press(panel.ui.grantButton)
        assert not panel.failed, panel.status
        shot(panel, output / "seal.png")


def segment(folder: Path, output: Path) -> None:
    """Hospital B segments the proxy of a head that is a few ellipsoids, for hospital A."""
    with at(folder, "A") as sites:
        model = folder / "greys.onnx"
        model.write_bytes(grey_network())
        service = sites.start("proxy", "serve", "--model", str(model), "--listen", "127.0.0.1:0")
        panel = ProxyPanel(host)
        panel.node.proxyVolume, panel.node.proxyMask = head_and_brain()
        panel.node.proxyPeer, panel.node.proxyStrength = service.wait_for("listening")["address"], "medium"
        panel.press(panel.ui.proxyPreviewButton)
        panel.ui.proxyConsentCheckBox.checked = panel.ui.proxyAnyModelCheckBox.checked = True
        panel.press(panel.ui.proxyApplyButton)
        assert not panel.failed, panel.status
        shot(panel, output / "segment.png")


def until(condition: Callable[[], bool]) -> None:
    if not host.process_events(until=condition, timeout=60):
        raise SystemExit("What the picture was to show did not happen.")


def shot(panel: Any, path: Path) -> None:
    host.grab(panel.widget, path, width=WIDTH)


def chart(path: Path) -> None:
    """What the scene's plot nodes say, drawn by the same VTK chart that Slicer's plot view is made of."""
    (node,) = slicer.util.getNodesByClass("vtkMRMLPlotChartNode")
    view, plot = vtkContextView(), vtkChartXY()
    view.GetRenderWindow().SetOffScreenRendering(1)
    view.GetRenderWindow().SetSize(WIDTH, 320)
    view.GetScene().AddItem(plot)
    plot.SetTitle(node.GetTitle())
    plot.SetShowLegend(True)
    for axis, title in ((vtkAxis.BOTTOM, node.GetXAxisTitle()), (vtkAxis.LEFT, node.GetYAxisTitle())):
        plot.GetAxis(axis).SetTitle(title)
    for series in slicer.util.getNodesByClass("vtkMRMLPlotSeriesNode"):
        line = plot.AddPlot(vtkChart.LINE)
        table = series.GetTableNode().GetTable()
        line.SetInputData(table, series.GetXColumnName(), series.GetYColumnName())
        line.SetColorF(*series.GetColor())
        line.SetMarkerStyle(vtkPlotPoints.CIRCLE)
        line.SetWidth(2.0)
        line.SetLabel(series.GetName())
    view.GetRenderWindow().Render()
    grabbed, writer = vtkWindowToImageFilter(), vtkPNGWriter()
    grabbed.SetInput(view.GetRenderWindow())
    writer.SetFileName(str(path))
    writer.SetInputConnection(grabbed.GetOutputPort())
    writer.Write()


def dialog(shown: host.Dialog, path: Path) -> None:
    """A message box with what the module asked, as slicer.util shows it."""
    box = QtWidgets.QMessageBox(QtWidgets.QMessageBox.Question, shown.title, shown.text)
    box.setStandardButtons(QtWidgets.QMessageBox.Ok | QtWidgets.QMessageBox.Cancel)
    box.show()
    host.process_events(0.05)
    if not box.grab().save(str(path)):
        raise OSError(f"{path} could not be written")
    box.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Pictures for the documentation.")
    parser.add_argument("--output", type=Path, default=support.ROOT / "Resources" / "Screenshots")
    main(parser.parse_args().output)
