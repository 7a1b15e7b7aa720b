"""Whether a transform file is whole: ITK takes what is left of one that was cut short, often for the identity."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import SimpleITK as sitk

_TITLE = "#Insight Transform File"
_LISTS = ("Parameters", "FixedParameters")
_COUNTS = {  # of parameters; of those that depend on the dimension, see _count
    "Euler2DTransform": 3, "Similarity2DTransform": 4, "Euler3DTransform": 6, "VersorRigid3DTransform": 6,
    "VersorTransform": 3, "Similarity3DTransform": 7, "ScaleVersor3DTransform": 9, "ScaleSkewVersor3DTransform": 15,
}  # fmt: skip
_MATLAB_SIZES = {0: 8, 1: 4}  # of double and float
_HDF5 = b"\x89HDF\r\n\x1a\n"


def problem_of(path: Path, transform: sitk.Transform) -> str:
    """What is wrong with a file from which ITK read `transform`, as part of a sentence; empty if it is whole."""
    with open(path, "rb") as file:
        head = file.read(len(_HDF5))
    if head == _HDF5:
        return ""  # its library checks the length
    data = path.read_bytes()
    if path.suffix.lower() == ".mat":
        return _matlab_problem(data)
    text = data.decode("utf-8", "replace")
    if path.suffix.lower() == ".xfm":
        return _minc_problem(text)
    return _text_problem(text, transform)


def _text_problem(text: str, transform: sitk.Transform) -> str:
    """Of .tfm and .txt: every transform has both its lists, the last line has its end, and ITK read what is there."""
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines or not lines[0].startswith(_TITLE):
        return f"its first line is not '{_TITLE} V1.0'"
    if not text.endswith(("\n", "\r")):
        return "its last line has no end"
    found: list[tuple[str, list[float]]] = []
    for line in lines:
        name, separator, values = line.partition(":")
        if line.startswith("#") or name == "Transform":
            continue
        if not separator or name not in _LISTS:
            return f"it holds the line '{line[:40]}'"
        try:
            found.append((name, [float(v) for v in values.split()]))
        except ValueError:
            return f"its {name} are not all numbers"
    parts = _parts(transform)
    if sum(line.startswith("Transform:") for line in lines) < sum(line.startswith("#Transform") for line in lines):
        return "the last of its transforms is missing"
    if not parts or [name for name, _ in found] != list(_LISTS) * len(parts):
        return "one of its transforms lacks its Parameters or FixedParameters"
    for k, part in enumerate(parts):
        (_, own), (_, fixed) = found[2 * k : 2 * k + 2]
        if len(own) != _count(part) or not np.allclose(own, part.GetParameters(), atol=1e-9):
            return f"it holds {len(own)} Parameters where its transform has {_count(part)}"
        if not np.allclose(fixed, part.GetFixedParameters()[: len(fixed)], atol=1e-9):
            return "its FixedParameters are not those of its transform"
    return ""


def _parts(transform: sitk.Transform) -> list[sitk.Transform]:
    """The transform, or those that it is composed of."""
    if transform.GetName() != "CompositeTransform":
        return [transform]
    whole = sitk.CompositeTransform(transform)
    return [part for k in range(whole.GetNumberOfTransforms()) for part in _parts(whole.GetNthTransform(k))]


def _count(transform: sitk.Transform) -> int:
    """How many parameters it has; ITK keeps as many as it read."""
    d, name = transform.GetDimension(), transform.GetName()
    by_dimension = {"AffineTransform": d * d + d, "TranslationTransform": d, "ScaleTransform": d}
    return _COUNTS.get(name, by_dimension.get(name, transform.GetNumberOfParameters()))


def _matlab_problem(data: bytes) -> str:
    """Of .mat: whole matrices, two for every transform."""
    at, count = 0, 0
    while at < len(data):
        if len(data) < at + 20:
            return "it breaks off"
        kind, rows, columns, imaginary, name = struct.unpack_from("<5i", data, at)
        size = _MATLAB_SIZES.get(kind // 10 % 10, 0)
        if not size or imaginary or min(rows, columns, name) < 0:
            return "it is not a Matlab file of version 4"
        at += 20 + name + rows * columns * size
        count += 1
    return "" if at == len(data) and count and count % 2 == 0 else "it breaks off"


def _minc_problem(text: str) -> str:
    """Of .xfm: the twelve numbers of a linear transform, and the semicolon after them."""
    _, found, values = text.partition("Linear_Transform")
    numbers, end, _ = values.lstrip(" =\r\n").partition(";")
    return "" if found and end and len(numbers.split()) == 12 else "its Linear_Transform has no end"
