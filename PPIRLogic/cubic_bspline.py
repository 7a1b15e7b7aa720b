"""The uniform cubic B-spline, once: for floats, compiled code and exact fractions alike."""

from typing import Any

from PPIRLogic.compiled import compiled_ieee


def cubic(u: Any) -> tuple[Any, Any, Any, Any]:
    """The four weights at u in [0, 1) of a cell, first control point first; they sum to 1.

    >>> from fractions import Fraction
    >>> sum(cubic(Fraction(1, 3)))
    Fraction(1, 1)
    """
    v = 1 - u
    return v * v * v / 6, (3 * u * u * u - 6 * u * u + 4) / 6, (3 * v * v * v - 6 * v * v + 4) / 6, u * u * u / 6


def cubic_slope(u: Any) -> tuple[Any, Any, Any, Any]:
    """Their derivatives by u; they sum to 0."""
    v = 1 - u
    return -v * v / 2, (3 * u * u - 4 * u) / 2, -(3 * v * v - 4 * v) / 2, u * u / 2


compiled_cubic = compiled_ieee(cubic)
compiled_cubic_slope = compiled_ieee(cubic_slope)
