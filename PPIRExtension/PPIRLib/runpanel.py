"""What panels have in common that let one background run at a time do their work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from slicer.i18n import tr as _

from PPIRLib import engine
from PPIRLib.sealing import SealedOutcome, SealedRun


class RunPanel:
    """A panel with one run at a time. packages: what of `engine.ensure` its runs need."""

    packages = ""
    _run: SealedRun | None = None

    @property
    def busy(self) -> bool:
        return self._run is not None

    def update(self) -> None:
        """Bring the buttons in line with the parameters and the state."""

    def say(self, text: str, error: bool = False) -> None:
        """The one line under the sections; errors are red."""

    def _on_progress(self, event: Any) -> None:
        """Hears of the run's events."""

    def ready(self) -> bool:
        """Whether the packages are there; asks for their installation once a button needs them."""
        try:
            engine.ensure(self.packages)
        except Exception as error:
            self.say(str(error), error=True)
            return False
        return True

    def _begin(self, words: str, make: Callable[..., SealedRun], done: Callable[[SealedOutcome], None]) -> None:
        """Start a run; `done` when it ended well."""
        if self.busy or not self.ready():
            return

        def finished(outcome: SealedOutcome) -> None:
            self._run = None
            if outcome.cancelled:
                self.say(_("Cancelled."))
            elif outcome.error:
                self.say(outcome.error, error=True)
            else:
                done(outcome)
            self.update()

        try:
            self._run = make(on_progress=self._on_progress, on_finished=finished)
            self._run.start()
        except Exception as error:
            self._run = None
            self.say(str(error), error=True)
            return
        self.say(words)
        self.update()

    def on_cancel(self, checked: bool = False) -> None:
        if self._run is not None:
            self._run.cancel()
