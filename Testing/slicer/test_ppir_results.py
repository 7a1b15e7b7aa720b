"""What a run puts into the scene, for every kind of transform; the choices in one place; the sample data."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from urllib.parse import urlparse
from urllib.request import url2pathname

import numpy as np
import ppir_support as support
import pytest
import SimpleITK as sitk
from ppir_support import FIXED, MOVING

LINEAR, BSPLINE, GRID, ANY = (
    f"vtkMRML{kind}TransformNode" for kind in ("Linear", "BSpline", "Grid", "")
)  # fmt: skip


@pytest.fixture
def module(slicer_host: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module's source, with transforms that deform among the choices."""
    source = slicer_host.load_module(support.MODULE).source
    monkeypatch.setitem(source.choices.TRANSFORMS, "bspline", BSPLINE)
    monkeypatch.setitem(source.choices.TRANSFORMS, "dense", GRID)
    return source


def deformation() -> sitk.BSplineTransform:
    spline = sitk.BSplineTransformInitializer(FIXED, [4, 4, 4], 3)
    rng = np.random.default_rng(5)
    spline.SetParameters(rng.uniform(-2, 2, len(spline.GetParameters())).tolist())
    return spline


def field() -> sitk.DisplacementFieldTransform:
    image = sitk.TransformToDisplacementField(
        deformation(),
        sitk.sitkVectorFloat64,
        FIXED.GetSize(),
        FIXED.GetOrigin(),
        FIXED.GetSpacing(),
        FIXED.GetDirection(),
    )
    return sitk.DisplacementFieldTransform(image)


RESULTS = {
    "rigid": lambda: support.TRUTH,
    "bspline": deformation,
    "dense": field,
    "bspline after affine": lambda: sitk.CompositeTransform([support.TRUTH, deformation()]),
}


class Worker:
    """In the place of the process: writes a result, as `ppir register` does, when it is told to."""

    def __init__(self, transform: sitk.Transform) -> None:
        self.transform, self.arguments = transform, []

    def __call__(self, on_output: Any, on_finished: Any) -> Worker:
        self.on_finished = on_finished
        return self

    def start(self, program: str, arguments: list[str], environment: dict[str, str]) -> None:
        self.arguments = arguments

    def running(self) -> bool:
        return True

    def finish(self) -> None:
        for option, write in (
            ("--output", lambda path: sitk.WriteTransform(self.transform, path)),
            ("--report", lambda path: Path(path).write_text(json.dumps({"totals": {}}), encoding="utf-8")),
        ):
            write(self.arguments[self.arguments.index(option) + 1])
        self.on_finished(0)


def run(kind: str, moving: Any, **nodes: Any) -> Any:
    from PPIRLib.run import RegisterRun
    from PPIRLib.settings import Settings

    worker = Worker(RESULTS[kind]())
    done = RegisterRun(moving, Settings("b.example:7443", transform=kind.split()[0]), runner=worker, **nodes)
    done.start()
    worker.finish()
    return done


def mapped(moving: Any, point: list[float]) -> list[float]:
    """Where the scene takes a point of the fixed image (LPS) in the moving image, by the volume's parents."""
    import slicer
    import vtk

    way = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(None, moving.GetParentTransformNode(), way)
    x, y, z = way.TransformPoint(-point[0], -point[1], point[2])
    return [-x, -y, z]


@pytest.mark.parametrize("given", [False, True], ids=["new node", "any kind of node"])
@pytest.mark.parametrize(
    ("kind", "classes"),
    [
        ("rigid", [LINEAR]),
        ("bspline", [BSPLINE]),
        ("dense", [GRID]),
        ("bspline after affine", [LINEAR, BSPLINE]),
    ],
)
def test_nodes_of_the_right_kind(module: Any, kind: str, classes: list[str], given: bool) -> None:
    import slicer
    from PPIRLib.run import undo

    moving, former = support.add_volume(MOVING, "M"), support.add(LINEAR, "former")
    moving.SetAndObserveTransformNodeID(former.GetID())
    output = support.add(ANY, "T") if given else None
    done = run(kind, moving, output_transform=output)
    assert done.outcome.error == "" and not done.folder.exists()
    head = moving.GetParentTransformNode()
    assert head.GetID() == done.outcome.transform_id and (output is None or head is output)
    chain = [head, *([head.GetParentTransformNode()] if len(classes) > 1 else [])]
    assert [n.GetClassName() for n in chain] == [ANY if given else classes[0], *classes[1:]]
    assert chain[-1].GetTransformNodeID() is None
    index = np.stack(np.meshgrid(*(np.linspace(0.25 * n, 0.75 * n, 3) for n in FIXED.GetSize())), -1).reshape(-1, 3)
    for point in (FIXED.TransformContinuousIndexToPhysicalPoint(p) for p in index.tolist()):
        np.testing.assert_allclose(mapped(moving, point), RESULTS[kind]().TransformPoint(point), atol=2e-3)
    assert head.GetNodeReference(head.GetMovingNodeReferenceRole()) is moving
    assert undo(head) and moving.GetTransformNodeID() == former.GetID() and slicer.mrmlScene.IsNodePresent(head)


def test_a_node_of_the_deforming_kind_takes_its_part(module: Any) -> None:
    moving, output = support.add_volume(MOVING, "M"), support.add(BSPLINE, "T")
    run("bspline after affine", moving, output_transform=output)
    head = moving.GetParentTransformNode()
    assert head.GetClassName() == LINEAR and head.GetParentTransformNode() is output


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [("rigid", BSPLINE), ("rigid", GRID), ("bspline", LINEAR), ("bspline", GRID), ("dense", BSPLINE), ("dense", LINEAR),
     ("rigid", "vtkMRMLScalarVolumeNode")],
)  # fmt: skip
def test_nodes_of_another_kind_are_refused_before_the_run(module: Any, kind: str, wrong: str) -> None:
    from PPIRLib.run import RegisterRun
    from PPIRLib.settings import Settings

    from PPIRLogic.errors import InputError

    moving, node = support.add_volume(MOVING, "M"), support.add(wrong, "wrong")
    with pytest.raises(InputError, match=r"'wrong' cannot hold a .* transform"):
        RegisterRun(moving, Settings("b.example:7443", transform=kind), output_transform=node)


def test_a_result_that_does_not_fit_leaves_the_scene_alone(module: Any) -> None:
    """The engine delivered something else than was asked for."""
    import slicer
    from PPIRLib.run import RegisterRun
    from PPIRLib.settings import Settings

    moving, output = support.add_volume(MOVING, "M"), support.add(LINEAR, "T")
    worker = Worker(deformation())
    done = RegisterRun(moving, Settings("b", transform="rigid"), output_transform=output, runner=worker)
    done.start()
    worker.finish()
    assert "cannot hold this transform" in done.outcome.error and not done.outcome.transform_id
    assert moving.GetTransformNodeID() is None and output.IsLinear()
    assert len(slicer.util.getNodesByClass(ANY)) == 1 and not slicer.util.getNodesByClass("vtkMRMLTextNode")


def test_choices_are_the_engines(slicer_host: ModuleType) -> None:
    """A new transform, loss or sampling of the engine needs its word in PPIRLib/choices.py."""
    slicer_host.load_module(support.MODULE)
    from PPIRLib import choices, presets

    from PPIRLogic.registration.losses import LOSSES
    from PPIRLogic.registration.names import FIXED_MASK_USES as MASK_MODES
    from PPIRLogic.registration.names import SAMPLINGS as METHODS
    from PPIRLogic.registration.protocols import PROTOCOLS
    from PPIRLogic.transforms import TRANSFORMS

    assert set(choices.TRANSFORMS) == set(TRANSFORMS) and set(choices.LOSSES) == set(LOSSES)
    assert set(choices.PROTOCOLS) <= set(PROTOCOLS) and "clear" not in choices.PROTOCOLS
    assert choices.SAMPLINGS == METHODS and ("auto", *MASK_MODES) == choices.FIXED_MASKS
    node = slicer_host.open_widget("PPIR")._parameterNode
    for title in presets.names():  # every preset can be set
        for name, value in presets.values(title).items():
            setattr(node, name, value)
    needed = presets.needs("Different modality, affine")
    assert "--budget-percent 35" in needed and "--budget-bits 210" in needed
    assert not presets.needs("Same modality, rigid")


def test_sample_data_load_and_register(slicer_host: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    import slicer

    sources: list[dict[str, str]] = []
    logic = SimpleNamespace(registerCustomSampleDataSource=lambda **source: sources.append(source))
    monkeypatch.setitem(sys.modules, "SampleData", SimpleNamespace(SampleDataLogic=logic))
    module = slicer_host.load_module(support.MODULE).source
    slicer.app.startupCompleted.emit()
    chosen = {source["sampleName"]: source for source in sources}
    assert set(chosen) == {"PPIRBrainFixed", "PPIRBrainMoving"}
    fixed, moving = (
        slicer.util.loadVolume(url2pathname(urlparse(chosen[name]["uris"]).path), {"name": chosen[name]["nodeNames"]})
        for name in ("PPIRBrainFixed", "PPIRBrainMoving")
    )
    before = slicer.util.arrayFromVolume(moving).astype(float)
    result = support.add("vtkMRMLScalarVolumeNode", "result")
    node = module.PPIRLogic().simulate(
        fixed, moving, transform="affine", loss="ssd", initial="identity", levels="8,4", outputVolume=result
    )
    after, target = (slicer.util.arrayFromVolume(v).astype(float) for v in (result, fixed))
    assert node.GetNodeReference(node.GetMovingNodeReferenceRole()) is moving
    assert after.shape == target.shape
    assert np.abs(after - target).mean() < 0.5 * np.abs(before - target).mean()
