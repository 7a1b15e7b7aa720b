"""Volumes, masks and transforms between MRML nodes and the engine: Slicer and SimpleITK must agree on every point."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

pytest.importorskip("slicer", reason="slicer-core is not installed")
import slicer
import slicer.util
import vtk
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "PPIRExtension"))
from PPIRLib import conversion, transformnodes

from PPIRLogic.errors import InputError
from PPIRLogic.images.geometry import Geometry
from PPIRLogic.images.volume import Volume
from PPIRLogic.transforms import LinearTransform

Array = NDArray[np.float64]
Add = Callable[..., Any]
LPS = np.array([-1.0, -1.0, 1.0])  # from RAS and back


def turned(x: float, y: float, z: float) -> Array:
    """A rotation matrix."""
    return np.reshape(sitk.Euler3DTransform((0, 0, 0), x, y, z).GetMatrix(), (3, 3))


DIRECTIONS = {
    "straight": np.eye(3),
    "oblique": turned(0.3, -0.4, 0.8),
    "left-handed": turned(-0.2, 0.5, 2.1) @ np.diag([1.0, 1.0, -1.0]),
    "sagittal": np.array([[0.0, 0.0, -1.0], [1.0, 0.0, 0.0], [0.0, -1.0, 0.0]]),
}
TURN_2D = np.array([[0.8, 0.6], [0.6, -0.8]])  # a rotation and a reflection


def smooth(geometry: Geometry, seed: int) -> Volume:
    """Smooth intensities, about 0..1000."""
    noise = np.random.default_rng(seed).random(geometry.array_shape)
    image = sitk.GetImageFromArray(noise)
    values = sitk.GetArrayFromImage(sitk.SmoothingRecursiveGaussian(image, 1.5))
    values = 1000 * (values - values.min()) / np.ptp(values)
    return Volume(values.astype(np.float32), geometry, "brain")


def geometry_of(kind: str, origin: tuple[float, ...] = (-12.5, 33.0, -118.25)) -> Geometry:
    return Geometry((22, 18, 14), (1.1, 1.7, 2.6), origin, tuple(DIRECTIONS[kind].ravel()))


def refuses(text: str) -> Any:
    """Expects an InputError whose text matches this pattern."""
    return pytest.raises(InputError, match=text)


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An empty MRML scene that is slicer.mrmlScene during the test."""
    scene = slicer.vtkMRMLScene()
    monkeypatch.setattr(slicer, "mrmlScene", scene, raising=False)
    yield scene
    scene.Clear(True)


@pytest.fixture
def add(scene: Any) -> Add:
    """Adds a node of a class, without the prefix 'vtkMRML', to the scene."""
    return lambda kind, name="node": scene.AddNewNodeByClass(f"vtkMRML{kind}Node", name)


@pytest.fixture
def load(add: Add) -> Callable[..., Any]:
    """Adds a volume node that holds a Volume, made with matrices alone and not with the code under test."""

    def make(volume: Volume, kind: str = "ScalarVolume", z: float = 0.0) -> Any:
        node = add(kind, volume.name or "brain")
        array = volume.array.reshape((-1, *volume.array.shape[-2:]))
        slicer.util.updateVolumeFromArray(node, array.astype(np.int16) if kind == "LabelMapVolume" else array)
        matrix, affine, dim = np.eye(4), volume.geometry.index_to_physical(), volume.geometry.dimension
        matrix[:dim, :dim], matrix[:dim, 3] = affine[:, :dim], affine[:, dim]
        matrix[2, 3] += z if dim == 2 else 0
        node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(np.diag([-1, -1, 1, 1]) @ matrix))
        return node

    return make


def matrix_of(transform: sitk.Transform) -> Any:
    """A linear transform of LPS points as a vtkMatrix4x4 of RAS points."""
    flip, moved = np.diag([-1.0, -1.0, 1.0, 1.0]), np.eye(4)
    for axis in range(3):
        one, zero = np.eye(3)[axis].tolist(), [0.0] * 3
        moved[:3, axis] = np.subtract(transform.TransformPoint(one), transform.TransformPoint(zero))
    moved[:3, 3] = transform.TransformPoint([0.0] * 3)
    return slicer.util.vtkMatrixFromArray(flip @ moved @ flip)


def mapped_by_itk(transform: sitk.Transform, points: Array) -> Array:
    return np.array([transform.TransformPoint(p) for p in points.tolist()])


def mapped_by_slicer(node: Any, points: Array) -> Array:
    """LPS points of the world → LPS points below a transform node, with every transform above it."""
    general, out = vtk.vtkGeneralTransform(), vtk.vtkPoints()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(None, node, general)
    given = vtk.vtkPoints()
    given.SetData(numpy_to_vtk(points * LPS, deep=True))
    out.SetDataTypeToDouble()
    general.TransformPoints(given, out)
    return vtk_to_numpy(out.GetData()) * LPS


def resampled_by_slicer(moving: Any, fixed: Any) -> Array:
    """The moving volume where Slicer shows it, on the grid of the fixed one: vtkImageReslice over the node chain."""
    to_ijk, to_ras, from_world = vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4(), vtk.vtkGeneralTransform()
    moving.GetRASToIJKMatrix(to_ijk)
    fixed.GetIJKToRASMatrix(to_ras)
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(None, moving.GetParentTransformNode(), from_world)
    whole = vtk.vtkGeneralTransform()  # what is concatenated last comes first
    whole.Concatenate(to_ijk)
    whole.Concatenate(from_world)
    whole.Concatenate(to_ras)
    reslice = vtk.vtkImageReslice()
    reslice.SetInputData(moving.GetImageData())
    reslice.SetResliceTransform(whole)
    reslice.SetInterpolationModeToLinear()
    reslice.SetOutputSpacing(1, 1, 1)
    reslice.SetOutputOrigin(0, 0, 0)
    reslice.SetOutputExtent(fixed.GetImageData().GetExtent())
    reslice.Update()
    image = reslice.GetOutput()
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions()[::-1]).astype(np.float64)


def voxel_points(geometry: Geometry) -> Array:
    """The centres of all voxels, LPS."""
    index = np.indices(geometry.size).reshape(geometry.dimension, -1).T
    affine = geometry.index_to_physical()
    return index @ affine[:, :-1].T + affine[:, -1]


def linear(fixed: Geometry, moving: Geometry) -> sitk.Transform:
    """An affine transform about the centre of the fixed grid that puts the moving grid onto it, slightly off."""
    dim = fixed.dimension
    frames = [np.reshape(g.direction, (dim, dim)) for g in (fixed, moving)]
    off = np.eye(dim) + 0.03 * np.random.default_rng(3).normal(size=(dim, dim))
    shift = moving.centre() - fixed.centre() + 0.4
    return LinearTransform("affine", frames[1] @ off @ frames[0].T, shift, fixed.centre()).to_sitk()


def bspline(fixed: Geometry, seed: int = 4) -> sitk.BSplineTransform:
    transform = sitk.BSplineTransformInitializer(fixed.to_sitk_reference(), [3, 4, 2][: fixed.dimension], order=3)
    count = transform.GetNumberOfParameters()
    transform.SetParameters(np.random.default_rng(seed).normal(scale=1.5, size=count).tolist())
    return transform


def displacement(fixed: Geometry, seed: int = 5) -> sitk.DisplacementFieldTransform:
    """A field with a coarser grid than the fixed one, turned like it, that covers it."""
    dim = fixed.dimension
    size, spacing = (9, 8, 7)[:dim], [1.3 * e / (n - 1) for e, n in zip(fixed.extent_mm(), (9, 8, 7), strict=False)]
    frame = np.reshape(fixed.direction, (dim, dim))
    origin = fixed.centre() - frame @ ((np.array(size) - 1) / 2 * spacing)
    values = np.random.default_rng(seed).normal(scale=1.0, size=(*size[::-1], dim))
    image = sitk.GetImageFromArray(values, isVector=True)
    Geometry(size, tuple(spacing), tuple(origin), fixed.direction).stamp(image)
    return sitk.DisplacementFieldTransform(image)


def transform_of(kind: str, fixed: Geometry, moving: Geometry) -> sitk.Transform:
    """A transform of this kind; those that only deform are for moving grids that already lie on the fixed one."""
    if kind == "linear":
        return linear(fixed, moving)
    if kind == "composite":
        return sitk.CompositeTransform([linear(fixed, moving), bspline(fixed)])
    return bspline(fixed) if kind == "bspline" else displacement(fixed)


KINDS = ("linear", "bspline", "displacement", "composite")
CLASSES = {
    "linear": ["vtkMRMLLinearTransformNode"],
    "bspline": ["vtkMRMLBSplineTransformNode"],
    "displacement": ["vtkMRMLGridTransformNode"],
    "composite": ["vtkMRMLLinearTransformNode", "vtkMRMLBSplineTransformNode"],
}
TOLERANCE = {"linear": 1e-9, "bspline": 1e-4, "displacement": 1e-4, "composite": 1e-4}  # mm


# ---------------------------------------------------------------------------------------------------- volumes


@pytest.mark.parametrize("kind", DIRECTIONS)
def test_a_volume_keeps_its_voxels_and_places(kind: str, load: Any) -> None:
    original = smooth(geometry_of(kind), 1)
    node = load(original)
    volume = conversion.volume_from_node(node)
    assert volume.name == "brain"
    assert np.array_equal(volume.array, original.array)
    assert volume.geometry.size == original.geometry.size
    for field in ("spacing", "origin", "direction"):
        assert np.allclose(getattr(volume.geometry, field), getattr(original.geometry, field), atol=1e-12)
    to_ras = slicer.util.arrayFromVTKMatrix(vtk_matrix(node.GetIJKToRASMatrix))
    for index in ((0, 0, 0), (21, 17, 13), (5, 16, 2)):
        ras = to_ras @ (*index, 1)
        lps = volume.to_sitk().TransformIndexToPhysicalPoint(index)
        assert np.allclose(lps * LPS, ras[:3], atol=1e-12)


def vtk_matrix(get: Callable[[Any], Any]) -> Any:
    matrix = vtk.vtkMatrix4x4()
    get(matrix)
    return matrix


@pytest.mark.parametrize("kind", DIRECTIONS)
def test_a_volume_comes_back_exactly_from_a_node(kind: str, add: Add) -> None:
    original = smooth(geometry_of(kind), 1)
    node = add("ScalarVolume", "brain")
    conversion.volume_to_node(original, node)
    back = conversion.volume_from_node(node)
    assert back.geometry == original.geometry
    assert np.array_equal(back.array, original.array)
    conversion.volume_to_node(smooth(Geometry((5, 4), (1, 1), (0, 0), (1, 0, 0, 1)), 2), node)
    assert conversion.volume_from_node(node).array.shape == (4, 5)


def test_the_voxels_are_a_copy(load: Any) -> None:
    original = smooth(geometry_of("oblique"), 1)
    node = load(original)
    volume = conversion.volume_from_node(node)
    slicer.util.arrayFromVolume(node)[:] = 0
    assert np.array_equal(volume.array, original.array)


@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.float64])
def test_voxels_of_any_type_become_float32(dtype: Any, add: Add) -> None:
    node = add("ScalarVolume")
    slicer.util.updateVolumeFromArray(node, np.arange(24, dtype=dtype).reshape(2, 3, 4))
    volume = conversion.volume_from_node(node)
    assert volume.array.dtype == np.float32
    assert volume.array[1, 2, 3] == 23


def test_the_parent_transform_is_not_in_the_grid(load: Any, add: Add) -> None:
    original = smooth(geometry_of("oblique"), 1)
    node, parent = load(original), add("LinearTransform")
    transformnodes.linear_to_node(sitk.TranslationTransform(3, (10, 20, 30)), parent)
    node.SetAndObserveTransformNodeID(parent.GetID())
    assert conversion.volume_from_node(node).geometry.matches(original.geometry, 1e-9)


def test_one_axial_slice_is_a_2d_image(load: Any, add: Add) -> None:
    original = smooth(Geometry((7, 5), (0.5, 2.0), (-3.0, 8.0), tuple(TURN_2D.ravel())), 1)
    volume = conversion.volume_from_node(load(original, z=44.0))
    assert volume.geometry.matches(original.geometry, 1e-9)
    assert np.array_equal(volume.array, original.array)
    node = add("ScalarVolume")
    conversion.volume_to_node(original, node, z=44.0)
    assert node.GetImageData().GetDimensions() == (7, 5, 1)
    assert node.GetOrigin() == (3.0, -8.0, 44.0)
    assert conversion.volume_from_node(node).geometry == original.geometry


def test_volumes_that_cannot_be_used(load: Any, add: Add) -> None:
    def refused(node: Any, text: str) -> None:
        with refuses(text):
            conversion.volume_from_node(node)

    refused(None, "There is no volume. Choose one.")
    refused(add("ScalarVolume", "empty one"), "The volume 'empty one' holds no voxels. Load its image")
    refused(add("LinearTransform", "t"), "The volume 't' is no scalar volume .LinearTransform.")
    vectors = add("VectorVolume", "photo")
    slicer.util.updateVolumeFromArray(vectors, np.zeros((2, 3, 4, 3), np.uint8))
    refused(vectors, "The volume 'photo' has 3 components per voxel .*'Vector to Scalar Volume'")

    node = load(smooth(geometry_of("straight"), 1))
    matrix = np.diag([-1.0, -1.0, 1.0, 1.0])
    matrix[0, 2] = 0.2
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(matrix))
    refused(node, "The volume 'brain' is sheared: its axes are not at right angles .* Resample it")

    node = load(smooth(geometry_of("straight"), 1))
    slicer.util.arrayFromVolume(node)[1, 2, :3] = np.nan, np.inf, np.nan
    refused(node, "The volume 'brain' has 3 voxels that are NaN or infinite")

    node = load(smooth(geometry_of("straight"), 1))
    node.SetOrigin(float("nan"), 0, 0)
    refused(node, "The volume 'brain' cannot be used. Grid field 'origin' must hold finite numbers")


@pytest.mark.parametrize("size", [(1, 6, 5), (6, 1, 5), (6, 1, 1), (1, 1, 1)])
def test_one_voxel_along_another_axis_is_refused(size: tuple[int, ...], load: Any) -> None:
    flat = Volume(np.ones(size[::-1]), Geometry(size, (1, 1, 1), (0, 0, 0), tuple(np.eye(3).ravel())), "flat")
    with refuses("'flat' has an axis of one voxel .* not its slice axis"):
        conversion.volume_from_node(load(flat))


@pytest.mark.parametrize("kind", ["oblique", "sagittal"])
def test_one_slice_that_is_not_axial_is_refused(kind: str, load: Any) -> None:
    flat = Volume(
        np.ones((1, 5, 6)), Geometry((6, 5, 1), (1, 1, 1), (0, 0, 0), tuple(DIRECTIONS[kind].ravel())), "flat"
    )
    with refuses("'flat' has one slice, which is not perpendicular to the z axis"):
        conversion.volume_from_node(load(flat))


# ---------------------------------------------------------------------------------------------------- masks


def ball(geometry: Geometry) -> NDArray[np.bool_]:
    """A ball of 8 mm about a point beside the centre, array order."""
    distance = np.linalg.norm(voxel_points(geometry) - geometry.centre() - 2.0, axis=1)
    return (distance < 8).reshape(geometry.size).T


@pytest.mark.parametrize("kind", ["LabelMapVolume", "ScalarVolume"])
def test_a_label_map_is_a_mask(kind: str, load: Any) -> None:
    geometry = geometry_of("left-handed")
    inside = ball(geometry)
    mask = conversion.mask_from_node(load(Volume(3 * inside, geometry), kind), load(smooth(geometry, 1)))
    assert mask.dtype == np.bool_
    assert np.array_equal(mask, inside)


def test_a_mask_of_one_slice_is_2d(load: Any) -> None:
    geometry = Geometry((7, 5), (1, 2), (-3, 8), tuple(TURN_2D.ravel()))
    inside = np.random.default_rng(0).random((5, 7)) > 0.5
    volume = load(smooth(geometry, 1))
    mask = conversion.mask_from_node(load(Volume(inside, geometry), "LabelMapVolume"), volume)
    assert mask.shape == conversion.volume_from_node(volume).array.shape
    assert np.array_equal(mask, inside)


def test_masks_that_cannot_be_used(load: Any, add: Add) -> None:
    geometry = geometry_of("oblique")
    volume, inside = load(smooth(geometry, 1)), ball(geometry)

    def refused(node: Any, text: str, of: Any = volume) -> None:
        with refuses(text):
            conversion.mask_from_node(node, of)

    refused(None, "There is no mask. Choose one.")
    refused(volume, "There is no volume. Choose one.", of=None)
    refused(volume, "The volume 'no image' holds no voxels", of=add("ScalarVolume", "no image"))
    refused(add("LabelMapVolume", "none"), "The mask 'none' holds no voxels")
    refused(add("Model", "skin"), "The mask 'skin' is no scalar volume .Model.")
    refused(
        load(Volume(0 * inside, geometry, "void"), "LabelMapVolume"), "The mask 'void' is empty: no voxel is inside"
    )
    shifted = geometry_of("oblique", (-12.5, 33.0, -117.0))
    refused(
        load(Volume(inside, shifted, "shifted"), "LabelMapVolume"),
        r"The mask 'shifted' is not on the grid of the volume 'brain'.*-117\).*-118.25\).* Resample the mask",
    )
    values = smooth(geometry, 1).array.copy()
    values[0, 0, 0] = np.nan
    refused(load(Volume(values, geometry, "holes")), "The mask 'holes' has 1 voxels that are NaN")


def test_a_mask_has_to_lie_where_the_volume_lies(load: Any, add: Add) -> None:
    geometry = geometry_of("oblique")
    volume, mask = load(smooth(geometry, 1)), load(Volume(ball(geometry), geometry, "mask"), "LabelMapVolume")
    parents = [add("LinearTransform", name) for name in "ab"]
    for parent in parents:
        transformnodes.linear_to_node(sitk.TranslationTransform(3, (5, 0, 0)), parent)
    volume.SetAndObserveTransformNodeID(parents[0].GetID())
    with refuses("'mask' and the volume 'brain' do not lie in the same place"):
        conversion.mask_from_node(mask, volume)
    for parent in parents:  # the same transform, or another one that does the same
        mask.SetAndObserveTransformNodeID(parent.GetID())
        assert np.array_equal(conversion.mask_from_node(mask, volume), ball(geometry))


def segmentation_of(volume: Any, insides: list[NDArray[np.bool_]], load: Any, add: Add) -> Any:
    """A segmentation with one segment for each mask on the grid of the volume."""
    geometry = conversion.volume_from_node(volume).geometry
    node = add("Segmentation", "organs")
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    for number, inside in enumerate(insides):
        label = load(Volume(inside, geometry), "LabelMapVolume")
        image = slicer.vtkOrientedImageData()
        image.DeepCopy(label.GetImageData())
        image.SetImageToWorldMatrix(vtk_matrix(label.GetIJKToRASMatrix))
        node.AddSegmentFromBinaryLabelmapRepresentation(image, f"part {number}")
    return node


def test_the_visible_segments_are_a_mask(scene: Any, load: Any, add: Add) -> None:
    geometry = geometry_of("oblique")
    volume, low, high = load(smooth(geometry, 1)), ball(geometry), ball(geometry)
    low[7:], high[:5] = False, False
    node = segmentation_of(volume, [low, high], load, add)
    before = scene.GetNumberOfNodes()
    assert np.array_equal(conversion.mask_from_node(node, volume), low | high)
    ids = list(node.GetSegmentation().GetSegmentIDs())
    node.GetDisplayNode().SetSegmentVisibility(ids[1], False)
    assert np.array_equal(conversion.mask_from_node(node, volume), low)
    node.GetDisplayNode().SetSegmentVisibility(ids[0], False)
    with refuses("The mask 'organs' is empty: it has no visible segment"):
        conversion.mask_from_node(node, volume)
    assert scene.GetNumberOfNodes() == before


def test_segments_follow_the_transforms_of_both(load: Any, add: Add) -> None:
    geometry = geometry_of("oblique")
    volume, inside = load(smooth(geometry, 1)), ball(geometry)
    node = segmentation_of(volume, [inside], load, add)
    frame = np.reshape(geometry.direction, (3, 3))
    parent = add("LinearTransform")  # from parent: two voxels along the second axis of the grid
    transformnodes.linear_to_node(sitk.TranslationTransform(3, (2 * 1.7 * frame[:, 1]).tolist()), parent)
    node.SetAndObserveTransformNodeID(parent.GetID())
    moved = conversion.mask_from_node(node, volume)
    assert np.array_equal(moved[:, :-2], inside[:, 2:])
    volume.SetAndObserveTransformNodeID(parent.GetID())
    assert np.array_equal(conversion.mask_from_node(node, volume), inside)
    transformnodes.linear_to_node(sitk.TranslationTransform(3, (900, 0, 0)), parent)
    node.SetAndObserveTransformNodeID(None)
    with refuses("The mask 'organs' is empty: .* cover no voxel of the volume 'brain'"):
        conversion.mask_from_node(node, volume)


def test_segments_of_one_slice(load: Any, add: Add) -> None:
    geometry = Geometry((9, 7), (1.0, 2.0), (-3.0, 8.0), tuple(TURN_2D.ravel()))
    volume, inside = load(smooth(geometry, 1)), np.zeros((7, 9), bool)
    inside[2:5, 3:8] = True
    assert np.array_equal(conversion.mask_from_node(segmentation_of(volume, [inside], load, add), volume), inside)


def test_segments_that_are_surfaces(scene: Any, load: Any, add: Add) -> None:
    logic = slicer.vtkSlicerSegmentationsModuleLogic()  # registers the conversion, as the Slicer application does
    logic.SetMRMLScene(scene)
    geometry = geometry_of("oblique")
    volume, node = load(smooth(geometry, 1)), add("Segmentation", "skin")
    node.SetSourceRepresentationToClosedSurface()
    node.CreateDefaultDisplayNodes()
    sphere = vtk.vtkSphereSource()
    sphere.SetRadius(8)
    sphere.SetThetaResolution(40)
    sphere.SetPhiResolution(40)
    sphere.SetCenter(*((geometry.centre() + 2.0 + [50, 0, 0]) * LPS))  # its transform brings it back
    sphere.Update()
    node.AddSegmentFromClosedSurfaceRepresentation(sphere.GetOutput(), "ball")
    parent = add("LinearTransform")
    transformnodes.linear_to_node(sitk.TranslationTransform(3, (50, 0, 0)), parent)
    node.SetAndObserveTransformNodeID(parent.GetID())
    nodes = scene.GetNumberOfNodes()
    mask, expected = conversion.mask_from_node(node, volume), ball(geometry)
    assert np.count_nonzero(mask != expected) < 0.1 * np.count_nonzero(expected)
    assert scene.GetNumberOfNodes() == nodes
    assert not node.GetSegmentation().ContainsRepresentation("Binary labelmap")


def test_without_the_segmentations_module_a_label_map_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, load: Any, add: Add
) -> None:
    monkeypatch.setattr(slicer, "vtkSlicerSegmentationsModuleLogic", None)
    with refuses("'organs' is a segmentation, .* Export it to a label map"):
        conversion.mask_from_node(add("Segmentation", "organs"), load(smooth(geometry_of("oblique"), 1)))


# ---------------------------------------------------------------------------------------------------- transforms out


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("of_fixed", "of_moving"), [("straight", "oblique"), ("oblique", "left-handed"), ("left-handed", "sagittal")]
)
def test_slicer_shows_what_itk_resamples(kind: str, of_fixed: str, of_moving: str, scene: Any, load: Any) -> None:
    alone = kind in ("bspline", "displacement")
    fixed = geometry_of(of_fixed)
    moving = smooth(fixed if alone else geometry_of(of_moving, (40.0, -7.5, 61.0)), 1)
    transform = transform_of(kind, fixed, moving.geometry)
    nodes = transformnodes.transform_to_nodes(transform, scene, "result")
    assert [node.GetClassName() for node in nodes] == CLASSES[kind]
    assert nodes[0].GetName() == "result"
    assert nodes[-1].GetParentTransformNode() is None

    points = voxel_points(fixed)
    assert np.abs(mapped_by_slicer(nodes[0], points) - mapped_by_itk(transform, points)).max() < TOLERANCE[kind]

    moving_node = load(moving)
    moving_node.SetAndObserveTransformNodeID(nodes[0].GetID())
    shown = resampled_by_slicer(moving_node, load(Volume(np.zeros(fixed.array_shape), fixed)))
    image = sitk.Cast(moving.to_sitk(), sitk.sitkFloat64)
    reference = fixed.to_sitk_reference()
    expected = sitk.GetArrayFromImage(sitk.Resample(image, reference, transform, sitk.sitkLinear, -1e6))
    inside = expected >= 0  # whole voxels only: no default value took part
    assert np.count_nonzero(inside) > 0.4 * inside.size
    assert np.abs(shown - expected)[inside].max() < 1e-3 * np.ptp(moving.array)


def test_far_from_a_bspline_nothing_moves(add: Add) -> None:
    fixed, node = geometry_of("oblique"), add("BSplineTransform")
    transformnodes.bspline_to_node(bspline(fixed), node)
    far = fixed.centre() + 500.0 * np.vstack([np.eye(3), -np.eye(3)])
    assert np.abs(mapped_by_slicer(node, far) - far).max() < 1e-9


@pytest.mark.parametrize("kind", KINDS)
def test_2d_transforms_leave_z_alone(kind: str, scene: Any, load: Any) -> None:
    fixed = Geometry((22, 18), (1.1, 1.7), (-12.5, 33.0), tuple(TURN_2D.ravel()))
    alone = kind in ("bspline", "displacement")
    moving = smooth(fixed if alone else Geometry((20, 21), (1.3, 1.5), (30.0, 4.0), (1, 0, 0, 1)), 1)
    transform = transform_of(kind, fixed, moving.geometry)
    nodes = transformnodes.transform_to_nodes(transform, scene, "result")
    assert [node.GetClassName() for node in nodes] == CLASSES[kind]
    points = voxel_points(fixed)
    for z in (0.0, 44.0, -1234.5):
        mapped = mapped_by_slicer(nodes[0], np.column_stack([points, np.full(len(points), z)]))
        assert np.abs(mapped[:, :2] - mapped_by_itk(transform, points)).max() < TOLERANCE[kind]
        assert np.allclose(mapped[:, 2], z, atol=1e-9)
    node, on_fixed = load(moving, z=44.0), load(Volume(np.zeros(fixed.array_shape), fixed), z=44.0)
    node.SetAndObserveTransformNodeID(nodes[0].GetID())
    image = sitk.Cast(moving.to_sitk(), sitk.sitkFloat64)
    expected = sitk.GetArrayFromImage(sitk.Resample(image, fixed.to_sitk_reference(), transform, sitk.sitkLinear, -1e6))
    inside = expected >= 0
    assert np.count_nonzero(inside) > 0.4 * inside.size
    shown = resampled_by_slicer(node, on_fixed)[0]
    assert np.abs(shown - expected)[inside].max() < 1e-3 * np.ptp(moving.array)


@pytest.mark.parametrize(
    "transform",
    [
        sitk.Transform(),
        sitk.Transform(2, sitk.sitkIdentity),
        sitk.TranslationTransform(3, (1, 2, 3)),
        sitk.Euler2DTransform((30.0, -4.0), 0.4, (1.0, 2.0)),
        sitk.Similarity3DTransform(1.2, (0, 0, 1), 0.3, (1, 2, 3), (50, -60, 70)),
        sitk.CompositeTransform([sitk.Euler3DTransform((9, 8, 7), 0.1, 0.2, 0.3), sitk.ScaleTransform(3, (1, 2, 3))]),
    ],
    ids=lambda t: f"{t.GetName()} {t.GetDimension()}D",
)
def test_every_linear_transform_has_its_matrix(transform: sitk.Transform, add: Add) -> None:
    node = add("LinearTransform")
    transformnodes.linear_to_node(transform, node)
    points = np.random.default_rng(0).normal(scale=300, size=(20, 3))
    dim = transform.GetDimension()
    expected = points.copy()
    expected[:, :dim] = mapped_by_itk(transform, points[:, :dim])
    assert np.abs(mapped_by_slicer(node, points) - expected).max() < 1e-9


def test_a_general_node_takes_any_kind_and_changes_it(add: Add) -> None:
    fixed = geometry_of("oblique")
    points, node = voxel_points(fixed)[::50], add("Transform")
    fill = {"bspline": transformnodes.bspline_to_node, "displacement": transformnodes.displacement_to_node}
    for kind in ("linear", "bspline", "linear", "displacement", "linear"):
        transform = transform_of(kind, fixed, fixed)
        fill.get(kind, transformnodes.linear_to_node)(transform, node)
        assert np.abs(mapped_by_slicer(node, points) - mapped_by_itk(transform, points)).max() < TOLERANCE[kind]


def test_long_composites_have_their_linear_parts_joined(scene: Any) -> None:
    fixed = geometry_of("oblique")
    small = sitk.Euler3DTransform(fixed.centre().tolist(), 0.01, 0.02, -0.01, (0.1, 0.2, 0.3))
    inner = sitk.CompositeTransform([small, bspline(fixed, 8)])
    transform = sitk.CompositeTransform([small, inner, displacement(fixed), small])
    nodes = transformnodes.transform_to_nodes(transform, scene, "result")
    assert [node.GetName() for node in nodes] == [
        "result",
        "result (B-spline)",
        "result (displacement)",
        "result (linear)",
    ]
    points = voxel_points(fixed)
    inside = points[np.linalg.norm(points - fixed.centre(), axis=1) < 8]  # nothing leaves the domain on its way
    assert np.abs(mapped_by_slicer(nodes[0], inside) - mapped_by_itk(transform, inside)).max() < 1e-4


def test_transforms_that_no_node_holds(scene: Any, add: Add) -> None:
    fixed, nodes = geometry_of("oblique"), scene.GetNumberOfNodes()
    quadratic = sitk.BSplineTransformInitializer(fixed.to_sitk_reference(), [2, 2, 2], order=2)
    infinite = bspline(fixed)
    infinite.SetParameters([float("inf"), *infinite.GetParameters()[1:]])
    for transform, text in [
        (quadratic, "must be cubic to be shown, not of order 2"),
        (sitk.CompositeTransform([sitk.Euler3DTransform(), quadratic]), "must be cubic"),
        (infinite, "holds values that are not finite"),
        (sitk.DisplacementFieldTransform(3), "The displacement field is empty"),
        (sitk.ScaleTransform(3, (1, 0, 1)), "The transform .ScaleTransform. cannot be inverted"),
    ]:
        with refuses(text):
            transformnodes.transform_to_nodes(transform, scene, "result")
        assert scene.GetNumberOfNodes() == nodes

    grid, line = add("GridTransform", "grid"), add("LinearTransform", "line")
    with refuses("is not linear. Give a linear one"):
        transformnodes.linear_to_node(bspline(fixed), line)
    for fill, transform, node in [
        (transformnodes.linear_to_node, sitk.Euler3DTransform(), grid),
        (transformnodes.bspline_to_node, bspline(fixed), line),
        (transformnodes.displacement_to_node, displacement(fixed), line),
        (transformnodes.bspline_to_node, bspline(fixed), grid),
    ]:
        with refuses("The transform '(grid|line)' .* cannot hold this transform. Choose or"):
            fill(transform, node)
    with refuses("There is no transform. Choose one."):
        transformnodes.linear_to_node(sitk.Euler3DTransform(), None)


# ---------------------------------------------------------------------------------------------------- transforms in


def under_two_parents(node: Any, add: Add) -> list[sitk.Transform]:
    """Puts a node under a transform under a transform; returns what both map from parent, the upper one first."""
    given = [
        sitk.AffineTransform((1.1, 0.1, 0, 0, 0.9, 0.2, 0.05, 0, 1.0), (10, -20, 30), (5, 6, 7)),
        sitk.Euler3DTransform((40, 50, 60), 0.2, 0.7, -0.4, (3, 2, 1)),
    ]
    for transform in reversed(given):
        parent = add("LinearTransform", transform.GetName())
        parent.SetMatrixTransformFromParent(matrix_of(transform))
        node.SetAndObserveTransformNodeID(parent.GetID())
        node = parent
    return given


def test_the_placement_of_a_volume(load: Any, add: Add) -> None:
    node = load(smooth(geometry_of("oblique"), 1))
    assert conversion.placement_of(node) is None
    upper, lower = under_two_parents(node, add)
    placement = conversion.placement_of(node)
    points = np.random.default_rng(0).normal(scale=100, size=(20, 3))
    expected = mapped_by_itk(lower, mapped_by_itk(upper, points))
    assert np.abs(mapped_by_itk(placement, points) - expected).max() < 1e-9
    for point, local in zip(points, expected, strict=True):
        seen = [0.0] * 3
        node.TransformPointFromWorld((point * LPS).tolist(), seen)
        assert np.allclose(seen * LPS, local, atol=1e-9)


def test_a_volume_under_a_transform_is_resampled_from_where_it_is_shown(load: Any, add: Add, scene: Any) -> None:
    fixed = geometry_of("left-handed")
    moving = smooth(geometry_of("oblique", (40.0, -7.5, 61.0)), 1)
    node, on_fixed = load(moving), load(Volume(np.zeros(fixed.array_shape), fixed))
    place = sitk.Euler3DTransform((4, 5, 6), 0.2, 0.7, -0.4, (3, 2, 1))
    to_local = linear(fixed, moving.geometry)
    registration = sitk.CompositeTransform([place.GetInverse(), to_local])  # world → where the node is shown
    parent = add("LinearTransform")
    parent.SetMatrixTransformFromParent(matrix_of(place))
    node.SetAndObserveTransformNodeID(parent.GetID())
    whole = sitk.CompositeTransform([conversion.placement_of(node), registration])
    (result,) = transformnodes.transform_to_nodes(whole, scene, "result")
    node.SetAndObserveTransformNodeID(result.GetID())
    image = sitk.Cast(moving.to_sitk(), sitk.sitkFloat64)
    expected = sitk.GetArrayFromImage(sitk.Resample(image, fixed.to_sitk_reference(), to_local, sitk.sitkLinear, -1e6))
    inside = expected >= 0
    assert np.count_nonzero(inside) > 0.4 * inside.size
    assert np.abs(resampled_by_slicer(node, on_fixed) - expected)[inside].max() < 1e-3 * np.ptp(moving.array)


@pytest.mark.parametrize("kind", ["LinearTransform", "Transform"])
def test_an_initial_transform_maps_fixed_to_moving_points(kind: str, add: Add) -> None:
    node, points = add(kind, "start"), np.random.default_rng(0).normal(scale=100, size=(20, 3))
    given = sitk.Similarity3DTransform(1.3, (0.6, 0.8, 0), 0.9, (1, -2, 3), (20, 30, -40))
    node.SetMatrixTransformFromParent(matrix_of(given))
    initial = conversion.initial_from_node(node)
    assert np.abs(mapped_by_itk(initial, points) - mapped_by_itk(given, points)).max() < 1e-9
    held = LinearTransform.from_sitk(initial, "similarity", (0, 0, 0), 3)  # the engine takes it
    again = add("LinearTransform")
    transformnodes.linear_to_node(held.to_sitk(), again)
    assert np.abs(mapped_by_slicer(again, points) - mapped_by_slicer(node, points)).max() < 1e-9
    upper, lower = under_two_parents(node, add)
    expected = mapped_by_itk(given, mapped_by_itk(lower, mapped_by_itk(upper, points)))
    assert np.abs(mapped_by_itk(conversion.initial_from_node(node), points) - expected).max() < 1e-9


def test_transforms_for_one_slice_stay_in_its_plane(load: Any, add: Add) -> None:
    node, volume = add("LinearTransform", "start"), load(smooth(Geometry((7, 5), (1, 1), (0, 0), (1, 0, 0, 1)), 1))
    volume.SetAndObserveTransformNodeID(node.GetID())
    given = sitk.Similarity2DTransform(1.3, 0.9, (1.0, -2.0), (20.0, 30.0))
    transformnodes.linear_to_node(given, node)
    points = np.random.default_rng(0).normal(scale=100, size=(20, 2))
    for transform in (conversion.initial_from_node(node, 2), conversion.placement_of(volume, 2)):
        assert transform.GetDimension() == 2
        assert np.abs(mapped_by_itk(transform, points) - mapped_by_itk(given, points)).max() < 1e-9
    transformnodes.linear_to_node(sitk.Euler3DTransform((0, 0, 0), 0.1, 0, 0), node)
    for get in (lambda: conversion.initial_from_node(node, 2), lambda: conversion.placement_of(volume, 2)):
        with refuses("transform 'start' leaves the plane of the image"):
            get()


def test_transforms_that_cannot_be_taken_into_account(load: Any, add: Add) -> None:
    volume = load(smooth(geometry_of("oblique"), 1))
    linear_node, warp = add("LinearTransform", "line"), add("BSplineTransform", "warp")
    transformnodes.bspline_to_node(bspline(geometry_of("oblique")), warp)
    linear_node.SetAndObserveTransformNodeID(warp.GetID())
    text = "The transform 'warp' is not linear .* Harden it on the volume or remove it"
    for parent in (warp, linear_node):
        volume.SetAndObserveTransformNodeID(parent.GetID())
        with refuses(text):
            conversion.placement_of(volume)
        with refuses(text):
            conversion.initial_from_node(parent)
    with refuses("There is no initial transform. Choose one."):
        conversion.initial_from_node(None)
    with refuses("The initial transform 'brain' is no transform .Volume."):
        conversion.initial_from_node(volume)
    linear_node.SetAndObserveTransformNodeID(None)
    linear_node.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(np.diag([1.0, 0.0, 1.0, 1.0])))
    with refuses("The transform 'line' cannot be inverted"):
        conversion.initial_from_node(linear_node)


# ---------------------------------------------------------------------------------------------------- files


def lasting_points(kind: str, fixed: Geometry) -> Array:
    """Points that a transform maps to the same place after Slicer has read it from a file.

    Not those between the points of a displacement field: Slicer interpolates linearly in a new one, as ITK does, but
    with a cubic in one that it has read.
    """
    if kind != "displacement":
        return voxel_points(fixed)
    return voxel_points(Geometry.from_sitk(displacement(fixed).GetDisplacementField()))


SAVED = {"linear": (".h5", ".tfm"), "bspline": (".h5", ".txt"), "displacement": (".h5", ".nrrd", ".nii.gz")}


@pytest.mark.parametrize(("kind", "extension"), [(kind, e) for kind, extensions in SAVED.items() for e in extensions])
def test_a_saved_node_is_what_itk_reads(kind: str, extension: str, scene: Any, tmp_path: Path) -> None:
    fixed = geometry_of("left-handed")
    transform = transform_of(kind, fixed, fixed)
    (node,) = transformnodes.transform_to_nodes(transform, scene, "result")
    path = str(tmp_path / f"result{extension}")
    storage = slicer.vtkMRMLTransformStorageNode()
    scene.AddNode(storage)
    storage.SetFileName(path)
    assert storage.WriteData(node)
    if extension in (".nrrd", ".nii.gz"):
        read: sitk.Transform = sitk.DisplacementFieldTransform(sitk.ReadImage(path, sitk.sitkVectorFloat64))
    else:
        read = sitk.ReadTransform(path)
    points = voxel_points(fixed)
    assert np.abs(mapped_by_itk(read, points) - mapped_by_itk(transform, points)).max() < TOLERANCE[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_what_itk_saves_slicer_reads_as_the_same(kind: str, scene: Any, add: Add, tmp_path: Path) -> None:
    fixed = geometry_of("left-handed")
    transform = transform_of(kind, fixed, fixed)
    path = str(tmp_path / "result.h5")
    sitk.WriteTransform(transform, path)
    node, storage = add("Transform" if kind == "composite" else CLASSES[kind][0][7:-4]), add("TransformStorage")
    storage.SetFileName(path)
    assert storage.ReadData(node)
    points = lasting_points(kind, fixed)
    (first, *_) = transformnodes.transform_to_nodes(transform, scene, "result")
    assert np.abs(mapped_by_slicer(node, points) - mapped_by_slicer(first, points)).max() < TOLERANCE[kind]


def test_a_saved_scene_keeps_the_transforms(scene: Any, load: Any, tmp_path: Path) -> None:
    fixed, expected = geometry_of("oblique"), {}
    for kind in KINDS:
        first = transformnodes.transform_to_nodes(transform_of(kind, fixed, fixed), scene, kind)[0]
        expected[kind] = mapped_by_slicer(first, lasting_points(kind, fixed))
    volume = smooth(fixed, 1)
    load(volume).SetAndObserveTransformNodeID(first.GetID())
    path, again = str(tmp_path / "scene.mrb"), slicer.vtkMRMLScene()
    assert scene.WriteToMRB(path)
    cache, manager = slicer.vtkCacheManager(), slicer.vtkDataIOManager()  # the Slicer application has them
    cache.SetRemoteCacheDirectory(str(tmp_path))
    manager.SetCacheManager(cache)
    again.SetDataIOManager(manager)
    assert again.ReadFromMRB(path)
    for kind in KINDS:
        mapped = mapped_by_slicer(again.GetFirstNodeByName(kind), lasting_points(kind, fixed))
        assert np.abs(mapped - expected[kind]).max() < TOLERANCE[kind]
    node = again.GetFirstNodeByName("brain")
    assert node.GetParentTransformNode().GetName() == "composite"
    back = conversion.volume_from_node(node)
    assert back.geometry.matches(fixed, 1e-6)
    assert np.array_equal(back.array, volume.array)
    again.Clear(True)
