"""The panel "Segment at a server": preview, consent, Apply, a segmentation with its volumes; and sharing a model."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from PPIRLib import choices, proxying
from PPIRLib.job import Event
from PPIRLib.maskselector import MaskSelector
from PPIRLib.registerpanel import marked
from PPIRLib.runpanel import RunPanel
from PPIRLib.sealing import SealedOutcome, SealedRun

_COLUMNS = (_("tissue"), _("ml"))
_WIDTH = 366  # pixels of the preview


class ProxyPanel(RunPanel):
    """One run at a time; a sharing of the model goes on beside it."""

    packages = "proxy"

    def __init__(self, ui: Any, logic: Any, parameters: Callable[[], Any]) -> None:
        self.ui, self.logic, self._parameters = ui, logic, parameters
        self._serving: SealedRun | None = None
        self._shown: tuple[Any, ...] = ()  # what the preview is of
        self._proxy = ""
        self._mask = MaskSelector(ui.proxyMaskSelector, parameters, "proxyMask")
        self._fill()
        for button, press in (
            (ui.proxyPreviewButton, self.on_preview), (ui.proxyApplyButton, self.on_apply),
            (ui.proxyCancelButton, self.on_cancel), (ui.proxyServeButton, self.on_serve),
        ):  # fmt: skip
            button.connect("clicked(bool)", press)
        ui.proxyConsentCheckBox.connect("toggled(bool)", lambda on: self.update())
        self.update()

    def _fill(self) -> None:
        table = self.ui.proxyTable
        table.setColumnCount(len(_COLUMNS))
        table.setHorizontalHeaderLabels(list(_COLUMNS))
        table.setEditTriggers(qt.QAbstractItemView.NoEditTriggers)
        table.horizontalHeader().setSectionResizeMode(qt.QHeaderView.Stretch)
        table.verticalHeader().hide()
        self.ui.proxyStrengthComboBox.addItems(list(choices.STRENGTHS))
        self.ui.proxyStripComboBox.addItems(list(choices.STRIPS))
        self.ui.proxyModelPath.nameFilters = ["*.onnx"]

    def _chosen(self) -> tuple[Any, ...]:
        """Of what a preview is one."""
        node = self._parameters()
        if node is None or node.proxyVolume is None:
            return ()
        mask = node.proxyMask.GetID() if node.proxyMask is not None else ""
        return node.proxyVolume.GetID(), mask, node.proxyStrength, node.proxyStrip

    def update(self) -> None:
        self._mask.update()
        ui, node = self.ui, self._parameters()
        free = not self.busy and node is not None
        looked = bool(self._shown) and self._shown == self._chosen()
        if not looked and ui.proxyConsentCheckBox.checked:
            ui.proxyConsentCheckBox.checked = False
        ui.proxyPreviewButton.enabled = free and node.proxyVolume is not None
        ui.proxyConsentCheckBox.enabled = free and looked
        ready = free and looked and bool(ui.proxyConsentCheckBox.checked) and bool(node.proxyPeer.strip())
        ui.proxyApplyButton.enabled = ready
        ui.proxyApplyButton.toolTip = _("Send the proxy, get the segmentation") if ready else self._why(node, looked)
        ui.proxyCancelButton.visible = self.busy
        ui.proxyServeButton.text = _("Stop sharing the model") if self._serving else _("Share the model")

    def _why(self, node: Any, looked: bool) -> str:
        if node is None or node.proxyVolume is None:
            return _("Select a volume.")
        if not looked:
            return _("Look at the preview first.")
        return _("Agree first.") if node.proxyPeer.strip() else _("Enter the address of the server.")

    def say(self, text: str, error: bool = False) -> None:
        """The one line under the sections; errors are red."""
        self.ui.proxyStatusLabel.text = marked(text, error)

    def _on_progress(self, event: Event) -> None:
        stages = {
            "preparing": _("Preparing and deforming …"), "sending": _("Sending: {done} of {total} bytes …"),
            "segmenting": _("The server segments …"), "receiving": _("Receiving: {done} of {total} bytes …"),
            "waiting": _("Waiting for the server …"), "reconnecting": _("Line lost; calling again …"),
        }  # fmt: skip
        if event.get("event") == "progress" and event.get("stage") in stages:
            self.say(stages[event["stage"]].format(done=event["done"], total=event["total"]))

    # ------------------------------------------------------------------------------------- preview and apply

    def on_preview(self, checked: bool = False) -> None:
        node, chosen = self._parameters(), self._chosen()
        if not chosen:
            return
        volume, mask, strength, strip = node.proxyVolume, node.proxyMask, node.proxyStrength, node.proxyStrip
        self._begin(
            _("Preparing and deforming …"),
            lambda **options: proxying.preview_run(volume, mask=mask, strength=strength, strip=strip, **options),
            lambda outcome: self._previewed(outcome, chosen),
        )

    def _previewed(self, outcome: SealedOutcome, chosen: tuple[Any, ...]) -> None:
        said, picture = outcome.last("proxy"), qt.QPixmap()
        picture.loadFromData(qt.QByteArray(outcome.pictures["preview"]), "PNG")
        self.ui.proxyPreviewLabel.setPixmap(picture.scaledToWidth(_WIDTH, qt.Qt.SmoothTransformation))
        again = _("A later scan of the same person can be linked to it.")
        self.ui.proxyWarningLabel.text = marked(f"{said['warning']}\n{again}", False)
        self._shown, self._proxy = chosen, said["proxy"]
        self.say(_("This would be sent. Nothing was sent yet."))

    def on_apply(self, checked: bool = False) -> None:
        node, ui = self._parameters(), self.ui
        if not ui.proxyApplyButton.enabled:
            return
        volume, mask, strength, strip = node.proxyVolume, node.proxyMask, node.proxyStrength, node.proxyStrip
        peer, proxy, model = node.proxyPeer.strip(), self._proxy, "any" if ui.proxyAnyModelCheckBox.checked else ""
        self._begin(
            _("Calling the server …"),
            lambda **options: proxying.segment_run(
                volume, peer, mask=mask, strength=strength, strip=strip, proxy=proxy, model=model, **options
            ),
            self._segmented,
        )

    def _segmented(self, outcome: SealedOutcome) -> None:
        said, table = outcome.last("segmented"), self.ui.proxyTable
        volumes = said["volumes_ml"]
        table.setRowCount(len(volumes))
        for row, (name, ml) in enumerate(volumes.items()):
            for column, text in enumerate((name, f"{ml:.1f}")):
                table.setItem(row, column, qt.QTableWidgetItem(text))
        self.ui.proxyConsentCheckBox.checked = False  # each sending is agreed to on its own
        node = slicer.mrmlScene.GetNodeByID(outcome.volume_id)
        text = _("'{name}' is in the scene. On record in the ledger. Not for diagnosis.")
        self.say(text.format(name=node.GetName()))

    # ------------------------------------------------------------------------------------------ share a model

    def on_serve(self, checked: bool = False) -> None:
        if self._serving is not None:
            self._stop_serving()
            self._log(_("The model is not shared any more."))
            return
        node, ui = self._parameters(), self.ui
        if node is None or not self.ready():
            return
        self._serving = proxying.serve_run(
            node.proxyServeAddress.strip(), ui.proxyModelPath.currentPath, on_progress=self._on_served,
            on_finished=self._on_serving_ended,
        )  # fmt: skip
        self._serving.start()
        self.update()

    def _on_served(self, event: Event) -> None:
        if event.get("event") == "listening":
            self._log(_("The model is shared at {address}").format(address=event["address"]))
        elif event.get("event") == "proxy segmented":
            self._log(_("A proxy of {peer} was segmented.").format(peer=event.get("peer_name", "")))
        elif event.get("event") in ("session ended", "session failed", "refused connection"):
            self._log(f"{event['event']}: {event.get('reason', '')}")

    def _on_serving_ended(self, outcome: SealedOutcome) -> None:
        self._serving = None
        self._log(outcome.error or _("The model is not shared any more."))
        self.update()

    def _log(self, text: str) -> None:
        self.ui.shareLogTextEdit.append(marked(f"{time.strftime('%H:%M:%S')}  {text}", False))

    def _stop_serving(self) -> None:
        if self._serving is not None:
            run, self._serving = self._serving, None
            run.stop()
            self.update()

    def close(self) -> None:
        """End everything, now."""
        self._stop_serving()
        self._shown, self._proxy = (), ""
        if self._run is not None:
            run, self._run = self._run, None
            run.stop()
            self.say("")
