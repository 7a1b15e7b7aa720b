"""Point lists in the module's logic: markups in, a linear transform node out, with a real peer process."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import ppir_support as support
import pytest
from ppir_panels import RegisterPanel, SharePanel, plain

RNG = np.random.default_rng(4)
FIXED = RNG.uniform(-60, 60, (40, 3)) + np.array([10.0, -30.0, 80.0])  # RAS
ANGLE = np.deg2rad(30)
TURN = np.array([[np.cos(ANGLE), -np.sin(ANGLE), 0], [np.sin(ANGLE), np.cos(ANGLE), 0], [0, 0, 1]])
MOVING = FIXED @ TURN.T + np.array([5.0, 8.0, -12.0])
OPEN = {"budget_percent": 100.0}


@pytest.fixture
def sites(tmp_path: Path) -> Iterator[support.Sites]:
    own = support.Sites(tmp_path)
    yield own
    own.stop()


@pytest.fixture
def logic(slicer_host: ModuleType) -> Any:
    slicer_host.load_module(support.MODULE)
    return sys.modules["PPIR"].PPIRLogic()


def markups(points: np.ndarray, name: str) -> Any:
    node = support.add("vtkMRMLMarkupsFiducialNode", name)
    for point in points.tolist():
        node.AddControlPoint(*point)
    return node


def where(node: Any) -> np.ndarray:
    """World positions, RAS."""
    out = []
    for i in range(node.GetNumberOfControlPoints()):
        position = [0.0, 0.0, 0.0]
        node.GetNthControlPointPositionWorld(i, position)
        out.append(position)
    return np.array(out)


def test_points_shared_by_one_and_registered_by_the_other(
    logic: Any, sites: support.Sites, slicer_host: ModuleType
) -> None:
    events: list[dict[str, Any]] = []
    settings = {"name": "pts", "address": "127.0.0.1:0", "allow": (sites.a.fingerprint,), **OPEN}
    share = logic.sharePoints(markups(FIXED, "F"), home=sites.b.home, onEvent=events.append, **settings)
    try:
        assert slicer_host.process_events(until=lambda: any(e["event"] == "listening" for e in events), timeout=60)
        address = next(e["address"] for e in events if e["event"] == "listening")
        moving = markups(MOVING, "M")
        parent = support.add("vtkMRMLLinearTransformNode", "former")
        moving.SetAndObserveTransformNodeID(parent.GetID())
        node = logic.registerPoints(moving, address, image="pts", home=sites.a.home)
        assert node.IsA("vtkMRMLLinearTransformNode") and moving.GetTransformNodeID() == node.GetID()
        assert np.abs(where(moving) - FIXED).max() < 1e-4
        with pytest.raises(RuntimeError, match="mine 39 points"):
            logic.registerPoints(markups(MOVING[:-1], "fewer"), address, home=sites.a.home)
    finally:
        share.stop()
    assert not share.folder.exists()


def test_lists_that_cannot_be_used(logic: Any) -> None:
    from PPIRLogic.errors import InputError

    with pytest.raises(InputError, match="markups node"):
        logic.registerPoints(None, "x:1")
    with pytest.raises(InputError, match="at least 3"):
        logic.registerPoints(markups(MOVING[:2], "two"), "x:1")
    grid = support.add("vtkMRMLGridTransformNode", "grid")
    with pytest.raises(InputError, match="cannot hold"):
        logic.registerPoints(markups(MOVING, "M"), "x:1", outputTransform=grid)
    node, parent = markups(FIXED, "F"), support.add("vtkMRMLLinearTransformNode", "parent")
    node.SetAndObserveTransformNodeID(parent.GetID())
    with pytest.raises(InputError, match="Harden"):
        logic.sharePoints(node)


# From the panels


def test_panels_share_and_register_points(
    sites: support.Sites, slicer_host: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hospital B shares from its panel; then the same application is hospital A."""
    monkeypatch.setenv("PPIR_HOME", str(sites.b.home))
    there = SharePanel(slicer_host)
    slicer_host.choose(there.ui.sharedPointsSelector, markups(FIXED, "F").GetName())
    there.node.budgetPercent = 100.0
    there.node.sharedName, there.node.shareAddress = "pts", "127.0.0.1:0"
    there.node.sharedVolume = support.add_volume(support.FIXED, "V")
    assert "not both" in there.status and not there.ui.shareButton.enabled
    there.node.sharedVolume = None
    there.ui.shareButton.click()
    assert slicer_host.process_events(until=lambda: there.status.startswith("Sharing at "), timeout=60), there.status
    address = there.status.removeprefix("Sharing at ")

    monkeypatch.setenv("PPIR_HOME", str(sites.a.home))
    here = RegisterPanel(slicer_host)
    here.node.peer = address
    slicer_host.choose(here.ui.movingPointsSelector, markups(MOVING, "M").GetName())
    assert "rigid, similarity" in here.status and not here.ui.applyButton.enabled
    here.node.movingVolume, here.node.transform = support.add_volume(support.FIXED, "V"), "rigid"
    assert "not both" in here.status
    here.node.movingVolume = None
    here.ui.testButton.click()
    here.wait()
    assert "Points 'pts': 40, 3D" in plain(here.ui.peerStatusLabel.text)
    here.apply()
    here.picture("register_points")
    assert here.status.startswith("Done") and "13 numbers disclosed" in here.status, here.said
    (consent,) = slicer_host.dialogs.shown
    assert "13 sums over their coordinates (11 % of their number)" in consent.text and "'pts'" in consent.text
    points = here.node.movingPoints
    assert points.GetTransformNodeID() == here.node.outputTransform.GetID()
    assert np.abs(where(points) - FIXED).max() < 1e-4
    here.ui.undoButton.click()
    assert points.GetTransformNodeID() is None
    assert "points_3d" in there.cell(there.ui.sessionsTable, 0, 2)
    there.ui.shareButton.click()


def test_points_that_the_peer_does_not_share(
    sites: support.Sites, slicer_host: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PPIR_HOME", str(sites.a.home))
    panel = RegisterPanel(slicer_host)
    panel.node.peer, panel.node.movingPoints = sites.serve(support.FIXED), markups(MOVING, "M")
    panel.node.transform = "rigid"
    panel.apply()
    assert panel.failed and "Name one of what this peer offers: atlas" in panel.status
    assert slicer_host.dialogs.shown == [] and panel.node.movingPoints.GetTransformNodeID() is None
