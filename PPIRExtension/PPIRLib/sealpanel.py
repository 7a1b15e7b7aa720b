"""The panel "Seal and share": seal a volume, give grants, open a sealed image, ask another hospital, share."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from PPIRLib import choices, sealing
from PPIRLib.job import Event
from PPIRLib.registerpanel import marked
from PPIRLib.runpanel import RunPanel
from PPIRLib.sealing import SealedOutcome
from PPIRLib.sealserving import Sharing

_CODES = (_("picture"), _("level"), _("bytes"), _("in all"), _("quality"))
_CATALOGUE = (_("image"), _("size"), _("grants up to"))
_SIDE = 64  # pixels of a preview


class SealPanel(RunPanel):
    """One run at a time; a sharing goes on beside it."""

    packages = "primis"

    def __init__(self, ui: Any, logic: Any, parameters: Callable[[], Any]) -> None:
        self.ui, self.logic, self._parameters = ui, logic, parameters
        self._fill()
        self.sharing = Sharing(ui, parameters, self.say, self.log, self.ready)
        for button, press in (
            (ui.sealButton, self.on_seal), (ui.grantButton, self.on_grant), (ui.ownCardButton, self.on_card),
            (ui.openButton, self.on_open), (ui.catalogueButton, self.on_catalogue), (ui.askButton, self.on_ask),
            (ui.sealCancelButton, self.on_cancel),
        ):  # fmt: skip
            button.connect("clicked(bool)", press)
        self.update()

    def _fill(self) -> None:
        ui = self.ui
        for box in (ui.grantLevelComboBox, ui.askLevelComboBox, ui.serveLevelComboBox):
            box.addItems(list(choices.LEVELS))
        ui.openLevelComboBox.addItems([_("as far as it goes"), *choices.LEVELS])
        for table, columns in ((ui.codesTable, _CODES), (ui.catalogueTable, _CATALOGUE)):
            table.setColumnCount(len(columns))
            table.setHorizontalHeaderLabels(list(columns))
            table.setEditTriggers(qt.QAbstractItemView.NoEditTriggers)
            table.setSelectionBehavior(qt.QAbstractItemView.SelectRows)
            table.horizontalHeader().setSectionResizeMode(qt.QHeaderView.Stretch)
            table.verticalHeader().hide()
        ui.codesTable.setIconSize(qt.QSize(_SIDE, _SIDE))
        ui.codesTable.horizontalHeader().setSectionResizeMode(1, qt.QHeaderView.ResizeToContents)  # no name is cut
        for edit, kind in (
            (ui.grantFilePath, "ppis"), (ui.openFilePath, "ppis"), (ui.servePath, "ppis"), (ui.cardPath, "ppic"),
            (ui.openGrantPath, "ppig"),
        ):  # fmt: skip
            edit.nameFilters = [f"*.{kind}"]

    # -------------------------------------------------------------------------------------------- state

    def update(self) -> None:
        ui, node = self.ui, self._parameters()
        free = not self.busy and node is not None
        ui.sealButton.enabled = free and node.sealVolume is not None
        ui.sealButton.toolTip = _("Write this volume as a sealed file (.ppis)") if free else _("Select a volume.")
        for button in (ui.grantButton, ui.ownCardButton, ui.openButton, ui.catalogueButton):
            button.enabled = free
        ui.askButton.enabled = free and ui.catalogueTable.rowCount > 0
        ui.sealCancelButton.visible = self.busy
        self.sharing.update()

    def say(self, text: str, error: bool = False) -> None:
        """The one line under the sections; errors are red."""
        self.ui.sealStatusLabel.text = marked(text, error)
        if error:
            self.log(text)

    def log(self, text: str) -> None:
        self.ui.sealLogTextEdit.append(marked(f"{time.strftime('%H:%M:%S')}  {text}", False))

    def _on_progress(self, event: Event) -> None:
        if event.get("event") == "note" and event.get("note"):
            self.log(str(event["note"]))
        elif event.get("event") == "progress":
            stages = {
                "fetching": _("Fetching: {done} of {total} bytes …"), "reconnecting": _("Line lost; calling again …"),
                "asking": _("Asking for a grant; a person may have to decide …"), "waiting": _("Waiting …"),
            }  # fmt: skip
            if event.get("stage") in stages:
                self.say(stages[event["stage"]].format(done=event["done"], total=event["total"]))

    def close(self) -> None:
        """End everything, now."""
        self.sharing.close()
        if self._run is not None:
            run, self._run = self._run, None
            run.stop()
            self.say("")

    # --------------------------------------------------------------------------------------------- seal

    def on_seal(self, checked: bool = False) -> None:
        node = self._parameters()
        if node is None or node.sealVolume is None:
            self.say(_("Select a volume."), error=True)
            return
        path = _save(_("Sealed file"), f"{node.sealVolume.GetName()}.ppis", "ppis")
        if path:
            self._begin(
                _("Sealing …"),
                lambda **options: sealing.seal_run(node.sealVolume, path, **options),
                lambda outcome: self._sealed(outcome, path),
            )

    def _sealed(self, outcome: SealedOutcome, path: str) -> None:
        rows = outcome.events["level"]
        table = self.ui.codesTable
        table.setRowCount(len(rows))
        for row, said in enumerate(rows):
            quality = _("exact") if said["exact"] else _("{psnr:.1f} dB").format(psnr=said["psnr"] or 0)
            texts = ("", said["level"], f"{said['bytes']:,}", f"{said['so_far']:,}", quality)
            for column, text in enumerate(texts):
                table.setItem(row, column, qt.QTableWidgetItem(text))
            table.item(row, 0).setIcon(_icon(outcome.pictures[said["level"]]))
            table.setRowHeight(row, _SIDE + 4)
        table.minimumHeight = min(5, len(rows)) * (_SIDE + 4) + 30
        for edit in (self.ui.grantFilePath, self.ui.servePath, self.ui.openFilePath):
            edit.currentPath = path
        text = _("Sealed: {path}. Without a grant nobody but this hospital can open it.").format(path=path)
        self.say(text)
        self.log(text)

    # -------------------------------------------------------------------------------------------- grants

    def on_grant(self, checked: bool = False) -> None:
        ui, node = self.ui, self._parameters()
        file, card, purpose = ui.grantFilePath.currentPath, ui.cardPath.currentPath, node.sealPurpose.strip()
        for given, words in (
            (file, _("Choose the sealed file.")), (card, _("Choose the card of the hospital that is to open it.")),
            (purpose, _("Say what the image is for: the purpose is in the grant.")),
        ):  # fmt: skip
            if not given:
                self.say(words, error=True)
                return
        level = ui.grantLevelComboBox.currentText
        path = _save(_("Grant"), f"{level}.ppig", "ppig")
        if path:
            self._begin(
                _("Giving a grant …"),
                lambda **options: sealing.grant_run(
                    file, card, level, purpose, path, ui.grantDaysSpinBox.value, **options
                ),
                lambda outcome: self._granted(outcome, path),
            )

    def _granted(self, outcome: SealedOutcome, path: str) -> None:
        said = outcome.last("granted")
        text = _("Granted up to '{level}' to {recipient}; on record in the ledger. Send them {path}.")
        self.say(text.format(level=said["level"], recipient=said["recipient"], path=path))
        self.log(text.format(level=said["level"], recipient=said["recipient"], path=path))

    def on_card(self, checked: bool = False) -> None:
        path = _save(_("My card"), "card.ppic", "ppic")
        if path:
            self._begin(
                _("Writing the card …"),
                lambda **options: sealing.card_run(path, **options),
                lambda outcome: self.say(_("Send {path} to the hospital that is to give the grant.").format(path=path)),
            )

    # ---------------------------------------------------------------------------------------------- open

    def on_open(self, checked: bool = False) -> None:
        ui = self.ui
        file, grant = ui.openFilePath.currentPath, ui.openGrantPath.currentPath
        if not file:
            self.say(_("Choose the sealed file."), error=True)
            return
        level = ui.openLevelComboBox.currentText if ui.openLevelComboBox.currentIndex > 0 else ""
        self._begin(
            _("Opening …"), lambda **options: sealing.open_run(file, grant, level, **options), self._opened
        )  # fmt: skip

    def _opened(self, outcome: SealedOutcome) -> None:
        said, node = outcome.last("unsealed"), slicer.mrmlScene.GetNodeByID(outcome.volume_id)
        text = _("'{name}' is in the scene, opened up to the level '{level}'.").format(
            name=node.GetName(), level=said["level"]
        )
        warning = _(" Not for diagnosis: it is a lossy picture of the image.")
        self.say(text if said["exact"] else text + warning, error=not said["exact"])

    # ----------------------------------------------------------------------------------------------- ask

    def on_catalogue(self, checked: bool = False) -> None:
        peer = self._parameters().askPeer.strip()
        if not peer:
            self.say(_("Enter the address of the other hospital."), error=True)
            return
        self._begin(
            _("Asking what is there …"), lambda **options: sealing.catalogue_run(peer, **options), self._show_catalogue
        )  # fmt: skip

    def _show_catalogue(self, outcome: SealedOutcome) -> None:
        rows, table = outcome.events.get("sealed image", []), self.ui.catalogueTable
        table.setRowCount(len(rows))
        for row, said in enumerate(rows):
            size = " × ".join(str(n) for n in reversed(said["shape"]))
            asked = _(" (a person decides)") if said["asks"] else ""
            for column, text in enumerate((said["name"], size, f"{said['level']}{asked}")):
                table.setItem(row, column, qt.QTableWidgetItem(text))
        if rows:
            table.selectRow(0)
        self.say(_("{count} sealed images are shown to this hospital.").format(count=len(rows)))

    def on_ask(self, checked: bool = False) -> None:
        ui, node = self.ui, self._parameters()
        row, purpose = ui.catalogueTable.currentRow(), node.askPurpose.strip()
        if row < 0 or not purpose:
            self.say(_("Select an image in the table.") if row < 0 else _("Say what the image is for."), error=True)
            return
        folder = qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), _("Folder for file and grant"), "")
        name, level = str(ui.catalogueTable.item(row, 0).text()), ui.askLevelComboBox.currentText
        if folder:
            self._begin(
                _("Asking …"),
                lambda **options: sealing.ask_run(node.askPeer.strip(), name, level, purpose, folder, **options),
                self._received,
            )

    def _received(self, outcome: SealedOutcome) -> None:
        said = outcome.last("granted")
        self.ui.openFilePath.currentPath, self.ui.openGrantPath.currentPath = said["file"], said["grant"]
        self.say(_("Granted up to '{level}'. Press Open.").format(level=said["level"]))


def _save(title: str, name: str, kind: str) -> str:
    """Where to write a file; empty if a person gave it up."""
    path = str(qt.QFileDialog.getSaveFileName(slicer.util.mainWindow(), title, name, f"*.{kind}") or "")
    return path if not path or path.endswith(f".{kind}") else f"{path}.{kind}"


def _icon(png: bytes) -> Any:
    picture = qt.QPixmap()
    picture.loadFromData(qt.QByteArray(png), "PNG")
    return qt.QIcon(picture)
