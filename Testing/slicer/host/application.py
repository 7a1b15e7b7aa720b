"""slicer.app, slicer.modules and the parts of slicer.util that need the application."""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import sys
import tempfile
import types
from pathlib import Path
from typing import Any

import slicer
import slicer.util
from PySide6 import QtCore, QtGui, QtWidgets

from .dialogs import dialogs
from .natives import constant, native, stored
from .pythonqt import qt

HOME = Path(tempfile.mkdtemp(prefix="slicer-host-"))
atexit.register(shutil.rmtree, HOME, ignore_errors=True)


@native
class qSlicerModuleManager(qt.QObject):
    """Knows the loaded modules."""

    moduleAboutToBeUnloaded = QtCore.Signal(str)
    moduleLoaded = QtCore.Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self._host_modules: dict[str, Any] = {}

    def module(self, name: str) -> Any:
        return self._host_modules.get(name)

    def modulesNames(self) -> list[str]:
        return list(self._host_modules)


@native
class qSlicerCommandOptions(qt.QObject):
    """The command line: no main window."""

    noMainWindow = constant(bool, lambda self: True)
    testingEnabled = stored(bool, "testingEnabled", False)
    pythonScript = constant("QString", lambda self: "")
    runPythonAndExit = constant(bool, lambda self: False)


@native
class qSlicerApplication(QtWidgets.QApplication):
    """The application object, without main window and layouts."""

    startupCompleted = QtCore.Signal()

    def __init__(self) -> None:
        super().__init__(["SlicerHost"])
        self.setOrganizationName("slicer-host")
        self.applicationName, self.applicationVersion = "Slicer", "5.12.0"
        self._host_manager = qSlicerModuleManager()
        self._host_options = qSlicerCommandOptions()
        self._host_logic: Any = None

    def moduleManager(self) -> qSlicerModuleManager:
        return self._host_manager

    def commandOptions(self) -> qSlicerCommandOptions:
        return self._host_options

    def testingEnabled(self) -> bool:
        return self._host_options.testingEnabled

    def mrmlScene(self) -> Any:
        return slicer.mrmlScene

    def applicationLogic(self) -> Any:
        if self._host_logic is None:
            self._host_logic = slicer.vtkMRMLApplicationLogic()
            self._host_logic.SetMRMLScene(slicer.mrmlScene)
        return self._host_logic

    def layoutManager(self) -> None:
        """None, as without a main window."""

    def userSettings(self) -> Any:
        return qt.QSettings()

    settings = revisionUserSettings = userSettings

    def translate(self, context: str, text: str) -> str:
        return text

    def startupEnvironment(self) -> Any:
        return qt.QProcessEnvironment.systemEnvironment()

    environment = startupEnvironment

    def moduleDocumentationUrl(self, module: str) -> str:
        return f"{self.documentationBaseUrl}user_guide/modules/{module.lower()}.html"

    def pauseRender(self) -> int:
        return 0

    def resumeRender(self) -> int:
        return 0

    majorVersion = constant(int, lambda self: 5)
    minorVersion = constant(int, lambda self: 12)
    revision = constant("QString", lambda self: "0")
    slicerHome = constant("QString", lambda self: str(HOME / "home"))
    isInstalled = constant(bool, lambda self: True)
    os = constant("QString", lambda self: {"win32": "win", "darwin": "macosx"}.get(sys.platform, "linux"))
    arch = constant("QString", lambda self: "amd64")
    documentationBaseUrl = constant("QString", lambda self: "https://slicer.readthedocs.io/en/latest/")
    temporaryPath = stored("QString", "temporaryPath", str(HOME / "temporary"))


def _start() -> qSlicerApplication:
    if QtWidgets.QApplication.instance() is not None:
        raise RuntimeError("The host must be imported before any QApplication is made")
    for part in ("home", "temporary", "settings"):
        (HOME / part).mkdir()
    QtCore.QSettings.setDefaultFormat(QtCore.QSettings.IniFormat)
    for scope in (QtCore.QSettings.UserScope, QtCore.QSettings.SystemScope):
        QtCore.QSettings.setPath(QtCore.QSettings.IniFormat, scope, str(HOME / "settings"))
    QtCore.qInstallMessageHandler(_on_message)
    app = qSlicerApplication()
    app.setStyle("Fusion")
    _load_fonts()
    return app


def _on_message(kind: QtCore.QtMsgType, context: Any, text: str) -> None:
    """Qt's messages go to stderr, but for one that the offscreen platform repeats for every window."""
    if "propagateSizeHints" not in text:
        print(text, file=sys.stderr)


def _load_fonts() -> None:
    """Offscreen Qt may find no font at all: matplotlib's DejaVu Sans is always there."""
    import matplotlib

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    for name in ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSansMono.ttf"):
        QtGui.QFontDatabase.addApplicationFont(str(folder / name))
    QtWidgets.QApplication.setFont(QtGui.QFont("DejaVu Sans", 9))


slice_layers: list[dict[str, Any]] = []
"""The arguments of each call of slicer.util.setSliceViewerLayers."""
selected_modules: list[str] = []
"""The modules that slicer.util.selectModule was asked for."""


def _set_layers(
    background: Any = "keep-current",
    foreground: Any = "keep-current",
    label: Any = "keep-current",
    foregroundOpacity: float | None = None,
    labelOpacity: float | None = None,
    fit: bool = False,
    rotateToVolumePlane: bool = False,
) -> None:
    slice_layers.append({k: v for k, v in locals().items() if v not in ("keep-current", None, False)})
    for view in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        for volume, put in ((background, view.SetBackgroundVolumeID), (foreground, view.SetForegroundVolumeID)):
            if volume != "keep-current":
                put(volume.GetID() if hasattr(volume, "GetID") else volume)
        if foregroundOpacity is not None:
            view.SetForegroundOpacity(foregroundOpacity)


def _inform(kind: str) -> Any:
    """errorDisplay, warningDisplay, infoDisplay: only logged in testing mode."""

    def show(
        text: str, windowTitle: str | None = None, parent: Any = None, standardButtons: Any = None, **options: Any
    ) -> None:
        if slicer.app.testingEnabled():
            logging.getLogger("slicer.host").warning("%s: %s", kind, text)
        else:
            dialogs.show(kind, text, windowTitle, options.pop("detailedText", ""), **options)

    return show


def _confirm(text: str, windowTitle: str | None = None, parent: Any = None, **options: Any) -> bool:
    if slicer.app.testingEnabled():
        return True
    return bool(dialogs.show("confirm", text, windowTitle, options.pop("detailedText", ""), **options))


def _message_box(text: str, parent: Any = None, **options: Any) -> Any:
    answer = dialogs.show("message", text, options.pop("windowTitle", ""), options.pop("detailedText", ""), **options)
    return qt.QMessageBox.Ok if answer is None else answer


def _delay_display(message: str, autoCloseMsec: int = 1000, parent: Any = None, **options: Any) -> None:
    dialogs.show("delay", message)
    slicer.app.processEvents()


def _select_module(module: Any) -> None:
    name = module if isinstance(module, str) else module.name
    if slicer.app.moduleManager().module(name) is None:
        raise RuntimeError(f"There is no module {name!r}")
    selected_modules.append(name)


def _save_node(node: Any, filename: str, properties: dict[str, Any] | None = None) -> bool:
    """Writes a node with its usual storage node."""
    storage = node.GetStorageNode() or node.CreateDefaultStorageNode()
    if storage.GetScene() is None:
        slicer.mrmlScene.AddNode(storage)
        node.SetAndObserveStorageNodeID(storage.GetID())
    storage.SetFileName(os.fspath(filename))
    return bool(storage.WriteData(node))


def _load_as(node_class: str) -> Any:
    """A slicer.util.load… that reads a file into a new node of one class."""

    def load(filename: str, properties: dict[str, Any] | None = None, returnNode: bool = False) -> Any:
        name = (properties or {}).get("name") or Path(filename).name.split(".")[0]
        node = slicer.mrmlScene.AddNewNodeByClass(node_class, name)
        storage = node.CreateDefaultStorageNode() or slicer.vtkMRMLVolumeArchetypeStorageNode()
        slicer.mrmlScene.AddNode(storage)
        storage.SetFileName(os.fspath(filename))
        if not storage.ReadData(node):
            slicer.mrmlScene.RemoveNode(node)
            raise RuntimeError(f"Failed to load {filename}")
        node.SetAndObserveStorageNodeID(storage.GetID())
        return node

    return load


def _install_util() -> None:
    util = slicer.util
    for kind in ("error", "warning", "info"):
        setattr(util, f"{kind}Display", _inform(kind))
    util.confirmOkCancelDisplay = util.confirmYesNoDisplay = util.confirmRetryCloseDisplay = _confirm
    util.messageBox, util.delayDisplay, util.mainWindow = _message_box, _delay_display, lambda: None
    util.resetThreeDViews = util.resetSliceViews = util.forceRenderAllViews = lambda *_: None
    util.setSliceViewerLayers, util.selectModule = _set_layers, _select_module
    util.selectedModule = lambda: selected_modules[-1] if selected_modules else None
    util.saveNode, util.showStatusMessage = _save_node, lambda *_: False
    util.loadVolume, util.loadLabelVolume = _load_as("vtkMRMLScalarVolumeNode"), _load_as("vtkMRMLLabelMapVolumeNode")
    util.loadTransform = _load_as("vtkMRMLTransformNode")


def _empty_module(name: str) -> None:
    module = types.ModuleType(f"slicer.{name}")
    sys.modules[module.__name__] = module
    setattr(slicer, name, module)


def _make_scene() -> Any:
    """A scene that can save and load bundles."""
    scene, cache, transfers = slicer.vtkMRMLScene(), slicer.vtkCacheManager(), slicer.vtkDataIOManager()
    for part in ("bundles", "cache"):
        (HOME / part).mkdir()
    scene.SetRootDirectory(str(HOME / "bundles"))
    cache.SetRemoteCacheDirectory(str(HOME / "cache"))
    cache.SetMRMLScene(scene)
    transfers.SetCacheManager(cache)
    scene.SetCacheManager(cache)
    scene.SetDataIOManager(transfers)
    return scene


slicer.app = _start()
slicer.mrmlScene = _make_scene()
_empty_module("modules")
_empty_module("moduleNames")
_install_util()
