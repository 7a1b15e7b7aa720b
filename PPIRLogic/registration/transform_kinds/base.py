"""What a kind of transform declares of itself: what it needs of a request, and which level run finds it.

A new kind is one file with one class; nothing else in the program names it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from PPIRLogic.files import TRANSFORM_FILES
from PPIRLogic.images.geometry import Geometry
from PPIRLogic.registration.control_points import ControlPointMap
from PPIRLogic.registration.request import Request
from PPIRLogic.transforms import LinearTransform

if TYPE_CHECKING:
    from PPIRLogic.registration.losses import Loss

LevelRun = Callable[..., Any]  # (state, session, level, moving image), with run(evaluations, gradients)


class TransformKind(ABC):
    """One kind of transform.

    linear: the kind of its linear part (its own name, unless it deforms). words: for the report and the help. files:
    the endings under which it can be written. uses: names of `Parameters` that it alone has a use for. bending_factor:
    times the loss's usual weight of the bending energy.
    """

    name: str
    linear: str = "affine"
    words: str = ""
    deformable: bool = False
    two_sided: bool = False  # both images can move: goes with the losses that need it
    has_inverse: bool = True
    files: tuple[str, ...] = TRANSFORM_FILES
    uses: frozenset[str] = frozenset()
    bending_factor: float = 1.0

    def parameters(self, dimension: int) -> int:
        """The number d of parameters of a linear kind: as many slopes of the loss are opened."""
        raise NotImplementedError(f"{self.name} is not given by a few parameters")

    def default_iterations(self, levels: tuple[int, ...]) -> tuple[int, ...]:
        """Gradients opened per level at most, coarse to fine; empty for a linear kind."""
        return ()

    def problem(self, request: Request) -> str:
        """What is wrong with the settings of this kind in a request; empty if nothing is."""
        return ""

    def grid_problem(self, request: Request, fixed: Geometry) -> str:
        """Why its control points do not fit the fixed image; empty if they do."""
        return ""

    def control_points(
        self, request: Request, fixed: Geometry, grid: Geometry, margin_mm: float, index: int
    ) -> ControlPointMap | None:
        """The public map of level `index`, whose grid is `grid`; None for a linear kind."""
        return None

    def start(self, first: LinearTransform, request: Request, fixed: Geometry, coarsest: Geometry) -> Any:
        """The transform at the start of the coarsest level, from a linear one."""
        return first

    @abstractmethod
    def level_run(self, loss: Loss) -> LevelRun:
        """What runs one level of this kind with this loss."""
