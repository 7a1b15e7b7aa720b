"""slicer.ScriptedLoadableModule, and the C++ objects that hold a scripted module and its panel."""

from __future__ import annotations

import importlib
import logging
import os
import sys
import types
import unittest
from pathlib import Path
from typing import Any

import slicer
import slicer.util

from .natives import constant, native, stored
from .pythonqt import qt, report
from .widgets import qMRMLWidget

_PROPERTIES = ("title", "helpText", "acknowledgementText")
_LISTS = ("categories", "contributors", "dependencies", "associatedNodeTypes")


@native
class qSlicerScriptedLoadableModuleWidget(qMRMLWidget):
    """A module's panel: the parent of its Python widget."""

    def __init__(self, module_class: type) -> None:
        super().__init__()
        qt.QVBoxLayout(self)
        self._host_entered = False
        self._host_self: Any = module_class(self)

    def self(self) -> Any:
        return self._host_self

    def setup(self) -> None:
        self._host_call("setup")

    def reload(self) -> None:
        """A new Python widget of the class that the module's file has now, set up but not entered."""
        name = type(self._host_self).__name__
        self._host_self = getattr(sys.modules[name.removesuffix("Widget")], name)(self)
        setattr(slicer.modules, name, self._host_self)
        self.setup()

    def enter(self) -> None:
        self._host_entered = True
        self._host_call("enter")

    def exit(self) -> None:
        self._host_entered = False
        self._host_call("exit")

    def _host_call(self, name: str) -> None:
        """Slicer prints what setup, enter and exit raise, and goes on."""
        try:
            getattr(self._host_self, name, lambda: None)()
        except Exception as error:
            report(error)

    isEntered = constant(bool, lambda self: self._host_entered)


@native
class qSlicerScriptedLoadableModule(qt.QObject):
    """A loaded module: what its class gets as `parent`, and what slicer.modules.<name> is."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._host_path = path
        self._host_panel: Any = None

    def widgetRepresentation(self) -> Any:
        """The module's panel; made and set up at the first call."""
        if self._host_panel is None:
            self._host_panel = self.createNewWidgetRepresentation()
        return self._host_panel

    def createNewWidgetRepresentation(self) -> Any:
        name = self.name + "Widget"
        panel = qSlicerScriptedLoadableModuleWidget(getattr(sys.modules[self.name], name))
        setattr(slicer.modules, name, panel.self())
        panel.setup()
        panel.setMRMLScene(slicer.mrmlScene)
        return panel

    def logic(self) -> None:
        """A scripted module's C++ logic knows nothing of its Python logic."""

    def mrmlScene(self) -> Any:
        return slicer.mrmlScene

    name = constant("QString", lambda self: self._host_path.stem)
    path = constant("QString", lambda self: str(self._host_path))
    title, helpText, acknowledgementText = (stored("QString", p, "") for p in _PROPERTIES)
    categories, contributors, dependencies, associatedNodeTypes = (stored("QStringList", p, []) for p in _LISTS)
    icon = stored("QIcon", "icon", None)
    hidden = stored(bool, "hidden", False)
    index = stored(int, "index", -1)
    extensions = stored("QVariantMap", "extensions", {})
    widgetRepresentationCreationEnabled = stored(bool, "widgetRepresentationCreationEnabled", True)


class ScriptedLoadableModule:
    """Base of a module's class: describes the module in its parent."""

    def __init__(self, parent: Any) -> None:
        super().__init__()
        self.parent = parent
        self.moduleName = type(self).__name__
        parent.title = ""
        parent.categories, parent.dependencies, parent.contributors = [], [], []
        parent.helpText = parent.acknowledgementText = ""
        icons = Path(parent.path).parent / "Resources" / "Icons"
        for suffix in (".svg", ".png"):
            if (icons / (self.moduleName + suffix)).is_file():
                parent.icon = qt.QIcon(str(icons / (self.moduleName + suffix)))
                break
        slicer.selfTests[self.moduleName] = self.runTest

    def resourcePath(self, filename: str) -> str:
        return os.path.join(os.path.dirname(self.parent.path), "Resources", filename)

    def getDefaultModuleDocumentationLink(self, docPage: str | None = None) -> str:
        base = slicer.app.documentationBaseUrl
        url = base + docPage if docPage else slicer.app.moduleDocumentationUrl(self.moduleName)
        return f'<p><a href="{url}">Documentation</a></p>'

    def runTest(self, msec: int = 100, **options: Any) -> None:
        test = getattr(importlib.import_module(type(self).__module__), self.moduleName + "Test")()
        test.messageDelay = msec
        test.runTest(**options)


class ScriptedLoadableModuleWidget:
    """Base of a module's widget: builds the panel in its parent's layout."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__()
        self.moduleName = type(self).__name__.removesuffix("Widget")
        self.developerMode = slicer.util.settingsValue("Developer/DeveloperMode", False, converter=slicer.util.toBool)
        self.parent = parent or _lone_panel()
        self.layout = self.parent.layout()
        if parent is None:
            self.setup()
            self.parent.show()
        slicer.app.moduleManager().connect("moduleAboutToBeUnloaded(QString)", self._onModuleAboutToBeUnloaded)

    def resourcePath(self, filename: str) -> str:
        return os.path.join(os.path.dirname(slicer.util.modulePath(self.moduleName)), "Resources", filename)

    def setup(self) -> None:
        self.setupDeveloperSection()

    def setupDeveloperSection(self) -> None:
        """The reload section of developer mode."""
        if self.developerMode:
            self.reloadButton = qt.QPushButton("Reload")
            self.reloadButton.connect("clicked()", self.onReload)
            self.layout.addWidget(self.reloadButton)

    def cleanup(self) -> None:
        """Called before the module is unloaded or reloaded."""

    def onReload(self) -> None:
        slicer.util.reloadScriptedModule(self.moduleName)

    def _onModuleAboutToBeUnloaded(self, name: str) -> None:
        if name == self.moduleName:
            self.cleanup()
            slicer.app.moduleManager().disconnect("moduleAboutToBeUnloaded(QString)", self._onModuleAboutToBeUnloaded)


def _lone_panel() -> qMRMLWidget:
    panel = qMRMLWidget()
    panel.setLayout(qt.QVBoxLayout())
    panel.setMRMLScene(slicer.mrmlScene)
    return panel


class ScriptedLoadableModuleLogic:
    """Base of a module's logic: finds or makes its parameter node."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__()
        self.moduleName = type(self).__name__.removesuffix("Logic")
        self.isSingletonParameterNode = True

    def getParameterNode(self) -> Any:
        """The module's (first) parameter node of the scene; a new one if there is none."""
        if self.isSingletonParameterNode:
            node = slicer.mrmlScene.GetSingletonNode(self.moduleName, "vtkMRMLScriptedModuleNode")
            if node is not None and node.GetAttribute("ModuleName") != self.moduleName:
                node.SetAttribute("ModuleName", self.moduleName)  # closing the scene removes the attribute
        else:
            node = next(iter(self.getAllParameterNodes()), None)
        return node or slicer.mrmlScene.AddNode(self.createParameterNode())

    def getAllParameterNodes(self) -> list[Any]:
        nodes = slicer.util.getNodesByClass("vtkMRMLScriptedModuleNode", slicer.mrmlScene)
        return [n for n in nodes if n.GetAttribute("ModuleName") == self.moduleName]

    def createParameterNode(self) -> Any:
        """A new parameter node that is not in the scene yet."""
        node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLScriptedModuleNode")
        node.UnRegister(None)
        if self.isSingletonParameterNode:
            node.SetSingletonTag(self.moduleName)
        node.SetAttribute("ModuleName", self.moduleName)
        node.SetName(slicer.mrmlScene.GenerateUniqueName(self.moduleName))
        return node


class ScriptedLoadableModuleTest(unittest.TestCase):
    """Base of a module's self test."""

    messageDelay: int

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.enableScreenshots = False
        self.screenshotScaleFactor = 1.0

    def delayDisplay(self, message: str, requestedDelay: int | None = None, msec: int | None = None) -> None:
        slicer.util.delayDisplay(message, getattr(self, "messageDelay", msec or requestedDelay or 100))

    def takeScreenshot(self, name: str, description: str, type: int = -1) -> None:
        self.delayDisplay(description)

    def runTest(self) -> None:
        logging.getLogger("slicer.host").warning("%s defines no test", self.__class__.__name__)


def install() -> None:
    """Makes slicer.ScriptedLoadableModule."""
    module = types.ModuleType("slicer.ScriptedLoadableModule")
    classes = (
        ScriptedLoadableModule,
        ScriptedLoadableModuleWidget,
        ScriptedLoadableModuleLogic,
        ScriptedLoadableModuleTest,
    )
    for cls in classes:
        setattr(module, cls.__name__, cls)
    module.__all__ = [c.__name__ for c in classes]  # type: ignore[attr-defined]
    sys.modules[module.__name__] = module
    slicer.ScriptedLoadableModule = module
    slicer.selfTests = {}
    slicer.qSlicerScriptedLoadableModuleWidget = qSlicerScriptedLoadableModuleWidget


install()
