"""A test host for scripted modules of 3D Slicer, for machines without Slicer.

Real MRML nodes and slicer.util come from the package slicer-core; the application, PythonQt, CTK, the qMRML widgets,
parameterNodeWrapper and ScriptedLoadableModule are stand-ins over PySide6. Where PythonQt or Slicer refuse something
that PySide6 accepts, the stand-ins refuse it too. Importing this package makes the application and the modules
qt, ctk and slicer.*; only one thread may use them.

    module     load_module, open_widget, leave_widget, close_widget, reload_module
    scene      clear_scene, save_scene, load_scene
    user       choose, dialogs (what was shown, answers to give), packaging (what was to be installed)
    events     process_events, event_loop_gaps, uncaught (exceptions that left a slot)
    pictures   grab, SliceView, coloured, side_by_side
    records    slice_layers, selected_modules, translators
    between    reset
"""

# The order matters: qt first, then the application, then what needs it.
# ruff: noqa: I001
from __future__ import annotations

import os

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from .pythonqt import uncaught
from .dialogs import Dialog, dialogs
from .application import selected_modules, slice_layers
from . import loader, parameters, scripted
from .i18n import translators
from .packaging import Request, packaging
from .session import (
    LoadedModule,
    choose,
    clear_scene,
    close_widget,
    event_loop_gaps,
    leave_widget,
    load_module,
    load_scene,
    open_widget,
    process_events,
    reload_module,
    reset,
    save_scene,
)
from .render import grab
from .views import SliceView, coloured, prepare_scene, side_by_side

prepare_scene()

__all__ = [
    "Dialog",
    "LoadedModule",
    "Request",
    "SliceView",
    "choose",
    "clear_scene",
    "close_widget",
    "coloured",
    "dialogs",
    "event_loop_gaps",
    "grab",
    "leave_widget",
    "load_module",
    "load_scene",
    "loader",
    "open_widget",
    "packaging",
    "parameters",
    "process_events",
    "reload_module",
    "reset",
    "save_scene",
    "scripted",
    "selected_modules",
    "side_by_side",
    "slice_layers",
    "translators",
    "uncaught",
]
