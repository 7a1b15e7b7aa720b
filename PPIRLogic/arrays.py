"""The kinds of arrays that the whole program names, and arrays that are given by a caller."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.errors import InputError

Array = NDArray[np.float64]  # real values
AnyArray = NDArray[Any]  # of any kind of number
Ring = NDArray[np.int64]  # integers modulo 2^64, or exact sums within it
Words = NDArray[np.uint32]  # residues modulo a prime below 2^32, or random words

_STEP = 2.0**-24  # of single precision, relative
_COARSE = 1e-3  # of the range of the values


def real_array(values: Any, what: str) -> NDArray[Any]:
    """`values` as an array of real numbers, of their own type.

    InputError, beginning with `what`: text, complex numbers, dates, rows of several lengths, masked values. NumPy would
    turn each of them into some number.

    >>> real_array([[1, 2], [3, 4]], "The points").tolist()
    [[1, 2], [3, 4]]
    >>> real_array("points.csv", "The points")
    Traceback (most recent call last):
    PPIRLogic.errors.InputError: The points are given as text. Read the file first, or give an array of numbers.
    """
    if np.ma.is_masked(values):
        raise InputError(f"{what} have masked values. Fill them, and give the mask on its own.")
    try:
        found = np.asarray(values)
    except (TypeError, ValueError, RuntimeError):
        raise InputError(
            f"{what} are no array of numbers: their rows differ in length, or hold other things."
        ) from None
    if found.dtype.kind in "USO" and isinstance(values, (str, bytes)):
        raise InputError(f"{what} are given as text. Read the file first, or give an array of numbers.")
    if found.dtype.kind not in "biuf":
        raise InputError(
            f"{what} are of the type {type(values).__name__} ({found.dtype}). Give an array of real numbers."
        )
    return found


def single_precision(values: NDArray[Any], what: str) -> NDArray[np.float32]:
    """Real numbers as float32. InputError, beginning with `what`, where their differences would be lost by that.

    >>> single_precision(np.array([1e9, 1e9 + 1]), "The voxels")
    Traceback (most recent call last):
    PPIRLogic.errors.InputError: The voxels lie from 1e+09 to 1e+09, too close together for single precision. ...
    """
    if values.size and values.dtype.kind in "iuf" and values.dtype.itemsize >= 4 and values.dtype != np.float32:
        low, high = values.min().item(), values.max().item()  # whole numbers stay exact
        most, limits = max(-low, high), np.finfo(np.float32)
        if np.isfinite(values).all() and (most > float(limits.max) or 0 < most < float(limits.tiny)):
            raise InputError(f"{what} lie from {low:g} to {high:g}, beyond single precision. Scale them.")
        if low < high and max(-low, high) * _STEP > _COARSE * (high - low):
            raise InputError(
                f"{what} lie from {low:g} to {high:g}, too close together for single precision. Subtract their mean."
            )
    return np.ascontiguousarray(values, dtype=np.float32)
