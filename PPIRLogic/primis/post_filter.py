"""The small network that smooths what a lossy level decodes (ONNX Runtime): for the eye and for programs, never for
the exact level, since floating point differs a little from machine to machine."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.errors import MissingDependencyError

MARGIN = 16  # pixels that a strip sees beyond itself; the network's own reach is less
_AT_ONCE = 1 << 21


@cache
def _session(filter_: bytes) -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise MissingDependencyError(
            "Sealed images need the packages constriction and onnxruntime: pip install 'PPIRExtension[primis]'."
        ) from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(filter_, options, providers=["CPUExecutionProvider"])


def step_number(step: float) -> float:
    """How the network is told a level's step, in 255ths of the range."""
    return float(np.log2(step) / 8)


def smoothed(picture: NDArray[Any], step: float, filter_: bytes, check: Callable[[], None]) -> NDArray[np.float32]:
    """A decoded picture (slices, y, x), 1 being the window's range, after the network. step: in 255ths of the range."""
    session = _session(filter_)
    _, rows, columns = picture.shape
    out = np.empty(picture.shape, np.float32)
    height = max(64, _AT_ONCE // columns) // 2 * 2
    for number, plane in enumerate(picture):
        for start in range(0, rows, height):
            check()
            above, below = max(start - MARGIN, 0), min(start + height + MARGIN, rows)
            strip = plane[above:below].astype(np.float32)
            even = np.pad(strip, ((0, strip.shape[0] % 2), (0, columns % 2)), mode="edge")
            told = np.full((1, 1, even.shape[0] // 2, even.shape[1] // 2), step_number(step), np.float32)
            found = session.run(None, {"picture": even[None, None], "step": told})[0][0, 0]
            out[number, start : start + height] = found[start - above : min(start + height, rows) - above, :columns]
    return out
