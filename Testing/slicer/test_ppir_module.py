"""The Register panel and the module's logic, in the test host, against a real peer process."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import ppir_support as support
import pytest
from ppir_panels import NAME
from ppir_panels import RegisterPanel as Panel
from ppir_support import FIXED, MOVING

LARGE = support.phantom((96, 88, 80))  # a run on it takes long enough to be interrupted


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[support.Sites]:
    sites = support.Sites(tmp_path_factory.mktemp("sites"))
    sites.address = sites.serve(FIXED, "--budget-percent", "100", "--budget-bits", "600")  # many runs
    yield sites
    sites.stop()


@pytest.fixture
def sites(tmp_path: Path) -> Iterator[support.Sites]:
    """Two hospitals of this test alone; none serves yet."""
    own = support.Sites(tmp_path)
    yield own
    own.stop()


@pytest.fixture
def panel(slicer_host: ModuleType, world: support.Sites, monkeypatch: pytest.MonkeyPatch) -> Panel:
    monkeypatch.setenv("PPIR_HOME", str(world.a.home))
    return Panel(slicer_host)


@pytest.fixture
def alone(slicer_host: ModuleType, sites: support.Sites, monkeypatch: pytest.MonkeyPatch) -> Panel:
    """The panel at a site of this test alone."""
    monkeypatch.setenv("PPIR_HOME", str(sites.a.home))
    return Panel(slicer_host)


def of_class(name: str) -> list[Any]:
    import slicer

    return list(slicer.util.getNodesByClass(name))


def processes() -> list[int]:
    return [p for p in support.children("PPIRLogic") if " serve " not in support.command_line(p)]


# What a person sees and presses


def test_connection_is_tested(panel: Panel, world: support.Sites) -> None:
    assert "address" in panel.status and not panel.ui.applyButton.enabled and not panel.ui.testButton.enabled
    panel.ui.peerLineEdit.text = world.address
    assert "Select my volume" in panel.status and panel.ui.testButton.enabled
    panel.ui.testButton.click()
    panel.wait()
    text = panel.ui.peerStatusLabel.text
    for part in (
        "Hospital B",
        world.b.fingerprint,
        "atlas",
        "40 × 36 × 32",
        "2 × 1.8 × 2.5 mm",
        "no mask",
        "ncc",
        "fhe",
        "100 % of each level",
        "numbers per session",
        "left in all",
    ):
        assert part in text
    assert panel.host.dialogs.shown == [] and not panel.failed
    assert panel.ui.peerHistoryComboBox.count >= 1
    assert panel.status == "The peer answers. Select my volume."
    panel.picture("register_peer")


def test_apply_registers(panel: Panel, world: support.Sites) -> None:
    import slicer

    moving = panel.prepare(world.address)
    former = support.add("vtkMRMLLinearTransformNode", "former")
    moving.SetAndObserveTransformNodeID(former.GetID())
    assert panel.ui.applyButton.enabled and panel.ui.applyButton.text == "Apply" and panel.status == "Ready."
    with panel.host.event_loop_gaps() as gaps:
        panel.ui.applyButton.click()
        assert panel.ui.applyButton.text == "Cancel" and panel.ui.applyButton.enabled
        panel.watch(lambda: panel.status.startswith("Level"))
        assert panel.ui.progressBar.isVisibleTo(panel.widget.parent) and not panel.ui.undoButton.enabled
        panel.wait()
    support.figures.append(
        "longest time between two turns of the event loop during a registration:"
        f" {1e3 * gaps.longest:.0f} ms, of these computing {1e3 * gaps.computing:.0f} ms"
    )
    assert gaps.computing < 0.3  # of its own: a person hardly notices; busy processors take longer for the same
    panel.picture("register_done")
    assert panel.ui.applyButton.text == "Apply" and not panel.ui.progressBar.isVisibleTo(panel.widget.parent)
    (consent,) = panel.host.dialogs.shown
    assert (
        consent.kind == "confirm" and world.b.fingerprint in consent.text and "My volume itself is not" in consent.text
    )
    assert "A site that does not follow the protocol learns no more than this" in consent.text
    assert "'MR'" in consent.text and "'atlas'" in consent.text and "at most 1492 sums" in consent.text
    steps = [s for s in panel.said if s.startswith("Level")]
    assert steps and all("MB sent" in s and "numbers disclosed" in s for s in steps)
    log = panel.ui.logTextEdit.plainText
    assert "Registering 'MR'" in log and "level 1" in log and "level 2" in log and "&" not in log
    assert panel.status.startswith("Done: transform 'MR registered'") and not panel.failed
    transform = panel.node.outputTransform
    assert support.error_mm(transform, FIXED) < 0.05
    assert moving.GetTransformNodeID() == transform.GetID() and transform.GetTransformNodeID() is None
    assert transform.GetNodeReference(transform.GetMovingNodeReferenceRole()) is moving
    (report,) = of_class("vtkMRMLTextNode")
    assert '"totals"' in report.GetText()
    tables = of_class("vtkMRMLTableNode")
    assert len(tables) == 2 == len(of_class("vtkMRMLPlotSeriesNode")) and len(of_class("vtkMRMLPlotChartNode")) == 1
    for table in tables:
        loss = slicer.util.arrayFromTableColumn(table, "loss")
        assert len(loss) >= 1 and np.isfinite(loss).all() and loss[-1] == min(loss)
    panel.ui.undoButton.click()
    assert moving.GetTransformNodeID() == former.GetID() and "back where it was" in panel.status
    assert slicer.mrmlScene.IsNodePresent(transform) and not panel.ui.undoButton.enabled


def test_output_volume_and_second_run(panel: Panel, world: support.Sites) -> None:
    import slicer

    moving = panel.prepare(world.address)
    volume = panel.node.outputVolume = support.add("vtkMRMLScalarVolumeNode", "W")
    output = panel.node.outputTransform = support.add("vtkMRMLLinearTransformNode", "T")
    panel.apply()
    assert panel.status.startswith("Done: transform 'T'") and panel.node.outputTransform is output
    assert moving.GetTransformNodeID() is None
    assert support.error_mm(output, FIXED) < 0.05
    assert slicer.util.arrayFromVolume(volume).shape == (32, 36, 40) and volume.GetSpacing() == FIXED.GetSpacing()
    middle = (slice(8, 24), slice(8, 28), slice(8, 32))
    fixed = slicer.util.arrayFromVolume(support.add_volume(FIXED, "F"))
    assert np.abs(slicer.util.arrayFromVolume(volume) - fixed)[middle].mean() < 5
    assert panel.host.slice_layers == [{"foreground": volume, "foregroundOpacity": 0.5}]
    panel.apply()  # consent was given; the first plot goes
    assert len(panel.host.dialogs.shown) == 1 and len(of_class("vtkMRMLPlotChartNode")) == 1
    assert panel.status.startswith("Done: transform 'T'")


def test_apply_while_asking_cancels(panel: Panel, world: support.Sites) -> None:
    panel.prepare(world.address)
    panel.ui.applyButton.click()
    panel.ui.applyButton.click()
    panel.wait()
    assert panel.status == "Cancelled." and panel.host.dialogs.shown == [] and not processes()


def test_masks_are_label_maps_or_segmentations_and_volumes_are_not_label_maps(panel: Panel) -> None:
    import slicer

    volume = panel.prepare("127.0.0.1:9")
    label = support.add_volume(MOVING > 100, "label map", "vtkMRMLLabelMapVolumeNode")
    segments = support.add("vtkMRMLSegmentationNode", "segments")
    support.add("vtkMRMLModelNode", "no mask")
    for selector, parameter in (panel.ui.maskSelector, "movingMask"), (panel.ui.sharedMaskSelector, "sharedMask"):
        listed = {selector.nodeFromIndex(i).GetName() for i in range(selector.nodeCount())}
        assert listed == {"label map", "segments"}
        for mask in (label, segments, None):
            selector.setCurrentNode(mask)
            assert getattr(panel.node, parameter) is mask
        setattr(panel.node, parameter, segments)
        assert selector.currentNode() is segments
    for selector in (panel.ui.movingSelector, panel.ui.outputVolumeSelector, panel.ui.sharedVolumeSelector):
        assert [selector.nodeFromIndex(i) for i in range(selector.nodeCount())] == [volume]
    slicer.mrmlScene.RemoveNode(segments)
    assert panel.node.movingMask is panel.ui.maskSelector.currentNode() is not segments


def test_cancel_before_a_result_changes_nothing(panel: Panel, world: support.Sites) -> None:
    moving = panel.prepare(world.address)
    panel.apply_until("Running")
    panel.ui.applyButton.click()
    assert panel.status.startswith("Cancelling")
    panel.wait()
    assert panel.status == "Cancelled. Nothing was changed." and not processes()
    assert moving.GetTransformNodeID() is None and not of_class("vtkMRMLTransformNode")


def test_cancel_keeps_the_best_so_far_and_what_was_there_before(alone: Panel, sites: support.Sites) -> None:
    """A former run's transform and volume, chosen as outputs, are as they were."""
    import slicer

    moving = alone.prepare(sites.serve(LARGE), support.moved(LARGE))
    former = alone.node.outputTransform = support.add("vtkMRMLLinearTransformNode", "T")
    volume = alone.node.outputVolume = support.add_volume(FIXED, "W")
    before = slicer.util.arrayFromTransformMatrix(former), slicer.util.arrayFromVolume(volume).copy()
    alone.apply_until("Level 1 of")
    assert alone.watch(lambda: "evaluation" in alone.status or not alone.panel.busy)
    sites.freeze()
    alone.picture("register_running")
    assert alone.panel.busy
    alone.ui.applyButton.click()
    alone.wait()
    alone.picture("register_cancelled")
    said = "Ended early; the best transform so far is 'MR partly registered'"
    assert alone.status.startswith(said) and not alone.failed and not processes()
    assert alone.node.outputTransform is former and alone.node.outputVolume is volume
    assert np.array_equal(slicer.util.arrayFromTransformMatrix(former), before[0])
    assert np.array_equal(slicer.util.arrayFromVolume(volume), before[1])
    partial = slicer.util.getNode("MR partly registered")
    assert partial.GetNodeReference(partial.GetMovingNodeReferenceRole()) is moving


@pytest.mark.long
def test_another_modality(alone: Panel, sites: support.Sites) -> None:
    """mi on a moving image whose intensities are the fixed one's turned upside down."""
    import SimpleITK as sitk

    address = sites.serve(
        FIXED, "--budget-percent", "1e5", "--budget-bits", "4e5", "--budget-session", "10000000",
        "--budget-image", "10000000",
    )  # fmt: skip
    inverted = sitk.Sqrt(sitk.Clamp(sitk.GetArrayViewFromImage(MOVING).max().item() - MOVING, lowerBound=0.0))
    alone.prepare(address, inverted)
    alone.host.choose(alone.ui.presetComboBox, "Different modality, affine")
    alone.node.transform, alone.node.levels, alone.node.evaluations = "rigid", "2", 8
    alone.apply()
    assert alone.status.startswith(("Done", "Look at the images")), alone.said  # eight evaluations may be too few
    before = support.error_mm(support.add("vtkMRMLLinearTransformNode", "identity"), FIXED)
    import slicer

    found = slicer.mrmlScene.GetNodeByID(alone.panel._last_transform)  # one in doubt is not bound to the selector
    assert support.error_mm(found, FIXED) < 2.0 < before / 2  # mm; the level's voxels have 4 mm
    (consent,) = alone.host.dialogs.shown
    most = re.search(r"at most (\d+) sums", consent.text)
    assert most is not None, consent.text
    assert 0 <= int(most[1]) - 8 * (256 + 6) < 4000  # the joint histogram and its slopes; starts and check besides


def test_settings_of_a_method_are_enabled_with_it_and_sent(panel: Panel) -> None:
    from PPIRLib.settings import Settings

    ui, node = panel.ui, panel.node
    fields = {
        "iterations": ui.iterationsLineEdit, "grid-spacing": ui.gridSpacingSpinBox, "stride": ui.strideSpinBox,
        "radius": ui.radiusSpinBox, "bins": ui.binsComboBox,
    }  # fmt: skip
    ui.iterationsLineEdit.text, ui.gridSpacingSpinBox.value, ui.strideSpinBox.value = "4, 2", 12.5, 6
    ui.radiusSpinBox.value, ui.binsComboBox.currentText = 7.5, "16"
    panel.ui.advancedSection.collapsed = False
    for transform, loss, those in (
        ("affine", "ncc", {}),
        ("bspline", "lncc", {"iterations": "4,2", "grid-spacing": "12.5", "radius": "7.5"}),
        ("diffeo", "ncc", {"iterations": "4,2", "stride": "6"}),
        ("rigid", "mi", {"bins": "16"}),
    ):
        node.transform, node.loss = transform, loss
        panel.picture(f"register_{transform}")
        assert {name for name, field in fields.items() if field.enabled} == set(those)
        options = Settings.from_node(node).arguments()
        given = dict(zip(options[::2], options[1::2], strict=True))
        assert {f"--{n}" for n in fields} & set(given) == {f"--{n}" for n in those}
        assert all(given[f"--{name}"] == value for name, value in those.items())


@pytest.mark.long
def test_mpc_with_a_dealer(alone: Panel, sites: support.Sites) -> None:
    pytest.importorskip("torch", reason="the mpc extra is not installed")
    dealer = sites.deal()
    address = sites.serve(FIXED, "--dealer", dealer, "--protocols", "fhe,mpc")
    moving = alone.prepare(address, protocol="mpc", dealer=dealer)
    alone.apply()
    assert alone.status.startswith("Done"), alone.said
    assert support.error_mm(alone.node.outputTransform, FIXED) < 0.05
    assert moving.GetTransformNodeID() == alone.node.outputTransform.GetID()
    (consent,) = alone.host.dialogs.shown
    assert "a dealer at a third site helps" in consent.text
    assert "Both sides and the dealer are trusted to follow the protocol" in consent.text
    (report,) = of_class("vtkMRMLTextNode")
    totals = json.loads(report.GetText())["totals"]
    assert totals["numbers"] > 0 and totals["dealer_bytes_received"] > 0


# What can go wrong is said


def test_missing_entries_are_named(panel: Panel, world: support.Sites) -> None:
    assert "address" in panel.ui.applyButton.toolTip
    panel.prepare(world.address, protocol="mpc")
    assert "dealer" in panel.status and not panel.ui.applyButton.enabled and panel.ui.dealerLineEdit.enabled
    panel.node.protocol = "fhe"
    panel.node.levels = "4,x"
    assert "Shrink factors" in panel.status and not panel.ui.applyButton.enabled
    panel.ui.advancedSection.collapsed = False
    panel.picture("register_advanced")
    panel.node.levels = "2, 1"
    panel.node.transform, panel.node.iterations = "bspline", "3;1"
    assert "Iterations" in panel.status and not panel.ui.applyButton.enabled
    panel.node.transform = "rigid"  # which has none
    assert panel.status == "Ready." and panel.ui.applyButton.enabled
    panel.panel.on_apply()
    panel.panel.cancel()
    panel.wait()


def test_absent_peer(panel: Panel) -> None:
    panel.prepare("127.0.0.1:1")
    panel.picture("register_ready")
    panel.apply()
    panel.picture("register_error")
    assert panel.failed and "cannot be reached" in panel.status and panel.host.dialogs.shown == []
    assert panel.ui.applyButton.text == "Apply" and panel.ui.applyButton.enabled


def test_untrusted_peer(alone: Panel, sites: support.Sites) -> None:
    address = sites.serve(FIXED)
    sites.forget(sites.a.home, sites.b.fingerprint)
    alone.prepare(address)
    alone.apply()
    assert alone.failed and sites.b.fingerprint in alone.status and alone.host.dialogs.shown == []


def test_peer_that_does_not_trust_this_site(alone: Panel, sites: support.Sites) -> None:
    sites.forget(sites.b.home, sites.a.fingerprint)
    alone.prepare(sites.serve(FIXED))
    alone.apply()
    assert alone.failed and sites.a.fingerprint in alone.status


@pytest.mark.parametrize(
    ("options", "parameters", "words"),
    [
        (("--losses", "ncc"), {"loss": "ssd"}, ("'ssd' is not permitted", "ncc")),
        pytest.param(
            ("--transforms", "rigid"),
            {"transform": "affine"},
            ("'affine' is not permitted", "rigid"),
            marks=pytest.mark.long,
        ),
        pytest.param(("--budget-session", "5"), {}, ("budget", "numbers"), marks=pytest.mark.long),
        ((), {"fixedMask": "fill"}, ("mask",)),
    ],
)
def test_refusals(
    alone: Panel, sites: support.Sites, options: tuple[str, ...], parameters: dict[str, str], words: tuple[str, ...]
) -> None:
    moving = alone.prepare(sites.serve(FIXED, *options), **parameters)
    alone.apply()
    assert alone.failed and all(w in alone.status for w in words), alone.status
    assert moving.GetTransformNodeID() is None and not of_class("vtkMRMLTextNode") and not processes()


def test_declined_consent_sends_nothing(panel: Panel, world: support.Sites) -> None:
    panel.prepare(world.address)
    panel.host.dialogs.answer("confirm", False)
    panel.apply()
    assert panel.status == "Nothing was sent." and not of_class("vtkMRMLPlotChartNode") and not processes()
    panel.apply()  # asked again
    assert len(panel.host.dialogs.shown) == 2 and panel.status.startswith("Done")


@pytest.mark.long
def test_consent_is_asked_again_when_more_would_be_disclosed(panel: Panel, world: support.Sites) -> None:
    shown = panel.host.dialogs.shown
    panel.prepare(world.address)
    panel.apply()
    assert len(shown) == 1 and "agreed to something else" not in shown[0].text
    panel.node.evaluations = 20  # less than agreed to
    panel.apply()
    assert len(shown) == 1 and panel.status.startswith("Done")
    for parameter, value, words in (
        ("evaluations", 60, "at most 1852 sums"),
        ("loss", "ssd", "sums over its voxels"),
        ("transform", "translation", "sums over its voxels"),
        ("fixedMask", "private", "sums over its voxels"),
    ):
        former = getattr(panel.node, parameter)
        setattr(panel.node, parameter, value)
        panel.host.dialogs.answer("confirm", False)
        panel.apply()
        assert panel.status == "Nothing was sent.", parameter
        assert words in shown[-1].text
        assert "at most 1,492 numbers with transform rigid, loss ncc, mask use none" in shown[-1].text
        setattr(panel.node, parameter, former)
        panel.node.evaluations = 20
    assert len(shown) == 5
    panel.apply()  # what was declined did not replace what was agreed to
    assert len(shown) == 5 and panel.status.startswith("Done")


def test_consent_says_what_the_other_site_learns_where_both_images_move(panel: Panel) -> None:
    from PPIRLib import consent

    panel.prepare("b:1", transform="diffeo", loss="cc", protocol="mpc")
    row = {"transform": "diffeo", "factor": 4, "samples": 1000, "most": 50, "shown": 0}
    offer = {"event": "image", "name": "atlas", "geometry": {"size": [8, 8, 8]}}
    for shown, words in ((0, "settings of the run."), (2400, "at most 2,400 sums over both images")):
        estimate = {"most": 50, "levels": [{**row, "shown": shown}]}
        text = consent.consent_text(panel.node, {"name": "B", "fingerprint": "F"}, offer, estimate)
        assert words in text and ("both images" in text) == bool(shown)


def test_consent_is_not_restyled_by_a_peers_words(panel: Panel) -> None:
    from PPIRLib import consent

    panel.prepare("b:1")
    row = {"transform": "affine", "factor": 4, "samples": 1000, "most": 50, "shown": 0}
    offer = {"event": "image", "name": "<h1>Free of charge</h1>", "geometry": {"size": [8, 8, 8]}}
    estimate = {"most": 50, "levels": [row]}
    text = consent.consent_text(panel.node, {"name": "<b>B</b>", "fingerprint": "F"}, offer, estimate)
    assert "<" not in text and "‹h1›Free of charge‹/h1›" in text and "‹b›B‹/b›" in text


def test_consent_of_another_release_counts_for_nothing(panel: Panel, world: support.Sites) -> None:
    import slicer

    for former in ("1", "{}", '{"transform": "rigid"}', "x"):
        slicer.app.userSettings().setValue(f"PPIR/consent/{world.b.fingerprint}/atlas/fhe", former)
        panel.prepare(world.address)
        panel.host.dialogs.answer("confirm", False)
        panel.apply()
        assert panel.status == "Nothing was sent."
    assert len(panel.host.dialogs.shown) == 4


def test_settings_that_do_not_go_together(panel: Panel, world: support.Sites) -> None:
    panel.prepare(world.address, loss="mi", sampling="gms", percent=20.0)
    panel.apply()
    assert panel.failed and "gms sampling does not go with mi" in panel.status
    assert panel.host.dialogs.shown == [] and not processes() and not of_class("vtkMRMLPlotChartNode")


def test_several_images_need_a_name(alone: Panel, sites: support.Sites) -> None:
    alone.prepare(sites.serve(FIXED, names=("atlas", "template")))
    alone.apply()
    assert alone.failed and "atlas, template" in alone.status
    alone.node.image = " template "
    alone.apply()
    assert alone.status.startswith("Done") and "'template'" in alone.host.dialogs.shown[0].text
    alone.node.image = "other"
    alone.apply()
    assert alone.failed and "atlas, template" in alone.status


@pytest.mark.parametrize("mode", ["decline", "fail", "install"])
def test_missing_packages(panel: Panel, world: support.Sites, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    from PPIRLib import engine

    find = engine.importlib.util.find_spec
    monkeypatch.setattr(engine.importlib.util, "find_spec", lambda name: None if name == "tenseal" else find(name))
    panel.host.packaging.satisfied, panel.host.packaging.mode = set(), mode
    panel.prepare(world.address)
    panel.ui.applyButton.click()
    assert panel.failed and "tenseal" in panel.status and not panel.panel.busy
    (asked,) = panel.host.packaging.requests
    assert asked.requirements == ("tenseal==0.3.18",)
    assert mode == "decline" or asked.options["constraints"].endswith("constraints.txt")


def test_missing_packages_before_slicer_packaging(
    panel: Panel, world: support.Sites, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PPIRLib import engine

    find = engine.importlib.util.find_spec
    monkeypatch.setattr(engine.importlib.util, "find_spec", lambda name: None if name == "msgpack" else find(name))
    monkeypatch.setitem(sys.modules, "slicer.packaging", None)
    panel.prepare(world.address)
    panel.host.dialogs.answer("confirm", False)
    panel.ui.applyButton.click()
    assert panel.failed and "msgpack" in panel.status and panel.host.packaging.requests == []
    panel.ui.testButton.click()
    (asked,) = panel.host.packaging.requests
    assert asked.function == "pip_install" and asked.requirements[1] == "-c" and "needed" in panel.status


def test_packages_from_a_folder_without_a_network(
    panel: Panel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from PPIRLib import engine

    panel.host.dialogs.answer("file", "", str(tmp_path), str(tmp_path), str(tmp_path))
    panel.ui.installButton.click()  # nothing is chosen
    panel.ui.installButton.click()
    assert panel.failed and "holds no wheels" in panel.status and "make wheelhouse" in panel.status
    (tmp_path / "numba-0.68.1-cp312-cp312-win_amd64.whl").write_bytes(b"")
    panel.ui.installButton.click()
    assert panel.status == "Nothing is missing." and panel.host.packaging.requests == []
    find = engine.importlib.util.find_spec
    monkeypatch.setattr(
        engine.importlib.util, "find_spec", lambda name: None if name in ("numba", "torch") else find(name)
    )
    panel.ui.installButton.click()
    (asked,) = panel.host.packaging.requests
    assert asked.requirements[:4] == ("numba>=0.61", "--no-index", "--find-links", str(tmp_path))
    assert asked.requirements[4] == "-c" and panel.status.startswith("Installed: numba>=0.61.")


def test_torch_comes_from_its_extension(panel: Panel, world: support.Sites, monkeypatch: pytest.MonkeyPatch) -> None:
    from PPIRLib import engine

    find = engine.importlib.util.find_spec
    monkeypatch.setattr(engine.importlib.util, "find_spec", lambda name: None if name == "torch" else find(name))
    panel.prepare(world.address, protocol="mpc", dealer="127.0.0.1:9")
    panel.ui.applyButton.click()
    assert panel.failed and "extension PyTorch" in panel.status and panel.host.packaging.requests == []


def test_volume_deleted_while_the_peer_is_asked(panel: Panel, world: support.Sites) -> None:
    import slicer

    moving = panel.prepare(world.address)
    panel.ui.applyButton.click()
    slicer.mrmlScene.RemoveNode(moving)
    panel.wait()
    assert panel.host.dialogs.shown == [] and not panel.ui.applyButton.enabled and not processes()
    assert panel.failed and panel.status == "The volume was deleted. Nothing was sent."


@pytest.mark.long
def test_volume_deleted_while_running(panel: Panel, world: support.Sites) -> None:
    import slicer

    moving = panel.prepare(world.address)
    panel.apply_until("Running")
    slicer.mrmlScene.RemoveNode(moving)
    panel.wait()
    assert support.error_mm(panel.node.outputTransform, FIXED) < 0.05
    assert "was deleted" in panel.ui.logTextEdit.plainText and "was deleted" in panel.status


def test_unusable_volumes_are_named(panel: Panel, world: support.Sites) -> None:
    panel.prepare(world.address)
    panel.node.movingVolume = support.add("vtkMRMLScalarVolumeNode", "empty")
    panel.apply()
    assert panel.failed and "'empty' holds no voxels" in panel.status and not processes()


@pytest.mark.parametrize("kind", ["vtkMRMLBSplineTransformNode", "vtkMRMLGridTransformNode"])
def test_output_transform_of_another_kind(panel: Panel, world: support.Sites, kind: str) -> None:
    moving = panel.prepare(world.address)
    wrong = panel.node.outputTransform = support.add(kind, "wrong")
    assert "'wrong' cannot hold a linear transform" in panel.status and not panel.ui.applyButton.enabled
    panel.panel.on_apply()  # as a shortcut key would
    assert panel.failed and not panel.panel.busy and not processes() and panel.host.dialogs.shown == []
    assert moving.GetTransformNodeID() is None and wrong.GetNodeReferenceID(wrong.GetMovingNodeReferenceRole()) is None
    panel.picture("register_wrong_node")
    panel.node.outputTransform = support.add("vtkMRMLTransformNode", "any")
    assert panel.status == "Ready." and panel.ui.applyButton.enabled


def test_my_volume_is_never_the_output(panel: Panel, world: support.Sites) -> None:
    panel.node.outputVolume = panel.prepare(world.address)
    assert "which would be lost" in panel.status and not panel.ui.applyButton.enabled
    panel.panel.on_apply()
    assert panel.failed and not processes()


def test_my_own_site_as_peer(alone: Panel, sites: support.Sites) -> None:
    path = sites.folder / "mine.mha"
    support.sitk.WriteImage(FIXED, str(path))
    own = support.start("mine", sites.a.home, "serve", str(path), "--listen", "127.0.0.1:0")
    try:
        moving = alone.prepare(own.wait_for("listening")["address"])
        alone.apply()
    finally:
        own.stop()
    assert alone.failed and sites.a.fingerprint in alone.status and moving.GetTransformNodeID() is None


def test_leaving_the_module_does_not_end_a_run(panel: Panel, world: support.Sites) -> None:
    moving = panel.prepare(world.address)
    panel.ui.applyButton.click()
    panel.host.leave_widget(NAME)
    panel.wait()
    panel.host.open_widget(NAME)
    assert panel.status.startswith("Done") and panel.node.outputTransform.GetID() == moving.GetTransformNodeID()


@pytest.mark.parametrize(
    "start", ["Level 1", *(pytest.param(s, marks=pytest.mark.long) for s in ("Calling", "Running"))]
)
def test_scene_closed_while_running(panel: Panel, world: support.Sites, start: str) -> None:
    panel.prepare(world.address)
    panel.apply_until(start)
    panel.host.clear_scene()
    assert not processes() and not panel.panel.busy
    panel.host.process_events(0.2)
    assert not of_class("vtkMRMLTransformNode") and not of_class("vtkMRMLTextNode")
    assert panel.ui.applyButton.text == "Apply" and "address" in panel.status


@pytest.mark.long
def test_module_reloaded_while_running(panel: Panel, world: support.Sites) -> None:
    panel.prepare(world.address)
    panel.apply_until("Running")
    panel.attach(panel.host.reload_module(NAME))
    assert not processes() and panel.status == "Ready." and panel.node.peer == world.address
    panel.apply()
    assert panel.status.startswith("Done")


# Parameters


def test_scene_keeps_the_parameters(panel: Panel, tmp_path: Path) -> None:
    panel.prepare("b.example:7443", transform="similarity", sampling="gms", percent=20.0, levels="4,2")
    panel.node.image = "é"
    panel.node.sharedName, panel.node.budgetPercent, panel.node.shareMpc = "atlas", 2.5, True
    panel.host.save_scene(tmp_path / "scene.mrb")
    panel.host.clear_scene()
    assert panel.node.movingVolume is None and panel.node.transform == "affine" and panel.ui.peerLineEdit.text == ""
    panel.host.load_scene(tmp_path / "scene.mrb")
    node, ui = panel.node, panel.ui
    assert node.movingVolume.GetName() == "MR" and (node.peer, node.image) == ("b.example:7443", "é")
    assert (node.transform, node.sampling, node.percent, node.levels) == ("similarity", "gms", 20.0, "4,2")
    assert (node.sharedName, node.budgetPercent, node.shareMpc) == ("atlas", 2.5, True)
    assert ui.transformComboBox.currentText == "similarity" and ui.percentSpinBox.value == 20.0
    assert ui.movingSelector.currentNode() is node.movingVolume and ui.applyButton.enabled


def test_presets_set_parameters(panel: Panel) -> None:
    panel.node.transform, panel.node.loss = "translation", "ssd"
    panel.host.choose(panel.ui.presetComboBox, "Same modality, rigid")
    assert (panel.node.transform, panel.node.loss, panel.node.sampling) == ("rigid", "ncc", "full")
    panel.host.choose(panel.ui.presetComboBox, "Same modality, affine, fewer voxels")
    assert (panel.node.transform, panel.node.sampling, panel.node.percent) == ("affine", "gms", 20.0)
    assert panel.ui.percentSpinBox.enabled and panel.ui.samplingComboBox.currentText == "gms"
    assert panel.ui.presetComboBox.currentText == "Same modality, affine, fewer voxels"
    panel.node.percent = 30.0
    assert panel.ui.presetComboBox.currentText == "Custom" and panel.node.percent == 30.0


def test_peer_history(panel: Panel, world: support.Sites) -> None:
    panel.node.peer = world.address
    panel.ui.testButton.click()
    panel.wait()
    panel.ui.testButton.click()  # the same peer twice
    panel.wait()
    panel.attach(panel.host.reload_module(NAME))
    entries = [panel.ui.peerHistoryComboBox.itemText(i) for i in range(panel.ui.peerHistoryComboBox.count)]
    assert entries.count(world.address) == 1
    panel.node.peer = ""
    panel.host.choose(panel.ui.peerHistoryComboBox, world.address)
    assert panel.node.peer == world.address == panel.ui.peerLineEdit.text


# The console


def logic() -> Any:
    import sys

    return sys.modules[NAME].PPIRLogic()


def test_register_from_the_console(panel: Panel, world: support.Sites) -> None:
    moving, seen = support.add_volume(MOVING, "CT"), []
    node = logic().register(moving, world.address, transform="rigid", home=world.a.home, onProgress=seen.append)
    assert support.error_mm(node, FIXED) < 0.05 and moving.GetTransformNodeID() == node.GetID()
    assert {"opened", "level", "evaluation"} <= {e.get("stage") for e in seen}
    assert panel.host.dialogs.shown == []


def test_errors_at_the_console(panel: Panel, world: support.Sites) -> None:
    from PPIRLogic.errors import InputError

    moving = support.add_volume(MOVING, "CT")
    with pytest.raises(RuntimeError, match="cannot be reached"):
        logic().register(moving, "127.0.0.1:1")
    with pytest.raises(InputError, match="no volume"):
        logic().register(None, world.address)
    for kind in ("vtkMRMLBSplineTransformNode", "vtkMRMLGridTransformNode", "vtkMRMLScalarVolumeNode"):
        with pytest.raises(InputError, match="cannot hold a linear transform"):
            logic().register(moving, world.address, outputTransform=support.add(kind, "wrong"))
    assert not processes()


def test_initial_transform_and_mask(panel: Panel, world: support.Sites) -> None:
    import SimpleITK as sitk
    from PPIRLib import transformnodes

    start = support.add("vtkMRMLLinearTransformNode", "start")
    transformnodes.linear_to_node(sitk.TranslationTransform(3, (2.0, -1.0, 1.0)), start)
    inside = support.add_volume(sitk.Cast(MOVING > -1, sitk.sitkFloat32), "mask", "vtkMRMLLabelMapVolumeNode")
    run = logic().register(
        support.add_volume(MOVING, "CT"), world.address, transform="rigid", initialTransform=start, mask=inside,
        waitForCompletion=False,
    )  # fmt: skip
    assert panel.host.process_events(until=lambda: run.job.exit_code is not None)
    assert run.outcome.error == "" and not run.folder.exists()
    import slicer

    assert support.error_mm(slicer.mrmlScene.GetNodeByID(run.outcome.transform_id), FIXED) < 0.1


@pytest.mark.long  # its parts have short tests of their own
def test_self_test(panel: Panel) -> None:
    import slicer

    slicer.selfTests[NAME](msec=1)
    shown = [d.text for d in panel.host.dialogs.of_kind("delay")]
    assert shown[-1].startswith("Test passed")
    assert not panel.host.uncaught


def test_self_test_says_what_is_missing_and_never_installs(panel: Panel, monkeypatch: pytest.MonkeyPatch) -> None:
    import slicer
    from PPIRLib import engine

    find = engine.importlib.util.find_spec
    monkeypatch.setattr(engine.importlib.util, "find_spec", lambda name: None if name == "tenseal" else find(name))
    slicer.selfTests[NAME](msec=1)
    shown = [d.text for d in panel.host.dialogs.of_kind("delay")]
    skipped = [text for text in shown if text.startswith("Skipped")]
    assert skipped and all("tenseal==0.3.18" in text for text in skipped) and not any("passed" in t for t in shown)
    assert panel.host.packaging.requests == [] and not panel.host.uncaught
