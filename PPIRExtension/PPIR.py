"""Privacy-Preserving Image Registration, the Slicer module. Thin: the work is in PPIRLib and the engine PPIRLogic."""

import unittest
from pathlib import Path
from typing import Annotated

import slicer
import vtk
from PPIRLib import choices
from PPIRLib.proxylogic import ProxyLogic
from PPIRLib.sealedlogic import SealedLogic
from slicer import (
    vtkMRMLDisplayableNode,
    vtkMRMLLinearTransformNode,
    vtkMRMLMarkupsFiducialNode,
    vtkMRMLScalarVolumeNode,
    vtkMRMLTransformNode,
)
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import Choice, WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin


class PPIR(ScriptedLoadableModule):
    """What the module is, for the module list."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("Privacy-Preserving Image Registration")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Registration")]
        self.parent.dependencies = []
        self.parent.contributors = ["PPIRExtension contributors"]
        self.parent.helpText = _(
            "Aligns my volume to the volume of another hospital without showing either to the other. Only encrypted or"
            " secret-shared data crosses the network; what each side learns is counted and bounded."
        )
        self.parent.acknowledgementText = _(
            "Method: R. Taiello, M. Önen, F. Capano, O. Humbert, M. Lorenzi, Privacy Preserving Image Registration,"
            " Medical Image Analysis 2024."
        )
        slicer.app.connect("startupCompleted()", registerSampleData)


def registerSampleData():
    """A pair of brain slices to try the module with, in the Sample Data module."""
    try:
        import SampleData
    except ImportError:
        return
    folder = Path(__file__).parent / "Resources" / "SampleData"
    for name in ("PPIRBrainFixed", "PPIRBrainMoving"):
        SampleData.SampleDataLogic.registerCustomSampleDataSource(
            category="PPIR",
            sampleName=name,
            uris=(folder / f"{name}.nrrd").as_uri(),
            fileNames=f"{name}.nrrd",
            nodeNames=name,
        )


@parameterNodeWrapper
class PPIRParameterNode:
    """Everything a person chooses; saved with the scene. Keys and fingerprints are not here."""

    peer: str = ""
    image: str = ""
    dealer: str = ""
    movingVolume: vtkMRMLScalarVolumeNode
    movingPoints: vtkMRMLMarkupsFiducialNode
    movingMask: vtkMRMLDisplayableNode  # a label map or a segmentation
    initialTransform: vtkMRMLLinearTransformNode
    preset: str = ""
    transform: Annotated[str, Choice(list(choices.TRANSFORMS))] = choices.usual("transform")
    loss: Annotated[str, Choice(list(choices.LOSSES))] = choices.usual("loss")
    protocol: Annotated[str, Choice(list(choices.PROTOCOLS))] = choices.usual("protocol")
    sampling: Annotated[str, Choice(list(choices.SAMPLINGS))] = choices.usual("sampling")
    percent: Annotated[float, WithinRange(*choices.range_of("percent"))] = choices.usual("percent")
    fixedMask: Annotated[str, Choice(list(choices.FIXED_MASKS))] = choices.usual("fixed_mask")
    levels: str = ""
    evaluations: Annotated[int, WithinRange(*choices.range_of("evaluations"))] = choices.usual("evaluations")
    stepTolerance: Annotated[float, WithinRange(*choices.range_of("step_tolerance"))] = choices.usual("step_tolerance")
    lossTolerance: Annotated[float, WithinRange(*choices.range_of("loss_tolerance"))] = choices.usual("loss_tolerance")
    gridSpacing: Annotated[float, WithinRange(*choices.range_of("grid_spacing"))] = choices.usual("grid_spacing")
    iterations: str = ""
    stride: Annotated[int, WithinRange(*choices.range_of("stride"))] = choices.usual("stride")
    radius: Annotated[float, WithinRange(*choices.range_of("radius_mm"))] = choices.usual("radius_mm")
    bins: Annotated[str, Choice(list(choices.BINS))] = choices.usual("bins")
    outputTransform: vtkMRMLTransformNode
    outputVolume: vtkMRMLScalarVolumeNode
    sharedVolume: vtkMRMLScalarVolumeNode
    sharedPoints: vtkMRMLMarkupsFiducialNode
    sharedMask: vtkMRMLDisplayableNode
    sharedName: str = "fixed"
    shareAddress: str = "0.0.0.0:7443"
    sharePeer: str = ""
    shareLosses: str = ""
    shareTransforms: str = ""
    shareMpc: bool = False
    shareDealer: str = ""
    budgetPercent: Annotated[float, WithinRange(0.0, 100000.0)] = 5.0
    budgetSession: Annotated[int, WithinRange(0, 100000000)] = 20000
    sealVolume: vtkMRMLScalarVolumeNode
    sealPurpose: str = ""
    askPeer: str = ""
    askPurpose: str = ""
    serveName: str = "image-1"
    serveAddress: str = "0.0.0.0:7443"
    proxyVolume: vtkMRMLScalarVolumeNode
    proxyMask: vtkMRMLDisplayableNode
    proxyPeer: str = ""
    proxyStrength: Annotated[str, Choice(list(choices.STRENGTHS))] = "medium"
    proxyStrip: Annotated[str, Choice(list(choices.STRIPS))] = "brain"
    proxyServeAddress: str = "0.0.0.0:7443"


class PPIRWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """Four panels, Register, Share, Seal and share, Segment at a server, over one parameter node."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self._parameterNode = None
        self._guiTag = None

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        from PPIRLib.proxypanel import ProxyPanel
        from PPIRLib.registerpanel import RegisterPanel
        from PPIRLib.sealpanel import SealPanel
        from PPIRLib.sharepanel import SharePanel

        widget = slicer.util.loadUI(self.resourcePath("UI/PPIR.ui"))
        self.layout.addWidget(widget)
        self.ui = slicer.util.childWidgetVariables(widget)
        widget.setMRMLScene(slicer.mrmlScene)
        self.logic = PPIRLogic()
        self.registerPanel = RegisterPanel(self.ui, self.logic, lambda: self._parameterNode)
        self.sharePanel = SharePanel(self.ui, self.logic, lambda: self._parameterNode)
        self.sealPanel = SealPanel(self.ui, self.logic, lambda: self._parameterNode)
        self.proxyPanel = ProxyPanel(self.ui, self.logic, lambda: self._parameterNode)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        # a loaded scene changes the parameter node without telling its observers
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndImportEvent, self.onSceneEndClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndImportEvent, self.onSceneEndImport)
        self.initializeParameterNode()

    def cleanup(self):
        """The module goes away or is reloaded: no process may outlive it."""
        self._close()
        self.removeObservers()

    def enter(self):
        self.initializeParameterNode()
        self.sharePanel.refreshPeers()

    def exit(self):
        self.setParameterNode(None)

    def onSceneStartClose(self, caller, event):
        self._close()

    def _close(self):
        for panel in (self.registerPanel, self.sharePanel, self.sealPanel, self.proxyPanel):
            panel.close()
        self.setParameterNode(None)

    def onSceneEndClose(self, caller, event):
        if self.parent.isEntered:
            self.initializeParameterNode()

    def onSceneEndImport(self, caller, event):
        """A loaded scene brings parameters of its own."""
        if (
            self.parent.isEntered
            and not self.registerPanel.busy
            and not self.sharePanel.sharing
            and not self.sealPanel.busy
            and not self.proxyPanel.busy
        ):
            self.initializeParameterNode()

    def initializeParameterNode(self):
        self.setParameterNode(self.logic.getParameterNode())

    def setParameterNode(self, node):
        if self._parameterNode is not None:
            self._parameterNode.disconnectGui(self._guiTag)
            self.removeObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self.onModified)
        self._parameterNode = node
        if node is not None:
            self._guiTag = node.connectGui(self.ui)
            self.addObserver(node, vtk.vtkCommand.ModifiedEvent, self.onModified)
            self.onModified()

    def onModified(self, caller=None, event=None):
        for panel in (self.registerPanel, self.sharePanel, self.sealPanel, self.proxyPanel):
            panel.update()


class PPIRLogic(ScriptedLoadableModuleLogic, SealedLogic, ProxyLogic):
    """For the console and other modules: the same names as the engine, with MRML nodes."""

    def __init__(self):
        ScriptedLoadableModuleLogic.__init__(self)

    def getParameterNode(self):
        return PPIRParameterNode(super().getParameterNode())

    def register(
        self,
        movingVolume,
        peer,
        *,
        image="",
        mask=None,
        initialTransform=None,
        outputTransform=None,
        outputVolume=None,
        home=None,
        waitForCompletion=True,
        onProgress=None,
        onFinished=None,
        **settings,
    ):
        """Align a volume to the fixed image that a peer ('host:port') serves.

        settings: transform, loss, protocol, sampling, percent, dealer, fixed_mask, levels, evaluations, … as in
        PPIRLib.settings.Settings. Returns the transform node; raises RuntimeError with the reason if there is none.
        With waitForCompletion=False returns at once the running `RegisterRun`, which reports to onProgress and
        onFinished.
        """
        from PPIRLib.run import RegisterRun
        from PPIRLib.settings import Settings

        run = RegisterRun(
            movingVolume,
            Settings(peer=peer, image=image, **settings),
            mask=mask,
            initial_transform=initialTransform,
            output_transform=outputTransform,
            output_volume=outputVolume,
            home=home,
            on_progress=onProgress or (lambda event: None),
            on_finished=onFinished or (lambda outcome: None),
        )
        return self._wait(run) if waitForCompletion else self._begin(run)

    def registerUsingParameterNode(self, node, *, waitForCompletion=False, onProgress=None, onFinished=None, home=None):
        """The same with everything from the module's parameter node."""
        from PPIRLib.settings import Settings

        settings = Settings.from_node(node)
        if node.movingPoints is not None:
            return self.registerPoints(
                node.movingPoints,
                outputTransform=node.outputTransform,
                home=home,
                waitForCompletion=waitForCompletion,
                onProgress=onProgress,
                onFinished=onFinished,
                **settings.of_points(),
            )
        return self.register(
            node.movingVolume,
            mask=node.movingMask,
            initialTransform=node.initialTransform,
            outputTransform=node.outputTransform,
            outputVolume=node.outputVolume,
            home=home,
            waitForCompletion=waitForCompletion,
            onProgress=onProgress,
            onFinished=onFinished,
            **vars(settings),
        )

    def simulate(
        self,
        fixedVolume,
        movingVolume,
        *,
        fixedMask=None,
        mask=None,
        initialTransform=None,
        outputTransform=None,
        outputVolume=None,
        onProgress=None,
        **settings,
    ):
        """Both parties as processes on this machine, for one who holds both volumes. Returns the transform node."""
        import shutil
        import tempfile

        from PPIRLib import engine
        from PPIRLib.run import RegisterRun, write_fixed
        from PPIRLib.settings import Settings

        engine.add_to_path()
        folder = Path(tempfile.mkdtemp(prefix="ppir-"))
        try:
            fixed, fixedMaskFile = write_fixed(fixedVolume, fixedMask, folder)
            run = RegisterRun(
                movingVolume,
                Settings(**settings),
                mask=mask,
                initial_transform=initialTransform,
                output_transform=outputTransform,
                output_volume=outputVolume,
                fixed_file=fixed,
                fixed_mask_file=fixedMaskFile,
                on_progress=onProgress or (lambda event: None),
            )
            return self._wait(run)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def share(self, volume, *, mask=None, home=None, onEvent=None, onFinished=None, **settings):
        """Serve a volume as a fixed image until `stop()` of the returned `ShareRun` is called."""
        from PPIRLib.run import ShareRun
        from PPIRLib.settings import ShareSettings

        run = ShareRun(
            volume,
            ShareSettings(**settings),
            mask=mask,
            home=home,
            on_event=onEvent or (lambda event: None),
            on_finished=onFinished or (lambda code: None),
        )
        return self._begin(run)

    def registerPoints(
        self,
        movingPoints,
        peer,
        *,
        outputTransform=None,
        home=None,
        waitForCompletion=True,
        onProgress=None,
        onFinished=None,
        **settings,
    ):
        """Align a markups list to the corresponding points (same order) that a peer ('host:port') serves.

        settings: image, dealer, transform ('rigid' or 'similarity'), protocol. Returns the linear transform node, under
        which the points then lie; otherwise as `register`.
        """
        from PPIRLib.points import PointsRun

        run = PointsRun(
            movingPoints,
            peer,
            output_transform=outputTransform,
            home=home,
            on_progress=onProgress or (lambda event: None),
            on_finished=onFinished or (lambda outcome: None),
            **settings,
        )
        return self._wait(run) if waitForCompletion else self._begin(run)

    def sharePoints(self, points, *, home=None, onEvent=None, onFinished=None, **settings):
        """Serve a markups list as fixed points until `stop()` of the returned `PointsShare` is called."""
        from PPIRLib.points import PointsShare
        from PPIRLib.settings import ShareSettings

        run = PointsShare(
            points,
            ShareSettings(**settings),
            home=home,
            on_event=onEvent or (lambda event: None),
            on_finished=onFinished or (lambda code: None),
        )
        return self._begin(run)

    @staticmethod
    def _begin(run):
        run.start()
        return run

    @staticmethod
    def _wait(run):
        """Run to the end, keeping the application alive; works without a main window."""
        run.start()
        while run.job.exit_code is None:
            slicer.app.processEvents()
            run.job.runner.wait(0.05)
        if run.outcome.error:
            raise RuntimeError(run.outcome.error)
        return slicer.mrmlScene.GetNodeByID(run.outcome.transform_id)


class PPIRTest(ScriptedLoadableModuleTest):
    """Two local processes on loopback; a known transform must come back."""

    def setUp(self):
        slicer.mrmlScene.Clear(0)

    def runTest(self):
        for test in (self.test_RecoversAKnownTransform, self.test_SealsAndOpens, self.test_SegmentsAtAServer):
            self.setUp()
            try:
                test()
            except unittest.SkipTest as reason:
                self.delayDisplay(f"Skipped: {reason}")

    def test_RecoversAKnownTransform(self):
        from PPIRLib.selftest import check_known_transform

        self.delayDisplay("Registering two simulated volumes through local processes")
        error = check_known_transform(PPIRLogic())
        self.assertLess(error, 0.05)
        self.delayDisplay(f"Test passed: {error:.4f} mm")

    def test_SealsAndOpens(self):
        from PPIRLib.selftest import check_sealed_volume

        self.delayDisplay("Sealing a volume and opening it up to two levels")
        self.assertEqual(check_sealed_volume(PPIRLogic()), ["overview", "exact"])
        self.delayDisplay("Test passed")

    def test_SegmentsAtAServer(self):
        from PPIRLib.selftest import check_segmentation

        self.delayDisplay("Having a simulated head segmented through local processes")
        self.assertIn("white matter", check_segmentation(PPIRLogic()))
        self.delayDisplay("Test passed")
