"""One registration or one sharing, from MRML nodes to a `ppir` process and back. Holds node IDs, never nodes."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import SimpleITK as sitk
import slicer
from slicer.i18n import tr as _

from PPIRLib import choices, conversion, engine, transformnodes
from PPIRLib.job import Event, Job, QProcessRunner
from PPIRLib.settings import Settings, ShareSettings

FORMER_PARENT = "PPIR.FormerParent"  # attribute of a result transform: the moving volume's parent before
REPORT_ROLE = "PPIR.Report"


@dataclass
class RunOutcome:
    """What came of a run. `transform_id` is empty if there is no transform."""

    transform_id: str = ""
    volume_id: str = ""
    report_id: str = ""
    report: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    cancelled: bool = False
    partial: bool = False  # ended early, or in doubt: what there is lies in nodes of its own


class RegisterRun:
    """Writes the moving volume to a private folder, runs party 1 on it, puts the result into the scene."""

    def __init__(
        self,
        moving: Any,
        settings: Settings,
        *,
        mask: Any = None,
        initial_transform: Any = None,
        output_transform: Any = None,
        output_volume: Any = None,
        home: Path | None = None,
        fixed_file: Path | None = None,
        fixed_mask_file: Path | None = None,
        on_progress: Callable[[Event], None] = lambda event: None,
        on_finished: Callable[[RunOutcome], None] = lambda outcome: None,
        runner: Any = QProcessRunner,
    ) -> None:
        engine.add_to_path()
        _require_fit(moving, output_transform, output_volume, settings.transform)
        self.settings, self._on_progress, self._on_finished = settings, on_progress, on_finished
        self._forgotten = False
        self.moving_id = moving.GetID()
        self._transform_id = output_transform.GetID() if output_transform else ""
        self._volume_id = output_volume.GetID() if output_volume else ""
        self.outcome = RunOutcome()
        self.folder = Path(tempfile.mkdtemp(prefix="ppir-"))  # 0700
        try:
            inputs = self._write_inputs(moving, mask, initial_transform)
        except BaseException:
            self.clean_up()
            raise
        outputs = ["--output", str(self.folder / "T.h5"), "--report", str(self.folder / "R.json")]
        if output_volume is not None:
            outputs += ["--warped", str(self.folder / "W.mha")]
        if fixed_file is None:
            command = ["register", inputs.pop(0), "--peer", settings.peer.strip()]
            command += ["--image", settings.image.strip()] if settings.image.strip() else []
            command += ["--dealer", settings.dealer.strip()] if settings.dealer.strip() else []
        else:
            command = ["simulate", "--moving", inputs.pop(0), "--fixed", str(fixed_file)]
            command += ["--fixed-mask-file", str(fixed_mask_file)] if fixed_mask_file else []
            command += ["--scratch", str(fixed_file.parent)]
        scratch = ["--scratch", str(self.folder)]
        arguments = [*command, *inputs, *settings.arguments(), *outputs, *scratch]
        self.job = Job(arguments, self._event, self._finished, home=home, runner=runner)

    def _write_inputs(self, moving: Any, mask: Any, initial: Any) -> list[str]:
        """The moving volume's file, and options for mask and initial transform."""
        from PPIRLogic.images.volume import Volume
        from PPIRLogic.images.writing import write_raw
        from PPIRLogic.transforms import write_transform

        volume = conversion.volume_from_node(moving)
        path = self.folder / "moving.mha"
        write_raw(volume, path)
        arguments = [str(path)]
        if mask is not None:
            inside = conversion.mask_from_node(mask, moving)
            write_raw(Volume(inside.astype("float32"), volume.geometry, "mask"), self.folder / "mask.mha")
            arguments += ["--mask", str(self.folder / "mask.mha")]
        start = self._start(moving, initial, volume.geometry.dimension)
        if isinstance(start, sitk.Transform):
            write_transform(start, self.folder / "initial.h5")
            return [*arguments, "--initial", str(self.folder / "initial.h5")]
        return [*arguments, "--initial", start]

    def _start(self, moving: Any, initial: Any, dimension: int) -> Any:
        """A given transform, else the volume's place in the scene, else what the settings say.

        A given transform replaces the volume's parent, as the result will.
        """
        if initial is not None:
            return conversion.initial_from_node(initial, dimension)
        placement = conversion.placement_of(moving, dimension)
        return placement if placement is not None else self.settings.initial

    def start(self) -> None:
        self.job.start()

    def cancel(self) -> None:
        self.job.cancel()

    def stop(self) -> None:
        """End the process now and forget the run: the scene is closing or the module goes away."""
        self._forgotten = True
        self.job.stop()
        self.clean_up()

    def clean_up(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def _event(self, event: Event) -> None:
        if self._forgotten:
            return
        if event.get("event") == "error":
            self.outcome.error = str(event.get("text", ""))
        self._on_progress(event)

    def _finished(self, code: int) -> None:
        if self._forgotten:
            return
        try:
            self.outcome.cancelled = self.job.cancelled
            if code != 0 and not self.outcome.error:
                self.outcome.error = f"The background process ended unexpectedly (exit code {code})."
            self.outcome.partial = code != 0 or self.outcome.cancelled
            if (self.folder / "T.h5").exists():
                self._into_scene()
        except Exception as error:
            self.outcome.error = str(error)
        finally:
            self.clean_up()
            self._on_finished(self.outcome)

    def _into_scene(self) -> None:
        """Results into the nodes asked for, or new ones. The volume may have been deleted meanwhile.

        What is partial never replaces what a node held before: it goes to new nodes.
        """
        scene = slicer.mrmlScene
        moving = scene.GetNodeByID(self.moving_id)
        transform = sitk.ReadTransform(str(self.folder / "T.h5"))
        given = scene.GetNodeByID(self._transform_id) if self._transform_id and not self.outcome.partial else None
        if given is not None and moving is not None and moving.GetTransformNodeID() == given.GetID():
            given = None  # overwriting the volume's present parent could not be undone
        name = moving.GetName() if moving is not None else "volume"
        what = f"{name} partly registered" if self.outcome.partial else f"{name} registered"
        label = scene.GenerateUniqueName(what) if given is None else given.GetName()
        node = transformnodes.transform_to_nodes(transform, scene, label, into=given)[0]
        self.outcome.transform_id = node.GetID()
        self._report(name)
        if self._volume_id and (volume := scene.GetNodeByID(self._volume_id)) is not None:
            self._warped(volume)
        if moving is None:
            self.outcome.error = self.outcome.error or "The moving volume was deleted; the transform was kept."
            return
        node.SetNodeReferenceID(node.GetMovingNodeReferenceRole(), moving.GetID())
        node.SetAttribute(FORMER_PARENT, moving.GetTransformNodeID() or "")
        if not self.outcome.volume_id:
            moving.SetAndObserveTransformNodeID(node.GetID())

    def _warped(self, node: Any) -> None:
        from PPIRLogic.images.reading import read_volume

        with contextlib.suppress(FileNotFoundError):
            volume = read_volume(self.folder / "W.mha")
            if self.outcome.partial:
                name = slicer.mrmlScene.GenerateUniqueName(f"{node.GetName()} partly registered")
                node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
            conversion.volume_to_node(volume, node, self._slice_z())
            node.SetAndObserveTransformNodeID(None)
            self.outcome.volume_id = node.GetID()

    def _slice_z(self) -> float:
        """Where a 2D result lies in the scene: at the height of my own slice."""
        moving = slicer.mrmlScene.GetNodeByID(self.moving_id)
        return float(moving.GetOrigin()[2]) if moving is not None else 0.0

    def _report(self, name: str) -> None:
        text = (self.folder / "R.json").read_text(encoding="utf-8")
        self.outcome.report = json.loads(text)
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTextNode", f"{name} registration report")
        node.SetText(text)
        node.SetAttribute(REPORT_ROLE, "1")
        self.outcome.report_id = node.GetID()


def _require_fit(moving: Any, *others: Any) -> None:
    """InputError before anything is sent, not after a long run."""
    from PPIRLogic.errors import InputError

    if problem := unfit(moving, *others):
        raise InputError(problem)


def unfit(moving: Any, output_transform: Any, output_volume: Any, kind: str) -> str:
    """Why these nodes cannot take part in a run of a kind of transform; empty if they can."""
    result = choices.TRANSFORMS.get(kind, choices.ANY)
    if moving is None:
        return _("There is no volume. Choose one.")
    if output_transform is not None and output_transform.GetClassName() not in (result, choices.ANY):
        return _("'{name}' cannot hold a {kind} transform. Choose or create another output transform.").format(
            name=output_transform.GetName(), kind=choices.RESULTS.get(result, kind)
        )
    if output_volume is not None and output_volume.GetClassName() != "vtkMRMLScalarVolumeNode":
        return _("'{name}' cannot hold grey values. Choose or create another output volume.").format(
            name=output_volume.GetName()
        )
    if output_volume is not None and output_volume.GetID() == moving.GetID():
        return _("The output volume is my volume, which would be lost. Choose or create another output volume.")
    return ""


def undo(transform: Any) -> bool:
    """Put the moving volume's former parent transform back; False if there is nothing to undo."""
    moving = transform.GetNodeReference(transform.GetMovingNodeReferenceRole())
    if moving is None or moving.GetTransformNodeID() != transform.GetID():
        return False
    former = transform.GetAttribute(FORMER_PARENT) or None
    moving.SetAndObserveTransformNodeID(former)
    return True


class ShareRun:
    """Serves a volume as the fixed image until it is stopped."""

    def __init__(
        self,
        volume: Any,
        settings: ShareSettings,
        *,
        mask: Any = None,
        home: Path | None = None,
        on_event: Callable[[Event], None] = lambda event: None,
        on_finished: Callable[[int], None] = lambda code: None,
        runner: Any = QProcessRunner,
    ) -> None:
        engine.add_to_path()
        self._on_finished = on_finished
        self.folder = Path(tempfile.mkdtemp(prefix="ppir-"))
        try:
            files = write_fixed(volume, mask, self.folder)
        except BaseException:
            self.clean_up()
            raise
        arguments = ["serve", str(files[0]), *settings.arguments(), "--scratch", str(self.folder)]
        arguments += ["--mask", str(files[1])] if files[1] else []
        self.job = Job(arguments, on_event, self._finished, home=home, runner=runner)

    def start(self) -> None:
        self.job.start()

    def stop(self) -> None:
        self.job.stop()
        self.clean_up()

    def clean_up(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def _finished(self, code: int) -> None:
        self.clean_up()
        self._on_finished(code)


def write_fixed(volume: Any, mask: Any, folder: Path) -> tuple[Path, Path | None]:
    """A fixed volume and its mask as files in world coordinates. A parent transform must be hardened first."""
    from PPIRLogic.errors import InputError
    from PPIRLogic.images.volume import Volume
    from PPIRLogic.images.writing import write_raw

    if volume is not None and volume.GetParentTransformNode() is not None:
        raise InputError(
            f"'{volume.GetName()}' lies under the transform '{volume.GetParentTransformNode().GetName()}'. Harden or"
            " remove it before sharing the volume as a fixed image."
        )
    image = conversion.volume_from_node(volume)
    write_raw(image, folder / "fixed.mha")
    if mask is None:
        return folder / "fixed.mha", None
    inside = conversion.mask_from_node(mask, volume)
    write_raw(Volume(inside.astype("float32"), image.geometry, "mask"), folder / "mask.mha")
    return folder / "fixed.mha", folder / "mask.mha"
