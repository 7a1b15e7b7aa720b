"""The one-time masks of a symmetric registration under mpc, and what the dealer makes of them.

Every value that crosses is a ring element less a uniform mask: an owner's own value, or its share of a protected one.
Party 1 expands its masks from K0, party 2 from K1, both by (name, level, evaluation), and the dealer knows both keys.
In every round it sends party 2 the products of masks that the round needs, less party 1's share of them. It learns
sizes, levels and evaluations.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from PPIRLogic.arrays import Ring
from PPIRLogic.registration.control_points import ControlPointMap
from PPIRLogic.registration.losses.cross_correlation import SHIFT, TERM_SHIFT
from PPIRLogic.secure.prg import Stream

Mask = Callable[[str], Ring]
MAX_SAMPLES = 2**26
ROUNDS = ("product", "scale", "shift", "square", "terms", "shorten", "force", "published")
SHIFTS = {"shift": (SHIFT, ("r",)), "shorten": (TERM_SHIFT, ("r first", "r second", "r square"))}  # bits, masks


def wire_mask(key: bytes, name: str, level: int, evaluation: int, count: int) -> Ring:
    """(count,), used for one value of one evaluation."""
    return Stream(key, "cc", "wire", name, level, evaluation).int64(count)


def first_share(key: bytes, stage: str, level: int, evaluation: int, numbers: int) -> Ring:
    """Party 1's share of what the dealer makes in a round, (numbers,)."""
    return Stream(key, "cc", "share", stage, level, evaluation).int64(numbers)


def numbers_of_round(stage: str, samples: int, control_points: ControlPointMap | None) -> int:
    """How many ring elements the dealer sends in a round."""
    if stage == "force":
        assert control_points is not None
        return 2 * len(control_points.axes) * control_points.count
    if stage in SHIFTS:
        return 2 * samples * len(SHIFTS[stage][1])
    return {"square": 1, "terms": 3 * samples, "published": 3 * samples}.get(stage, samples)


def mask_products(
    stage: str, first: Mask, second: Mask, control_points: ControlPointMap | None, box: tuple[int, ...]
) -> Ring:
    """What the two parties' shares of a round's correlation add up to, modulo 2^64; first, second: masks by name."""
    if stage == "product":
        return first("x") * second("x")
    if stage == "scale":
        return first("scaled") * second("root") + first("root") * second("scaled")
    if stage in SHIFTS:
        bits, names = SHIFTS[stage]
        r = np.concatenate([first(name) + second(name) for name in names]).view(np.uint64)
        return np.concatenate([r >> np.uint64(bits), r >> np.uint64(63)]).view(np.int64)
    if stage == "square":
        return np.sum(2 * first("rho") * second("rho"), keepdims=True)
    if stage == "terms":
        r1, r2 = first("rho"), second("rho")
        return np.concatenate([first("unit") * r2, r1 * second("unit"), 2 * (r1 * r2)])
    if stage == "published":
        own = first("scaled e") * second("e") + first("e") * second("scaled e")
        return np.concatenate([own, first("z") * second("d"), first("d") * second("z")])
    assert control_points is not None
    axes = range(len(control_points.axes))
    t1, s1, t2, s2 = first("term"), first("square"), second("term"), second("square")
    here = [first(f"a{k}") * t2 - first(f"b{k}") * s2 for k in axes]
    there = [t1 * second(f"a{k}") - s1 * second(f"b{k}") for k in axes]
    return np.concatenate([control_points.box_sums(v.reshape(box)) for v in (*here, *there)])


def correlation(
    stage: str,
    keys: tuple[bytes, bytes],
    level: int,
    evaluation: int,
    samples: int,
    control_points: ControlPointMap | None,
    check: Callable[[], None],
) -> Ring:
    """What the dealer sends to party 2. `check` may raise between masks."""

    def masks(key: bytes) -> Mask:
        def mask(name: str) -> Ring:
            check()
            return wire_mask(key, name, level, evaluation, samples)

        return mask

    box = box_of(control_points) if control_points is not None else (samples,)
    whole = mask_products(stage, masks(keys[0]), masks(keys[1]), control_points, box)
    return whole - first_share(keys[0], stage, level, evaluation, len(whole))


def box_of(control_points: ControlPointMap) -> tuple[int, ...]:
    """The shape of a level without its margin, (z, y, x) or (y, x)."""
    return tuple(n - 2 * m for n, m in zip(control_points.shape, control_points.margin[::-1], strict=True))
