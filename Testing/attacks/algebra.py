"""The arithmetic that the attacks on the encrypted protocols share: polynomials in both domains, and correlations."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.secure.fhe import ring
from PPIRLogic.secure.fhe.bfv import GROUP
from PPIRLogic.secure.fhe.ring import DEGREE
from PPIRLogic.secure.layout import LANES

Array = NDArray[Any]


def forward(coefficients: Array, prime: int) -> Array:
    x = np.zeros(GROUP, np.uint32)
    x[::LANES] = coefficients
    ring.forward(x, prime)
    return x[::LANES].astype(np.uint64)


def backward(transformed: Array, prime: int) -> Array:
    x = np.zeros(GROUP, np.uint32)
    x[::LANES] = transformed
    ring.inverse(x, prime)
    values = x[::LANES].astype(np.int64)
    return np.where(values > prime // 2, values - prime, values)


def power(base: Array, exponent: int, prime: int) -> Array:
    result, base = np.ones_like(base), base.copy()
    while exponent:
        if exponent & 1:
            result = result * base % np.uint64(prime)
        base, exponent = base * base % np.uint64(prime), exponent >> 1
    return result


def correlation(one: Array, two: Array) -> float:
    return float(np.corrcoef(np.asarray(one, float).ravel(), np.asarray(two, float).ravel())[0, 1])


def negacyclic(a: Array) -> Array:
    """The complex embedding in which products modulo X^n + 1 are element by element."""
    return np.fft.fft(a * np.exp(1j * np.pi * np.arange(DEGREE) / DEGREE))


def undo(transformed: Array) -> Array:
    return np.real(np.fft.ifft(transformed) / np.exp(1j * np.pi * np.arange(DEGREE) / DEGREE))
