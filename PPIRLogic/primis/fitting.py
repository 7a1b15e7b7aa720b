"""Learning the transform, the weights of the contexts and the tables from images: sums over them, no gradient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.primis.codec import UNIT, Part
from PPIRLogic.primis.coefficients import BINS, FINE, SUM, PlaneModel, differences
from PPIRLogic.primis.entropy_coding import TOTAL, Tables
from PPIRLogic.primis.exact_residual import AROUND, FINEST, PARTS, PHASES, ResidualModel, code_rest
from PPIRLogic.primis.model import LOSSY, STEPS, Model, of_noise, of_shape, table
from PPIRLogic.primis.transform import Stage, forward, padded

Pictures = Sequence[NDArray[np.float64]]  # each (slices, y, x), as the codec has them inside
Check = Callable[[], None]
_SAMPLES = 5000  # of either kind, a pass
_ROUNDS = 30
_PRIOR = 30.0  # symbols by rule of thumb in a table, beside those that were counted


def learned_basis(pictures: Pictures, stage: Stage) -> Stage:
    """The stage with the directions in which its blocks vary most (Karhunen and Loève), after the mean."""
    n = stage.size
    plain = Stage(n, np.eye(n * n), stage.synthesis, stage.before, stage.after)
    covariance, flat = np.zeros((n * n, n * n)), np.full((n * n, 1), 1 / n)
    for picture in pictures:
        blocks = forward(padded(picture, n), plain).reshape(-1, n * n)
        blocks = blocks - (blocks @ flat) @ flat.T
        calm = 1 / (blocks.var(1, keepdims=True) + (4 * UNIT) ** 2)  # a busy block counts no more than a calm one
        covariance += (blocks * calm).T @ blocks
    directions = np.linalg.eigh(covariance)[1][:, ::-1][:, : n * n - 1]
    directions *= np.sign(directions[np.abs(directions).argmax(0), np.arange(n * n - 1)])
    return Stage.of(np.hstack([flat, directions]).T, stage.before)


def learned_transform(pictures: Pictures, model: Model) -> Model:
    """Both stages, the second from the means of the first."""
    fine = learned_basis(pictures, model.fine)
    means = [forward(padded(picture, 8), fine)[..., 0] for picture in pictures]
    return replace(model, fine=fine, means=learned_basis(means, model.means))


def fitted_weights(features: NDArray[Any], sizes: NDArray[Any], counts: NDArray[Any], rounds: int) -> NDArray[Any]:
    """Weights, none negative, of the features (n, k) whose sum foretells the mean of geometric `sizes` best.

    Multiplicative updates; counts: how often each row stands for.
    """
    features, sizes, counts = (np.ascontiguousarray(a, np.float32) for a in (features, sizes, counts))
    weights = np.full(features.shape[1], 0.02, np.float32)
    for _ in range(rounds):
        mean = features @ weights + np.float32(1e-5)
        up = features.T @ (counts * sizes / (mean * (1 + mean)))
        weights *= up / (features.T @ (counts / (1 + mean)) + np.float32(1e-6))
    return weights


@dataclass
class _Planes:
    """What is counted of one level's coefficients of one size of block, over all pictures."""

    model: PlaneModel
    counts: NDArray[np.float64] = field(init=False)
    offsets: NDArray[np.float64] = field(init=False)  # (planes, was nought, size, [sum, number])
    samples: dict[int, list[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        planes = self.model.bias.size
        self.counts = np.zeros((2 * BINS, 2 * self.model.tables.reach + 1))
        self.offsets = np.zeros((planes, 2, 3, 2))

    def count(
        self, plane: int, known: NDArray[Any], exact: NDArray[Any], symbols: NDArray[Any], contexts: NDArray[Any]
    ) -> None:
        reach = self.model.tables.reach
        np.add.at(self.counts, (contexts, np.clip(symbols, -reach, reach) + reach), 1)
        some = symbols != 0
        size = np.abs(symbols[some])
        less = size - exact[some] * np.sign(symbols[some])
        at = (plane, (known[some] != 0).astype(int), np.minimum(size, 3) - 1)
        np.add.at(self.offsets, (*at, 0), less)
        np.add.at(self.offsets, (*at, 1), 1)

    def keep(
        self,
        plane: int,
        activity: NDArray[Any],
        at: NDArray[Any],
        symbols: NDArray[Any],
        rng: np.random.Generator,
        share: float,
    ) -> None:
        """Some blocks with their surroundings: all sizes above nought if they are few, and some of the others."""
        rows = []
        for chosen in (np.flatnonzero(symbols), np.flatnonzero(symbols == 0)):
            count = min(chosen.size, max(20, int(_SAMPLES * share)))
            if count:
                picked = rng.integers(0, chosen.size, count) if count < chosen.size else np.arange(count)
                rows.append((chosen[picked], np.full(count, chosen.size / count)))
        index, counts = (np.concatenate([r[i] for r in rows]) for i in (0, 1))
        self.samples.setdefault(plane, []).append(
            (_surroundings(activity, at[index], plane), np.abs(symbols[index]), counts)
        )

    def fitted(self) -> PlaneModel:
        planes = self.model.bias.size
        bias, near, around = (
            np.ones(planes, np.int32),
            np.zeros((planes, planes), np.int32),
            np.zeros((planes, 8), np.int32),
        )
        for plane, kept in self.samples.items():
            features, sizes, numbers = (np.concatenate([k[i] for k in kept]) for i in range(3))
            weights = fitted_weights(features, sizes, numbers, _ROUNDS)
            bias[plane] = max(1, round(float(weights[0]) * SUM))
            near[plane] = np.rint(weights[1 : planes + 1] * (SUM / FINE))
            around[plane] = np.rint(weights[planes + 1 :] * (SUM / FINE))
        return replace(self.model, bias=bias, near=near, around=around)

    def counted(self) -> PlaneModel:
        reach = self.model.tables.reach
        sizes = 2.0 ** (np.arange(BINS) / 2 - 10)
        prior = np.vstack([of_shape(sizes, reach), of_shape(np.clip(sizes, 0.4, 2), reach)])
        counts = self.counts.copy()
        counts[:BINS] = (counts[:BINS] + counts[:BINS, ::-1]) / 2  # nought has no sign to lean to
        shrink = np.rint(64 * self.offsets[..., 0] / (self.offsets[..., 1] + 20)).astype(np.int32)
        return replace(
            self.model, tables=Tables(table(counts + _PRIOR * prior / TOTAL)), shrink=np.clip(shrink, -31, 31)
        )


def _surroundings(activity: NDArray[Any], at: NDArray[Any], plane: int) -> NDArray[np.float32]:
    """1, the activities of a block's coefficients, and of the one in question in the blocks around."""
    _, rows, columns, planes = activity.shape
    picture, place = np.divmod(at, rows * columns)
    y, x = np.divmod(place, columns)
    out = np.ones((at.size, 1 + planes + 8), np.float32)
    out[:, 1 : planes + 1] = activity[picture, y, x]
    steps = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0)]
    for d, (dy, dx) in enumerate(steps):
        out[:, 1 + planes + d] = activity[picture, np.clip(y + dy, 0, rows - 1), np.clip(x + dx, 0, columns - 1), plane]
    out[:, 1:] /= FINE
    return out


def learned_tables(
    pictures: Pictures, model: Model, rng: np.random.Generator | None, check: Check
) -> tuple[Model, list[list[NDArray[np.float64]]]]:
    """Tables from what the pictures' codes would be; with `rng`, first the weights of the contexts.

    Also gives, for each level, what is decoded of every picture.
    """
    parts = [Part.of(p.shape, model, p) for p in pictures]
    decoded: list[list[NDArray[np.float64]]] = []
    fine, means, tops = list(model.fine_levels), list(model.means_levels), model.tops.frequencies.copy()
    pixels = sum(p.size for p in pictures)
    for level in range(LOSSY):
        step = STEPS[level] * UNIT
        now = {64: _Planes(fine[level]), 16: _Planes(means[level])}
        top = np.zeros(tops.shape[1])
        for part, picture in zip(parts, pictures, strict=True):
            part.refine(level, step, model, None, check, _observer(part, step, now, rng, picture.size / pixels))
            steps = part.means_map[..., 0].astype(np.int64)
            symbols = (differences(steps) if level == 0 else steps).ravel()
            reach = model.tops.reach
            top += np.bincount(np.clip(symbols, -reach, reach) + reach, minlength=2 * reach + 1)
        usual = of_shape(np.array([8.0 if level == 0 else 0.6]), model.tops.reach)[0] / TOTAL
        tops[level] = table(top + _PRIOR * usual)
        fine[level], means[level] = (p.fitted() if rng is not None else p.counted() for p in (now[64], now[16]))
        decoded.append([part.picture(model) for part in parts])
    return replace(model, fine_levels=tuple(fine), means_levels=tuple(means), tops=Tables(tops)), decoded


def _observer(
    part: Part, step: int, now: dict[int, _Planes], rng: np.random.Generator | None, share: float
) -> Callable[..., None]:
    def observe(
        plane: int, activity: NDArray[Any], at: NDArray[Any], symbols: NDArray[Any], contexts: NDArray[Any]
    ) -> None:
        planes = activity.shape[-1]
        if rng is not None:
            now[planes].keep(plane, activity, at, symbols, rng, share)
            return
        assert part.wanted is not None
        values, wanted = (part.fine, part.wanted[0]) if planes == 64 else (part.means, part.wanted[1])
        known = values.reshape(-1, planes)[at, plane]
        exact = (wanted.reshape(-1, planes)[at, plane] - known) * np.where(known < 0, -1, 1) / step
        now[planes].count(plane, known, exact, symbols, contexts)

    return observe


def learned_residual(
    pixels: Sequence[NDArray[np.int64]], bases: Sequence[NDArray[np.int64]], model: Model, check: Check
) -> ResidualModel:
    """What the exact level knows: weights by least squares, then sizes, then the tables of the size classes."""
    residual = model.residual
    value, size = np.zeros((4, 8), np.int64), np.zeros((4, 8), np.int64)
    rough, bias = np.zeros(4, np.int64), np.zeros(4, np.int64)
    for phase in range(4):
        check()
        rows = [_rests_around(p - b, b, phase) for p, b in zip(pixels, bases, strict=True)]
        around, slope, rest, calm = (np.concatenate([r[i] for r in rows]) for i in range(4))
        seen = np.flatnonzero(np.abs(around).max(0))
        if seen.size:
            chosen = around[:, seen].astype(np.float64)
            both = (chosen * calm[:, None]).T
            best = np.linalg.solve(both @ chosen + 10 * np.eye(seen.size), both @ rest)
            value[phase, seen] = np.rint(best * PARTS)
        errors = np.abs(rest - (around @ value[phase] + PARTS // 2) // PARTS)
        features = np.column_stack([np.ones(rest.size), np.abs(around[:, seen]), slope])
        few = np.flatnonzero((slope > 0) | np.any(around, axis=1))  # the others have a class of their own
        few = few[:: max(1, few.size // 60000)]
        weights = fitted_weights(features[few], errors[few], np.ones(errors[few].size), rounds=2 * _ROUNDS) * PARTS
        bias[phase], size[phase, seen], rough[phase] = (
            max(1, round(weights[0])),
            np.rint(weights[1:-1]),
            round(weights[-1]),
        )
    residual = ResidualModel(value, size, rough, bias, residual.tables)
    reach = residual.tables.reach
    counts = np.zeros_like(residual.tables.frequencies, np.float64)

    def observe(symbols: NDArray[Any], rows: NDArray[Any]) -> None:
        np.add.at(counts, (rows, np.clip(symbols, -reach, reach) + reach), 1)

    for picture, base in zip(pixels, bases, strict=True):
        code_rest(picture - base, base, residual, None, check, observe)
    counts = (counts + counts[:, ::-1]) / 2
    counts += _PRIOR * of_noise(2.0 ** ((np.arange(FINEST) - 23.5) / 4), reach) / TOTAL
    return replace(residual, tables=Tables(table(counts)))


def _rests_around(rest: NDArray[np.int64], base: NDArray[np.int64], phase: int) -> tuple[NDArray[Any], ...]:
    """Of each pixel of a phase: the known rests around it (0: not known), the span of the picture there, its rest, and
    its weight: a picture of large rests counts no more than another."""
    row, column = PHASES[phase]
    known = {PHASES[i] for i in range(phase)}
    own = rest[:, row::2, column::2]

    def shifted(a: NDArray[np.int64], dy: int, dx: int) -> NDArray[np.int64]:
        wide = np.pad(a, ((0, 0), (1, 1), (1, 1)), mode="reflect")
        return wide[:, 1 + row + dy :: 2, 1 + column + dx :: 2][:, : own.shape[1], : own.shape[2]].ravel()

    around = [
        shifted(rest, dy, dx) if ((row + dy) % 2, (column + dx) % 2) in known else np.zeros(own.size, np.int64)
        for dy, dx in AROUND
    ]
    greys = [shifted(base, dy, dx) for dy, dx in (*AROUND, (0, 0))]
    weight = 1 / (np.abs(own).mean(axis=(1, 2)) + 0.5) ** 2
    calm = np.repeat(weight, own.shape[1] * own.shape[2])
    return np.stack(around, 1), np.max(greys, axis=0) - np.min(greys, axis=0), own.ravel(), calm
