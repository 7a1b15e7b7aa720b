"""What ties a widget to a parameter: only pairs of exact widget type and parameter type that Slicer knows."""

from __future__ import annotations

import enum
import pathlib
from collections.abc import Callable
from typing import Any

from . import codecs
from .nodes import qMRMLNodeComboBox
from .pythonqt import qt
from .widgets import (
    ctkCheckBox,
    ctkComboBox,
    ctkDirectoryButton,
    ctkDoubleSpinBox,
    ctkPathLineEdit,
    ctkSliderWidget,
    qMRMLSliderWidget,
    qMRMLSpinBox,
)

_COMBOS = (qt.QComboBox, ctkComboBox)
_INTEGERS = (qt.QSpinBox, qt.QSlider)
_SLIDERS = (ctkSliderWidget, qMRMLSliderWidget)
_FLOATS = (qt.QDoubleSpinBox, ctkDoubleSpinBox, qMRMLSpinBox, *_SLIDERS)
_LARGEST = 2**31 - 1


class Connector:
    """Reads and writes a widget as values of a parameter, and calls back when the user changes it."""

    def __init__(self, widget: Any, signal: str | None, read: Callable[[], Any], write: Callable[[Any], None]) -> None:
        self._widget, self._signal, self.read, self.write = widget, signal, read, write
        self._callback: Callable[[], None] | None = None

    def changed(self) -> None:
        if self._callback is not None:
            self._callback()

    def onChanged(self, callback: Callable[[], None] | None) -> None:
        if self._signal is not None:
            signal = getattr(self._widget, self._signal)
            signal.connect(self.changed) if callback else signal.disconnect(self.changed)
        self._callback = callback

    def widget(self) -> Any:
        return self._widget


def _property(widget: Any, name: str, signal: str | None, kind: Callable[[Any], Any] = lambda v: v) -> Connector:
    return Connector(
        widget, signal, lambda: kind(getattr(widget, name)), lambda value: setattr(widget, name, kind(value))
    )


def connect_widget(widget: Any, annotated: Any) -> Connector:
    """The connector of a widget and a parameter's annotation; RuntimeError if Slicer has none."""
    kind = codecs.split(annotated)[0]
    for make in (_flag, _number, _choice, _text, _path, _node):
        connector = make(widget, kind, annotated)
        if connector is not None:
            return connector
    raise RuntimeError(f"Slicer ties no {type(widget).__name__} ({widget.name!r}) to a parameter of type {kind}")


def _flag(widget: Any, kind: Any, annotated: Any) -> Connector | None:
    if kind is not bool:
        return None
    if type(widget) in (qt.QCheckBox, ctkCheckBox):
        return _property(widget, "checked", "toggled")
    if type(widget) is qt.QPushButton:
        widget.checkable = True
        return _property(widget, "checked", "toggled")
    return None


def _number(widget: Any, kind: Any, annotated: Any) -> Connector | None:
    if kind is int and type(widget) in _INTEGERS:
        low, high = _limits(widget, annotated, type(widget) is qt.QSlider, -_LARGEST - 1, _LARGEST)
    elif kind in (int, float) and type(widget) in _FLOATS:
        low, high = _limits(widget, annotated, type(widget) in _SLIDERS, -float("inf"), float("inf"))
        decimals = codecs.markers_of(annotated, codecs.Decimals)
        if kind is int or decimals is not None:
            widget.decimals = 0 if kind is int else decimals.value
    else:
        return None
    step = codecs.markers_of(annotated, codecs.SingleStep)
    if step is not None:
        widget.singleStep = step.value
    widget.minimum, widget.maximum = low, high
    return _property(widget, "value", "valueChanged", kind)


def _limits(widget: Any, annotated: Any, must_be_bounded: bool, low: float, high: float) -> tuple[float, float]:
    """The annotation's range, which replaces the one in the .ui file even where the annotation has none."""
    within = codecs.markers_of(annotated, codecs.WithinRange)
    minimum = codecs.markers_of(annotated, codecs.Minimum)
    maximum = codecs.markers_of(annotated, codecs.Maximum)
    if must_be_bounded and within is None and (minimum is None or maximum is None):
        raise RuntimeError(f"A {type(widget).__name__} can not be tied to a parameter without a range")
    if within is not None:
        return within.minimum, within.maximum
    return (low if minimum is None else minimum.minimum), (high if maximum is None else maximum.maximum)


def _choice(widget: Any, kind: Any, annotated: Any) -> Connector | None:
    if type(widget) not in _COMBOS:
        return None
    choice = codecs.markers_of(annotated, codecs.Choice)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        values, texts = list(kind), [e.label() if hasattr(e, "label") else e.name for e in kind]
    elif kind in (int, float, str, bool):
        if choice is None:
            raise RuntimeError("A combo box needs the annotation Choice")
        values, texts = list(choice.choices), [str(c) for c in choice.choices]
    else:
        return None
    widget.clear()
    widget.addItems(texts)

    def write(value: Any) -> None:
        widget.currentIndex = values.index(value)

    return Connector(widget, "currentIndexChanged", lambda: values[widget.currentIndex], write)


def _text(widget: Any, kind: Any, annotated: Any) -> Connector | None:
    if kind is not str:
        return None
    if type(widget) is qt.QLineEdit:
        return _property(widget, "text", "textChanged")
    if type(widget) is qt.QLabel:
        return _property(widget, "text", None)
    if type(widget) is qt.QTextEdit:
        return _property(widget, "plainText", "textChanged")
    return None


def _path(widget: Any, kind: Any, annotated: Any) -> Connector | None:
    if not (isinstance(kind, type) and issubclass(kind, pathlib.PurePath)):
        return None
    name = {ctkPathLineEdit: "currentPath", ctkDirectoryButton: "directory"}.get(type(widget))
    if name is None:
        return None
    return Connector(
        widget, f"{name}Changed", lambda: kind(getattr(widget, name)), lambda value: setattr(widget, name, str(value))
    )


def _node(widget: Any, kind: Any, annotated: Any) -> Connector | None:
    classes = list(codecs.node_classes(annotated))
    if type(widget) is not qMRMLNodeComboBox or not classes:
        return None
    widget.nodeTypes = [c().GetClassName() for c in classes]
    return Connector(widget, "currentNodeChanged", widget.currentNode, widget.setCurrentNode)
