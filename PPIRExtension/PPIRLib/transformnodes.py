"""The engine's transforms as transform nodes. `conversion` says how the coordinates of both belong together."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk
import slicer
import slicer.util
import vtk
import vtk.util.numpy_support

from PPIRLib import conversion

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PROBE_MM = 128.0  # a power of two, so that dividing by it is exact
_TALL_MM = 1e4  # extent along z of a 2D deformation in 3D


def linear_to_node(transform: sitk.Transform, node: Any) -> None:
    """Put a linear transform (fixed → moving points, LPS mm) into a transform node as its transform FROM parent (RAS).

    `transform` may be any linear one, also a composite, 2D or 3D; `node` a vtkMRMLLinearTransformNode or a
    vtkMRMLTransformNode. InputError: not linear, not invertible, or a node that only holds deformations.
    """
    from PPIRLogic.errors import InputError

    matrix = _matrix(transform)
    conversion.inverse_of(matrix, f"The transform ({transform.GetName()})")
    _require(node, "vtkMRMLTransformNode", "vtkMRMLBSplineTransformNode", "vtkMRMLGridTransformNode")
    if not node.IsLinear():
        node.SetAndObserveTransformFromParent(None)  # a node that holds a deformation takes no matrix
    if not node.SetMatrixTransformFromParent(
        slicer.util.vtkMatrixFromArray(conversion.FLIP @ matrix @ conversion.FLIP + 0.0)
    ):
        raise InputError(
            f"{conversion.call(node, 'transform')} cannot hold a linear transform. Choose or create another node."
        )


def bspline_to_node(transform: sitk.BSplineTransform, node: Any) -> None:
    """Put a cubic B-spline transform (fixed → moving points, LPS mm) into a transform node, FROM parent (RAS).

    `node` is a vtkMRMLBSplineTransformNode or a vtkMRMLTransformNode. Inside the domain of the B-spline both map
    points alike; outside, ITK leaves points where they are while VTK fades the deformation over the border knots.
    InputError: another spline order, values that are not finite, or a node of another kind.
    """
    from PPIRLogic.errors import InputError

    _require(node, "vtkMRMLTransformNode", "vtkMRMLLinearTransformNode", "vtkMRMLGridTransformNode")
    if transform.GetOrder() != 3:
        raise InputError(f"A B-spline transform must be cubic to be shown, not of order {transform.GetOrder()}.")
    images = transform.GetCoefficientImages()
    values = np.stack([sitk.GetArrayFromImage(image) for image in images], axis=-1)
    size, spacing, origin, direction = _grid_of(images[0])
    if transform.GetDimension() == 2:  # four equal layers of knots: the middle interval of z is the domain
        size, spacing, origin = (*size[:2], 4), (*spacing[:2], _TALL_MM), (*origin[:2], -1.5 * _TALL_MM)
        values = _layers(values, 4)
    spline = slicer.vtkOrientedBSplineTransform()
    spline.SetBorderModeToZero()
    spline.SetGridDirectionMatrix(conversion.direction_matrix(direction))
    spline.SetCoefficientData(_vectors(values, size, spacing, origin))
    node.SetAndObserveTransformFromParent(spline)


def displacement_to_node(transform: sitk.DisplacementFieldTransform, node: Any) -> None:
    """Put a displacement field (fixed → moving points, LPS mm, linear interpolation) into a transform node, FROM
    parent (RAS).

    `node` is a vtkMRMLGridTransformNode or a vtkMRMLTransformNode. Inside the field both map points alike; outside,
    ITK leaves points where they are while VTK goes on with the displacement at the border. Once Slicer has read the
    node from a file or a saved scene, it interpolates with a cubic between the points of the field. InputError: an
    empty field, values that are not finite, or a node of another kind.
    """
    from PPIRLogic.errors import InputError

    _require(node, "vtkMRMLTransformNode", "vtkMRMLLinearTransformNode", "vtkMRMLBSplineTransformNode")
    field = transform.GetDisplacementField()
    if field.GetNumberOfPixels() == 0:
        raise InputError("The displacement field is empty. Give another transform.")
    values = sitk.GetArrayFromImage(field)
    size, spacing, origin, direction = _grid_of(field)
    if transform.GetDimension() == 2:
        size, spacing, origin = (*size[:2], 2), (*spacing[:2], _TALL_MM), (*origin[:2], -0.5 * _TALL_MM)
        values = _layers(values, 2)
    grid = slicer.vtkOrientedGridTransform()
    grid.SetInterpolationModeToLinear()
    grid.SetGridDirectionMatrix(conversion.direction_matrix(direction))
    grid.SetDisplacementGridData(_vectors(values, size, spacing, origin))
    node.SetAndObserveTransformFromParent(grid)


def transform_to_nodes(transform: sitk.Transform, scene: Any, name: str, into: Any = None) -> list[Any]:
    """Transform nodes in `scene` that together hold a transform (fixed → moving points, LPS mm).

    The moving volume has to observe the first one, which is called `name`; each observes the next. Linear, cubic
    B-spline and displacement field transforms give one node; a composite [T, B], which maps p to T(B(p)), gives one
    for T and one for B, neighbouring linear parts being joined. The nodes are new but for `into`, if given: it keeps
    its name and takes the part of its own kind, else the first. InputError: a kind that has no node, or `into` cannot
    hold the part; the scene is then as it was.
    """
    rows = [(part, *_KINDS.get(part.GetTransformEnum(), _LINEAR)) for part in _parts(transform)]
    kinds = [kind for _, kind, _, _ in rows]
    place = -1
    if into is not None:
        place = kinds.index(into.GetClassName()) if into.GetClassName() in kinds else 0
    nodes: list[Any] = []
    try:
        for index, (part, kind, suffix, fill) in enumerate(rows):
            label = name if index == 0 else f"{name} ({suffix})"
            nodes.append(into if index == place else scene.AddNewNodeByClass(kind, label))
            if index != place:
                fill(part, nodes[-1])
        if into is not None:  # last, when nothing else can fail any more
            rows[place][3](rows[place][0], into)
    except Exception:
        for node in nodes:
            if node is not into:
                scene.RemoveNode(node)
        raise
    for node, above in itertools.zip_longest(nodes, nodes[1:]):
        node.SetAndObserveTransformNodeID(
            above.GetID() if above is not None else None
        )  # the last counts from the world
    return nodes


_LINEAR: tuple[str, str, Any] = ("vtkMRMLLinearTransformNode", "linear", linear_to_node)
_KINDS: dict[int, tuple[str, str, Any]] = {
    sitk.sitkBSplineTransform: ("vtkMRMLBSplineTransformNode", "B-spline", bspline_to_node),
    sitk.sitkDisplacementField: ("vtkMRMLGridTransformNode", "displacement", displacement_to_node),
}


def _parts(transform: sitk.Transform) -> list[sitk.Transform]:
    """The transforms that, the last one applied first, make up `transform`; linear neighbours are one composite."""
    from PPIRLogic.errors import InputError

    whole: Any = transform.Downcast()
    if whole.IsLinear() or whole.GetTransformEnum() in _KINDS:
        return [whole]
    if whole.GetTransformEnum() != sitk.sitkComposite:
        raise InputError(
            f"The transform ({whole.GetName()}) is neither linear nor a B-spline or a displacement field. "
            "Give one of these."
        )
    parts: list[Any] = []
    for number in range(whole.GetNumberOfTransforms()):
        for part in _parts(whole.GetNthTransform(number)):
            if parts and part.IsLinear() and parts[-1].IsLinear():
                parts[-1] = sitk.CompositeTransform([parts[-1], part])
            else:
                parts.append(part)
    return parts


def _matrix(transform: sitk.Transform) -> NDArray[np.float64]:
    """4×4 matrix, LPS, of a linear transform, from the images of points: works for every class of ITK's."""
    from PPIRLogic.errors import InputError

    if not transform.IsLinear():
        raise InputError(f"The transform ({transform.GetName()}) is not linear. Give a linear one.")
    dim = transform.GetDimension()
    matrix = np.eye(4)
    for axis, step in enumerate(_PROBE_MM * np.eye(dim)):
        ahead, behind = (transform.TransformPoint(point.tolist()) for point in (step, -step))
        matrix[:dim, axis] = np.subtract(ahead, behind) / (2 * _PROBE_MM)
    matrix[:dim, 3] = transform.TransformPoint([0.0] * dim)
    return matrix


def _require(node: Any, base: str, *unfit: str) -> None:
    """InputError unless `node` is a `base` and none of `unfit`."""
    from PPIRLogic.errors import InputError

    what = conversion.call(node, "transform")
    if not node.IsA(base) or any(node.IsA(other) for other in unfit):
        raise InputError(f"{what} ({node.GetNodeTagName()}) cannot hold this transform. Choose or create another node.")


def _grid_of(image: sitk.Image) -> tuple[Any, Any, Any, NDArray[np.float64]]:
    """Size, spacing, origin and directions (3×3) of a 2D or 3D image."""
    dim = image.GetDimension()
    direction = np.eye(3)
    direction[:dim, :dim] = np.reshape(image.GetDirection(), (dim, dim))
    return image.GetSize(), image.GetSpacing(), image.GetOrigin(), direction


def _layers(values: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """2D vectors (y, x, 2) as `count` equal layers of 3D vectors without z component, (z, y, x, 3)."""
    flat = np.concatenate([values, np.zeros((*values.shape[:2], 1))], axis=-1)
    return np.repeat(flat[None], count, axis=0)


def _vectors(values: NDArray[np.float64], size: Any, spacing: Any, origin: Any) -> Any:
    """LPS vectors (z, y, x, 3) on a grid in LPS as a vtkImageData in RAS, which has no directions.

    InputError: not finite.
    """
    from PPIRLogic.errors import InputError

    if not np.isfinite(values).all():
        raise InputError("The transform holds values that are not finite. Write it again.")
    array = vtk.util.numpy_support.numpy_to_vtk(values.reshape(-1, 3) * np.diag(conversion.FLIP)[:3], deep=True)
    image = vtk.vtkImageData()
    image.SetDimensions(*size)
    image.SetSpacing(*spacing)
    image.SetOrigin(*conversion.flipped(origin))
    image.GetPointData().SetScalars(array)
    return image
