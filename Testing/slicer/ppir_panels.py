"""Drives the module's panels as a person does, and takes their pictures."""

from __future__ import annotations

import html
import os
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import ppir_support as support

NAME = "PPIR"
PICTURES = Path(os.environ.get("PPIR_PICTURES", support.ROOT / "build" / "pictures"))
SCALES = {"100": 1.0, "150": 1.5}


def plain(marked: str) -> str:
    """The text of a label that holds HTML."""
    return html.unescape(re.sub("<[^>]*>", "", marked))


class Driver:
    """What both panels have in common."""

    tab, label = 0, "statusLabel"

    def __init__(self, host: ModuleType) -> None:
        self.host = host
        host.load_module(support.MODULE)
        self.attach(host.open_widget(NAME))

    def attach(self, widget: Any) -> None:
        self.widget, self.ui = widget, widget.ui
        self.ui.tabWidget.currentIndex = self.tab

    @property
    def node(self) -> Any:
        return self.widget._parameterNode

    @property
    def status(self) -> str:
        return plain(getattr(self.ui, self.label).text)

    @property
    def failed(self) -> bool:
        return "color" in getattr(self.ui, self.label).text

    def picture(self, name: str) -> None:
        """The panel as it is now, at both scales, into the folder that the test run names at its end."""
        PICTURES.mkdir(parents=True, exist_ok=True)
        for percent, scale in SCALES.items():
            size = self.host.grab(self.widget, PICTURES / f"{name}_{percent}.png", scale=scale, width=460)
            assert size[0] == round(460 * scale) and size[1] > size[0]


class RegisterPanel(Driver):
    """Hospital A's side."""

    def attach(self, widget: Any) -> None:
        super().attach(widget)
        self.said, self.panel = [""], widget.registerPanel

    def prepare(self, address: str, image: Any = support.MOVING, name: str = "MR", **parameters: Any) -> Any:
        volume = support.add_volume(image, name)
        self.node.movingVolume, self.node.peer = volume, address
        for parameter, value in {"transform": "rigid", **parameters}.items():
            setattr(self.node, parameter, value)
        return volume

    def watch(self, condition: Callable[[], bool], timeout: float = 240.0) -> bool:
        def look() -> bool:
            if self.status != self.said[-1]:
                self.said.append(self.status)
            return condition()

        return bool(self.host.process_events(until=look, timeout=timeout))

    def wait(self) -> None:
        assert self.watch(lambda: not self.panel.busy), self.said

    def apply(self) -> None:
        self.ui.applyButton.click()
        self.wait()

    def apply_until(self, start: str) -> None:
        """Apply, and return as soon as the status begins so."""
        self.ui.applyButton.click()
        assert self.watch(lambda: self.status.startswith(start)), self.said


class SharePanel(Driver):
    """Hospital B's side."""

    tab, label = 1, "shareStatusLabel"

    def attach(self, widget: Any) -> None:
        super().attach(widget)
        self.panel = widget.sharePanel

    def cell(self, table: Any, row: int, column: int) -> str:
        return str(table.item(row, column).text())

    def share(self, volume: Any = None) -> str:
        """Start sharing and return the address."""
        self.node.sharedVolume = volume or support.add_volume(support.FIXED, "F")
        self.node.sharedName, self.node.shareAddress = "atlas", "127.0.0.1:0"
        assert self.ui.shareButton.enabled and self.ui.shareButton.text == "Start sharing"
        self.ui.shareButton.click()
        assert self.ui.shareButton.text == "Stop sharing"
        assert self.host.process_events(until=lambda: not self.status.startswith("Starting")), self.status
        assert self.status.startswith("Sharing at "), self.status
        return self.status.removeprefix("Sharing at ")

    def add_peer(self, name: str, fingerprint: str) -> None:
        self.ui.peerNameLineEdit.text, self.ui.fingerprintLineEdit.text = name, fingerprint
        self.ui.addPeerButton.click()


class SealPanel(Driver):
    """Sealed images, at either hospital."""

    tab, label = 2, "sealStatusLabel"

    def attach(self, widget: Any) -> None:
        super().attach(widget)
        self.panel = widget.sealPanel

    def cells(self, table: Any, column: int) -> list[str]:
        return [str(table.item(row, column).text()) for row in range(table.rowCount)]

    def press(self, button: Any) -> None:
        """Press, and wait until that has ended."""
        assert button.enabled, button.toolTip
        button.click()
        assert self.host.process_events(until=lambda: not self.panel.busy, timeout=120), self.status

    def seal(self, volume: Any, path: Path) -> None:
        self.node.sealVolume = volume
        self.host.dialogs.answer("file", str(path))
        self.press(self.ui.sealButton)
        assert path.is_file() and not self.failed, self.status


class ProxyPanel(SealPanel):
    """Segmentation at a server."""

    tab, label = 3, "proxyStatusLabel"

    def attach(self, widget: Any) -> None:
        Driver.attach(self, widget)
        self.panel = widget.proxyPanel
