"""Drives a module as the application would: load, open, close, reload; the scene; the event loop."""

from __future__ import annotations

import importlib.util
import os
import sys
import time
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import slicer
import slicer.util
from PySide6 import QtWidgets

from . import application, lint
from .dialogs import dialogs
from .i18n import translators
from .nodes import qMRMLNodeComboBox
from .packaging import packaging
from .pythonqt import qt, uncaught
from .scripted import qSlicerScriptedLoadableModule
from .views import prepare_scene


@dataclass(frozen=True)
class LoadedModule:
    """A module's file as imported, the instance of its class, and that instance's parent (slicer.modules.<name>)."""

    source: types.ModuleType
    instance: Any
    parent: Any


def load_module(path: str | os.PathLike[str]) -> LoadedModule:
    """Imports a scripted module's file, under its name and with its folder in sys.path, and makes its class.

    Raises where Slicer only prints: a problem in the file or in the class, and what lint.check_folder refuses.
    """
    file = Path(path).resolve()
    lint.check_folder(file.parent)
    if str(file.parent) not in sys.path:
        sys.path.insert(0, str(file.parent))
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None and spec.loader is not None
    source = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = source
    spec.loader.exec_module(source)
    parent = qSlicerScriptedLoadableModule(file)
    instance = getattr(source, file.stem)(parent)
    setattr(slicer.modules, file.stem + "Instance", instance)
    setattr(slicer.modules, file.stem.lower(), parent)
    setattr(slicer.moduleNames, file.stem, file.stem)
    slicer.app.moduleManager()._host_modules[file.stem] = parent
    return LoadedModule(source, instance, parent)


def open_widget(name: str) -> Any:
    """Goes to a module: makes its panel at the first time, and enters. Returns the module's Python widget."""
    panel = slicer.app.moduleManager().module(name).widgetRepresentation()
    if not panel.isEntered:
        panel.enter()
    return getattr(slicer.modules, name + "Widget")


def leave_widget(name: str) -> None:
    """Goes to another module: exit."""
    panel = slicer.app.moduleManager().module(name)._host_panel
    if panel is not None and panel.isEntered:
        panel.exit()


def close_widget(name: str) -> None:
    """Ends the application as far as a module sees it: exit, cleanup, and the panel is deleted."""
    module = slicer.app.moduleManager().module(name)
    if module is None or module._host_panel is None:
        return
    leave_widget(name)
    slicer.app.moduleManager().moduleAboutToBeUnloaded.emit(name)
    panel, module._host_panel = module._host_panel, None
    panel.close()
    panel.deleteLater()
    delattr(slicer.modules, name + "Widget")
    QtWidgets.QApplication.sendPostedEvents(None, 52)  # QEvent.DeferredDelete
    process_events()


def reload_module(name: str) -> Any:
    """Developer mode's Reload, by Slicer's own slicer.util function; returns the new widget."""
    slicer.util.reloadScriptedModule(name)
    return getattr(slicer.modules, name + "Widget")


def clear_scene() -> None:
    """File / Close scene: singleton nodes are reset and stay."""
    slicer.mrmlScene.Clear(0)


def save_scene(path: str | os.PathLike[str]) -> None:
    """Saves the scene, nodes' files included, as an .mrb bundle."""
    if not slicer.mrmlScene.WriteToMRB(os.fspath(path)):
        raise RuntimeError(f"The scene could not be saved as {path}")


def load_scene(path: str | os.PathLike[str]) -> None:
    """Closes the scene and loads another from an .mrb bundle."""
    if not slicer.mrmlScene.ReadFromMRB(os.fspath(path), True):
        raise RuntimeError(f"{path} could not be loaded")


def process_events(seconds: float = 0.0, until: Callable[[], bool] | None = None, timeout: float = 30.0) -> bool:
    """Runs the event loop for a time, or until a condition holds (False if it did not within the timeout)."""
    end = time.monotonic() + (timeout if until else seconds)
    while True:
        QtWidgets.QApplication.processEvents()
        if until is not None and until():
            return True
        if time.monotonic() >= end:
            return until is None
        time.sleep(0.001)


class Gaps:
    """The longest time, in seconds, between two turns of the event loop: by the clock, and of that computing.

    By the clock it also counts what other processes of a busy machine took.
    """

    def __init__(self) -> None:
        self.longest = self.computing = 0.0
        self._last = time.perf_counter(), time.thread_time()

    def turn(self) -> None:
        now = time.perf_counter(), time.thread_time()
        self.longest = max(self.longest, now[0] - self._last[0])
        self.computing = max(self.computing, now[1] - self._last[1])
        self._last = now


@contextmanager
def event_loop_gaps() -> Iterator[Gaps]:
    """Measures how long the event loop was blocked, by a timer of 5 ms.

    The loop must be run inside, by process_events; time that the test itself spends outside of it counts too.
    """
    gaps, timer = Gaps(), qt.QTimer()
    timer.timerType = qt.Qt.PreciseTimer
    timer.connect("timeout()", gaps.turn)
    timer.start(5)
    try:
        yield gaps
    finally:
        gaps.turn()
        timer.stop()


def choose(combo: Any, text: str) -> None:
    """Picks an entry as the user would, of a QComboBox or of a node selector (a node, None or an action)."""
    inner = combo._host_combo if isinstance(combo, qMRMLNodeComboBox) else combo
    index = inner.findText(text)
    if index < 0:
        raise ValueError(f"There is no {text!r} among {[inner.itemText(i) for i in range(inner.count)]}")
    inner.currentIndex = index
    inner.activated.emit(index)


def reset() -> None:
    """Back to the start: no panels, an empty scene, no records, no settings. Loaded modules stay."""
    for name in slicer.app.moduleManager().modulesNames():
        close_widget(name)
    slicer.mrmlScene.Clear(1)
    prepare_scene()
    process_events()
    qt.QSettings().clear()
    slicer.app.commandOptions().testingEnabled = False
    for record in (dialogs, packaging, uncaught, translators, application.slice_layers, application.selected_modules):
        record.clear()
