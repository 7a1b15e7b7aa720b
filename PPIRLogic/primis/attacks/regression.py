"""Linear regression from anything public to anything private, as strong as patients who are held back allow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from PPIRLogic.arrays import AnyArray

# Of the penalty, times the mean size of a row; inf: the mean alone.
_STRENGTHS = (np.inf, 1e4, 1e3, 1e2, 1e1, 1.0, 1e-1)
_FOLDS = 5
_SKETCH = 200


class Regression:
    """Ridge regression. Its penalty is the one under which patients that were held back are foretold best; where
    nothing helps it gives the mean, which is what who knows nothing can say."""

    def __init__(self) -> None:
        self._mean = self._scale = self._target = np.zeros(0)
        self._rows = self._weights = np.zeros((0, 0))
        self.strength = np.inf

    def fit(self, given: AnyArray, wanted: AnyArray, patients: Sequence[str]) -> Regression:
        """Learn (n, features) to (n, …)."""
        self._mean, self._scale = given.mean(0), given.std(0)
        self._scale[self._scale < 1e-9] = 1.0
        rows = (given - self._mean) / self._scale
        targets = wanted.reshape(len(wanted), -1).astype(np.float64)
        judged = _sketch(targets)
        folds = np.unique(np.array(patients), return_inverse=True)[1] % _FOLDS
        errors = np.zeros(len(_STRENGTHS))
        for fold in range(_FOLDS):
            out = folds == fold
            if out.any() and not out.all():
                errors += _errors(rows[~out], judged[~out], rows[out], judged[out])
        self.strength = _STRENGTHS[int(np.argmin(errors))]
        self._target = targets.mean(0)
        self._rows = rows
        self._weights = _solve(rows, targets - self._target, self.strength)
        self._shape = wanted.shape[1:]
        return self

    def predict(self, given: AnyArray) -> AnyArray:
        """(n, …), as what was wanted."""
        rows = (given - self._mean) / self._scale
        return (self._target + (rows @ self._rows.T) @ self._weights).reshape(len(given), *self._shape)


def _sketch(targets: AnyArray) -> AnyArray:
    """Random sums of many targets: their squared errors tell the strengths apart as those of all do, in a moment."""
    count = targets.shape[1]
    if count <= 2 * _SKETCH:
        return targets
    return np.asarray(targets @ np.random.default_rng(0).normal(size=(count, _SKETCH)))


def _solve(rows: AnyArray, targets: AnyArray, strength: float) -> AnyArray:
    """Weights of the training rows (dual form): there are fewer rows than features."""
    gram = rows @ rows.T
    if np.isinf(strength) or not gram.any():
        return np.zeros_like(targets)
    penalty = strength * np.trace(gram) / len(gram)
    return np.asarray(np.linalg.solve(gram + penalty * np.eye(len(gram)), targets))


def _errors(rows: AnyArray, targets: AnyArray, held_rows: AnyArray, held_targets: AnyArray) -> AnyArray:
    """Squared error on what was held back, for each strength."""
    mean = targets.mean(0)
    found = []
    for strength in _STRENGTHS:
        guess = mean + (held_rows @ rows.T) @ _solve(rows, targets - mean, strength)
        found.append(float(np.square(guess - held_targets).sum()))
    return np.array(found)
