"""The sum of squared differences with a free offset: images of the same contrast whose brightness differs."""

from collections.abc import Sequence

import numpy as np

from PPIRLogic.registration.losses.base import Evaluation, IntensityFit, Loss, Sums, check_overlap, image_terms
from PPIRLogic.secure.product import Term


class OffsetSSD(Loss):
    """min over b of the mean of (J − I∘T − b)² in the overlap. Opens d + 3 numbers, as ncc."""

    name = "ssd_offset"
    operands = ("J", "J2")
    words = "the mean squared difference of the two images after the best shift of brightness"
    bending = 0.2

    def terms(self, parameters: int) -> Sequence[Term]:
        overlap = parameters + 1
        return [*image_terms(parameters), Term(overlap, "J", "overlap"), Term(overlap, "J2", "overlap")]

    def fit(self, sums: Sums) -> IntensityFit:
        check_overlap(sums)
        d, n = sums.parameters, sums.overlap
        offset = (sums.joint[d + 1, "J"] - sums.gram[d, d + 1]) / n
        squares = sums.joint[d + 1, "J2"] - 2 * sums.joint[d, "J"] + sums.gram[d, d]
        return IntensityFit(squares / n - offset**2, 1.0, offset, scale=n, overlap=n, free=True)

    def evaluate(self, sums: Sums) -> Evaluation:
        fit, d = self.fit(sums), sums.parameters
        s_j = np.array([sums.joint[k, "J"] for k in range(d)])
        ones = sums.gram[:d, d + 1]
        gradient = -(s_j - sums.gram[:d, d] - fit.offset * ones) / fit.overlap
        hessian = (sums.gram[:d, :d] - np.outer(ones, ones) / fit.overlap) / fit.overlap
        return Evaluation(fit.value, gradient, hessian, fit.overlap)
