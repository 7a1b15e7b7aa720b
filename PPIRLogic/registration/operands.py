"""Party 2's integers: names, bounds and scales of the fixed operands."""

from __future__ import annotations

from PPIRLogic.points.pointset import coordinate_bits
from PPIRLogic.secure.exact_range import EXACT_MODULUS
from PPIRLogic.secure.product import OperandInfo

FIXED_BOUND = 2048  # of J, 12 bits signed
FIXED_SCALE = 2048  # integers per unit of normalised fixed intensity: 12 bits


def operand_infos(
    names: tuple[str, ...], samples: int, per_control_point: bool = False, vectors: int = 1
) -> tuple[OperandInfo, ...]:
    """The fixed operands by name with their bounds at a level of so many samples."""
    bounds = {"B": 1, "J": FIXED_BOUND, "J2": FIXED_BOUND**2 >> square_shift(samples), "M": 1}
    bounds |= {"MJ": bounds["J"], "MJ2": bounds["J2"]}
    bounds |= dict.fromkeys(("X", "Y", "Z", "R2"), 2 ** coordinate_bits(samples))
    return tuple(OperandInfo(name, bounds[name], per_control_point and name in ("J", "B"), vectors) for name in names)


def square_shift(samples: int) -> int:
    """Low bits dropped from J² so that its sum over all samples stays within the exact range."""
    shift = 0
    while 2 * samples * (FIXED_BOUND**2 >> shift) >= EXACT_MODULUS:
        shift += 1
    return shift
