"""PythonQt's habits laid over PySide6, and the module `qt` with the classes.

The PySide6 classes themselves are changed (not wrapped), so objects that Qt makes inside C++ behave alike and exact
type checks hold. In this process every QObject therefore has PythonQt's style:

* a Q_PROPERTY is an attribute (`label.text`, `button.enabled = True`); calling it fails, as `'str'` is not callable;
* `obj.connect("clicked(bool)", f)` and `obj.clicked.connect(f)`; `obj.name` is the object's name;
* a new attribute on a plain C++ object, an overwritten method or a value of the wrong type is an AttributeError;
* keyword arguments to C++ methods, which PythonQt silently ignores, are a TypeError here.
"""

from __future__ import annotations

import functools
import sys
import traceback
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import shiboken6
from PySide6 import QtCore, QtGui, QtNetwork, QtUiTools, QtWidgets

_MODULES = (QtCore, QtGui, QtNetwork, QtUiTools, QtWidgets)
_NUMBERS = ("int", "uint", "double", "float", "qlonglong")
_set = QtCore.QObject.__setattr__
_originals: dict[type, Callable[[Any, str], Any]] = {}

uncaught: list[BaseException] = []
"""Exceptions that left a slot or an observer: PythonQt prints them and goes on, and so does the host."""


def _get(self: QtCore.QObject, name: str) -> Any:
    """PySide6's own look-up, which some classes (QFile, QProcess) define anew."""
    return next(_originals[c] for c in type(self).__mro__ if c in _originals)(self, name)


def report(error: BaseException) -> None:
    """Prints an exception that left a slot, and keeps it in `uncaught`."""
    uncaught.append(error)
    traceback.print_exception(error)


def watch_uncaught() -> None:
    """Records in `uncaught` what Qt virtual methods, timers and VTK observers let through (they print it only)."""
    usual = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: types.TracebackType | None) -> None:
        uncaught.append(error)
        usual(kind, error, trace)

    sys.excepthook = hook


def is_stand_in(cls: type) -> bool:
    """True for a class that is C++ in Slicer: PySide6's and the host's stand-ins marked with _host_native."""
    return cls.__module__.startswith(("PySide6", "Shiboken")) or "_host_native" in cls.__dict__


class Property(NamedTuple):
    """A Q_PROPERTY."""

    name: str
    kind: str
    writable: bool


_properties: dict[type, dict[str, Property]] = {}


def keep_properties(cls: type) -> None:
    """Reads a C++ class's Q_PROPERTYs once: the meta object that PySide6 hands out may not live long."""
    meta = cls.staticMetaObject  # type: ignore[attr-defined]
    every = (meta.property(i) for i in range(meta.propertyCount()))
    _properties[cls] = {p.name(): Property(p.name(), p.typeName(), p.isWritable()) for p in every}


def properties_of(cls: type) -> dict[str, Property]:
    """Q_PROPERTY by name of the C++ class nearest to `cls`."""
    return _properties[next(c for c in cls.__mro__ if is_stand_in(c))]


def _own(cls: type, name: str) -> Any:
    """What a Python subclass (not C++) defines under this name, or None."""
    for c in cls.__mro__:
        if is_stand_in(c):
            return None
        if name in c.__dict__:
            return c.__dict__[name]
    return None


class Method:
    """A C++ method of an object: takes no keyword arguments, compares like the method itself."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self.call = call

    def __call__(self, *args: Any) -> Any:
        return self.call(*args)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Method) and self.call == other.call

    def __hash__(self) -> int:
        return hash(self.call)


class BoundSignal:
    """A signal of an object: connect, disconnect, emit; calling it emits, as in PythonQt."""

    def __init__(self, owner: QtCore.QObject, name: str) -> None:
        self._owner, self._name = owner, name

    def connect(self, slot: Callable[..., Any]) -> bool:
        return connect(self._owner, self._name, slot)

    def disconnect(self, slot: Callable[..., Any] | None = None) -> bool:
        return disconnect(self._owner, self._name, slot)

    def emit(self, *args: Any) -> None:
        _get(self._owner, self._name).emit(*args)

    __call__ = emit


def _getattribute(self: QtCore.QObject, name: str) -> Any:
    if name.startswith(("__", "_host_")):
        return _get(self, name)
    cls = type(self)
    if not is_stand_in(cls) and _own(cls, name) is not None:
        return _get(self, name)
    if name in ("connect", "disconnect"):
        return functools.partial(_link, name, self)
    if name in properties_of(cls):
        return _read_property(self, name)
    if name == "name":
        return _get(self, "objectName")()
    return _plain(self, name)


_reading: set[tuple[int, str]] = set()


def _read_property(self: QtCore.QObject, name: str) -> Any:
    """A property's value. Qt's virtual getter asks Python for an override under the same name: that gets the method."""
    key = (id(self), name)
    if key in _reading:
        return _get(self, name)
    _reading.add(key)
    try:
        return _get(self, "property")(name)
    finally:
        _reading.discard(key)


def _plain(self: QtCore.QObject, name: str) -> Any:
    """A method, signal, dynamic property or named child, in PythonQt's order."""
    if name == "className":
        return lambda: type(self).__name__
    try:
        value = _get(self, name)
    except AttributeError:
        value = _get(self, "property")(name)
        if value is None:
            value = next((c for c in _get(self, "children")() if c.objectName == name and name), None)
        if value is None:
            raise AttributeError(f"{type(self).__name__} has no attribute named {name!r}") from None
        return value
    if isinstance(value, QtCore.SignalInstance):
        return BoundSignal(self, name)
    return Method(value) if isinstance(value, types.BuiltinMethodType) else value


_loading: list[None] = []


@contextmanager
def loading_ui() -> Iterator[None]:
    """While a .ui file is loaded: PySide6's loader would make each named child an attribute of the top widget."""
    _loading.append(None)
    try:
        yield
    finally:
        _loading.pop()


def _setattr(self: QtCore.QObject, name: str, value: Any) -> None:
    cls = type(self)
    if _loading and isinstance(value, QtCore.QObject) and not name.startswith("_host_"):
        return
    properties = properties_of(cls)
    if name == "name" and name not in properties:
        name = "objectName"
    if name in properties and _own(cls, name) is None:
        _write_property(self, properties[name], value)
    elif name.startswith("_host_") or type(value).__name__ in ("SignalInstance", "MetaFunction"):
        _set(self, name, value)  # PySide6 keeps bound signals and slots in the object
    elif _get(self, "property")(name) is not None:
        _get(self, "setProperty")(name, value)
    elif not is_stand_in(cls):
        _set(self, name, value)
    elif hasattr(cls, name):
        raise AttributeError(f"Method or signal {name!r} can not be overwritten on {cls.__name__} object")
    else:
        raise AttributeError(f"{name!r} does not exist on {cls.__name__}, and a C++ object takes no new attributes")


def _write_property(self: QtCore.QObject, prop: Property, value: Any) -> None:
    name, kind, writable = prop
    if not writable:
        raise AttributeError(f"Property {name!r} of {type(self).__name__} object is not writable")
    if (kind == "QString" and not isinstance(value, str)) or (
        kind in (*_NUMBERS, "bool") and not isinstance(value, (bool, int, float))
    ):
        raise AttributeError(f"Property {name!r} of type {kind!r} does not accept {value!r}")
    if kind in ("int", "uint", "qlonglong"):
        value = int(value)
    if kind == "QStringList":
        value = [str(v) for v in value]
    if not _get(self, "setProperty")(name, value):
        raise AttributeError(f"Property {name!r} of type {kind!r} does not accept {value!r}")


_connections: dict[int, list[tuple[str, Any, Any]]] = {}


def _link(name: str, owner: QtCore.QObject, signal: Any, *args: Any) -> Any:
    """obj.connect and obj.disconnect; PySide6 itself calls them too, with the sender first."""
    if not isinstance(signal, str):
        return _get(owner, name)(signal, *args)
    return {"connect": connect, "disconnect": disconnect}[name](owner, signal, *args)


def connect(owner: QtCore.QObject, signal: str, slot: Any, *method: Any) -> bool:
    """obj.connect("sig(args)", callable) or obj.connect("sig(args)", receiver, "slot(args)").

    Raises where PythonQt returns False: a signal that the object does not have.
    """
    if method:
        slot = getattr(slot, str(method[0]).split("(")[0])
    if not callable(slot):
        raise TypeError(f"{slot!r} can not be connected to {signal}: not callable")
    name, count = _find_signal(owner, signal)
    link = _get(owner, name).connect(_receiver(slot, count))
    address = shiboken6.getCppPointer(owner)[0]
    if address not in _connections:
        _connections[address] = []
        QtCore.QObject.destroyed.__get__(owner).connect(lambda *_: _connections.pop(address, None))
    _connections[address].append((name, slot, link))
    return True


def disconnect(owner: QtCore.QObject, signal: str, slot: Any = None, *method: Any) -> bool:
    """Ends the connections of a signal with a slot (all of them without one); False where there is none."""
    if method:
        slot = getattr(slot, str(method[0]).split("(")[0])
    name, _ = _find_signal(owner, signal)
    links = _connections.get(shiboken6.getCppPointer(owner)[0], [])
    ended = [link for link in links if link[0] == name and (slot is None or link[1] == slot)]
    for link in ended:
        QtCore.QObject.disconnect(link[2])
        links.remove(link)
    return bool(ended)


def _find_signal(owner: QtCore.QObject, signal: str) -> tuple[str, int]:
    """The attribute that holds a signal, and how many arguments the given signature delivers."""
    stand_in = next(c for c in type(owner).__mro__ if is_stand_in(c))
    attribute = getattr(stand_in, "_host_signals", {}).get(signal.replace(" ", ""))
    name, _, arguments = (attribute or signal).partition("(")
    if not isinstance(getattr(type(owner), name, None), QtCore.Signal):
        raise RuntimeError(f"{type(owner).__name__} has no signal {signal!r}")
    meta = owner.metaObject()
    if not arguments:
        methods = (meta.method(i) for i in range(meta.methodCount()))
        return name, next(m.parameterCount() for m in methods if m.name().data().decode() == name)
    normal = QtCore.QMetaObject.normalizedSignature(signal).data().decode()
    if meta.indexOfSignal(normal) < 0:
        raise RuntimeError(f"{type(owner).__name__} has no signal {signal!r}")
    return name, meta.method(meta.indexOfSignal(normal)).parameterCount()


def _receiver(slot: Callable[..., Any], count: int) -> Callable[..., None]:
    """Calls a slot with as many arguments as PythonQt would give, and reports what it raises."""
    code = getattr(slot, "__code__", None) or getattr(getattr(slot, "__func__", None), "__code__", None)
    if code is not None and not code.co_flags & 0x04:
        count = min(count, code.co_argcount - isinstance(slot, types.MethodType))

    def receive(*args: Any) -> None:
        try:
            _call_native(slot, args) if isinstance(slot, (Method, types.BuiltinMethodType)) else slot(*args)
        except Exception as error:
            report(error)

    # PySide6 looks at the number of parameters to choose among overloads.
    fixed: tuple[Callable[..., None], ...] = (
        lambda: receive(),
        lambda a: receive(a),
        lambda a, b: receive(a, b),
        lambda a, b, c: receive(a, b, c),
    )
    return fixed[count]


def _call_native(slot: Callable[..., Any], args: tuple[Any, ...]) -> None:
    """Qt connects a signal to a C++ slot with fewer arguments."""
    for given in range(len(args), 0, -1):
        try:
            slot(*args[:given])
            return
        except TypeError:
            continue
    slot()


def _no_keywords(cls: type) -> None:
    original = cls.__init__  # type: ignore[misc]

    @functools.wraps(original)
    def init(self: Any, *args: Any, **keywords: Any) -> None:
        if keywords:
            raise TypeError(f"{cls.__name__}() takes no keyword arguments in PythonQt: {sorted(keywords)}")
        original(self, *args)

    cls.__init__ = init  # type: ignore[misc]


def _classes() -> list[type]:
    found = {getattr(m, n) for m in _MODULES for n in dir(m) if isinstance(getattr(m, n), type)}
    return [c for c in found if issubclass(c, shiboken6.Shiboken.Object)]


def _no_bytes(self: QtCore.QByteArray, *_: Any) -> bytes:
    raise TypeError("PythonQt's QByteArray is not a bytes-like object: use .data()")


def _patch() -> None:
    classes = _classes()
    _originals.update({c: c.__getattribute__ for c in classes if issubclass(c, QtCore.QObject)})
    for cls in classes:
        if "__init__" in cls.__dict__:
            _no_keywords(cls)
        if issubclass(cls, QtCore.QObject):
            keep_properties(cls)
            cls.__getattribute__ = _getattribute  # type: ignore[assignment, method-assign]
            if cls is not QtCore.QObject:  # which keeps its own: it is what _set ends in
                cls.__setattr__ = _setattr  # type: ignore[assignment, method-assign]
    QtCore.QByteArray.__bytes__ = _no_bytes  # type: ignore[method-assign]


def _build() -> types.ModuleType:
    module = types.ModuleType("qt")
    for source in _MODULES:
        for name in dir(source):
            if not name.startswith("_") and isinstance(getattr(source, name), type):
                setattr(module, name, getattr(source, name))
    return module


if "qt" not in sys.modules:
    _patch()
    watch_uncaught()
    sys.modules["qt"] = _build()
qt: Any = sys.modules["qt"]
