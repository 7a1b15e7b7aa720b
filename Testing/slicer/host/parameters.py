"""slicer.parameterNodeWrapper: typed access to a parameter node, and its binding to widgets."""

from __future__ import annotations

import sys
import types
import typing
import weakref
from collections.abc import Callable
from typing import Any

import slicer
import slicer.util
import vtk

from . import codecs
from .connectors import Connector, connect_widget
from .pythonqt import qt, report

SlicerParameterNamePropertyName = "SlicerParameterName"
_MODIFIED = vtk.vtkCommand.ModifiedEvent


class _Parameter:
    """One typed attribute of a wrapper class."""

    def __init__(self, name: str, annotated: Any, default: codecs.Default | None) -> None:
        self.name, self.annotated = name, annotated
        self.codec = codecs.make(annotated)
        self.default = default or codecs.Default(self.codec.default())

    def read(self, node: Any) -> Any:
        if not self.codec.present(node, self.name):
            self.codec.write(node, self.name, self.default.value)
        return self.codec.read(node, self.name)

    def write(self, node: Any, value: Any) -> None:
        self.codec.write(node, self.name, value)

    def attribute(self) -> property:
        return property(
            lambda wrapper: wrapper.getValue(self.name), lambda wrapper, value: wrapper.setValue(self.name, value)
        )


class _Wrapper:
    """What the decorator adds to a class.

    As in Slicer, values are cached until the node is modified. Loading a scene changes a singleton parameter node
    without that event: a module that stays open needs a new wrapper after EndImportEvent.
    """

    allParameters: dict[str, _Parameter]

    def __init__(self, parameterNode: Any, prefix: str | None = None) -> None:
        if prefix:
            raise NotImplementedError("The host knows no prefixes")
        self.parameterNode = parameterNode
        self._parameterGUIs: dict[int, dict[str, Connector]] = {}
        self._observations: dict[int, int] = {}
        self._nextTag, self._updating = 0, False
        for parameter in self.allParameters.values():
            if not parameter.codec.present(parameterNode, parameter.name):
                parameter.write(parameterNode, parameter.default.value)
        self._values = {p.name: p.read(parameterNode) for p in self.allParameters.values()}
        this = weakref.ref(self)
        tag = self.AddObserver(_MODIFIED, lambda caller, event: _refresh(this()))
        weakref.finalize(self, parameterNode.RemoveObserver, tag)

    def _parameter(self, name: str) -> _Parameter:
        if name not in self.allParameters:
            raise ValueError(f"There is no parameter {name!r} among {sorted(self.allParameters)}")
        return self.allParameters[name]

    def getValue(self, name: str) -> Any:
        return self._values[self._parameter(name).name]

    def setValue(self, name: str, value: Any) -> None:
        parameter = self._parameter(name)
        with slicer.util.NodeModify(self.parameterNode):
            parameter.write(self.parameterNode, value)
            self._values[name] = parameter.read(self.parameterNode)

    def default(self, name: str) -> codecs.Default:
        return self._parameter(name).default

    def dataType(self, name: str) -> Any:
        return self._parameter(name).annotated

    def isCached(self, name: str) -> bool:
        return self._parameter(name) is not None

    def connectGui(self, gui: Any) -> int:
        """Binds every widget with the property SlicerParameterName, of a widget or of childWidgetVariables."""
        is_widget = getattr(gui, "isWidgetType", lambda: False)()
        widgets = gui.findChildren(qt.QWidget) if is_widget else list(gui.__dict__.values())
        named = [(w.property(SlicerParameterNamePropertyName), w) for w in widgets]
        return self.connectParametersToGui({name: widget for name, widget in named if name})

    def connectParametersToGui(self, mapping: dict[str, Any]) -> int:
        """Binds widgets to parameters, both ways; the parameters win at first."""
        connectors = {
            name: widget if isinstance(widget, Connector) else connect_widget(widget, self.dataType(name))
            for name, widget in mapping.items()
        }
        tag, self._nextTag = self._nextTag, self._nextTag + 1
        self._parameterGUIs[tag] = connectors
        for name, connector in connectors.items():
            connector.write(self.getValue(name))
            connector.onChanged(self._from_gui(name, connector))
        self._observations[tag] = self.AddObserver(_MODIFIED, lambda caller, event: self._to_gui())
        return tag

    def disconnectGui(self, tag: int | None) -> None:
        for connector in self._parameterGUIs.pop(tag, {}).values():  # type: ignore[arg-type]
            connector.onChanged(None)
        if tag in self._observations:
            self.RemoveObserver(self._observations.pop(tag))

    def _from_gui(self, name: str, connector: Connector) -> Callable[[], None]:
        def changed() -> None:
            with slicer.util.NodeModify(self):
                if not self._updating:
                    self.setValue(name, connector.read())

        return changed

    def _to_gui(self) -> None:
        if self._updating:
            return
        self._updating = True
        try:
            with slicer.util.NodeModify(self):
                for connectors in self._parameterGUIs.values():
                    for name, connector in connectors.items():
                        connector.write(self.getValue(name))
        finally:
            self._updating = False

    def StartModify(self) -> Any:
        return self.parameterNode.StartModify()

    def EndModify(self, wasModified: Any) -> Any:
        return self.parameterNode.EndModify(wasModified)

    def AddObserver(self, event: Any, callback: Callable[..., None], priority: float = 0.0) -> int:
        return int(self.parameterNode.AddObserver(event, callback, priority))

    def RemoveObserver(self, tag: int) -> None:
        self.parameterNode.RemoveObserver(tag)

    def Modified(self) -> None:
        self.parameterNode.Modified()


def _refresh(wrapper: Any) -> None:
    """Reads the cached values again; a value that can not be read is reported and stays as it was."""
    for parameter in wrapper.allParameters.values() if wrapper is not None else ():
        try:
            wrapper._values[parameter.name] = parameter.read(wrapper.parameterNode)
        except Exception as error:
            report(error)


_RESERVED = {n for n in vars(_Wrapper) if not n.startswith("__")} | {"allParameters", "_is_parameter_node_wrapper"}


def _parameter(cls: type, name: str, annotated: Any) -> _Parameter:
    markers = codecs.split(annotated)[1]
    defaults = [m for m in markers if isinstance(m, codecs.Default)]
    if len(defaults) > 1:
        raise TypeError(f"{cls.__name__}.{name} has several defaults")
    if hasattr(cls, name):
        defaults = [codecs.Default(getattr(cls, name))]
    try:
        return _Parameter(name, annotated, defaults[0] if defaults else None)
    except Exception as error:
        raise TypeError(f"{cls.__name__}.{name}: no parameter of a parameter node can be {annotated}") from error


def parameterNodeWrapper(classtype: type | None = None) -> Any:
    """Class decorator: the annotated attributes become parameters of the node given to the constructor."""
    if classtype is None:
        return parameterNodeWrapper
    hints = typing.get_type_hints(classtype, include_extras=True)
    parameters = {name: _parameter(classtype, name, annotated) for name, annotated in hints.items()}
    for name in _RESERVED:
        if hasattr(classtype, name) or name in parameters:
            raise ValueError(f"Cannot use reserved name {name!r} in a parameterNodeWrapper")
    for name, parameter in parameters.items():
        setattr(classtype, name, parameter.attribute())
    for name, value in vars(_Wrapper).items():
        if not name.startswith("__"):
            setattr(classtype, name, value)
    classtype.__init__ = _Wrapper.__init__  # type: ignore[misc]
    classtype.allParameters = parameters  # type: ignore[attr-defined]
    classtype._is_parameter_node_wrapper = True  # type: ignore[attr-defined]
    return classtype


def isParameterNodeWrapper(class_or_object: Any) -> bool:
    return bool(getattr(class_or_object, "_is_parameter_node_wrapper", False))


def findChildWidgetForParameter(widget: Any, parameter: str) -> Any:
    children = widget.findChildren(qt.QWidget)
    return next((w for w in children if w.property(SlicerParameterNamePropertyName) == parameter), None)


def install() -> None:
    """Makes slicer.parameterNodeWrapper."""
    module = types.ModuleType("slicer.parameterNodeWrapper")
    markers = (codecs.Default, codecs.Validator, codecs.WithinRange, codecs.Minimum, codecs.Maximum, codecs.Choice)
    functions = (parameterNodeWrapper, isParameterNodeWrapper, findChildWidgetForParameter)
    for item in (*markers, codecs.Exclude, codecs.Decimals, codecs.SingleStep, *functions):
        setattr(module, item.__name__, item)
    module.SlicerParameterNamePropertyName = SlicerParameterNamePropertyName  # type: ignore[attr-defined]
    sys.modules[module.__name__] = module
    slicer.parameterNodeWrapper = module


install()
