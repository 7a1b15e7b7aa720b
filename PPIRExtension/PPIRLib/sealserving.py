"""The section "Share over the network" of the panel: one sealed file, and the questions of other hospitals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from slicer.i18n import tr as _

from PPIRLib import sealing
from PPIRLib.consent import plain
from PPIRLib.job import Event
from PPIRLib.registerpanel import marked
from PPIRLib.sealing import SealedOutcome, SealedRun


class Sharing:
    """Start and stop, and one question at a time, in the order in which they came."""

    def __init__(
        self,
        ui: Any,
        parameters: Callable[[], Any],
        say: Callable[..., None],
        log: Callable[[str], None],
        ready: Callable[[], bool],
    ) -> None:
        self.ui, self._parameters, self._say, self._log, self._ready = ui, parameters, say, log, ready
        self._run: SealedRun | None = None
        self._questions: list[Event] = []
        ui.serveButton.connect("clicked(bool)", self.on_serve)
        ui.allowButton.connect("clicked(bool)", self.on_allow)
        ui.declineButton.connect("clicked(bool)", self.on_decline)

    @property
    def on(self) -> bool:
        return self._run is not None

    def update(self) -> None:
        ui = self.ui
        ui.serveButton.text = _("Stop sharing") if self.on else _("Start sharing")
        for widget in (ui.questionLabel, ui.allowButton, ui.declineButton):
            widget.visible = bool(self._questions)
        if self._questions:
            q = {name: plain(str(value)) for name, value in self._questions[0].items()}
            text = _("{who} asks for '{image}' up to the level '{level}'. Purpose: {purpose}").format(**q)
            ui.questionLabel.text = marked(text, False)

    def on_serve(self, checked: bool = False) -> None:
        if self.on:
            self.close()
            self._say(_("Not sharing."))
            return
        ui, node = self.ui, self._parameters()
        file, name = ui.servePath.currentPath, node.serveName.strip()
        if not file or not name:
            self._say(_("Choose the sealed file.") if not file else _("Give the image a name."), error=True)
            return
        if not self._ready():
            return
        run = sealing.serve_run(
            file, name, ui.serveLevelComboBox.currentText, node.serveAddress.strip(), bool(ui.serveAskCheckBox.checked),
            on_progress=self._on_event, on_finished=self._on_finished,
        )  # fmt: skip
        self._run = run
        run.start()
        self._say(_("Starting …"))
        self.update()

    def _on_event(self, event: Event) -> None:
        kind = event.get("event")
        if kind == "listening":
            self._say(_("Sharing at {address}").format(address=event["address"]))
        elif kind == "question":
            self._questions.append(event)
            self._say(_("Another hospital asks for a grant: see under “Share over the network”."))
            self.ui.serveSection.collapsed = False
        elif kind == "question over":
            self._questions = [q for q in self._questions if q["number"] != event["number"]]
        elif kind in ("grant given", "grant refused", "sealed file fetched"):
            words = (
                str(kind),
                str(event.get("image", "")),
                str(event.get("level", "")),
                str(event.get("peer_name", "")),
            )
            self._log("  ".join(w for w in words if w))
        elif kind in ("session ended", "session failed", "refused connection", "fault"):
            self._log(f"{kind}: {event.get('reason', '')}")
        self.update()

    def on_allow(self, checked: bool = False) -> None:
        self._answer(True)

    def on_decline(self, checked: bool = False) -> None:
        self._answer(False)

    def _answer(self, yes: bool) -> None:
        if self._run is not None and self._questions:
            sealing.answer(self._run, self._questions.pop(0)["number"], yes)
            self.update()

    def _on_finished(self, outcome: SealedOutcome) -> None:
        self._run, self._questions = None, []
        self._say(outcome.error or _("Sharing ended."), error=bool(outcome.error))
        self.update()

    def close(self) -> None:
        """Stop sharing, now."""
        if self._run is not None:
            run, self._run = self._run, None
            self._questions = []
            run.stop()
            self.update()
