"""The progress of a run on a terminal."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from PPIRLogic.progress import Progress as Step
from PPIRLogic.report.wording import human_bytes


class Bars:
    """A progress callback: bars with level, evaluation, value, seconds and bytes."""

    def __init__(self) -> None:
        self._console = Console(file=sys.stderr)
        self._bars = Progress(
            TextColumn("{task.description}", markup=False), BarColumn(bar_width=24),
            TextColumn("{task.fields[state]}", markup=False), TimeElapsedColumn(), console=self._console,
        )  # fmt: skip
        self._task = self._bars.add_task("connecting", total=None, state="")

    def __enter__(self) -> Bars:
        self._bars.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._bars.stop()

    def __call__(self, step: Step) -> None:
        if step.stage in ("opened", "waiting", "reconnecting", "note", "started"):
            self._console.print(step.detail, highlight=False, markup=False)  # a peer's words may be in it
        if step.stage == "level":
            self._bars.update(
                self._task, description=f"level {step.level}/{step.levels} (1/{step.factor})", total=step.levels,
                completed=step.level - 1,
            )  # fmt: skip
        elif step.stage == "finished":
            self._bars.update(self._task, description="finished", completed=self._bars.tasks[0].total)
        state = f"{human_bytes(step.bytes_sent)} up  {human_bytes(step.bytes_received)} down  {step.numbers} numbers"
        if step.stage == "evaluation":
            state = f"evaluation {step.evaluation}  loss {step.value:.6f}  {state}"
        self._bars.update(self._task, state=state)
