"""Stand-ins for the CTK widgets and for the qMRML widgets that hold no nodes.

Only what the C++ classes give to Python exists here: properties, slots, invokable methods and signals.
"""

from __future__ import annotations

import sys
import types
from typing import Any, ClassVar

from PySide6 import QtCore

from .natives import native, stored
from .pythonqt import qt


@native
class ctkCollapsibleButton(qt.QWidget):
    """A titled section; its contents are hidden while it is collapsed. The layout is set on the widget itself."""

    contentsCollapsed = QtCore.Signal(bool)
    toggled = QtCore.Signal(bool)
    clicked = QtCore.Signal(bool)

    def __init__(self, *args: Any) -> None:
        super().__init__(*[a for a in args if not isinstance(a, str)])
        self._host_header = qt.QToolButton(self)
        self._host_header.autoRaise = True
        self._host_header.toolButtonStyle = qt.Qt.ToolButtonTextBesideIcon
        self._host_header.clicked.connect(self._host_click)
        self._host_text = next((a for a in args if isinstance(a, str)), "")
        self._host_arrange()

    def _host_click(self) -> None:
        self.collapsed = not self.collapsed
        self.clicked.emit(not self.collapsed)

    def _host_arrange(self) -> None:
        header = self._host_header
        header.text = self.text
        header.arrowType = qt.Qt.RightArrow if self.collapsed else qt.Qt.DownArrow
        header.setGeometry(0, 0, max(self.width, 1), header.sizeHint.height())
        self.setContentsMargins(0, header.sizeHint.height() + 2, 0, 0)
        self.minimumHeight = header.sizeHint.height() if self.layout() is None else 0

    def _host_toggle(self) -> None:
        for child in self.children():
            if child.isWidgetType() and child is not self._host_header:
                child.visible = not self.collapsed
        self.maximumHeight = self._host_header.sizeHint.height() + 4 if self.collapsed else 16777215
        self._host_arrange()
        self.contentsCollapsed.emit(self.collapsed)
        self.toggled.emit(not self.collapsed)

    def resizeEvent(self, event: Any) -> None:
        self._host_arrange()

    def showEvent(self, event: Any) -> None:
        if self.collapsed:
            self._host_toggle()

    def _host_open(self, checked: bool) -> None:
        self.collapsed = not checked

    text = stored("QString", "text", "", _host_arrange)
    collapsed = stored(bool, "collapsed", False, _host_toggle)
    checked = QtCore.Property(bool, lambda self: not self.collapsed, _host_open)
    checkable = stored(bool, "checkable", True)
    contentsLineWidth = stored(int, "contentsLineWidth", 1)
    flat = stored(bool, "flat", False)
    collapsedHeight = stored(int, "collapsedHeight", 10)


@native
class qMRMLCollapsibleButton(ctkCollapsibleButton):
    """A ctkCollapsibleButton that passes a scene on, as qMRMLWidget does."""

    mrmlSceneChanged = QtCore.Signal(object)
    _host_signals: ClassVar[dict[str, str]] = {"mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged"}

    def mrmlScene(self) -> Any:
        return getattr(self, "_host_scene", None)

    def setMRMLScene(self, scene: Any) -> None:
        if scene is not self.mrmlScene():
            self._host_scene = scene
            self.mrmlSceneChanged.emit(scene)


@native
class ctkComboBox(qt.QComboBox):
    """A QComboBox with a text for no choice."""

    defaultText = stored("QString", "defaultText", "")
    forceDefault = stored(bool, "forceDefault", False)


@native
class ctkCheckBox(qt.QCheckBox):
    """A QCheckBox."""


@native
class ctkDoubleSpinBox(qt.QDoubleSpinBox):
    """A QDoubleSpinBox."""


@native
class ctkPathLineEdit(qt.QWidget):
    """A line edit for a path, with a button."""

    currentPathChanged = QtCore.Signal(str)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._host_edit = qt.QLineEdit(self)
        button = qt.QToolButton(self)
        button.text = "…"
        row = qt.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._host_edit)
        row.addWidget(button)
        button.clicked.connect(self.browse)
        self._host_edit.textChanged.connect(self.currentPathChanged.emit)

    def browse(self) -> None:
        path = qt.QFileDialog.getOpenFileName(self, "", self.currentPath)
        if path:
            self.currentPath = path

    def setCurrentPath(self, path: str) -> None:
        self._host_edit.text = path

    currentPath = QtCore.Property("QString", lambda self: self._host_edit.text, setCurrentPath)
    nameFilters = stored("QStringList", "nameFilters", [])
    filters = stored(int, "filters", 0)
    settingKey = stored("QString", "settingKey", "")
    showBrowseButton = stored(bool, "showBrowseButton", True)
    showHistoryButton = stored(bool, "showHistoryButton", True)


@native
class ctkDirectoryButton(qt.QPushButton):
    """A button that shows and asks for a directory."""

    directoryChanged = QtCore.Signal(str)
    directorySelected = QtCore.Signal(str)

    def _host_changed(self) -> None:
        self.text = self.directory
        self.directoryChanged.emit(self.directory)

    directory = stored("QString", "directory", "", _host_changed)
    caption = stored("QString", "caption", "")


def _through(name: str, kind: str | type) -> Any:
    """A Q_PROPERTY that belongs to the spin box inside."""
    return QtCore.Property(
        kind, lambda self: getattr(self._host_spin, name), lambda self, value: setattr(self._host_spin, name, value)
    )


@native
class ctkSliderWidget(qt.QWidget):
    """A slider with a spin box."""

    valueChanged = QtCore.Signal(float)
    valueIsChanging = QtCore.Signal(float)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._host_spin = qt.QDoubleSpinBox(self)
        self._host_slider = qt.QSlider(qt.Qt.Horizontal, self)
        self._host_slider.setRange(0, 1000)
        row = qt.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._host_slider)
        row.addWidget(self._host_spin)
        self._host_slider.connect("sliderMoved(int)", self._host_moved)
        self._host_spin.connect("valueChanged(double)", self._host_changed)

    def _host_moved(self, position: int) -> None:
        self.value = self.minimum + (self.maximum - self.minimum) * position / 1000

    def _host_changed(self, value: float) -> None:
        width = self.maximum - self.minimum
        self._host_slider.value = int(1000 * (value - self.minimum) / width) if width else 0
        self.valueChanged.emit(value)

    def setValue(self, value: float) -> None:
        self._host_spin.value = value

    value, minimum, maximum = _through("value", "double"), _through("minimum", "double"), _through("maximum", "double")
    singleStep, decimals = _through("singleStep", "double"), _through("decimals", int)
    prefix, suffix = _through("prefix", "QString"), _through("suffix", "QString")
    pageStep = stored("double", "pageStep", 10.0)
    tracking = stored(bool, "tracking", True)


@native
class qMRMLSliderWidget(ctkSliderWidget):
    """A ctkSliderWidget that knows a scene and a quantity."""

    quantity = stored("QString", "quantity", "")
    unitAwareProperties = stored(int, "unitAwareProperties", 0)

    def mrmlScene(self) -> Any:
        return getattr(self, "_host_scene", None)

    def setMRMLScene(self, scene: Any) -> None:
        self._host_scene = scene


@native
class qMRMLSpinBox(ctkDoubleSpinBox):
    """A ctkDoubleSpinBox that knows a scene and a quantity."""

    quantity = stored("QString", "quantity", "")

    def mrmlScene(self) -> Any:
        return getattr(self, "_host_scene", None)

    def setMRMLScene(self, scene: Any) -> None:
        self._host_scene = scene


@native
class qMRMLWidget(qt.QWidget):
    """Tells its scene to what is connected to mrmlSceneChanged, and to nothing else."""

    mrmlSceneChanged = QtCore.Signal(object)
    _host_signals: ClassVar[dict[str, str]] = {"mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged"}

    def mrmlScene(self) -> Any:
        return getattr(self, "_host_scene", None)

    def setMRMLScene(self, scene: Any) -> None:
        if scene is not self.mrmlScene():
            self._host_scene = scene
            self.mrmlSceneChanged.emit(scene)


CTK = (
    ctkCheckBox,
    ctkCollapsibleButton,
    ctkComboBox,
    ctkDirectoryButton,
    ctkDoubleSpinBox,
    ctkPathLineEdit,
    ctkSliderWidget,
)
QMRML = (qMRMLCollapsibleButton, qMRMLSliderWidget, qMRMLSpinBox, qMRMLWidget)


def install_ctk() -> Any:
    """Makes the module `ctk`."""
    module = types.ModuleType("ctk")
    for cls in CTK:
        setattr(module, cls.__name__, cls)
    module.ctkMessageBox = qt.QMessageBox  # type: ignore[attr-defined]
    return sys.modules.setdefault("ctk", module)


ctk: Any = install_ctk()
