"""Anderson mixing, with a memory of one step: what the last step says of how far the model of a step errs.

D. G. Anderson, "Iterative procedures for nonlinear integral equations", J. ACM 12 (1965); in the form of H. F. Walker
and P. Ni, "Anderson acceleration for fixed-point iterations", SIAM J. Numer. Anal. 49 (2011), with distances as the
Hessian has them. Where Gauss-Newton creeps, it saves most of the evaluations. A longer memory saved no more, and ended
more often beside the minimum.
"""

from __future__ import annotations

from dataclasses import dataclass

from PPIRLogic.arrays import Array

_MAX_STRETCH = 5.0  # times the plain step


@dataclass(frozen=True)
class FormerStep:
    """What was done at the place before: the plain step (d,), and the one that was taken.

    >>> import numpy as np
    >>> half_of_the_way = FormerStep(np.array([2.0, 0.0]), np.array([2.0, 0.0]))
    >>> half_of_the_way.mixed(np.array([1.0, 0.0]), np.eye(2))  # half of what is left, now: all of it
    array([2., 0.])
    """

    plain: Array
    taken: Array

    def mixed(self, plain: Array, hessian: Array) -> Array:
        """The step from here, of the plain one here (d,), both at the Hessian (d, d) of here."""
        change = plain - self.plain
        size = float(change @ hessian @ change)
        if size <= 0:
            return plain
        step: Array = plain - float(change @ hessian @ plain) / size * (self.taken + change)
        stretch = float(step @ hessian @ step) / max(float(plain @ hessian @ plain), 1e-300)
        return step if stretch <= _MAX_STRETCH**2 else step * (_MAX_STRETCH / stretch**0.5)
