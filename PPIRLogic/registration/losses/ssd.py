"""Sum of squared differences, its mean over the overlap: same modality, same intensity scale."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from PPIRLogic.registration.losses.base import Evaluation, IntensityFit, Loss, Sums, check_overlap, image_terms
from PPIRLogic.secure.product import Term


class SSD(Loss):
    """Σ_Ω (I∘T − J)² / |Ω|, with G = Sᵀ(I − J) and H = SᵀS of half the sum (Gauss-Newton; Taiello et al. 2024).

    Opens d + 2 numbers: SᵀJ, Σ I·J and, because the overlap Ω moves with the transform, Σ_Ω J².
    """

    name = "ssd"
    words = "the mean squared difference of the normalised intensities where the images overlap: 0 for equal images"
    bending = 0.2
    operands = ("J", "J2")

    def terms(self, parameters: int) -> Sequence[Term]:
        return [*image_terms(parameters), Term(parameters + 1, "J2", "overlap")]

    def fit(self, sums: Sums) -> IntensityFit:
        check_overlap(sums)
        d, n = sums.parameters, sums.overlap
        squares = sums.gram[d, d] - 2 * sums.joint[d, "J"] + sums.joint[d + 1, "J2"]
        return IntensityFit(squares / n, gain=1.0, offset=0.0, scale=n, overlap=n, free=False)

    def evaluate(self, sums: Sums) -> Evaluation:
        fit, d = self.fit(sums), sums.parameters
        s_j = np.array([sums.joint[k, "J"] for k in range(d)])
        return Evaluation(
            value=fit.value,
            gradient=sums.gram[:d, d] - s_j,
            hessian=sums.gram[:d, :d],
            overlap=sums.overlap,
        )
