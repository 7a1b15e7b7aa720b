"""The Register panel: what happens when its buttons are pressed. Widgets come from Resources/UI/PPIR.ui."""

from __future__ import annotations

import html
from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from PPIRLib import choices, consent, engine, presets
from PPIRLib.job import Event, Job
from PPIRLib.maskselector import MaskSelector
from PPIRLib.plot import LossPlot
from PPIRLib.run import RunOutcome, undo, unfit
from PPIRLib.settings import Settings

HISTORY_KEY = "PPIR/peers"
HISTORY_LENGTH = 10


class RegisterPanel:
    """States: idle, checking (the peer is asked what it offers), running."""

    def __init__(self, ui: Any, logic: Any, parameters: Callable[[], Any]) -> None:
        self.ui, self.logic, self._parameters = ui, logic, parameters
        self._run: Any = None
        self._check: Job | None = None
        self._offers: list[Event] = []
        self._peer: Event = {}
        self._estimate: Event = {}
        self._plot: LossPlot | None = None
        self._node: Any = None  # the parameters that Apply or Test was pressed with
        self._last_transform = ""
        self._fill_choices()
        ui.applyButton.connect("clicked(bool)", self.on_apply)
        ui.testButton.connect("clicked(bool)", self.on_test)
        ui.undoButton.connect("clicked(bool)", self.on_undo)
        ui.plotButton.connect("clicked(bool)", self.on_plot)
        ui.installButton.connect("clicked(bool)", self.on_install)
        ui.presetComboBox.connect("currentIndexChanged(int)", self.on_preset)
        ui.progressBar.visible = False
        self._mask = MaskSelector(ui.maskSelector, parameters, "movingMask")
        self.update()

    def _fill_choices(self) -> None:
        self.ui.presetComboBox.addItems([_("Custom"), *presets.names()])
        for address in history():
            self.ui.peerHistoryComboBox.addItem(address)
        self.ui.peerHistoryComboBox.connect("currentIndexChanged(int)", self.on_history)

    # -------------------------------------------------------------------------------------------- state

    @property
    def busy(self) -> bool:
        return self._run is not None or self._check is not None

    def problem(self) -> str:
        """Why Apply cannot be pressed; empty if it can."""
        node = self._parameters()
        if node is None:
            return _("There is no scene.")
        if not node.peer.strip():
            return _("Enter the address of the other hospital's peer, such as hospital-b.example:7443.")
        mine = node.movingPoints or node.movingVolume
        if mine is None:
            return _("Select my volume.")
        if problem := unfit(mine, node.outputTransform, node.outputVolume, node.transform):
            return problem
        if node.movingPoints is not None and (problem := self._problem_of_points(node)):
            return problem
        if node.protocol == "mpc" and not node.dealer.strip():
            return _("The mpc protocol needs the address of a dealer.")
        if not _counts(node.levels):
            return _("Shrink factors are whole numbers, coarse to fine, such as 4,2,1.")
        if choices.uses("iterations", node.transform) and not _counts(node.iterations):
            return _("Iterations are whole numbers, one per resolution level, such as 6,4,1.")
        return ""

    @staticmethod
    def _problem_of_points(node: Any) -> str:
        if node.movingVolume is not None:
            return _("Select either my volume or my points, not both.")
        if node.transform not in choices.OF_POINTS:
            return _("Points are registered with one of the transforms {names}.").format(
                names=", ".join(choices.OF_POINTS)
            )
        if node.outputVolume is not None:
            return _("Points have no output volume. Choose none.")
        return ""

    def update(self) -> None:
        """Bring the buttons in line with the parameters and the state."""
        self._mask.update()
        ui, problem = self.ui, self.problem()
        node = self._parameters()
        ui.applyButton.text = _("Cancel") if self.busy else _("Apply")
        ui.applyButton.enabled = self.busy or not problem
        ui.applyButton.toolTip = problem or _("Register my volume to the peer's fixed image")
        ui.testButton.enabled = not self.busy and node is not None and bool(node.peer.strip())
        ui.percentSpinBox.enabled = node is not None and node.sampling != "full"
        ui.dealerLineEdit.enabled = node is not None and node.protocol == "mpc"
        ui.iterationsLineEdit.enabled = node is not None and choices.uses("iterations", node.transform)
        ui.gridSpacingSpinBox.enabled = node is not None and choices.uses("grid_spacing", node.transform)
        ui.strideSpinBox.enabled = node is not None and choices.uses("stride", node.transform)
        ui.radiusSpinBox.enabled = node is not None and choices.uses("radius_mm", node.loss)
        ui.binsComboBox.enabled = node is not None and choices.uses("bins", node.loss)
        ui.undoButton.enabled = bool(self._last_transform) and not self.busy
        ui.plotButton.enabled = self._plot is not None
        if node is None:
            return  # another module is shown; what was said last stays
        self._show_preset(node)
        if not self.busy and (problem != self._last_problem or not self._said):
            self.say(problem or _("Ready."))  # else what was said last stays: it may be the reason of a failure
        self._last_problem = problem

    _last_problem = _said = ""

    def say(self, text: str, error: bool = False) -> None:
        """The one line under Apply; errors are red."""
        self._said = text
        self.ui.statusLabel.text = marked(text, error)
        if error:
            self.log(text)

    def log(self, text: str) -> None:
        self.ui.logTextEdit.append(marked(text, False))

    # ------------------------------------------------------------------------------------------ buttons

    def on_history(self, index: int) -> None:
        node = self._parameters()
        if node is not None and index > 0:
            node.peer = self.ui.peerHistoryComboBox.itemText(index)

    def on_preset(self, index: int) -> None:
        node = self._parameters()
        if node is None or self._showing_preset:
            return
        node.preset = self.ui.presetComboBox.currentText if index > 0 else ""
        for name, value in presets.values(node.preset).items():
            setattr(node, name, value)
        if needed := presets.needs(node.preset):
            self.log(needed)

    _showing_preset = False

    def _show_preset(self, node: Any) -> None:
        """The preset that was chosen, for as long as its values are in force; else 'Custom'."""
        values = presets.values(node.preset)
        whole = bool(values) and all(getattr(node, name) == value for name, value in values.items())
        self._showing_preset = True
        self.ui.presetComboBox.currentIndex = self.ui.presetComboBox.findText(node.preset) if whole else 0
        self._showing_preset = False

    def on_test(self, checked: bool = False) -> None:
        self._ask_peer(["check", self._parameters().peer.strip()], self._show_offers)

    def on_apply(self, checked: bool = False) -> None:
        if self.busy:
            self.cancel()
            return
        if problem := self.problem():
            self.say(problem, error=True)
            return
        node = self._parameters()
        command = ["estimate", node.peer.strip(), "--initial", "compare", *Settings.from_node(node).arguments()]
        command += ["--image", node.image.strip()] if node.image.strip() else []
        command += ["--points"] if node.movingPoints is not None else []
        self._ask_peer(command, self._consent_and_run)

    def on_undo(self, checked: bool = False) -> None:
        node = slicer.mrmlScene.GetNodeByID(self._last_transform) if self._last_transform else None
        done = node is not None and undo(node)
        self._last_transform = ""
        self.say(_("The volume is back where it was.") if done else _("There is nothing to undo."))
        self.update()

    def on_plot(self, checked: bool = False) -> None:
        if self._plot is not None:
            self._plot.show()

    def cancel(self) -> None:
        self.say(_("Cancelling …"))
        if self._run is not None:
            self._run.cancel()
        if self._check is not None:
            self._check.cancel()

    def close(self) -> None:
        """End what runs, now: the scene closes or the module goes away."""
        if self._check is not None:
            check, self._check = self._check, None
            check.stop()
        if self._run is not None:
            run, self._run = self._run, None
            run.stop()
        self._last_transform, self._plot, self._node = "", None, None
        self.ui.progressBar.visible = False

    def on_install(self, checked: bool = False) -> None:
        """Install packages from a folder of wheels, for a computer without a network."""
        title = _("Folder of wheels for this version of Slicer")
        if not (folder := str(qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), title, "") or "")):
            return
        try:
            done = engine.install_from(Path(folder), self._parameters().protocol)
        except engine.Declined as error:
            self.say(str(error), error=True)
            return
        text = _("Installed: {packages}. Restart Slicer if it asks for it.") if done else _("Nothing is missing.")
        self.say(text.format(packages=", ".join(done)))

    # ------------------------------------------------------------------------------------------ the peer

    def _ask_peer(self, command: list[str], then: Callable[[], None]) -> None:
        """Ask the peer who it is, what it offers and what a run would disclose, in the background, then go on."""
        node = self._node = self._parameters()
        try:
            engine.ensure(node.protocol)
        except engine.Declined as error:
            self.say(str(error), error=True)
            return
        self._offers, self._peer, self._estimate, failure = [], {}, {}, []
        self.ui.peerStatusLabel.text = ""
        self.say(_("Calling {peer} …").format(peer=node.peer))

        def on_event(event: Event) -> None:
            if event.get("event") == "peer":
                self._peer = event
            elif event.get("event") in ("image", "point set"):
                self._offers.append(event)
            elif event.get("event") == "estimate":
                self._estimate = event
            elif event.get("event") == "error":
                failure.append(str(event.get("text", "")))

        def on_finished(code: int) -> None:
            if self._check is None:
                return
            cancelled, self._check = self._check.cancelled, None
            if cancelled:
                self.say(_("Cancelled."))
            elif code != 0 and not (self._offers and self._offer() is None):  # the latter is said below
                self.say(failure[0] if failure else _("The peer could not be asked."), error=True)
            else:
                remember(node.peer)
                then()
            self.update()

        self._check = Job(command, on_event, on_finished)
        self._check.start()
        self.update()

    def _show_offers(self) -> None:
        lines = [_("{name} is trusted.").format(**self._peer), _("Fingerprint {fingerprint}").format(**self._peer)]
        for offer in self._offers:
            budget = offer["budget"]
            lines += [
                _described(offer),
                _(
                    "Permitted: protocols {protocols}; transforms {transforms}; losses {losses}; mask use {masks}"
                ).format(**{name: ", ".join(offer[name]) for name in ("protocols", "transforms", "losses", "masks")}),
                _(
                    "Budget: {percent:g} % of each level, {session:,.0f} numbers per session, {left:,.0f} left in all"
                ).format(
                    percent=budget["percent_per_level"],
                    session=budget["numbers_per_session"],
                    left=budget["numbers_per_image"] - offer["numbers_opened"],
                ),
            ]
        self.ui.peerStatusLabel.text = "<br>".join(html.escape(line) for line in lines)
        self.say(" ".join(filter(None, (_("The peer answers."), self.problem()))))

    def _offer(self) -> Event | None:
        """The image to register to: the one named, or the only one."""
        name = self._node.image.strip()
        kind = "image" if self._node.movingPoints is None else "point set"
        named = [o for o in self._offers if o["event"] == kind and (not name or o["name"] == name)]
        return named[0] if len(named) == 1 else None

    def _consent_and_run(self) -> None:
        node, offer = self._node, self._offer()
        self._show_offers()
        if node.movingVolume is None and node.movingPoints is None:
            self.say(_("The volume was deleted. Nothing was sent."), error=True)
            return
        if offer is None:
            names = ", ".join(o["name"] for o in self._offers) or _("none")
            self.say(_("Name one of what this peer offers: {names}.").format(names=names), error=True)
            return
        if self._estimate["problem"]:
            self.say(self._estimate["problem"], error=True)
            return
        if not consent.ask(node, self._peer, offer, self._estimate):
            self.say(_("Nothing was sent."))
            return
        self._start()

    # ------------------------------------------------------------------------------------------- the run

    def _start(self) -> None:
        node = self._node
        try:
            self._run = self.logic.registerUsingParameterNode(
                node, onProgress=self._on_event, onFinished=self._on_finished
            )
        except Exception as error:
            self._run = None
            self.say(str(error), error=True)
            return
        if self._plot is not None:
            self._plot.remove()
        mine = node.movingPoints or node.movingVolume
        self._plot = LossPlot(mine.GetName()) if node.movingPoints is None else None
        self.ui.progressBar.visible = True
        self.ui.progressBar.value = 0
        self.say(_("Running …"))
        self.log(_("Registering '{name}' to {peer}").format(name=mine.GetName(), peer=node.peer))

    def _on_event(self, event: Event) -> None:
        if event.get("event") != "progress" or self._run is None:
            return
        stage = event.get("stage")
        if stage in ("opened", "started", "note"):
            self.log(event["detail"])
        elif stage == "level":
            self.ui.progressBar.maximum = event["levels"]
            self.ui.progressBar.value = event["level"] - 1
            self.log(event["detail"])
        elif stage == "evaluation":
            if self._plot is not None:
                self._plot.add(event["level"], event["value"])
            self.say(
                _(
                    "Level {level} of {levels}, evaluation {evaluation}, loss {value:.6f} — {sent:.1f} MB sent,"
                    " {received:.1f} MB received, {numbers} numbers disclosed, {seconds:.0f} s"
                ).format(sent=event["bytes_sent"] / 1e6, received=event["bytes_received"] / 1e6, **event)
            )

    def _on_finished(self, outcome: RunOutcome) -> None:
        if self._run is None:
            return
        self._run = None
        self.ui.progressBar.visible = False
        if outcome.transform_id:
            self._last_transform = outcome.transform_id
            self._after_result(outcome)
        elif outcome.cancelled:
            self.say(_("Cancelled. Nothing was changed."))
        else:
            self.say(outcome.error, error=True)
        self.update()

    def _after_result(self, outcome: RunOutcome) -> None:
        node = self._node
        transform = slicer.mrmlScene.GetNodeByID(outcome.transform_id)
        totals = outcome.report.get("totals", {})
        done = _("Done: transform '{name}', {seconds:.1f} s, {numbers} numbers disclosed.").format(
            name=transform.GetName(), seconds=totals.get("seconds", 0.0), numbers=totals.get("numbers", 0)
        )
        early = _("Ended early; the best transform so far is '{name}'. {why}")
        if outcome.report.get("doubts"):
            early = _("Look at the images before you use the transform '{name}'. {why}")
        early = early.format(name=transform.GetName(), why=outcome.error)
        if node is not None and node.outputTransform is None and not outcome.partial:
            node.outputTransform = transform
        self.log(early if outcome.error else done)
        self.say(early if outcome.error else done, error=bool(outcome.error) and not outcome.cancelled)
        self._blend(outcome)

    @staticmethod
    def _blend(outcome: RunOutcome) -> None:
        """Show the registered volume over what is in the slice views."""
        shown = outcome.volume_id
        if shown:
            slicer.util.setSliceViewerLayers(foreground=slicer.mrmlScene.GetNodeByID(shown), foregroundOpacity=0.5)


def _described(offer: Event) -> str:
    """An offered image with its grid, or an offered set of points."""
    grid = offer["geometry"]
    if offer["event"] == "point set":
        return _("Points '{name}': {count}, {dimension}D").format(name=offer["name"], **grid)
    return _("Image '{name}': {size} voxels of {spacing} mm, {mask}").format(
        name=offer["name"],
        size=" × ".join(str(n) for n in grid["size"]),
        spacing=" × ".join(f"{v:g}" for v in grid["spacing"]),
        mask=_("with a mask") if offer["has_mask"] else _("no mask"),
    )


def _counts(text: str) -> bool:
    """Whether a text is empty, or whole numbers with commas between them."""
    return not text.strip() or all(v.strip().isdecimal() for v in text.split(","))


def marked(text: str, error: bool) -> str:
    """Text for a label: never taken for HTML, red if it is an error."""
    colour = ' style="color:#d32f2f; font-weight:bold"' if error else ""  # to be read on a dark ground, too
    return f"<span{colour}>{html.escape(text)}</span>"


def history() -> list[str]:
    """Addresses used before, newest first."""
    value = slicer.app.userSettings().value(HISTORY_KEY) or ""
    return [v for v in str(value).split("\n") if v]


def remember(address: str) -> None:
    known = [address.strip(), *(v for v in history() if v != address.strip())]
    slicer.app.userSettings().setValue(HISTORY_KEY, "\n".join(known[:HISTORY_LENGTH]))
