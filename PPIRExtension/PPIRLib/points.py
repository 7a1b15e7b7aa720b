"""Registration and sharing of point lists (markups), through the engine's own commands. Holds node IDs, never nodes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from PPIRLib import conversion, engine
from PPIRLib.job import Event, Job, QProcessRunner
from PPIRLib.run import RegisterRun, RunOutcome, ShareRun, unfit
from PPIRLib.settings import ShareSettings


def points_from_node(node: Any) -> np.ndarray:
    """Control points of a markups node, (n, 3), LPS mm, in its own coordinates (parent transforms not applied).

    InputError: no markups node, a point that was not placed yet, and what the engine does not accept as a point set.
    """
    from PPIRLogic.errors import InputError
    from PPIRLogic.points.pointset import PointSet

    if node is None or not node.IsA("vtkMRMLMarkupsNode"):
        raise InputError("There is no list of points. Choose a markups node.")
    count = node.GetNumberOfControlPoints()
    if missing := [i + 1 for i in range(count) if not node.GetNthControlPointPositionStatus(i) == node.PositionDefined]:
        raise InputError(f"Point {missing[0]} of '{node.GetName()}' was not placed yet. Place or remove it.")
    points = np.array([node.GetNthControlPointPosition(i) for i in range(count)], dtype=float).reshape(count, 3)
    points = points @ conversion.FLIP[:3, :3] + 0.0
    PointSet(points, node.GetName() or "points")
    return points  # all: what the engine leaves out, it says


def _write(node: Any, folder: Path, name: str) -> Path:
    path = folder / f"{name}.txt"
    np.savetxt(path, points_from_node(node), fmt="%.17g")
    return path


class PointsRun(RegisterRun):
    """Writes the moving points to a private folder, runs party 1 on them, puts the transform into the scene.

    The transform takes the points' own coordinates to the fixed points, so it takes the place of their parent.
    """

    def __init__(
        self,
        moving: Any,
        peer: str,
        *,
        image: str = "",
        dealer: str = "",
        transform: str = "rigid",
        protocol: str = "fhe",
        output_transform: Any = None,
        home: Path | None = None,
        on_progress: Callable[[Event], None] = lambda event: None,
        on_finished: Callable[[RunOutcome], None] = lambda outcome: None,
        runner: Any = QProcessRunner,
    ) -> None:
        engine.add_to_path()
        from PPIRLogic.errors import InputError

        if moving is None or not moving.IsA("vtkMRMLMarkupsNode"):
            raise InputError("There is no list of points. Choose a markups node.")
        if problem := unfit(moving, output_transform, None, transform):
            raise InputError(problem)
        self._on_progress, self._on_finished, self._forgotten = on_progress, on_finished, False
        self.outcome = RunOutcome()
        self._transform_id, self._volume_id = output_transform.GetID() if output_transform else "", ""
        self.folder = Path(tempfile.mkdtemp(prefix="ppir-"))  # 0700
        try:
            path = _write(moving, self.folder, "moving")
        except BaseException:
            self.clean_up()
            raise
        self.moving_id = moving.GetID()
        arguments = ["register-points", str(path), "--peer", peer.strip()]
        for option, value in (("--image", image), ("--dealer", dealer)):
            arguments += [option, value.strip()] if value.strip() else []
        arguments += ["--transform", transform, "--protocol", protocol]
        arguments += ["--output", str(self.folder / "T.h5"), "--report", str(self.folder / "R.json")]
        arguments += ["--scratch", str(self.folder)]
        self.job = Job(arguments, self._event, self._finished, home=home, runner=runner)


class PointsShare(ShareRun):
    """Serves a list of points as the fixed ones until it is stopped."""

    def __init__(
        self,
        points: Any,
        settings: ShareSettings,
        *,
        home: Path | None = None,
        on_event: Callable[[Event], None] = lambda event: None,
        on_finished: Callable[[int], None] = lambda code: None,
        runner: Any = QProcessRunner,
    ) -> None:
        from PPIRLogic.errors import InputError

        if points is not None and points.GetParentTransformNode() is not None:
            raise InputError(
                f"'{points.GetName()}' lies under the transform '{points.GetParentTransformNode().GetName()}'. Harden"
                " or remove it before sharing the points."
            )
        engine.add_to_path()
        self._on_finished = on_finished
        self.folder = Path(tempfile.mkdtemp(prefix="ppir-"))
        try:
            file = _write(points, self.folder, "fixed")
        except BaseException:
            self.clean_up()
            raise
        arguments = ["serve", "--points", str(file), *settings.arguments(), "--scratch", str(self.folder)]
        self.job = Job(arguments, on_event, self._finished, home=home, runner=runner)
