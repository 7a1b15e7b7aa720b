"""Symbols to bytes and back: a range coder (constriction) under tables of whole numbers, the same on every machine."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.compiled import compiled
from PPIRLogic.errors import InputError, MissingDependencyError

TOTAL = 1 << 16  # what the numbers of a table add up to
_MAX_WIDTH = 40  # bits of an escaped number


@cache
def _constriction() -> Any:
    try:
        import constriction
    except ImportError:
        raise MissingDependencyError(
            "Sealed images need the packages constriction and onnxruntime: pip install 'PPIRExtension[primis]'."
        ) from None
    return constriction.stream


def damaged(what: str) -> InputError:
    """The error of a payload that no encoder wrote."""
    return InputError(f"A code of this image is damaged ({what}). Ask its owner to seal the image again.")


class Tables:
    """How frequent each symbol is, a row a context.

    A symbol is a whole number from -reach to reach; what lies beyond is written as the outermost one and the excess
    after it. frequencies: (contexts, 2 * reach + 1) whole numbers.
    """

    def __init__(self, frequencies: NDArray[Any]) -> None:
        self.frequencies = np.asarray(frequencies, np.int64)
        self.reach = self.frequencies.shape[1] // 2
        self._models: dict[int, Any] = {}

    def model(self, context: int) -> Any:
        if context not in self._models:
            row = self.frequencies[context].astype(np.float32) / np.float32(TOTAL)  # exact: below 2^24, over 2^16
            self._models[context] = _constriction().model.Categorical(row, perfect=False)
        return self._models[context]


@compiled
def _sort(contexts, ends, order):  # type: ignore[no-untyped-def]
    """The order of contexts, of equal ones as they come; `ends`: where each context's part begins, moved to its end."""
    for i in range(contexts.size):
        order[ends[contexts[i]]] = i
        ends[contexts[i]] += 1


def _groups(contexts: NDArray[Any]) -> tuple[NDArray[Any], list[tuple[int, int, int]]]:
    """The order in which symbols are written (by context, else as they come), and each context's part of it."""
    counts = np.bincount(contexts) if contexts.size else np.zeros(0, np.int64)
    ends, order = np.cumsum(counts) - counts, np.empty(contexts.size, np.int64)
    _sort(contexts, ends, order)
    return order, [(int(c), int(ends[c] - counts[c]), int(ends[c])) for c in np.flatnonzero(counts)]


class Writer:
    """Writes symbols; `finish` gives the bytes."""

    def __init__(self) -> None:
        self._coder = _constriction().queue.RangeEncoder()

    def symbols(self, values: NDArray[Any], contexts: NDArray[Any], tables: Tables) -> None:
        """Whole numbers, each under the table of its context."""
        reach = tables.reach
        clipped = np.clip(values, -reach, reach)
        order, groups = _groups(contexts)
        sorted_symbols = (clipped[order] + reach).astype(np.int32)
        for context, start, end in groups:
            self._coder.encode(sorted_symbols[start:end], tables.model(context))
        beyond = np.abs(values[np.abs(clipped) == reach].astype(np.int64)) - reach
        for excess in beyond:
            self.number(int(excess))

    def number(self, value: int) -> None:
        """One whole number from 0 on, small ones short (Elias's gamma code)."""
        width = (value + 1).bit_length()
        if width > _MAX_WIDTH:
            raise InputError("A grey value is too far from the others to be coded. Clip the image's range.")
        self.bits(np.array([width - 1]), 6)
        if width > 1:
            self._long_bits((value + 1) - (1 << (width - 1)), width - 1)

    def _long_bits(self, value: int, width: int) -> None:
        while width > 0:
            part = min(width, 16)
            width -= part
            self.bits(np.array([(value >> width) & ((1 << part) - 1)]), part)

    def bits(self, values: NDArray[Any], width: int) -> None:
        """Numbers below 2**width, width from 1 to 16, all equally likely."""
        self._coder.encode(np.ascontiguousarray(values, np.int32), _uniform(width))

    def finish(self) -> bytes:
        words = self._coder.get_compressed()
        return words.astype(">u4").tobytes().rstrip(b"\0")


@cache
def _uniform(width: int) -> Any:
    return _constriction().model.Uniform(1 << width)


class Reader:
    """Reads what `Writer` wrote, in the same order with the same contexts."""

    def __init__(self, payload: bytes) -> None:
        padded = payload + b"\0" * (-len(payload) % 4)
        words = np.frombuffer(padded, ">u4").astype(np.uint32)
        self._coder = _constriction().queue.RangeDecoder(np.concatenate([words, np.zeros(4, np.uint32)]))
        # A number takes six bits at least. Past the end the coder reads zeros for ever: no more than were written.
        self._numbers = (8 * len(payload) + 64) // 6

    def symbols(self, contexts: NDArray[Any], tables: Tables) -> NDArray[np.int64]:
        order, groups = _groups(contexts)
        in_order = np.empty(contexts.size, np.int64)
        for context, start, end in groups:
            in_order[start:end] = self._decode(tables.model(context), end - start)
        values = np.empty(contexts.size, np.int64)
        values[order] = in_order - tables.reach
        for at in np.flatnonzero(np.abs(values) == tables.reach):
            excess = self.number()
            values[at] += excess if values[at] > 0 else -excess
        return values

    def number(self) -> int:
        self._numbers -= 1
        if self._numbers < 0:
            raise damaged("it ends too early")
        width = int(self.bits(1, 6)[0])
        if width >= _MAX_WIDTH:
            raise damaged("a number is too long")
        value, left = 1, width
        while left > 0:
            part = min(left, 16)
            left -= part
            value = (value << part) | int(self.bits(1, part)[0])
        return value - 1

    def bits(self, count: int, width: int) -> NDArray[np.int64]:
        return self._decode(_uniform(width), count)

    def _decode(self, model: Any, count: int) -> NDArray[np.int64]:
        try:
            return np.asarray(self._coder.decode(model, count), np.int64)
        except (AssertionError, ValueError):
            raise damaged("it ends in nothing that was written") from None
