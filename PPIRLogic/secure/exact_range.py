"""The exact range of a product: that columns stay within it, and that opened sums are possible.

The limits are those of the encrypted product. All protocols that compute with the same integers keep to them, so that
all take the same path; `fhe.parameters` says how they come about, and a test compares.
"""

from __future__ import annotations

from collections.abc import Sequence

from PPIRLogic.errors import FixedPointError, ProtocolError
from PPIRLogic.secure.product import ColumnSource, LevelInfo, Term

EXACT_MODULUS = 2**46 - 21  # sums between ± half of it are exact
NOISE_LIMIT = 8584168729.883731  # 2^-41 of a step Q/t of fhe: it makes a number wrong with that probability
IMPOSSIBLE = "The peer's answer is larger than any image could make it: it does not follow the protocol."


def check_range(largest_sum: int, norm: float, absolute_sum: int, pad_noise: float = 0.0) -> None:
    """Refuse S before it is used.

    largest_sum: max over the terms of Σ|S|·max|V|. norm: max ‖S‖₂. absolute_sum: max Σ|S|. FixedPointError if a result
    could wrap modulo t, or if the noise of fhe could change one too often. The noise that depends on S is S·e, at
    most 26·‖S‖₂ (8σ), plus S times the rounding of Q·v/t, at most ½·Σ|S| (it does not average out where V is constant,
    such as a background or a mask), plus `pad_noise` where pads are added under encryption.
    """
    if 2 * largest_sum >= EXACT_MODULUS:
        raise FixedPointError(
            f"A sum could reach {largest_sum:.3g}, beyond the exact range of ±{EXACT_MODULUS // 2:.3g} of the encrypted"
            " product. Nothing was sent. Use fewer samples (sampling urs or gms) or a coarser finest level."
        )
    if 26 * norm + absolute_sum / 2 + pad_noise > NOISE_LIMIT:
        raise FixedPointError(
            f"A column (norm {norm:.3g}, sum {absolute_sum:.3g}) is too large: the noise of encryption could change a"
            " sum, with a probability above 2^-41. Nothing was sent. Use fewer samples (sampling urs or gms) or a"
            " coarser finest level."
        )


def check_exact(source: ColumnSource, terms: Sequence[Term], level: LevelInfo, pad_noise: float = 0.0) -> None:
    """FixedPointError if a sum of these terms could leave the range of fhe.

    clear makes the same check, so that it takes the same path; mpc has room for any sum (62 bits).
    """
    sums, norms = source.absolute_sums(), source.norms()
    largest = max(int(sums[t.column]) * level.bound(t.operand) for t in terms)
    columns = {t.column for t in terms}
    check_range(largest, max(float(norms[c]) for c in columns), max(int(sums[c]) for c in columns), pad_noise)


def check_possible(values: Sequence[int], source: ColumnSource, terms: Sequence[Term], level: LevelInfo) -> None:
    """ProtocolError if an opened sum is larger than any image could make it; values term by term.

    A peer that does not know the pads (because it read the products instead) can only guess its answer.
    """
    sums = source.absolute_sums()
    bounds = [int(sums[t.column]) * level.bound(t.operand) for t in terms for _ in range(t.outputs)]
    if any(abs(value) > bound for value, bound in zip(values, bounds, strict=True)):
        raise ProtocolError(IMPOSSIBLE)
