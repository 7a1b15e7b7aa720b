"""One run at party 1: the moving image, the best transform so far, the records, the progress."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from PPIRLogic.errors import InputError
from PPIRLogic.images.geometry import Geometry
from PPIRLogic.images.intensities import fill_outside, normalise, robust_range
from PPIRLogic.images.volume import Volume
from PPIRLogic.progress import CancelToken, Progress
from PPIRLogic.registration.level_record import CheckRecord, LevelRecord, StartsRecord
from PPIRLogic.registration.parameters import Parameters
from PPIRLogic.registration.party1.session import ClientSession
from PPIRLogic.registration.transform_kinds import TRANSFORMS
from PPIRLogic.transforms import BSplineTransform, DiffeoTransform, LinearTransform
from PPIRLogic.transforms.linear import FORMS, TYPED


class RunState:
    """One run: holds the moving image and the best transform so far. The levels are run by `level_loop`."""

    def __init__(
        self,
        moving: Volume,
        mask: NDArray[np.bool_] | None,
        parameters: Parameters,
        progress: Callable[[Progress], None],
        cancel: CancelToken,
    ) -> None:
        self.moving, self.mask, self.parameters = moving, mask, parameters
        self.progress, self.cancel = progress, cancel
        self.normalisation = robust_range(moving, mask)
        scaled = normalise(moving, self.normalisation)
        self.scaled = fill_outside(scaled, mask) if mask is not None and parameters.mask == "fill" else scaled
        self.records: list[LevelRecord] = []
        self.first: LinearTransform | None = None
        self.best: LinearTransform | BSplineTransform | DiffeoTransform | None = None
        self.halves: Any = None  # where both images move: the halves of the levels before
        self.starts: StartsRecord | None = None
        self.start_info: float | None = None
        self.check: CheckRecord | None = None
        self.start = time.perf_counter()

    @property
    def rows(self) -> NDArray[np.bool_] | None:
        """Voxels of the moving image whose rows take part: those inside a mask that is used so, and none that was never
        measured. None: all."""
        inside = self.mask if self.parameters.mask == "rows" else None
        if self.normalisation.padding is None:
            return inside
        measured: NDArray[np.bool_] = self.moving.array != np.float32(self.normalisation.padding)
        if self.mask is not None and inside is None:
            measured |= ~self.mask  # which is filled
        return measured if inside is None else inside & measured

    # ------------------------------------------------------------------------------------- before the run

    def first_transform(self, fixed: Geometry) -> LinearTransform:
        """The initial transform, centred on the fixed grid."""
        if fixed.dimension != self.moving.geometry.dimension:
            raise InputError(
                f"The fixed image is {fixed.dimension}D ({fixed.describe()}), the moving image"
                f" {self.moving.geometry.dimension}D ({self.moving.geometry.describe()}). Both must have the same"
                " dimension."
            )
        kind, initial = TRANSFORMS[self.parameters.transform].linear, self.parameters.initial
        if isinstance(initial, sitk.Transform):
            return self._given(initial, kind, fixed)
        start = LinearTransform.identity(kind, fixed.centre())
        if initial in ("centres", "compare"):
            shift = self.moving.geometry.centre() - fixed.centre()
            start = LinearTransform(start.kind, start.matrix, shift, start.centre)
        return start

    def check_initial(self) -> None:
        """InputError for a given transform that fits no fixed image at all, before the peer is called."""
        initial, own = self.parameters.initial, self.moving.geometry
        if isinstance(initial, sitk.Transform):
            kind = TRANSFORMS[self.parameters.transform].linear
            LinearTransform.from_sitk(initial, kind, own.centre(), own.dimension, TYPED)

    def _given(self, initial: sitk.Transform, kind: str, fixed: Geometry) -> LinearTransform:
        """The transform to start from as one of this kind; a rotation typed with few decimals is made one, and said."""
        try:
            return LinearTransform.from_sitk(initial, kind, fixed.centre(), fixed.dimension)
        except InputError:
            if not FORMS[kind].rotates:
                raise
        start = LinearTransform.from_sitk(initial, kind, fixed.centre(), fixed.dimension, TYPED)
        self.report_progress(
            None, "note", detail=f"The initial transform is {kind} but for its rounding: the next {kind} one is taken."
        )
        return start

    def report_progress(self, session: ClientSession | None, stage: str, **details: Any) -> None:
        numbers = session.ledger.numbers if session else 0
        sent, received, _, _ = session.traffic() if session else (0, 0, 0, 0)
        seconds = time.perf_counter() - self.start
        self.progress(
            Progress(stage, seconds=seconds, bytes_sent=sent, bytes_received=received, numbers=numbers, **details)
        )
