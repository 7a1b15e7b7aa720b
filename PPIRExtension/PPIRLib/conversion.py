"""Volumes and masks between MRML nodes and the engine, and transform nodes into it (`transformnodes`: out of it).

MRML works in RAS mm, the engine and SimpleITK in LPS mm; both are related by F = diag(-1, -1, 1, 1), which is its own
inverse. A transform of the engine maps FIXED points to MOVING points. A transform node that aligns the moving volume
holds the same mapping as its transform FROM parent: from the world, where the fixed volume lies, to the volume's own
coordinates.

'Local' are the coordinates that IJKToRAS of a volume gives, before any parent transform; 'world' is after all of them.

A 2D image of the engine is a volume of one slice whose normal is the z axis. A 2D transform becomes a 3D one that
does not change z.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk
import slicer
import slicer.util
import vtk
import vtk.util.numpy_support

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from PPIRLogic.images.geometry import Geometry
    from PPIRLogic.images.volume import Volume

FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])  # RAS to LPS and back
_RIGHT_ANGLE = 1e-3  # largest cosine between two axes of a grid, and slope of a 2D image against the z axis
_SAME_GRID = 1e-2  # voxels; as for mask files
_SINGULAR = 1e-6  # smallest accepted ratio of the singular values of a linear transform


# ---------------------------------------------------------------------------------------------------- volumes


def volume_from_node(node: Any) -> Volume:
    """A copy of the voxels (float32) of a vtkMRMLScalarVolumeNode, on its grid in LOCAL coordinates, RAS turned into
    LPS mm. Parent transforms are not applied: see `placement_of`.

    One slice along k whose normal is the z axis becomes a 2D Volume. InputError: no node, no voxels, several
    components, sheared axes, NaN or infinite voxels, any other volume with an axis of one voxel, and what the engine
    does not accept as a grid.
    """
    from PPIRLogic.errors import InputError
    from PPIRLogic.images.geometry import Geometry
    from PPIRLogic.images.volume import Volume

    what = call(node, "volume")
    values = _voxels(node, what)
    geometry = _grid(node)
    directions = np.reshape(geometry.direction, (3, 3))
    if np.abs(directions.T @ directions - np.eye(3)).max() > _RIGHT_ANGLE:
        raise InputError(
            f"{what} is sheared: its axes are not at right angles to each other. "
            "Resample it to a grid with right angles, for instance with the module 'Resample Image (BRAINS)'."
        )
    _refuse_not_finite(values, what)
    if 1 in geometry.size:
        geometry = _flat(geometry, what)
    try:
        Geometry.from_dict(geometry.to_dict())
    except InputError as error:
        raise InputError(f"{what} cannot be used. {error}") from None
    return Volume(np.array(values, dtype=np.float32).reshape(geometry.array_shape), geometry, node.GetName() or "")


def volume_to_node(volume: Volume, node: Any, z: float = 0.0) -> None:
    """Put voxels and grid (LPS turned into RAS mm) into a vtkMRMLScalarVolumeNode, replacing what it holds.

    A 2D Volume becomes one slice of 1 mm at the given `z` (mm). The node's parent transform is left as it is: for an
    image resampled onto the fixed grid there should be none.
    """
    directions, spacing, origin = np.eye(3), np.ones(3), np.array([0.0, 0.0, z])
    geometry, dim = volume.geometry, volume.geometry.dimension
    directions[:dim, :dim] = np.reshape(geometry.direction, (dim, dim))
    spacing[:dim], origin[:dim] = geometry.spacing, geometry.origin
    with slicer.util.NodeModify(node):
        slicer.util.updateVolumeFromArray(node, volume.array.reshape((-1, *volume.array.shape[-2:])))
        node.SetIJKToRASDirectionMatrix(direction_matrix(directions))
        node.SetSpacing(*spacing.tolist())
        node.SetOrigin(*flipped(origin))
    if node.GetScene() is not None and node.GetDisplayNode() is None:
        node.CreateDefaultDisplayNodes()


def mask_from_node(node: Any, volume_node: Any) -> NDArray[np.bool_]:
    """A mask for the volume of `volume_node`: bool array of the shape that `volume_from_node(volume_node).array` has.

    Inside is what is not zero in a label map on the same grid at the same place, or what any visible segment of a
    vtkMRMLSegmentationNode covers; segments are brought onto the grid of the volume (nearest neighbour), with the
    parent transforms of both. InputError: no node, another grid or place, NaN, nothing inside, not a mask at all.
    """
    from PPIRLogic.errors import InputError

    what, of = call(node, "mask"), call(volume_node, "volume")
    _voxels(volume_node, of)
    grid = _grid(volume_node)
    if node.IsA("vtkMRMLSegmentationNode"):
        mask = _segments(node, volume_node, what)
        if not mask.any():
            raise InputError(f"{what} is empty: its visible segments cover no voxel of {_lower(of)}.")
    else:
        values = _voxels(node, what)
        own = _grid(node)
        if not own.matches(grid, _SAME_GRID):
            raise InputError(
                f"{what} is not on the grid of {_lower(of)}. Mask: {_place(own)}. Volume: {_place(grid)}. "
                "Resample the mask to the volume (nearest neighbour), or use a segmentation."
            )
        if not _same_place(node, volume_node, grid):
            raise InputError(
                f"{what} and {_lower(of)} do not lie in the same place: they are under different transforms. "
                "Put both under the same transform."
            )
        _refuse_not_finite(values, what)
        mask = values != 0
        if not mask.any():
            raise InputError(f"{what} is empty: no voxel is inside. Inside is every value other than zero.")
    size = grid.size
    shape = size[1::-1] if size[2] == 1 and 1 not in size[:2] else size[::-1]
    return mask.reshape(shape)


def _segments(node: Any, volume_node: Any, what: str) -> NDArray[np.bool_]:
    """What the visible segments cover, (z, y, x) on the grid of the volume. Leaves the node and the scene as they
    were."""
    from PPIRLogic.errors import InputError

    logic = getattr(slicer, "vtkSlicerSegmentationsModuleLogic", None)
    if logic is None or not hasattr(logic, "GenerateMergedLabelmapInReferenceGeometry"):
        raise InputError(
            f"{what} is a segmentation, which cannot be converted here. Export it to a label map and give that."
        )
    shown = vtk.vtkStringArray()
    if node.GetDisplayNode() is not None:
        node.GetDisplayNode().GetVisibleSegmentIDs(shown)
    else:
        node.GetSegmentation().GetSegmentIDs(shown)
    if shown.GetNumberOfValues() == 0:
        raise InputError(f"{what} is empty: it has no visible segment.")
    labels = slicer.vtkSegmentationConverter.GetBinaryLabelmapRepresentationName()
    source, copy = node, None
    if not node.GetSegmentation().ContainsRepresentation(labels):
        # surfaces alone: converted in a copy, on a grid like the volume's
        copy = slicer.vtkMRMLSegmentationNode()
        copy.SetHideFromEditors(True)
        copy.SetSaveWithScene(False)
        node.GetScene().AddNode(copy)
        copy.GetSegmentation().DeepCopy(node.GetSegmentation())
        copy.SetAndObserveTransformNodeID(node.GetTransformNodeID())
        copy.SetReferenceImageGeometryParameterFromVolumeNode(volume_node)
        source = copy
    try:
        if copy is not None and not copy.GetSegmentation().CreateRepresentation(labels):
            raise InputError(f"{what} cannot be converted to voxels. Export it to a label map and give that.")
        merged = slicer.vtkOrientedImageData()
        whole = slicer.vtkSegmentation.EXTENT_REFERENCE_GEOMETRY
        logic.GenerateMergedLabelmapInReferenceGeometry(source, volume_node, shown, whole, merged)
    finally:
        if copy is not None:
            copy.GetScene().RemoveNode(copy)
    size, scalars = volume_node.GetImageData().GetDimensions(), merged.GetPointData().GetScalars()
    if merged.GetDimensions() != size or scalars is None:
        raise InputError(f"{what} cannot be brought onto the grid of the volume. Export it to a label map first.")
    inside: NDArray[np.bool_] = vtk.util.numpy_support.vtk_to_numpy(scalars).reshape(size[::-1]) != 0
    return inside


def call(node: Any, kind: str) -> str:
    """How to name a node in messages. InputError: None."""
    from PPIRLogic.errors import InputError

    if node is None:
        raise InputError(f"There is no {kind}. Choose one.")
    return f"The {kind} '{node.GetName() or node.GetID()}'"


def _lower(what: str) -> str:
    return what[0].lower() + what[1:]


def _voxels(node: Any, what: str) -> NDArray[Any]:
    """A view of the voxels, (z, y, x). InputError: not a scalar volume, no voxels, several components."""
    from PPIRLogic.errors import InputError

    if not node.IsA("vtkMRMLScalarVolumeNode"):
        raise InputError(f"{what} is no scalar volume ({node.GetNodeTagName()}). Choose another one.")
    image = node.GetImageData()
    scalars = None if image is None else image.GetPointData().GetScalars()
    tensors = None if image is None else image.GetPointData().GetTensors()
    components = 9 if tensors is not None else 0 if scalars is None else scalars.GetNumberOfComponents()
    if components > 1:
        raise InputError(
            f"{what} has {components} components per voxel (colour, vectors or tensors). "
            "Make a grey volume of it, for instance with the module 'Vector to Scalar Volume'."
        )
    if scalars is None or scalars.GetNumberOfTuples() == 0:
        raise InputError(f"{what} holds no voxels. Load its image first.")
    return vtk.util.numpy_support.vtk_to_numpy(scalars).reshape(image.GetDimensions()[::-1])


def _grid(node: Any) -> Geometry:
    """The 3D grid of a volume node, local coordinates, LPS mm; not validated."""
    from PPIRLogic.images.geometry import Geometry

    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASDirectionMatrix(matrix)
    directions = (FLIP @ slicer.util.arrayFromVTKMatrix(matrix))[:3, :3] + 0.0  # no negative zeros
    return Geometry(
        node.GetImageData().GetDimensions(), node.GetSpacing(), flipped(node.GetOrigin()), tuple(directions.ravel())
    )


def direction_matrix(directions: NDArray[np.float64]) -> Any:
    """Directions (3×3) of a grid in LPS as a vtkMatrix4x4 in RAS."""
    matrix = np.eye(4)
    matrix[:3, :3] = directions
    return slicer.util.vtkMatrixFromArray(FLIP @ matrix + 0.0)


def flipped(point: Any) -> tuple[float, float, float]:
    """A point or a vector from RAS to LPS or back, without negative zeros."""
    x, y, z = (float(v) for v in point)
    return 0.0 - x, 0.0 - y, z


def _refuse_not_finite(values: NDArray[Any], what: str) -> None:
    from PPIRLogic.errors import InputError

    bad = int(values.size - np.count_nonzero(np.isfinite(values)))
    if bad:
        raise InputError(
            f"{what} has {bad} voxels that are NaN or infinite. Replace them (for instance by the background value)."
        )


def _flat(geometry: Geometry, what: str) -> Geometry:
    """The 2D grid of one slice along k with the z axis as its normal; InputError for others."""
    from PPIRLogic.errors import InputError
    from PPIRLogic.images.geometry import Geometry

    size = geometry.size
    directions = np.reshape(geometry.direction, (3, 3))
    if 1 in size[:2]:
        raise InputError(
            f"{what} has an axis of one voxel ({'×'.join(map(str, size))}) that is not its slice axis. "
            "Give an axial slice or a volume of several slices."
        )
    if np.abs(np.abs(directions[:, 2]) - (0, 0, 1)).max() > _RIGHT_ANGLE:
        raise InputError(
            f"{what} has one slice, which is not perpendicular to the z axis, so that it cannot be used as a 2D image. "
            "Give an axial slice or a volume of several slices."
        )
    return Geometry(size[:2], geometry.spacing[:2], geometry.origin[:2], tuple(directions[:2, :2].ravel()))


def _place(grid: Geometry) -> str:
    """Size, spacing, origin and axes of a grid in RAS, as Slicer shows them."""
    origin = ", ".join(f"{v:.6g}" for v in flipped(grid.origin))
    axes = ", ".join(f"{v:.4g}" for v in (FLIP[:3, :3] @ np.reshape(grid.direction, (3, 3)) + 0.0).ravel())
    return f"{grid.describe()}, origin ({origin}) mm, directions ({axes})"


def _same_place(node: Any, other: Any, grid: Geometry) -> bool:
    """Whether the parent transforms of two nodes put `grid` (LPS, local) into the same place of the world."""
    if node.GetParentTransformNode() is other.GetParentTransformNode():
        return True
    corners = np.column_stack([grid.corners(), np.ones(8)])
    apart = corners @ (_world_to_local(node) - _world_to_local(other)).T
    return bool(np.abs(apart).max() <= _SAME_GRID * min(grid.spacing))


# ---------------------------------------------------------------------------------------------------- transforms


def placement_of(node: Any, dimension: int = 3) -> sitk.Transform | None:
    """What maps WORLD points to LOCAL points of a volume (LPS mm): the inverse of its parent transforms.

    None without a parent transform. `dimension` 2: only the part within the xy plane, for volumes of one slice.
    InputError: a parent that is not linear or not invertible; for 2D one that leaves the plane.
    """
    if node.GetParentTransformNode() is None:
        return None
    return _affine(_world_to_local(node), dimension, call(node.GetParentTransformNode(), "transform"))


def initial_from_node(node: Any, dimension: int = 3) -> sitk.Transform:
    """A linear transform node as initial transform, FIXED → MOVING points in LPS mm: its transform from parent.

    It means: start as if the moving volume were under this node. Where the node itself is under others, they count
    too, so that the mapping is from the world. `dimension` 2: only the part within the xy plane. InputError: no
    transform, not linear, not invertible; for 2D one that leaves the plane.
    """
    from PPIRLogic.errors import InputError

    what = call(node, "initial transform")
    if not node.IsA("vtkMRMLTransformNode"):
        raise InputError(f"{what} is no transform ({node.GetNodeTagName()}). Choose another one.")
    return _affine(_from_world(node), dimension, what)


def _world_to_local(node: Any) -> NDArray[np.float64]:
    """4×4, LPS: world points to local points of a node. InputError: a parent transform that is not linear."""
    parent = node.GetParentTransformNode()
    return np.eye(4) if parent is None else _from_world(parent)


def _from_world(node: Any) -> NDArray[np.float64]:
    """4×4, LPS: world points to points below a transform node. InputError: it or one above is not linear."""
    from PPIRLogic.errors import InputError

    above = node
    while above is not None:
        if not above.IsLinear():
            raise InputError(
                f"{call(above, 'transform')} is not linear and cannot be taken into account. Harden it on the volume "
                "or remove it, then start again."
            )
        above = above.GetParentTransformNode()
    matrix = vtk.vtkMatrix4x4()
    node.GetMatrixTransformToWorld(matrix)
    return inverse_of(FLIP @ slicer.util.arrayFromVTKMatrix(matrix) @ FLIP, call(node, "transform"))


def inverse_of(matrix: NDArray[np.float64], what: str) -> NDArray[np.float64]:
    """The inverse of an affine 4×4 matrix. InputError: not affine, not finite, singular."""
    from PPIRLogic.errors import InputError

    usable = bool(np.isfinite(matrix).all()) and np.array_equal(matrix[3], (0, 0, 0, 1))
    if usable:
        values = np.linalg.svd(matrix[:3, :3], compute_uv=False)
        usable = bool(values[-1] > _SINGULAR * values[0])
    if not usable:
        raise InputError(f"{what} cannot be inverted. Choose another one or remove it.")
    inverse = np.linalg.inv(matrix).astype(np.float64, copy=False)
    inverse[3] = 0, 0, 0, 1
    return inverse


def _affine(matrix: NDArray[np.float64], dimension: int, what: str) -> sitk.AffineTransform:
    """A 4×4 matrix as an affine transform in 3D, or of its xy part in 2D."""
    from PPIRLogic.errors import InputError

    if dimension == 2 and max(np.abs(matrix[:2, 2]).max(), np.abs(matrix[2, :2]).max()) > _RIGHT_ANGLE:
        raise InputError(
            f"{what} leaves the plane of the image. For images of one slice only rotations about the z axis, scaling "
            "and shifts can be used."
        )
    affine = sitk.AffineTransform(dimension)
    affine.SetMatrix(matrix[:dimension, :dimension].ravel().tolist())
    affine.SetTranslation(matrix[:dimension, 3].tolist())
    return affine
