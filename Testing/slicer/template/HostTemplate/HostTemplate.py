"""A small scripted module in the usual form, for the tests of the host."""

import importlib
from typing import Annotated, Optional

import qt
import slicer
import slicer.util
import vtk
from HostTemplateLib.choices import Method
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import Choice, Default, Maximum, Minimum, WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin


class HostTemplate(ScriptedLoadableModule):
    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("Host template")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Testing")]
        parent.contributors = ["Nobody (nowhere)"]
        parent.helpText = _("A module for tests.")


@parameterNodeWrapper
class HostTemplateParameterNode:
    fixedVolume: slicer.vtkMRMLScalarVolumeNode
    outputTransform: Optional[slicer.vtkMRMLTransformNode]  # noqa: UP045 - as modules for Slicer 5.8 write it
    iterations: Annotated[int, WithinRange(1, 500)] = 20
    tolerance: Annotated[float, Minimum(0.0), Maximum(1.0), Default(0.25)]
    method: Method = Method.GOOD
    interpolation: Annotated[str, Choice(["linear", "nearest"])] = "linear"
    verbose: bool = True
    address: str = "localhost"
    tags: list[str]
    range: tuple[float, float] = (0.0, 1.0)


class HostTemplateWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self._parameterNode = None
        self._guiTag = None

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/HostTemplate.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = HostTemplateLogic()
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndImportEvent, self.onSceneEndClose)
        self.ui.applyButton.connect("clicked(bool)", self.onApplyButton)
        self.initializeParameterNode()

    def cleanup(self):
        self.setParameterNode(None)
        self.removeObservers()

    def enter(self):
        self.initializeParameterNode()

    def exit(self):
        self.setParameterNode(None)

    def onSceneStartClose(self, caller, event):
        self.setParameterNode(None)

    def onSceneEndClose(self, caller, event):
        if self.parent.isEntered:
            self.initializeParameterNode()

    def initializeParameterNode(self):
        self.setParameterNode(self.logic.getParameterNode())

    def setParameterNode(self, node):
        if self._parameterNode:
            self._parameterNode.disconnectGui(self._guiTag)
            self.removeObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self.updateApply)
        self._parameterNode = node
        if node:
            self._guiTag = node.connectGui(self.ui)
            self.addObserver(node, vtk.vtkCommand.ModifiedEvent, self.updateApply)
            self.updateApply()

    def updateApply(self, caller=None, event=None):
        ready = self._parameterNode is not None and self._parameterNode.fixedVolume is not None
        self.ui.applyButton.enabled = ready
        self.ui.applyButton.toolTip = _("Run") if ready else _("Choose a volume")

    def onApplyButton(self):
        with slicer.util.tryWithErrorDisplay(_("Failed."), waitCursor=True):
            importlib.import_module("slicer.packaging").pip_ensure("not-a-real-package>=2", requester="HostTemplate")
            self.logic.process(self._parameterNode.fixedVolume, self._parameterNode.iterations)
            self.ui.statusLabel.text = _("Done after {n} iterations").format(n=self._parameterNode.iterations)


class HostTemplateLogic(ScriptedLoadableModuleLogic):
    def getParameterNode(self):
        return HostTemplateParameterNode(super().getParameterNode())

    def process(self, volume, iterations):
        if iterations > 400:
            raise ValueError(f"{iterations} are too many for {volume.GetName()}")
        self.process_ = qt.QProcess()  # a worker would be started here


class HostTemplateTest(ScriptedLoadableModuleTest):
    def setUp(self):
        slicer.mrmlScene.Clear()

    def runTest(self):
        self.setUp()
        self.delayDisplay("Checking defaults")
        self.assertEqual(HostTemplateLogic().getParameterNode().iterations, 20)
