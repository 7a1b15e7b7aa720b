"""The module's self-tests: local processes on loopback must give back a known transform, a sealed volume must open to
itself, and a simulated head must come back segmented."""

from __future__ import annotations

import tempfile
import unittest
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import slicer

from PPIRLib import conversion, engine


def _needed(what: str) -> None:
    """SkipTest with the reason where packages are missing: a self-test never installs."""
    if lacking := engine.missing(what):
        raise unittest.SkipTest(
            f"These Python packages are not installed here: {', '.join(lacking)}. Apply, in the panel, installs them."
        )
    engine.add_to_path()


def check_known_transform(logic: Any) -> float:
    """Simulate a registration of a sample volume to itself, moved by a known rigid transform; mean error in mm."""
    _needed("fhe")
    from PPIRLogic.images.volume import Volume

    fixed = sitk.GetImageFromArray(_phantom())
    fixed.SetSpacing((2.0, 1.8, 2.5))
    fixed.SetOrigin((-40.0, -35.0, 10.0))
    truth = sitk.Euler3DTransform(tuple(_centre(fixed)), 0.06, -0.04, 0.1, (3.0, -2.0, 1.5))
    moving = sitk.Resample(fixed, fixed, truth.GetInverse(), sitk.sitkBSpline, 0.0)
    nodes = []
    for image, name in ((fixed, "PPIR fixed"), (moving, "PPIR moving")):
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
        conversion.volume_to_node(Volume.from_sitk(image), node)
        nodes.append(node)
    node = logic.simulate(*nodes, transform="rigid", loss="ncc", protocol="fhe", initial="identity")
    return _error(node, truth, fixed)


def check_sealed_volume(logic: Any) -> list[str]:
    """Seal a sample volume, open it as an overview and exactly, grant it to this very site; the levels that opened."""
    _needed("primis")
    from PPIRLogic.images.volume import Volume
    from PPIRLogic.network.identity import load_or_create_identity
    from PPIRLogic.network.trust import TrustStore
    from PPIRLogic.primis import own_card

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "PPIR sealed")
    conversion.volume_to_node(
        Volume.from_sitk(sitk.GetImageFromArray(np.rint(_phantom()[12:15]).astype(np.int16))), node
    )
    with tempfile.TemporaryDirectory(prefix="ppir-") as name:
        folder = Path(name)
        home, file = folder / "home", folder / "sample.ppis"
        logic.sealVolume(node, file, home=home)
        exact = logic.unsealVolume(file, home=home)
        if not np.array_equal(slicer.util.arrayFromVolume(exact), slicer.util.arrayFromVolume(node)):
            raise RuntimeError("The volume that was sealed is not the one that was opened.")
        # a site trusts itself here, so that one home is enough for both sides
        TrustStore(home).add(load_or_create_identity(home).fingerprint, "this site")
        (folder / "own.ppic").write_bytes(own_card(home))
        grant = logic.grantSealed(
            file, folder / "own.ppic", folder / "g.ppig", level="overview", purpose="self-test", home=home
        )
        overview = logic.unsealVolume(file, grant=grant, home=home)
    return [v.GetAttribute("PPIR.PrimisLevel") for v in (overview, exact)]


def check_segmentation(logic: Any, model: str = "") -> dict[str, float]:
    """Have a simulated head segmented by a process on loopback; the millilitres of each tissue by its name.

    model: a model's file; empty: the installed one.
    """
    _needed("proxy")
    from PPIRLogic.images.geometry import Geometry
    from PPIRLogic.images.volume import Volume
    from PPIRLogic.proxy.both_sites import segmenting

    image, brain = _head()
    size, ras = image.shape[::-1], (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0)
    grid = Geometry(size, (3.0, 3.0, 3.0), (90.0, 100.0, -90.0), ras)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "PPIR head")
    conversion.volume_to_node(Volume(image, grid), node)
    mask = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "PPIR brain")
    conversion.volume_to_node(Volume(brain.astype(np.float32), grid), mask)
    with segmenting(Path(model) if model else None) as world:
        found = logic.segmentAtServer(
            node, world.address, agreed=True, strength="low", mask=mask, model="any", home=world.hospital
        )
    segments = found.GetSegmentation()
    names = [segments.GetNthSegment(i).GetName() for i in range(segments.GetNumberOfSegments())]
    return {name: _millilitres(found, segments.GetNthSegmentID(i)) for i, name in enumerate(names)}


def _millilitres(node: Any, segment: str) -> float:
    return float(np.count_nonzero(slicer.util.arrayFromSegmentInternalBinaryLabelmap(node, segment)) * 0.027)


def _head() -> Any:
    """Grey values of a brain in a skull, and where the brain is, (z, y, x), 3 mm."""
    z, y, x = np.meshgrid(*((np.arange(n) - (n - 1) / 2) * 3.0 for n in (60, 72, 60)), indexing="ij")

    def inside(*axes: float) -> Any:
        return (z / axes[0]) ** 2 + (y / axes[1]) ** 2 + (x / axes[2]) ** 2 < 1

    brain = inside(62, 82, 66)
    out = np.select(
        [inside(20, 20, 20), inside(52, 72, 56), brain, inside(74, 94, 78)], [10.0, 170.0, 110.0, 20.0], 4.0
    )
    out[(y > 24) & (y < 60) & (abs(x) < 20) & (abs(z) < 20)] = 210.0
    return (out + np.random.default_rng(2).normal(0, 2, out.shape)).astype(np.float32), brain


def _phantom() -> Any:
    """Smooth blobs of different size and brightness, (z, y, x)."""
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in (32, 44, 40)), indexing="ij")
    out = np.zeros(z.shape, np.float32)
    rng = np.random.default_rng(3)
    for _ in range(14):
        cx, cy, cz = rng.uniform(-0.6, 0.6, 3)
        size = rng.uniform(0.12, 0.3)
        out += rng.uniform(0.3, 1) * np.exp(-((x - cx) ** 2 + (y - cy) ** 2 + (z - cz) ** 2) / (2 * size**2)) * 1000
    return out


def _centre(image: Any) -> Any:
    return image.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in image.GetSize()])


def _error(node: Any, truth: Any, fixed: Any) -> float:
    """Mean distance in mm between the node's mapping and the truth over the middle of the fixed grid."""
    import vtk

    matrix = vtk.vtkMatrix4x4()
    node.GetMatrixTransformFromParent(matrix)
    m = np.array([[matrix.GetElement(r, c) for c in range(4)] for r in range(4)])
    flip = np.diag([-1.0, -1.0, 1.0, 1.0])
    found = flip @ m @ flip
    index = np.stack(np.meshgrid(*(np.linspace(0.2 * n, 0.8 * n, 5) for n in fixed.GetSize())), axis=-1).reshape(-1, 3)
    points = np.array([fixed.TransformContinuousIndexToPhysicalPoint(p) for p in index.tolist()])
    mapped = points @ found[:3, :3].T + found[:3, 3]
    known = np.array([truth.TransformPoint(p) for p in points.tolist()])
    return float(np.linalg.norm(mapped - known, axis=1).mean())
