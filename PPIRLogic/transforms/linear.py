"""Translation, rigid, similarity and affine transforms.

A transform maps FIXED points to MOVING points in LPS mm (ITK's resampling direction): y = A(x − c) + c + t. What A can
be is said by its `LinearForm`: a new form of matrix is one class.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import ArrayLike

from PPIRLogic.arrays import Array
from PPIRLogic.errors import InputError
from PPIRLogic.former_paths import look_up

_REPRESENTABLE = 1e-6
TYPED = 1e-3  # how far a rotation may be off that somebody typed with few decimals
_SINGULAR = 1e-6  # smallest accepted ratio of singular values
_PROBE_MM = 100.0
# generators of the rotations about x, y, z: G_k·p = e_k × p
_GENERATORS = {
    2: np.array([[[0.0, -1.0], [1.0, 0.0]]]),
    3: np.array(
        [
            [[0.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]],
            [[0.0, 0.0, 1.0], [0.0, 0.0, 0.0], [-1.0, 0.0, 0.0]],
            [[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]],
        ]
    ),
}


class LinearForm(ABC):
    """What the matrix A of a kind of linear transform can be. The translation is the same for all."""

    name: str
    rotates = False  # the matrix holds a rotation, which nobody can type exactly

    @abstractmethod
    def count(self, dimension: int) -> int:
        """Parameters of A."""

    @abstractmethod
    def basis(self, matrix: Array) -> Array:
        """∂A/∂θ_k at `matrix`, (count, dim, dim), for parameters of A that are plain numbers."""

    @abstractmethod
    def moved(self, matrix: Array, step: Array) -> Array:
        """A after a step (count,) in the parameters of `basis`; again of this form."""

    @abstractmethod
    def nearest(self, matrix: Array) -> Array:
        """The matrix of this form next to `matrix`, (dim, dim)."""

    def to_sitk(self, dimension: int) -> sitk.Transform:
        """An empty SimpleITK transform that can hold it, with SetMatrix and SetCenter."""
        return sitk.AffineTransform(dimension)


class _Translation(LinearForm):
    name = "translation"

    def count(self, dimension: int) -> int:
        return 0

    def basis(self, matrix: Array) -> Array:
        return np.zeros((0, *matrix.shape))

    def moved(self, matrix: Array, step: Array) -> Array:
        return matrix

    def nearest(self, matrix: Array) -> Array:
        return np.eye(len(matrix))

    def to_sitk(self, dimension: int) -> sitk.Transform:
        return sitk.TranslationTransform(dimension)


class _Rigid(LinearForm):
    name = "rigid"
    rotates = True

    def count(self, dimension: int) -> int:
        return len(_GENERATORS[dimension])

    def basis(self, matrix: Array) -> Array:
        turned: Array = _GENERATORS[len(matrix)] @ matrix
        return turned

    def moved(self, matrix: Array, step: Array) -> Array:
        return self.nearest(rotation_of(step) @ matrix)

    def nearest(self, matrix: Array) -> Array:
        """By polar decomposition."""
        return _polar(matrix)[0]

    def to_sitk(self, dimension: int) -> sitk.Transform:
        return sitk.Euler2DTransform() if dimension == 2 else sitk.VersorRigid3DTransform()


class _Similarity(_Rigid):
    name = "similarity"

    def count(self, dimension: int) -> int:
        return super().count(dimension) + 1

    def basis(self, matrix: Array) -> Array:
        return np.concatenate([super().basis(matrix), matrix[None]])

    def moved(self, matrix: Array, step: Array) -> Array:
        return self.nearest(math.exp(step[-1]) * rotation_of(step[:-1]) @ matrix)

    def nearest(self, matrix: Array) -> Array:
        """By polar decomposition; the scale from the singular values."""
        rotation, values = _polar(matrix)
        return rotation * float(np.mean(values))

    def to_sitk(self, dimension: int) -> sitk.Transform:
        return sitk.Similarity2DTransform() if dimension == 2 else sitk.Similarity3DTransform()


class _Affine(LinearForm):
    name = "affine"

    def count(self, dimension: int) -> int:
        return dimension**2

    def basis(self, matrix: Array) -> Array:
        dim = len(matrix)
        return np.eye(dim * dim).reshape(dim * dim, dim, dim)

    def moved(self, matrix: Array, step: Array) -> Array:
        return matrix + step.reshape(matrix.shape)

    def nearest(self, matrix: Array) -> Array:
        return matrix


FORMS: dict[str, LinearForm] = {form.name: form for form in (_Translation(), _Rigid(), _Similarity(), _Affine())}
KINDS = tuple(FORMS)  # ours


def add_form(form: LinearForm) -> None:
    """Make a new form of matrix known; ValueError if its name is taken by another class."""
    if type(FORMS.setdefault(form.name, form)) is not type(form):
        raise ValueError(f"There is a linear form '{form.name}' already.")


def parameter_count(kind: str, dimension: int) -> int:
    """Number of parameters: 2D 2/3/4/6, 3D 3/6/7/12. InputError: unknown kind or dimension.

    >>> [parameter_count(kind, 3) for kind in KINDS]
    [3, 6, 7, 12]
    """
    _check_kind(kind)
    if dimension not in (2, 3):
        raise InputError(f"A transform is 2D or 3D, not {dimension}D.")
    return FORMS[kind].count(dimension) + dimension


def _check_kind(kind: str) -> None:
    if kind not in FORMS:
        raise InputError(f"Unknown kind of transform '{kind}'. Choose one of {', '.join(FORMS)}.")


@dataclass(frozen=True, eq=False)
class LinearTransform:
    """y = A(x − c) + c + t from fixed to moving points, LPS mm.

    kind: one of KINDS. matrix: A, (dim, dim) float64, of the form that `kind` says. translation: t, (dim,) mm.
    centre: c, (dim,) mm. InputError: unknown kind, wrong shapes, values that are not finite.

    >>> quarter = LinearTransform("rigid", [[0, -1], [1, 0]], translation=[5, 0], centre=[10, 10])
    >>> quarter.apply([[10, 10], [12, 10]]).tolist()  # fixed to moving points
    [[15.0, 10.0], [15.0, 12.0]]
    >>> quarter.to_sitk().TransformPoint((12.0, 10.0))
    (15.0, 12.0)
    >>> quarter.parameters
    3
    """

    kind: str
    matrix: Array
    translation: Array
    centre: Array

    def __post_init__(self) -> None:
        _check_kind(self.kind)
        for field in ("matrix", "translation", "centre"):
            value = np.array(getattr(self, field), dtype=np.float64)
            if not np.isfinite(value).all():
                raise InputError(f"The {field} of a transform holds values that are not finite.")
            value.setflags(write=False)
            object.__setattr__(self, field, value)
        dim = self.centre.size
        if dim not in (2, 3) or (self.centre.shape, self.translation.shape, self.matrix.shape) != (
            (dim,),
            (dim,),
            (dim, dim),
        ):
            raise InputError("The matrix, translation and centre of a transform do not have one dimension, 2 or 3.")

    @classmethod
    def identity(cls, kind: str, centre: ArrayLike) -> LinearTransform:
        """The identity about `centre`, (dim,) LPS mm.

        >>> LinearTransform.identity("affine", [0, 0, 0]).apply([[1, 2, 3]]).tolist()
        [[1.0, 2.0, 3.0]]
        """
        point = np.asarray(centre, dtype=np.float64)
        return cls(kind, np.eye(point.size), np.zeros(point.size), point)

    @classmethod
    def from_sitk(
        cls,
        transform: sitk.Transform,
        kind: str,
        centre: Sequence[float] | Array,
        dimension: int,
        tolerance: float = _REPRESENTABLE,
    ) -> LinearTransform:
        """Any linear SimpleITK transform (also a composite of linear ones), expressed as `kind` about `centre`.

        InputError: not linear, another dimension, not invertible, or with a matrix that is further than `tolerance`
        from any of this kind (the message says which kinds could hold it).

        >>> turn = sitk.Euler2DTransform((0.0, 0.0), 0.1, (3.0, 0.0))
        >>> LinearTransform.from_sitk(turn, "rigid", (0.0, 0.0), 2).translation.tolist()
        [3.0, 0.0]
        >>> LinearTransform.from_sitk(turn, "translation", (0.0, 0.0), 2)
        Traceback (most recent call last):
        PPIRLogic.errors.InputError: The transform (Euler2DTransform) is more than kind ...
        """
        _check_kind(kind)
        if transform.GetDimension() != dimension:
            raise InputError(
                f"The transform is {transform.GetDimension()}D but the images are {dimension}D. Give a matching one."
            )
        if not transform.IsLinear():
            raise InputError(
                f"The transform ({transform.GetName()}) is not linear. Give a translation, rigid, similarity or affine "
                "transform, or apply this one to the image first."
            )
        point = np.asarray(centre, dtype=np.float64)
        matrix, translation = _probe(transform, point)
        if not (np.isfinite(matrix).all() and np.isfinite(translation).all()):
            raise InputError("The transform holds values that are not finite. Write it again.")
        values = np.linalg.svd(matrix, compute_uv=False)
        if not values[-1] > _SINGULAR * values[0]:
            raise InputError("The transform cannot be inverted: its matrix is singular. Write it again.")
        able = [
            name
            for name, form in FORMS.items()
            if np.abs(matrix - form.nearest(matrix)).max() <= tolerance * max(1, values[0])
        ]
        if kind not in able:
            raise InputError(
                f"The transform ({transform.GetName()}) is more than kind '{kind}' can represent. "
                f"Choose {' or '.join(able)}, or give another transform."
            )
        return cls(kind, FORMS[kind].nearest(matrix), translation, point)

    @property
    def dimension(self) -> int:
        """2 or 3."""
        return int(self.centre.size)

    @property
    def parameters(self) -> int:
        """The number d of parameters."""
        return parameter_count(self.kind, self.dimension)

    def apply(self, points: ArrayLike) -> Array:
        """Fixed points (n, dim), LPS mm → moving points (n, dim)."""
        moved: Array = (np.asarray(points, dtype=np.float64) - self.centre) @ self.matrix.T
        return moved + (self.centre + self.translation)

    def affine(self) -> Array:
        """(dim, dim+1) matrix M with y = M[:, :dim]·x + M[:, dim]."""
        return np.column_stack([self.matrix, self.centre + self.translation - self.matrix @ self.centre])

    def basis(self, scale_mm: float) -> Array:
        """(d, dim, dim+1): ∂y/∂θ_k = B_k·(x − c) + v_k at this transform, stored as [B_k | v_k].

        Parameters in order: infinitesimal rotations multiplied from the left (about x, y, z in 3D), log-scale, or for
        affine the entries of A row by row; then the translation. All but the translation are divided by `scale_mm`,
        so that one unit of any parameter moves a point at that distance from the centre by about 1 mm.
        """
        _check_scale(scale_mm)
        dim, count = self.dimension, self.parameters
        basis = np.zeros((count, dim, dim + 1))
        basis[: count - dim, :, :dim] = FORMS[self.kind].basis(self.matrix) / scale_mm
        basis[count - dim :, :, dim] = np.eye(dim)
        return basis

    def updated(self, delta: ArrayLike, scale_mm: float) -> LinearTransform:
        """This transform after a step `delta` (d,) in the parameters of `basis`.

        Rotations are composed by the exponential map, so the result stays a rotation. InputError: wrong length, or
        not finite.
        """
        _check_scale(scale_mm)
        step = np.asarray(delta, dtype=np.float64)
        dim = self.dimension
        if step.shape != (self.parameters,) or not np.isfinite(step).all():
            raise InputError(f"A step of a {dim}D {self.kind} transform has {self.parameters} finite parameters.")
        shape, shift = step[:-dim] / scale_mm, step[-dim:]
        matrix = FORMS[self.kind].moved(self.matrix, shape)
        return replace(self, matrix=matrix, translation=self.translation + shift)

    def max_displacement(self, other: LinearTransform, points: ArrayLike) -> float:
        """Largest distance, mm, between the images of `points` (n, dim) under this transform and `other`.

        >>> here = LinearTransform.identity("translation", [0, 0])
        >>> here.max_displacement(here.updated([3, 4], scale_mm=1.0), [[0, 0], [9, 9]])
        5.0
        """
        return float(np.linalg.norm(self.apply(points) - other.apply(points), axis=1).max())

    def to_sitk(self) -> sitk.Transform:
        """The SimpleITK transform of this kind, with the same centre where the class has one."""
        transform: Any = FORMS[self.kind].to_sitk(self.dimension)
        if isinstance(transform, sitk.TranslationTransform):
            transform.SetOffset(self.translation.tolist())
            return transform
        transform.SetCenter(self.centre.tolist())
        if hasattr(transform, "SetAngle"):
            # these classes keep an angle, which SetMatrix would take from an arc cosine: inexact near 0
            transform.SetAngle(math.atan2(self.matrix[1, 0], self.matrix[0, 0]))
            if hasattr(transform, "SetScale"):
                transform.SetScale(math.hypot(self.matrix[0, 0], self.matrix[1, 0]))
        else:
            transform.SetMatrix(self.matrix.ravel().tolist())
        transform.SetTranslation(self.translation.tolist())
        return transform


def _check_scale(scale_mm: float) -> None:
    if not 0 < scale_mm < math.inf:
        raise InputError(f"The parameter scale must be a positive number of mm, not {scale_mm}.")


def rotation_of(vector: Array) -> Array:
    """exp of an infinitesimal rotation: one angle (2D) or a rotation vector (3D), in radians."""
    if vector.size == 1:
        cosine, sine = math.cos(vector[0]), math.sin(vector[0])
        return np.array([[cosine, -sine], [sine, cosine]])
    angle = float(np.linalg.norm(vector))
    generator = np.tensordot(vector, _GENERATORS[3], axes=1)
    # sin(a)/a and (1 − cos a)/a², written so that a = 0 needs no case of its own
    first, half = np.sinc(angle / np.pi), np.sinc(angle / (2 * np.pi))
    rotation: Array = np.eye(3) + first * generator + 0.5 * half * half * (generator @ generator)
    return rotation


def _polar(matrix: Array) -> tuple[Array, Array]:
    """The rotation next to a matrix (polar decomposition), and the matrix's singular values."""
    left, values, right = np.linalg.svd(matrix)
    sign = np.ones(len(matrix))
    sign[-1] = np.sign(np.linalg.det(left @ right))  # a rotation, never a reflection
    rotation: Array = (left * sign) @ right
    return rotation, values


def _probe(transform: sitk.Transform, centre: Array) -> tuple[Array, Array]:
    """A and t about `centre` of a linear transform, from the images of points: works for every class of ITK's."""
    steps = _PROBE_MM * np.eye(centre.size)
    columns = [
        np.subtract(transform.TransformPoint((centre + e).tolist()), transform.TransformPoint((centre - e).tolist()))
        for e in steps
    ]
    translation = np.subtract(transform.TransformPoint(centre.tolist()), centre)
    return np.column_stack(columns) / (2 * _PROBE_MM), translation


def __getattr__(name: str) -> Any:
    return look_up(__name__, name)
