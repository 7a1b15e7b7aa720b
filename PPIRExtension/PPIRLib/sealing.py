"""Sealed images between MRML nodes and `ppir primis` processes. Holds node IDs, never nodes.

A `SealedRun` runs one command after the other in the background; what came of them is in its `outcome`. A plain image
lies in a private folder only, which is removed at the end, also if Slicer is killed.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import SimpleITK as sitk
import slicer
from slicer.i18n import tr as _

from PPIRLib import conversion, engine
from PPIRLib.job import Event, Job, QProcessRunner
from PPIRLib.run import RegisterRun, write_fixed

LEVEL, NOTE = "PPIR.PrimisLevel", "PPIR.PrimisNote"  # attributes of a volume node that came from a sealed image
Finish = Callable[["SealedOutcome"], None]


@dataclass
class SealedOutcome:
    """What came of it. events: what the commands said, by name, in their order."""

    events: dict[str, list[Event]] = field(default_factory=dict)
    pictures: dict[str, bytes] = field(default_factory=dict)  # PNG by level
    volume_id: str = ""
    error: str = ""
    cancelled: bool = False

    def last(self, name: str) -> Event:
        return self.events[name][-1]


class SealedRun(RegisterRun):
    """Commands of `ppir primis`, one after the other; the first that fails is the last.

    method: whose commands. take: called on the main thread when all have ended well, before on_finished. folder: of
    this run, removed at its end.
    """

    method = "primis"

    def __init__(
        self,
        commands: Sequence[Sequence[str]],
        *,
        folder: Path | None = None,
        take: Finish = lambda outcome: None,
        home: Path | None = None,
        on_progress: Callable[[Event], None] = lambda event: None,
        on_finished: Finish = lambda outcome: None,
        runner: Any = QProcessRunner,
    ) -> None:
        self.folder = folder or Path(tempfile.mkdtemp(prefix="ppir-"))  # 0700
        self._commands, self._take, self._home, self._runner = [list(c) for c in commands], take, home, runner
        self._on_progress, self._on_finished = on_progress, on_finished
        self.outcome: Any = SealedOutcome()
        self.ended = self._forgotten = False
        self.job = self._next()

    def _next(self) -> Job:
        arguments = [self.method, *self._commands.pop(0), "--scratch", str(self.folder)]
        return Job(arguments, self._event, self._finished, home=self._home, runner=self._runner)

    def say(self, line: str) -> None:
        """A line for the process."""
        self.job.say(line)

    def _event(self, event: Event) -> None:
        if self._forgotten:
            return
        self.outcome.events.setdefault(str(event.get("event")), []).append(event)
        if event.get("event") == "error":
            self.outcome.error = str(event.get("text", ""))
        self._on_progress(event)

    def _finished(self, code: int) -> None:
        if self._forgotten:
            return
        self.outcome.cancelled = self.job.cancelled
        if code != 0 and not self.outcome.error:
            self.outcome.error = f"The background process ended unexpectedly (exit code {code})."
        if code == 0 and self._commands and not self.outcome.cancelled:
            self.job = self._next()
            self.job.start()
            return
        try:
            if not (self.outcome.error or self.outcome.cancelled):
                self._take(self.outcome)
        except Exception as error:
            self.outcome.error = str(error)
        finally:
            self.ended = True
            self.clean_up()
            self._on_finished(self.outcome)


def seal_run(volume: Any, output: str, **options: Any) -> SealedRun:
    """Seal a volume into a file and draw what each level shows. InputError: an unusable volume."""
    engine.add_to_path()
    folder = Path(tempfile.mkdtemp(prefix="ppir-"))  # 0700
    try:
        file, _mask = write_fixed(volume, None, folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise

    def take(outcome: SealedOutcome) -> None:
        outcome.pictures = {row["level"]: Path(row["picture"]).read_bytes() for row in outcome.events["level"]}

    commands = (
        ["seal", str(file), "--output", output, "--force"],
        ["show", output, "--output", str(folder / "levels")],
    )
    return SealedRun(commands, folder=folder, take=take, **options)


def open_run(file: str, grant: str = "", level: str = "", *, into: Any = None, **options: Any) -> SealedRun:
    """Open a sealed file and put it into the scene: into a new volume node, or the one given."""
    engine.add_to_path()
    folder, wanted = Path(tempfile.mkdtemp(prefix="ppir-")), into.GetID() if into is not None else ""
    command = ["unseal", file, "--output", str(folder / "image.nrrd")]
    command += ["--grant", grant] if grant else []
    command += ["--level", level] if level else []

    def take(outcome: SealedOutcome) -> None:
        outcome.volume_id = _into_scene(folder / "image.nrrd", outcome.last("unsealed"), Path(file).stem, wanted)

    return SealedRun([command], folder=folder, take=take, **options)


def _into_scene(path: Path, said: Event, name: str, wanted: str) -> str:
    """The image as a volume node of the sealed type, marked with its level; returns its ID."""
    from PPIRLogic.images.volume import Volume

    image = sitk.ReadImage(str(path))
    scene = slicer.mrmlScene
    node = scene.GetNodeByID(wanted) if wanted else None
    if node is None:
        node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    conversion.volume_to_node(Volume.from_sitk(image), node)
    pixels = sitk.GetArrayFromImage(image)
    slicer.util.updateVolumeFromArray(node, pixels.reshape((-1, *pixels.shape[-2:])))
    level = str(said["level"])
    mark = level if said["exact"] else _("{level}, not for diagnosis").format(level=level)
    node.SetName(scene.GenerateUniqueName(f"{name} ({mark})"))
    node.SetAttribute(LEVEL, level)
    node.SetAttribute(NOTE, str(said["note"]))
    return str(node.GetID())


def grant_run(file: str, card: str, level: str, purpose: str, output: str, days: int = 90, **options: Any) -> SealedRun:
    """Write a grant for the hospital of a card; on record in the ledger before it is there."""
    command = ["grant", file, "--to", card, "--level", level, "--purpose", purpose, "--days", str(days)]
    return SealedRun([[*command, "--output", output, "--force"]], **options)


def card_run(output: str, **options: Any) -> SealedRun:
    """Write this hospital's card."""
    return SealedRun([["card", "--output", output, "--force"]], **options)


def catalogue_run(peer: str, **options: Any) -> SealedRun:
    """What another hospital shares, by its public headers."""
    return SealedRun([["catalogue", "--peer", peer]], **options)


def ask_run(peer: str, name: str, level: str, purpose: str, folder: str, **options: Any) -> SealedRun:
    """Fetch a sealed file of another hospital and ask for a grant."""
    command = ["ask", name, "--peer", peer, "--level", level, "--purpose", purpose, "--output", folder]
    return SealedRun([command], **options)


def serve_run(file: str, name: str, level: str, address: str, ask: bool, **options: Any) -> SealedRun:
    """Share a sealed file until it is stopped; `ask`: questions come as events, and `answer` answers them."""
    command = ["serve", file, "--name", name, "--level", level, "--listen", address, *(["--ask"] if ask else [])]
    return SealedRun([command], **options)


def answer(run: SealedRun, number: int, yes: bool) -> None:
    """Answer a question of a sharing that asks."""
    run.say(f"{'yes' if yes else 'no'} {number}")
