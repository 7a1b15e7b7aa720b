"""Whether a transform file is whole: ITK takes what is left of one that was cut short, often for the identity."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
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
_REFUSED = 3
_TRY = f"""import sys, json
sys.path[:] = json.loads(sys.argv[1])
import SimpleITK
try:
    SimpleITK.ReadTransform(sys.argv[2])
except RuntimeError:
    sys.exit({_REFUSED})
"""
_TRY_SECONDS = 120
_HDF5 = b"\x89HDF\r\n\x1a\n"


def hdf5_problem(path: Path) -> str:
    """What is wrong with an HDF5 file, as part of a sentence; empty if it is whole, or another kind of file.

    ITK's library does not stand every damaged file: it may end the process. So another process reads it first.
    """
    with open(path, "rb") as file:
        head = file.read(48)
    if not head.startswith(_HDF5):
        return ""
    place = {0: 40, 1: 44, 2: 28, 3: 28}.get(head[8] if len(head) > 8 else -1)
    if place is None or len(head) < place + 4:
        return "its first bytes are not whole"
    announced, there = int.from_bytes(head[place : place + 8], "little"), path.stat().st_size
    if announced != there:
        return f"it says that it has {announced} bytes and {there} are there"
    search = json.dumps([str(p) for p in sys.path if p and Path(p).is_absolute()])
    command = [sys.executable, "-I", "-c", _TRY, search, str(path)]
    try:
        tried = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TRY_SECONDS, check=False
        )
    except OSError:
        return ""  # no other process can be started
    except subprocess.TimeoutExpired:
        return "it cannot be read to its end"
    # 1: that process did not find SimpleITK
    return "" if tried.returncode in (0, 1) else "the library of its format cannot read it"


def problem_of(path: Path, transform: sitk.Transform) -> str:
    """What is wrong with a file from which ITK read `transform`, as part of a sentence; empty if it is whole."""
    with open(path, "rb") as file:
        head = file.read(len(_HDF5))
    if head == _HDF5:
        return ""  # hdf5_problem looked at it
    data = path.read_bytes()
    if path.suffix.lower() == ".mat":
        return _matlab_problem(data)
    return _text_problem(data.decode("utf-8", "replace"), transform)


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
