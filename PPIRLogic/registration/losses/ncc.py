"""Global normalised cross-correlation: same modality, any linear relation of the intensities."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from PPIRLogic.errors import OverlapError
from PPIRLogic.registration.losses.base import Evaluation, IntensityFit, Loss, Sums, check_overlap, image_terms
from PPIRLogic.secure.product import Term


class NCC(Loss):
    """1 − NCC² over the overlap, minimised as least squares with a free gain a and offset b.

    min Σ_Ω (J − a·I∘T − b)²: for given T the best a, b are closed form (variable projection), and the Gauss-Newton
    model of the rest is their Schur complement. Opens d + 3 numbers: SᵀJ, Σ I·J, Σ_Ω J, Σ_Ω J².
    """

    name = "ncc"
    words = (
        "1 − NCC², with NCC the correlation of the two images where they overlap: 0 for images that differ in"
        " brightness and contrast only, 1 for unrelated ones"
    )
    operands = ("J", "J2")

    def terms(self, parameters: int) -> Sequence[Term]:
        overlap = parameters + 1
        return [*image_terms(parameters), Term(overlap, "J", "overlap"), Term(overlap, "J2", "overlap")]

    def fit(self, sums: Sums) -> IntensityFit:
        check_overlap(sums)
        d, n = sums.parameters, sums.overlap
        sum_i, sum_j = sums.gram[d, d + 1], sums.joint[d + 1, "J"]
        var_i = sums.gram[d, d] - sum_i**2 / n
        var_j = sums.joint[d + 1, "J2"] - sum_j**2 / n
        covariance = sums.joint[d, "J"] - sum_i * sum_j / n
        if var_i <= 1e-9 * n or var_j <= 1e-9 * n:
            raise OverlapError("An image is constant within the overlap of the two: nothing can be aligned there.")
        gain = covariance / var_i
        offset = (sum_j - gain * sum_i) / n
        return IntensityFit(1 - covariance**2 / (var_i * var_j), gain, offset, scale=var_j, overlap=n, free=True)

    def evaluate(self, sums: Sums) -> Evaluation:
        fit, d = self.fit(sums), sums.parameters
        s_j = np.array([sums.joint[k, "J"] for k in range(d)])
        own = sums.gram[:d, d:]  # Sᵀ[I, 1]
        projected = sums.gram[:d, :d] - own @ np.linalg.solve(sums.gram[d:, d:], own.T)
        return Evaluation(
            value=fit.value,
            gradient=-fit.gain * (s_j - fit.gain * own[:, 0] - fit.offset * own[:, 1]),
            hessian=fit.gain**2 * projected,
            overlap=fit.overlap,
        )
