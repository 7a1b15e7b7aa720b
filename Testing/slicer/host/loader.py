"""Loads .ui files as Slicer does: the stand-ins with their exact types, and nothing that Slicer would not know."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

import shiboken6
import slicer
from PySide6 import QtCore, QtUiTools

from . import nodes, widgets
from .pythonqt import loading_ui, qt

for _class in (*widgets.QMRML, nodes.qMRMLNodeComboBox):
    setattr(slicer, _class.__name__, _class)
STAND_INS: dict[str, type] = {c.__name__: c for c in (*widgets.CTK, *widgets.QMRML, nodes.qMRMLNodeComboBox)}
_SCENE = ("mrmlSceneChanged(vtkMRMLScene*)", "setMRMLScene(vtkMRMLScene*)")
_alive: dict[int, Any] = {}


class QUiLoader(QtUiTools.QUiLoader):
    """Creates stand-ins for the classes of Slicer and CTK, and raises for a class that it does not know."""

    def load(self, device: Any, parent: Any = None) -> Any:
        """The widget of a .ui file. A scene reaches only the widgets that the file connects to it."""
        root = ET.fromstring(device.readAll().data())  # noqa: S314 - the project's own file
        links = _take_scene_links(root)
        self._host_unknown: list[str] = []
        buffer = qt.QBuffer()
        buffer.setData(ET.tostring(root))
        buffer.open(qt.QIODevice.ReadOnly)
        with loading_ui():
            widget = QtUiTools.QUiLoader.load(self, buffer, parent)
        if self._host_unknown:
            raise RuntimeError(f"The .ui file names classes that are not known: {sorted(set(self._host_unknown))}")
        for sender, receiver in links:
            _link_scene(widget, sender, receiver)
        return widget

    def createWidget(self, class_name: str, parent: Any = None, name: str = "") -> Any:
        if class_name in STAND_INS:
            widget = STAND_INS[class_name](parent)
            widget.objectName = name
            _keep(widget)
            return widget
        if class_name not in self.availableWidgets() and class_name != "Line":
            self._host_unknown.append(class_name)
            class_name = "QWidget"
        return QtUiTools.QUiLoader.createWidget(self, class_name, parent, name)


def _keep(widget: Any) -> None:
    """Keeps the Python half of a stand-in for as long as its C++ half lives."""
    address = shiboken6.getCppPointer(widget)[0]
    _alive[address] = widget
    QtCore.QObject.destroyed.__get__(widget).connect(lambda *_: _alive.pop(address, None))


def _take_scene_links(root: ET.Element) -> list[tuple[str, str]]:
    """Removes the connections that carry a scene, whose C++ type Qt does not know here, and returns them."""
    links = []
    for connections in root.iter("connections"):
        for connection in list(connections):
            ends = {e.tag: e.text or "" for e in connection}
            if (ends.get("signal"), ends.get("slot")) == _SCENE:
                links.append((ends["sender"], ends["receiver"]))
                connections.remove(connection)
    return links


def _link_scene(top: Any, sender: str, receiver: str) -> None:
    named = {w.objectName: w for w in [top, *top.findChildren(qt.QWidget)]}
    named[sender].connect(_SCENE[0], named[receiver].setMRMLScene)


qt.QUiLoader = QUiLoader
