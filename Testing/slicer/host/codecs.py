"""How typed parameters are kept in a vtkMRMLScriptedModuleNode, with the markers that describe them.

The names and texts in the node are those that Slicer writes, so a saved scene reads alike in both.
"""

from __future__ import annotations

import enum
import pathlib
import types
import typing
from collections.abc import Callable, Iterator, MutableSequence
from dataclasses import dataclass
from typing import Any

import slicer
import slicer.util


class Default:
    """The value of a parameter that was never set."""

    def __init__(self, value: Any = None, *, generator: Callable[[], Any] | None = None) -> None:
        self._value, self._generator = value, generator

    @property
    def value(self) -> Any:
        return self._generator() if self._generator else self._value


class Validator:
    """Base of the markers that refuse values."""

    def validate(self, value: Any) -> None:
        raise NotImplementedError


@dataclass(frozen=True)
class WithinRange(Validator):
    """minimum ≤ value ≤ maximum."""

    minimum: Any
    maximum: Any

    def validate(self, value: Any) -> None:
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"Value must be within [{self.minimum}, {self.maximum}], is {value}")


@dataclass(frozen=True)
class Minimum(Validator):
    """value ≥ minimum."""

    minimum: Any

    def validate(self, value: Any) -> None:
        if value < self.minimum:
            raise ValueError(f"Value must not be below {self.minimum}, is {value}")


@dataclass(frozen=True)
class Maximum(Validator):
    """value ≤ maximum."""

    maximum: Any

    def validate(self, value: Any) -> None:
        if value > self.maximum:
            raise ValueError(f"Value must not be above {self.maximum}, is {value}")


@dataclass(frozen=True)
class Choice(Validator):
    """One of the given values."""

    choices: Any

    def validate(self, value: Any) -> None:
        if value not in self.choices:
            raise ValueError(f"Value must be one of {self.choices}, is {value}")


@dataclass(frozen=True)
class Exclude(Validator):
    """None of the given values."""

    excludedValues: Any

    def validate(self, value: Any) -> None:
        if value in self.excludedValues:
            raise ValueError(f"Value must not be one of {self.excludedValues}, is {value}")


@dataclass(frozen=True)
class Decimals:
    """Digits after the point in a spin box."""

    value: int


@dataclass(frozen=True)
class SingleStep:
    """Step of a spin box or slider."""

    value: float


class Codec:
    """Keeps values of one type as parameters of a node."""

    accepts: tuple[type, ...] = ()
    optional = False

    def default(self) -> Any:
        raise NotImplementedError

    def check(self, value: Any) -> None:
        """Raises for a value of another type."""
        if value is None and not self.optional:
            raise ValueError("Value must not be None")
        if value is not None and not isinstance(value, self.accepts):
            raise TypeError(f"Value must be {self.accepts}, is {type(value)}: {value!r}")

    def present(self, node: Any, name: str) -> bool:
        return bool(node.HasParameter(name))

    def write(self, node: Any, name: str, value: Any) -> None:
        node.SetParameter(name, str(value))

    def read(self, node: Any, name: str) -> Any:
        raise NotImplementedError

    def remove(self, node: Any, name: str) -> None:
        node.UnsetParameter(name)


class Plain(Codec):
    """int, float, str and paths: their text."""

    def __init__(self, kind: type) -> None:
        self.kind = kind
        self.accepts = (int, float) if kind is float else (kind,)

    def default(self) -> Any:
        return self.kind()

    def read(self, node: Any, name: str) -> Any:
        return self.kind(node.GetParameter(name))


class Flag(Codec):
    """bool: "True" or "False"."""

    accepts = (bool,)

    def default(self) -> bool:
        return False

    def read(self, node: Any, name: str) -> bool:
        return bool(node.GetParameter(name) == "True")


class Enumeration(Codec):
    """Enum: the member's name."""

    optional = True  # Slicer lets None pass here, and fails when it asks None for its name

    def __init__(self, kind: type[enum.Enum]) -> None:
        if not len(kind):
            raise ValueError("An empty Enum can not be a parameter")
        self.kind, self.accepts = kind, (kind,)

    def default(self) -> enum.Enum:
        return next(iter(self.kind))

    def write(self, node: Any, name: str, value: Any) -> None:
        node.SetParameter(name, value.name)

    def read(self, node: Any, name: str) -> enum.Enum:
        try:
            return self.kind[node.GetParameter(name)]
        except KeyError as error:
            raise ValueError(f"{node.GetParameter(name)!r} in the node is no member of {self.kind}") from error


class NodeReference(Codec):
    """A MRML node: a node reference, beside an empty parameter that tells that it was set."""

    optional = True

    def __init__(self, kind: type) -> None:
        self.accepts = (kind,)

    def default(self) -> None:
        return None

    def write(self, node: Any, name: str, value: Any) -> None:
        node.SetParameter(name, "")
        node.SetNodeReferenceID(name, value.GetID() if value is not None else None)

    def read(self, node: Any, name: str) -> Any:
        return node.GetNodeReference(name)

    def remove(self, node: Any, name: str) -> None:
        node.UnsetParameter(name)
        node.RemoveNodeReferenceIDs(name)


class Nothing(Codec):
    """The None of Optional[…]."""

    optional = True
    accepts = (type(None),)

    def default(self) -> None:
        return None

    def read(self, node: Any, name: str) -> None:
        return None


class ListOf(Codec):
    """list[…]: one parameter per item and one for their number."""

    accepts = (list, tuple, MutableSequence)

    def __init__(self, item: Checked) -> None:
        self.item, self.length = item, Plain(int)

    def default(self) -> list[Any]:
        return []

    def check(self, value: Any) -> None:
        super().check(value)
        for item in value:
            self.item.check(item)

    def present(self, node: Any, name: str) -> bool:
        return self.length.present(node, f"{name}.len")

    def _length(self, node: Any, name: str) -> int:
        return int(self.length.read(node, f"{name}.len")) if self.present(node, name) else 0

    def write(self, node: Any, name: str, value: Any) -> None:
        values, before = list(value), self._length(node, name)
        for index, item in enumerate(values):
            self.item.write(node, f"{name}.{index}", item)
        self.length.write(node, f"{name}.len", len(values))
        for index in range(len(values), before):
            self.item.remove(node, f"{name}.{index}")

    def read(self, node: Any, name: str) -> ObservedList:
        items = [self.item.read(node, f"{name}.{index}") for index in range(self._length(node, name))]
        return ObservedList(items, lambda values: self.write(node, name, values))

    def remove(self, node: Any, name: str) -> None:
        for index in range(self._length(node, name)):
            self.item.remove(node, f"{name}.{index}")
        self.length.remove(node, f"{name}.len")


class ObservedList(MutableSequence[Any]):
    """A list that writes itself to the parameter node whenever it changes; + and * are refused, += is not."""

    def __init__(self, items: list[Any], save: Callable[[list[Any]], None]) -> None:
        self._items, self._save = items, save

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: Any) -> Any:
        return self._items[index]

    def __setitem__(self, index: Any, value: Any) -> None:
        self._items[index] = value
        self._save(self._items)

    def __delitem__(self, index: Any) -> None:
        del self._items[index]
        self._save(self._items)

    def insert(self, index: int, value: Any) -> None:
        self._items.insert(index, value)
        self._save(self._items)

    def __eq__(self, other: object) -> bool:
        return self._items == (other._items if isinstance(other, ObservedList) else other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"ObservedList({self._items})"

    def _refuse(self, other: Any) -> Any:
        raise NotImplementedError("An ObservedList can not be added or multiplied; += is supported")

    __add__ = __radd__ = __mul__ = __rmul__ = _refuse


class TupleOf(Codec):
    """tuple[…] of a fixed length: one parameter per item."""

    accepts = (tuple,)

    def __init__(self, items: list[Checked]) -> None:
        self.items = items

    def default(self) -> tuple[Any, ...]:
        return tuple(i.default() for i in self.items)

    def check(self, value: Any) -> None:
        if len(value) != len(self.items):
            raise ValueError(f"Value must have {len(self.items)} items, has {len(value)}")
        for item, part in zip(self.items, value, strict=True):
            item.check(part)

    def present(self, node: Any, name: str) -> bool:
        return self.items[0].present(node, f"{name}.0")

    def write(self, node: Any, name: str, value: Any) -> None:
        for index, (item, part) in enumerate(zip(self.items, value, strict=True)):
            item.write(node, f"{name}.{index}", part)

    def read(self, node: Any, name: str) -> tuple[Any, ...]:
        return tuple(item.read(node, f"{name}.{index}") for index, item in enumerate(self.items))

    def remove(self, node: Any, name: str) -> None:
        for index, item in enumerate(self.items):
            item.remove(node, f"{name}.{index}")


class UnionOf(Codec):
    """Union[…] and Optional[…]: the parameter of the member that took the value."""

    def __init__(self, members: list[Checked]) -> None:
        self.members = members

    def default(self) -> Any:
        if len(self.members) == 2 and isinstance(self.members[1].codec, Nothing):
            return None
        return self.members[0].default()

    def _member(self, value: Any) -> int:
        """The member for a value; None goes to the None of an Optional."""
        problem: Exception = TypeError(f"Value must be of a type of the Union, is {value!r}")
        for index, member in enumerate(self.members):
            if isinstance(member.codec, Nothing) != (value is None):
                continue
            try:
                member.check(value)
                return index
            except (TypeError, ValueError) as error:
                problem = error
        raise problem

    def check(self, value: Any) -> None:
        self._member(value)

    def present(self, node: Any, name: str) -> bool:
        return any(m.present(node, f"{name}.{index}") for index, m in enumerate(self.members))

    def write(self, node: Any, name: str, value: Any) -> None:
        index = self._member(value)
        self.remove(node, name)
        self.members[index].write(node, f"{name}.{index}", value)

    def read(self, node: Any, name: str) -> Any:
        for index, member in enumerate(self.members):
            if member.present(node, f"{name}.{index}"):
                return member.read(node, f"{name}.{index}")
        raise KeyError(name)

    def remove(self, node: Any, name: str) -> None:
        for index, member in enumerate(self.members):
            member.remove(node, f"{name}.{index}")


class Checked:
    """A codec with the validators of its annotation."""

    def __init__(self, codec: Codec, validators: list[Validator]) -> None:
        self.codec, self.validators = codec, validators
        self.default, self.present = codec.default, codec.present
        self.read, self.remove = codec.read, codec.remove

    def check(self, value: Any) -> None:
        self.codec.check(value)
        for validator in self.validators:
            validator.validate(value)

    def write(self, node: Any, name: str, value: Any) -> None:
        """Writes a value that passes all checks, as one modification of the node."""
        self.check(value)
        with slicer.util.NodeModify(node):
            self.codec.write(node, name, value)


def split(annotated: Any) -> tuple[Any, list[Any]]:
    """The type and the markers of an annotation."""
    if typing.get_origin(annotated) is typing.Annotated:
        kind, *markers = typing.get_args(annotated)
        return kind, markers
    return annotated, []


def make(annotated: Any) -> Checked:
    """The codec of an annotation; raises for a type that Slicer can not keep in a parameter node."""
    kind, markers = split(annotated)
    return Checked(_codec(kind), [m for m in markers if isinstance(m, Validator)])


def _codec(kind: Any) -> Codec:
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if isinstance(kind, types.UnionType):
        raise TypeError(f"{kind}: not every supported Slicer knows X | Y here; use typing.Optional or typing.Union")
    if origin is typing.Union:
        return UnionOf([make(a) for a in args])
    if origin is list:
        return ListOf(make(args[0]))
    if origin is tuple and args and Ellipsis not in args:
        return TupleOf([make(a) for a in args])
    if isinstance(kind, type) and origin is None:
        return _simple_codec(kind)
    raise TypeError(f"Unable to keep {kind} in a parameter node")


def _simple_codec(kind: type) -> Codec:
    if kind is bool:
        return Flag()
    if kind in (int, float, str) or issubclass(kind, pathlib.PurePath):
        return Plain(kind)
    if kind is type(None):
        return Nothing()
    if issubclass(kind, slicer.vtkMRMLNode):
        return NodeReference(kind)
    if issubclass(kind, enum.Enum):
        return Enumeration(kind)
    raise TypeError(f"Unable to keep {kind} in a parameter node")


def markers_of(annotated: Any, kind: type) -> Any:
    """The first marker of a class in an annotation, or None."""
    return next((m for m in split(annotated)[1] if isinstance(m, kind)), None)


def node_classes(annotated: Any) -> Iterator[type]:
    """The node classes of a node parameter; nothing if the parameter is no node."""
    kind = split(annotated)[0]
    members = [split(a)[0] for a in typing.get_args(kind)] if typing.get_origin(kind) is typing.Union else [kind]
    members = [m for m in members if m is not type(None)]
    if all(isinstance(m, type) and issubclass(m, slicer.vtkMRMLNode) for m in members):
        yield from members
