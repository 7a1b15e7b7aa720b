"""The test host itself: a template module goes through its life, and what Slicer refuses is refused."""

from __future__ import annotations

import enum
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable
from types import ModuleType
from typing import Annotated, Any, Optional

import pytest

HERE = pathlib.Path(__file__).parent
TEMPLATE = HERE / "template" / "HostTemplate" / "HostTemplate.py"
NAME = TEMPLATE.stem


@pytest.fixture
def widget(slicer_host: ModuleType) -> Any:
    slicer_host.load_module(TEMPLATE)
    return slicer_host.open_widget(NAME)


def add(node_class: str, name: str) -> Any:
    import slicer

    return slicer.mrmlScene.AddNewNodeByClass(node_class, name)


def volume(name: str = "CT") -> Any:
    import numpy as np
    import slicer

    node = add("vtkMRMLScalarVolumeNode", name)
    slicer.util.updateVolumeFromArray(node, np.arange(24, dtype=np.int16).reshape(2, 3, 4))
    return node


# The module's life


def test_module_is_described_and_found(slicer_host: ModuleType, widget: Any) -> None:
    import slicer

    module = slicer.modules.hosttemplate
    assert (module.title, module.categories, module.name) == ("Host template", ["Testing"], NAME)
    assert module.path == str(TEMPLATE) == slicer.util.modulePath(NAME)
    assert module.widgetRepresentation().self() is widget
    assert slicer.util.getModuleWidget(NAME) is widget
    assert slicer.modules.HostTemplateInstance.resourcePath("UI") == str(TEMPLATE.parent / "Resources" / "UI")
    assert widget.parent.isEntered and widget.logic.moduleName == NAME


def test_exact_types_and_ui_variables(widget: Any) -> None:
    import ctk
    import qt
    import slicer

    assert type(widget.ui.fixedSelector) is slicer.qMRMLNodeComboBox
    assert type(widget.ui.toleranceSlider) is ctk.ctkSliderWidget
    assert type(widget.ui.iterationsSpin) is qt.QSpinBox
    assert slicer.util.findChild(widget.parent, "addressEdit") is widget.ui.addressEdit
    assert widget.ui.tabs.count == 2 and widget.ui.tabs.tabText(1) == "Network"


def test_binding_goes_both_ways(widget: Any) -> None:
    from HostTemplateLib.choices import Method

    node, ui = widget._parameterNode, widget.ui
    assert (ui.iterationsSpin.value, ui.methodCombo.currentText, ui.verboseCheck.checked) == (20, "Good (slow)", True)
    assert (ui.iterationsSpin.minimum, ui.iterationsSpin.maximum) == (1, 500)
    ui.iterationsSpin.value = 30
    ui.toleranceSlider.value = 0.5
    ui.addressEdit.text = "hospital-b"
    ui.verboseCheck.click()
    ui.methodCombo.currentIndex = 0
    ui.interpolationCombo.currentText = "nearest"
    assert (node.iterations, node.tolerance, node.address, node.verbose) == (30, 0.5, "hospital-b", False)
    assert (node.method, node.interpolation) == (Method.FAST, "nearest")
    node.iterations, node.address, node.method = 40, "elsewhere", Method.GOOD
    assert (ui.iterationsSpin.value, ui.addressEdit.text, ui.methodCombo.currentIndex) == (40, "elsewhere", 1)


def test_disconnected_widgets_are_left_alone(widget: Any) -> None:
    node, ui = widget._parameterNode, widget.ui
    node.disconnectGui(widget._guiTag)
    ui.iterationsSpin.value = 77
    node.address = "new"
    assert node.iterations == 20 and ui.addressEdit.text == "localhost"


def test_a_group_of_changes_is_one_modification(widget: Any) -> None:
    import slicer
    import vtk

    seen: list[str] = []
    node = widget._parameterNode
    tag = node.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda caller, event: seen.append(event))
    with slicer.util.NodeModify(node):
        node.iterations, node.address = 50, "grouped"
        assert not seen
    assert seen == ["ModifiedEvent"]
    node.RemoveObserver(tag)


def test_node_selection_enables_apply(slicer_host: ModuleType, widget: Any) -> None:
    node = volume()
    assert widget.ui.fixedSelector.currentNode() is None and not widget.ui.applyButton.enabled
    slicer_host.choose(widget.ui.fixedSelector, "CT")
    assert widget._parameterNode.fixedVolume is node
    assert widget.ui.applyButton.enabled and widget.ui.applyButton.toolTip == "Run"
    widget._parameterNode.fixedVolume = None
    assert widget.ui.fixedSelector.currentNodeID == "" and not widget.ui.applyButton.enabled


def test_apply_shows_its_error(slicer_host: ModuleType, widget: Any) -> None:
    widget._parameterNode.fixedVolume = volume()
    widget.ui.applyButton.click()
    assert widget.ui.statusLabel.text == "Done after 20 iterations"
    widget._parameterNode.iterations = 450
    widget.ui.applyButton.click()
    (shown,) = slicer_host.dialogs.shown
    assert shown.kind == "error" and "450 are too many for CT" in shown.text and "Traceback" in shown.detail
    assert isinstance(slicer_host.uncaught.pop(), ValueError)  # tryWithErrorDisplay raises it again


@pytest.mark.parametrize(("mode", "error"), [("decline", RuntimeError), ("fail", subprocess.CalledProcessError)])
def test_packages_are_never_installed(slicer_host: ModuleType, widget: Any, mode: str, error: type) -> None:
    widget._parameterNode.fixedVolume = volume()
    slicer_host.packaging.mode = mode
    widget.ui.applyButton.click()
    assert slicer_host.packaging.requests[0].requirements == ("not-a-real-package>=2",)
    assert isinstance(slicer_host.uncaught.pop(), error)
    assert widget.ui.statusLabel.text == ""


def test_closing_the_scene_starts_anew(slicer_host: ModuleType, widget: Any) -> None:
    widget._parameterNode.fixedVolume = volume()
    widget._parameterNode.iterations = 99
    slicer_host.clear_scene()
    assert widget._parameterNode.fixedVolume is None
    assert widget._parameterNode.iterations == 20 == widget.ui.iterationsSpin.value
    assert widget.ui.fixedSelector.nodeCount() == 0 and not widget.ui.applyButton.enabled


def test_scene_keeps_parameters_and_references(slicer_host: ModuleType, widget: Any, tmp_path: pathlib.Path) -> None:
    import slicer
    from HostTemplateLib.choices import Method

    node = widget._parameterNode
    node.fixedVolume, node.outputTransform = volume("CT é"), add("vtkMRMLLinearTransformNode", "T")
    node.iterations, node.address, node.verbose, node.method = 123, "zürich", False, Method.FAST
    node.tags, node.range, node.tolerance = ["a", "b"], (0.25, 0.75), 0.125
    slicer_host.save_scene(tmp_path / "saved.mrb")
    slicer_host.clear_scene()
    volume("another, to shift the IDs")
    slicer_host.load_scene(tmp_path / "saved.mrb")
    node = widget._parameterNode
    assert node.fixedVolume.GetName() == "CT é" and node.outputTransform.GetName() == "T"
    assert slicer.util.arrayFromVolume(node.fixedVolume)[1, 2, 3] == 23
    assert (node.iterations, node.address, node.verbose, node.method) == (123, "zürich", False, Method.FAST)
    assert (node.tags, node.range, node.tolerance) == (["a", "b"], (0.25, 0.75), 0.125)
    assert widget.ui.fixedSelector.currentNode() is node.fixedVolume and widget.ui.iterationsSpin.value == 123


def test_leave_reload_and_close(slicer_host: ModuleType, widget: Any) -> None:
    import slicer

    widget._parameterNode.iterations = 61
    slicer_host.leave_widget(NAME)
    assert widget._parameterNode is None
    assert slicer_host.open_widget(NAME) is widget and widget.ui.iterationsSpin.value == 61
    new = slicer_host.reload_module(NAME)
    assert new is not widget and new.ui.iterationsSpin.value == 61
    assert not widget.Observations
    slicer_host.close_widget(NAME)
    assert not hasattr(slicer.modules, "HostTemplateWidget") and not new.Observations
    volume()  # nothing may still listen
    assert slicer_host.open_widget(NAME) is not new


def test_packaging_is_a_part_that_nobody_has_loaded(slicer_host: ModuleType) -> None:
    """As in the application at start: `slicer.packaging` is there only for who imports it."""
    import importlib

    import slicer

    assert not hasattr(slicer, "packaging")
    assert callable(importlib.import_module("slicer.packaging").pip_ensure)


def test_self_test_runs(slicer_host: ModuleType, widget: Any) -> None:
    import slicer

    slicer.selfTests[NAME](msec=10)
    assert [d.text for d in slicer_host.dialogs.of_kind("delay")] == ["Checking defaults"]


def test_translation_keeps_placeholders(slicer_host: ModuleType, widget: Any) -> None:
    seen: list[str] = []
    table = {"Choose a volume": "Volumen wählen", "Done after {n} iterations": "Fertig nach {anzahl}"}
    slicer_host.translators["current"] = lambda context, text: seen.append(context) or table.get(text, text)
    widget.updateApply()
    assert widget.ui.applyButton.toolTip == "Volumen wählen" and seen[-1] == "HostTemplate"
    widget._parameterNode.fixedVolume = volume()
    widget.onApplyButton()
    assert widget.ui.statusLabel.text == "Done after 20 iterations"


# Node selectors


def selector(**properties: Any) -> Any:
    import slicer

    combo = slicer.qMRMLNodeComboBox()
    combo.nodeTypes = ["vtkMRMLTransformNode"]
    for name, value in properties.items():
        setattr(combo, name, value)
    combo.setMRMLScene(slicer.mrmlScene)
    return combo


def test_selector_needs_a_scene(slicer_host: ModuleType) -> None:
    import slicer

    combo = slicer.qMRMLNodeComboBox()
    assert not combo.enabled and (combo.noneEnabled, combo.addEnabled, combo.removeEnabled) == (False, True, True)
    combo.setMRMLScene(slicer.mrmlScene)
    assert combo.enabled


def test_selector_lists_creates_renames_and_deletes(slicer_host: ModuleType) -> None:
    combo = selector(nodeTypes=["vtkMRMLLinearTransformNode"], noneEnabled=True, renameEnabled=True, baseName="Reg")
    seen: list[Any] = []
    combo.connect("currentNodeChanged(vtkMRMLNode*)", lambda node: seen.append(node and node.GetName()))
    combo.connect("currentNodeChanged(bool)", seen.append)
    slicer_host.choose(combo, "Create new Linear Transform")
    created = combo.currentNode()
    assert created.GetName() == "Reg" and seen == ["Reg", True]
    slicer_host.dialogs.answer("text", "Renamed")
    slicer_host.choose(combo, "Rename current Linear Transform")
    assert created.GetName() == "Renamed" and combo.currentNode() is created
    slicer_host.choose(combo, "Delete current Linear Transform")
    assert combo.currentNode() is None and seen[2:] == [None, False] and combo.nodeCount() == 0


def test_selector_shows_child_types_unless_told(slicer_host: ModuleType) -> None:
    linear = add("vtkMRMLLinearTransformNode", "L")
    add("vtkMRMLLinearTransformNode", "hidden").SetHideFromEditors(True)
    assert selector().currentNode() is linear and selector().nodeCount() == 1
    assert selector(showChildNodeTypes=False).nodeCount() == 0
    assert selector(noneEnabled=True).currentNode() is None


def test_scene_reaches_only_connected_widgets(slicer_host: ModuleType, tmp_path: pathlib.Path) -> None:
    import slicer

    text = (TEMPLATE.parent / "Resources" / "UI" / "HostTemplate.ui").read_text(encoding="utf-8")
    (tmp_path / "a.ui").write_text(text.replace("<receiver>outputSelector", "<receiver>fixedSelector"))
    top = slicer.util.loadUI(str(tmp_path / "a.ui"))
    ui = slicer.util.childWidgetVariables(top)
    top.setMRMLScene(slicer.mrmlScene)
    assert ui.fixedSelector.enabled and not ui.outputSelector.enabled


# PythonQt's manners


def test_signals_deliver_what_their_signature_says(slicer_host: ModuleType) -> None:
    import qt

    button, seen = qt.QPushButton("B"), []
    button.checkable = True
    button.connect("clicked(bool)", lambda checked: seen.append(checked))
    button.connect("clicked()", lambda: seen.append("none"))
    button.clicked.connect(lambda: seen.append("attribute"))
    button.click()
    assert seen == [True, "none", "attribute"]
    seen.clear()
    button.blockSignals(True)
    button.click()
    button.blockSignals(False)
    assert seen == []


def test_disconnect_ends_one_slot(slicer_host: ModuleType) -> None:
    import qt

    spin, first, second = qt.QSpinBox(), [], []
    spin.connect("valueChanged(int)", first.append)
    spin.valueChanged.connect(second.append)
    assert spin.disconnect("valueChanged(int)", first.append)
    assert not spin.disconnect("valueChanged(int)", first.append)
    spin.value = 4
    assert (first, second) == ([], [4])


def test_exceptions_in_slots_are_reported_and_kept(slicer_host: ModuleType) -> None:
    import qt

    button = qt.QPushButton()
    button.connect("clicked()", lambda: 1 / 0)
    button.click()
    assert isinstance(slicer_host.uncaught.pop(), ZeroDivisionError)


def _refusals() -> dict[str, tuple[type[Exception], Callable[[Any], Any]]]:
    return {
        "property called": (TypeError, lambda qt: qt.QLineEdit("x").text()),
        "count called": (TypeError, lambda qt: qt.QComboBox().count()),
        "new attribute": (AttributeError, lambda qt: setattr(qt.QLabel(), "extra", 1)),
        "misspelt property": (AttributeError, lambda qt: setattr(qt.QLabel(), "tooltip", "x")),
        "method overwritten": (AttributeError, lambda qt: setattr(qt.QLabel(), "setText", print)),
        "None as text": (AttributeError, lambda qt: setattr(qt.QLabel(), "text", None)),
        "text as number": (AttributeError, lambda qt: setattr(qt.QSpinBox(), "value", "3")),
        "read-only property": (AttributeError, lambda qt: setattr(qt.QLabel(), "width", 3)),
        "keyword in constructor": (TypeError, lambda qt: qt.QLabel(text="x")),
        "keyword in method": (TypeError, lambda qt: qt.QLabel().setText(text="x")),
        "unknown signal": (RuntimeError, lambda qt: qt.QPushButton().connect("pushed()", print)),
        "wrong signature": (RuntimeError, lambda qt: qt.QSpinBox().connect("valueChanged(QColor)", print)),
        "not callable": (TypeError, lambda qt: qt.QPushButton().connect("clicked()", None)),
        "bytes of QByteArray": (TypeError, lambda qt: bytes(qt.QByteArray(b"x"))),
        "attribute on stand-in": (AttributeError, lambda qt: setattr(_slicer().qMRMLNodeComboBox(), "nodeType", "x")),
        "setter that is no slot": (AttributeError, lambda qt: _slicer().qMRMLNodeComboBox().setNodeTypes([])),
        "node by ID": (TypeError, lambda qt: selector().setCurrentNode("vtkMRMLTransformNode1")),
        "unknown class": (AttributeError, lambda qt: qt.QRegExp("x")),
        "parent attribute": (AttributeError, lambda qt: setattr(_slicer().modules.hosttemplate, "titel", "x")),
        "path called": (TypeError, lambda qt: _slicer().app.temporaryPath()),
    }


def _slicer() -> Any:
    import slicer

    return slicer


@pytest.mark.parametrize("case", _refusals())
def test_refused_as_in_pythonqt(widget: Any, case: str) -> None:
    import qt

    error, action = _refusals()[case]
    with pytest.raises(error):
        action(qt)


def test_python_subclasses_take_attributes(slicer_host: ModuleType) -> None:
    import qt

    class Panel(qt.QWidget):
        def __init__(self, parent: Any = None) -> None:
            super().__init__(parent)
            self.rows = [1]
            self.toolTip = "tip"

        def sizeHint(self) -> Any:
            return qt.QSize(111, 22)

    panel = Panel()
    assert (panel.rows, panel.toolTip, panel.minimumWidth) == ([1], "tip", 0)
    panel.adjustSize()
    assert panel.width == 111
    panel.name = "panel"
    assert panel.objectName == "panel" and panel.className() == "Panel"


def test_ui_with_unknown_class_is_refused(slicer_host: ModuleType, tmp_path: pathlib.Path) -> None:
    import slicer

    text = (TEMPLATE.parent / "Resources" / "UI" / "HostTemplate.ui").read_text(encoding="utf-8")
    (tmp_path / "bad.ui").write_text(text.replace("ctkSliderWidget", "ctkMagicWidget"))
    with pytest.raises(RuntimeError, match="ctkMagicWidget"):
        slicer.util.loadUI(str(tmp_path / "bad.ui"))
    with pytest.raises(RuntimeError, match="not found"):
        slicer.util.loadUI(str(tmp_path / "none.ui"))


@pytest.mark.parametrize("line", ["from PySide6 import QtCore", "import qt\nx = qt.QMessageBox.StandardButton.Ok"])
def test_foreign_source_is_refused(slicer_host: ModuleType, tmp_path: pathlib.Path, line: str) -> None:
    (tmp_path / "Foreign.py").write_text(line + "\n")
    with pytest.raises(RuntimeError, match=r"Foreign\.py:[12]"):
        slicer_host.load_module(tmp_path / "Foreign.py")


# Parameter nodes


def wrap(annotation: Any, **defaults: Any) -> type:
    from slicer.parameterNodeWrapper import parameterNodeWrapper

    return parameterNodeWrapper(type("Wrapped", (), {"__annotations__": {"value": annotation}, **defaults}))


def wrapped(annotation: Any, **defaults: Any) -> Any:
    return wrap(annotation, **defaults)(add("vtkMRMLScriptedModuleNode", "P"))


class Empty(enum.Enum):
    """No member: nothing to choose."""


@pytest.mark.parametrize("annotation", [object, bytes, list, set[int], Callable, Empty, int | str, "missing"])
def test_unsupported_types_are_refused_at_class_creation(slicer_host: ModuleType, annotation: Any) -> None:
    with pytest.raises((TypeError, NameError)):
        wrap(annotation)


def test_reserved_names_are_refused(slicer_host: ModuleType) -> None:
    from slicer.parameterNodeWrapper import parameterNodeWrapper

    with pytest.raises(ValueError, match="connectGui"):
        parameterNodeWrapper(type("Wrapped", (), {"__annotations__": {"connectGui": int}}))


def test_values_are_validated(slicer_host: ModuleType) -> None:
    from slicer.parameterNodeWrapper import Choice, Default, Minimum, WithinRange

    node = wrapped(Annotated[int, WithinRange(1, 9), Default(3)])
    assert node.value == 3
    for wrong, error in ((10, ValueError), ("5", TypeError), (None, ValueError), (2.5, TypeError)):
        with pytest.raises(error):
            node.value = wrong
    assert node.value == 3
    with pytest.raises(ValueError, match="one of"):
        wrapped(Annotated[str, Choice(["a", "b"])])  # the default, "", is none of them
    with pytest.raises(ValueError, match="below"):
        wrapped(Annotated[float, Minimum(1.0)])
    with pytest.raises(TypeError):
        wrapped(_slicer().vtkMRMLVolumeNode).value = add("vtkMRMLLinearTransformNode", "T")


def test_values_are_stored_as_slicer_stores_them(slicer_host: ModuleType) -> None:
    raw = add("vtkMRMLScriptedModuleNode", "P")
    node = wrap(list[str])(raw)
    node.value = ["x", "y"]
    node.value.append("z")
    del node.value[0]
    names = [raw.GetParameter(f"value.{i}") for i in range(3)]
    assert (names, raw.GetParameter("value.len"), node.value) == (["y", "z", ""], "2", ["y", "z"])
    transform = add("vtkMRMLLinearTransformNode", "T")
    raw = add("vtkMRMLScriptedModuleNode", "Q")
    node = wrap(Optional[_slicer().vtkMRMLTransformNode])(raw)  # noqa: UP045
    assert node.value is None
    node.value = transform
    assert raw.GetNodeReferenceID("value.0") == transform.GetID() and node.value is transform
    node.value = None
    assert node.value is None and raw.GetNodeReferenceID("value.0") is None


def test_bad_enum_name_in_a_scene_is_an_error(slicer_host: ModuleType, widget: Any) -> None:
    from HostTemplateLib.choices import Method

    raw = add("vtkMRMLScriptedModuleNode", "P")
    node = wrap(Method)(raw)
    raw.SetParameter("value", "SLOW")
    assert isinstance(slicer_host.uncaught.pop(), ValueError) and node.value is Method.FAST
    with pytest.raises(ValueError, match="SLOW"):
        wrap(Method)(raw)


def test_wrapper_stops_observing_with_its_life(slicer_host: ModuleType) -> None:
    raw = add("vtkMRMLScriptedModuleNode", "P")
    node = wrap(int)(raw)
    raw.SetParameter("value", "7")
    assert node.value == 7 and raw.HasObserver("ModifiedEvent")
    del node
    assert not raw.HasObserver("ModifiedEvent")


@pytest.mark.parametrize(
    ("class_name", "annotation"),
    [
        ("qt.QRadioButton", bool),
        ("qt.QPlainTextEdit", str),
        ("qt.QGroupBox", bool),
        ("ctk.ctkCollapsibleButton", bool),
        ("qt.QSpinBox", float),
        ("qt.QLineEdit", int),
        ("qt.QComboBox", str),
        ("qt.QSlider", int),
        ("ctk.ctkSliderWidget", float),
        ("ctk.ctkPathLineEdit", str),
        ("Mine", str),
    ],
)
def test_widgets_without_connector_are_refused(slicer_host: ModuleType, class_name: str, annotation: Any) -> None:
    import ctk
    import qt

    class Mine(qt.QLineEdit):
        """A subclass is not the exact type."""

    module, _, name = class_name.rpartition(".")
    editor = {"qt": qt, "ctk": ctk}[module].__dict__[name]() if module else Mine()
    editor.setProperty("SlicerParameterName", "value")
    with pytest.raises(RuntimeError):
        _bind(wrapped(annotation), editor)


def _bind(node: Any, editor: Any) -> None:
    ui = type("Ui", (), {})()
    ui.editor = editor
    node.connectGui(ui)


def test_unknown_parameter_name_is_refused(slicer_host: ModuleType) -> None:
    import qt

    editor = qt.QLineEdit()
    editor.setProperty("SlicerParameterName", "other")
    with pytest.raises(ValueError, match="other"):
        _bind(wrapped(str), editor)


# Processes, dialogs, settings, events, pictures


def test_process_runs_in_the_background(slicer_host: ModuleType) -> None:
    import qt

    process, output, ended = qt.QProcess(), [], []
    process.connect("readyReadStandardOutput()", lambda: output.append(process.readAllStandardOutput().data().decode()))
    process.connect("finished(int,QProcess::ExitStatus)", lambda code, status: ended.append((code, status)))
    process.start(sys.executable, ["-u", "-c", "import sys; print(sys.stdin.readline().strip()); sys.exit(3)"])
    process.write(b"hello\n")
    assert slicer_host.process_events(until=lambda: bool(ended))
    assert "".join(output) == "hello\n" or "".join(output) == "hello\r\n"
    assert ended == [(3, qt.QProcess.NormalExit)]


def test_process_that_cannot_start_reports_it(slicer_host: ModuleType) -> None:
    import qt

    process, errors = qt.QProcess(), []
    process.connect("errorOccurred(QProcess::ProcessError)", errors.append)
    process.start("/no/such/program", [])
    assert slicer_host.process_events(until=lambda: bool(errors))
    assert errors == [qt.QProcess.FailedToStart]


def test_dialogs_never_block(slicer_host: ModuleType) -> None:
    import qt
    import slicer

    slicer_host.dialogs.answer("confirm", False)
    assert not slicer.util.confirmOkCancelDisplay("Send it?", "Consent") and slicer.util.confirmYesNoDisplay("Sure?")
    slicer_host.dialogs.answer("file", "/a/b.txt")
    assert qt.QFileDialog.getOpenFileName(None, "Open") == "/a/b.txt"
    assert qt.QFileDialog.getSaveFileName(None, "Save") == ""
    slicer_host.dialogs.answer("question", qt.QMessageBox.No, "Stay")
    assert qt.QMessageBox.question(None, "T", "Q", qt.QMessageBox.Yes | qt.QMessageBox.No) == qt.QMessageBox.No
    box = qt.QMessageBox()
    box.text = "Leave?"
    stay = box.addButton("Stay", qt.QMessageBox.RejectRole)
    box.exec_()
    assert box.clickedButton() is stay
    assert [d.kind for d in slicer_host.dialogs.shown] == ["confirm"] * 2 + ["file"] * 2 + ["question"] * 2


def test_executed_dialog_is_answered_by_a_function(slicer_host: ModuleType) -> None:
    import qt

    dialog, seen = qt.QDialog(), []
    edit = qt.QLineEdit(dialog)

    def fill(shown: Any) -> None:
        seen.append(shown.visible)
        edit.text = "typed"
        shown.accept()

    slicer_host.dialogs.answer("dialog", fill)
    assert dialog.exec_() == qt.QDialog.Accepted and edit.text == "typed" and seen == [True]
    assert qt.QDialog().exec_() == qt.QDialog.Rejected


def test_testing_mode_shows_nothing(slicer_host: ModuleType) -> None:
    import slicer

    slicer.app.commandOptions().testingEnabled = True
    slicer.util.errorDisplay("bad")
    assert slicer.app.testingEnabled() and slicer.util.confirmOkCancelDisplay("?")
    assert slicer_host.dialogs.shown == []


def test_settings_live_in_a_temporary_file(slicer_host: ModuleType) -> None:
    import qt
    import slicer

    settings = qt.QSettings()
    settings.setValue("HostTemplate/peers", ["a", "b"])
    assert slicer.app.userSettings().value("HostTemplate/peers") == ["a", "b"]
    assert "slicer-host-" in settings.fileName()
    slicer_host.reset()
    assert not qt.QSettings().contains("HostTemplate/peers")


def test_application_answers(slicer_host: ModuleType) -> None:
    import slicer

    assert (slicer.app.majorVersion, slicer.app.minorVersion) == (5, 12)
    assert pathlib.Path(slicer.app.temporaryPath).is_dir() and slicer.app.layoutManager() is None
    assert slicer.app.commandOptions().noMainWindow and slicer.util.mainWindow() is None
    assert slicer.util.startupEnvironment()["PATH"]
    slicer.app.clipboard().setText("fingerprint")
    assert slicer.app.clipboard().text() == "fingerprint"
    slicer.util.setSliceViewerLayers(background="a", foreground="b", foregroundOpacity=0.5)
    assert slicer_host.slice_layers == [{"background": "a", "foreground": "b", "foregroundOpacity": 0.5}]
    with pytest.raises(RuntimeError):
        slicer.util.selectModule("Nothing")


def test_nodes_are_saved_and_loaded(slicer_host: ModuleType, tmp_path: pathlib.Path) -> None:
    import numpy as np
    import slicer

    slicer.util.saveNode(volume(), str(tmp_path / "v.nrrd"))
    again = slicer.util.loadVolume(str(tmp_path / "v.nrrd"))
    assert np.array_equal(slicer.util.arrayFromVolume(again).ravel(), np.arange(24))


def test_gaps_of_the_event_loop_are_measured(slicer_host: ModuleType) -> None:
    import qt

    with slicer_host.event_loop_gaps() as smooth:
        slicer_host.process_events(0.2)
    with slicer_host.event_loop_gaps() as blocked:
        qt.QTimer.singleShot(20, lambda: time.sleep(0.3))
        slicer_host.process_events(0.5)
    assert blocked.longest >= 0.3 > smooth.longest


def test_pictures_are_drawn_at_the_asked_scale(slicer_host: ModuleType, widget: Any, tmp_path: pathlib.Path) -> None:
    import qt

    usual = slicer_host.grab(widget, tmp_path / "1.png", width=500)
    dense = slicer_host.grab(widget, tmp_path / "2.png", scale=1.5, width=500)
    large = slicer_host.grab(widget, tmp_path / "3.png", font_scale=1.5, width=500)
    assert usual[0] == large[0] == 500 and abs(dense[0] - 750) <= 1 and abs(dense[1] - 1.5 * usual[1]) <= 1
    assert large[1] > usual[1]
    image = qt.QImage(str(tmp_path / "1.png"))
    colours = {image.pixel(x, y) for x in range(0, 500, 3) for y in range(0, image.height(), 3)}
    assert len(colours) > 20  # letters are drawn


def test_collapsed_section_hides_its_contents(slicer_host: ModuleType, widget: Any, tmp_path: pathlib.Path) -> None:
    closed = slicer_host.grab(widget, tmp_path / "closed.png", width=500)
    assert not widget.ui.log.visible
    widget.ui.advancedSection.collapsed = False
    opened = slicer_host.grab(widget, tmp_path / "open.png", width=500)
    assert widget.ui.log.visible and opened[1] > closed[1]
