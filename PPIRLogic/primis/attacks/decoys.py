"""Attacks on codes with decoys: which entries are true, and what the image is, without the key."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.arrays import AnyArray
from PPIRLogic.primis import ambiguated
from PPIRLogic.primis.ambiguated import arrays, first, keep
from PPIRLogic.primis.code_maps import Quantised, quantise, reconstruct
from PPIRLogic.primis.evidence import need
from PPIRLogic.progress import CancelToken

_ROUNDS = 4
_TRIES = 8  # decoded images that are averaged
_MAX_ENTRIES = 400_000  # that a classifier learns from
_CROP = 64


def features(public: Quantised) -> AnyArray:
    """What can be said of each entry that is not nought, (entries, 14), in the order of `ambiguated.values`.

    Level, kind, coefficient, value and its size; how much lies in the same block, in the coefficients beside it, in the
    blocks around (as it is, and with the sign), in the other levels at this place.
    """
    parts = []
    sizes = [np.abs(a).astype(np.float64) for _, _, a in arrays(public)]
    for number, (level, kind, array) in enumerate(arrays(public)):
        where = np.nonzero(array)
        size, value = sizes[number], array.astype(np.float64)
        block = size.sum(-1, keepdims=True) - size
        count = (size > 0).sum(-1, keepdims=True) - (size > 0)
        beside = _shifted(size, -1, 1) + _shifted(size, -1, -1)
        around = list(_around(size))
        signed = [np.sign(value) * v for v in _around(value)]
        alike = sum(v for k, v in enumerate(sizes) if k % 2 == kind and k != number) + np.zeros(size.shape)
        index = np.broadcast_to(np.arange(array.shape[-1]), array.shape)
        far = [np.full(array.shape, float(level)), np.full(array.shape, float(kind))]
        columns = [
            *far, index, value, size, block + np.zeros(size.shape), count + np.zeros(size.shape), beside, alike,
            sum(around[:4]), sum(around[4:]), sum(signed[:2]), sum(signed[2:4]), sum(v > 0 for v in around),
        ]  # fmt: skip
        parts.append(np.stack([np.asarray(c, np.float32)[where] for c in columns], axis=1))
    return np.concatenate(parts)


def _shifted(array: AnyArray, axis: int, by: int) -> AnyArray:
    """Moved along an axis; nought comes in."""
    out = np.zeros_like(array)
    length = array.shape[axis]
    if abs(by) < length:
        into: list[slice] = [slice(None)] * array.ndim
        out_of = list(into)
        into[axis], out_of[axis] = slice(max(by, 0), length + min(by, 0)), slice(max(-by, 0), length + min(-by, 0))
        out[tuple(into)] = array[tuple(out_of)]
    return out


def _around(array: AnyArray) -> Iterator[AnyArray]:
    """The same coefficient in the blocks above, below, left and right, then in the corners."""
    for axis in (1, 2):
        for by in (1, -1):
            yield _shifted(array, axis, by)
    for down in (1, -1):
        for right in (1, -1):
            yield _shifted(_shifted(array, 1, down), 2, right)


class DecoyClassifier:
    """Gradient boosting on `features`, trained on codes of other patients whose truth the attacker has.

    Errors: MissingDependencyError without scikit-learn.
    """

    def __init__(self, seed: int = 0, trees: int = 150) -> None:
        self._seed, self._trees = seed, trees
        self._model: Any = None

    def fit(self, public: Sequence[Quantised], true: Sequence[NDArray[np.bool_]]) -> DecoyClassifier:
        """Learn from codes and which of their entries are true."""
        given, wanted = np.concatenate([features(p) for p in public]), np.concatenate(true)
        chosen = np.random.default_rng(self._seed).permutation(len(given))[:_MAX_ENTRIES]
        boosting = need("sklearn.ensemble").HistGradientBoostingClassifier
        self._model = boosting(max_iter=self._trees, learning_rate=0.15, random_state=self._seed, early_stopping=False)
        self._model.fit(given[chosen], wanted[chosen])
        return self

    def probabilities(self, public: Quantised) -> AnyArray:
        """How likely each entry is true."""
        return np.asarray(self._model.predict_proba(features(public))[:, 1])


def project(public: Quantised, progress: Callable[[int], None] = lambda round_: None) -> AnyArray:
    """How likely each entry is true, by what pictures are like alone: no other image, no training.

    The image of all entries is smoothed (total variation) and coded again: an entry that comes back at its place is
    likely true. The likelier half is believed more in the next round. MissingDependencyError without scikit-image.
    """
    smooth = need("skimage.restoration").denoise_tv_chambolle
    values = ambiguated.values(public).astype(np.float64)
    weights = np.full(len(values), 0.5)
    for round_ in range(_ROUNDS):
        grey = expected(public, weights, seed=round_)
        clean = smooth(grey / 255, weight=0.1 / (1 + round_)) * 255
        again = _coded_at(public, clean)
        back = np.sign(values) * again / np.abs(values)
        score = np.clip(back, -1, 2) * (0.5 + 0.5 * weights)
        weights = 1 / (1 + np.exp(-6 * (score - np.median(score))))
        progress(round_ + 1)
    return weights


def _coded_at(public: Quantised, image: AnyArray) -> AnyArray:
    """The entries of another image's maps at the places of these, in steps of their levels."""
    fresh = quantise(np.clip(np.rint(image), 0, 255).astype(public.dtype), len(public.maps))
    pairs = zip(arrays(public), arrays(fresh), strict=True)
    return np.concatenate([new[old != 0] for (_, _, old), (_, _, new) in pairs]).astype(np.float64)


def expected(public: Quantised, likely: AnyArray, seed: int = 0) -> AnyArray:
    """The mean of the images that the entries make, each kept as often as it is likely to be true."""
    draw = np.random.default_rng(seed)
    kept = (keep(public, draw.random(len(likely)) < likely) for _ in range(_TRIES))
    return np.asarray(np.mean([reconstruct(k) for k in kept], axis=0))


class SupervisedDecoder:
    """A small convolutional network from what is public to the image, trained on other patients (torch, one thread).

    It gets the image of all entries as they are, level by level, and, where a classifier is given, the image with each
    entry counting as much as it is likely. Errors: MissingDependencyError without torch.
    """

    def __init__(self, classifier: DecoyClassifier | None = None) -> None:
        self._classifier = classifier
        self._net: Any = None

    def views(self, public: Quantised) -> AnyArray:
        """(channels, y, x), the best guess first."""
        seen = [reconstruct(first(public, n)) for n in range(1, len(public.maps) + 1)][::-1]
        if self._classifier is not None:
            seen.insert(0, expected(public, self._classifier.probabilities(public)))
        return np.stack(seen).astype(np.float32) / 255 - 0.5

    def fit(
        self, public: Sequence[Quantised], images: AnyArray, *, steps: int = 600, seed: int = 0,
        cancel: CancelToken | None = None,
    ) -> SupervisedDecoder:  # fmt: skip
        """Learn from codes and their images, uint8 (n, y, x)."""
        torch = need("torch")
        torch.manual_seed(seed)
        draw = np.random.default_rng(seed)
        seen = np.stack([self.views(p) for p in public])
        wanted = images[:, None].astype(np.float32) / 255 - 0.5
        self._net = _residual_net(torch, seen.shape[1])
        adam = torch.optim.Adam(self._net.parameters(), 1e-3)
        side = min(_CROP, images.shape[-1])
        for _ in range(steps):
            if cancel is not None:
                cancel.check()
            i = draw.integers(0, len(seen), 4)
            top, left = draw.integers(0, images.shape[-1] - side + 1, 2)
            cut = (i, slice(None), slice(top, top + side), slice(left, left + side))
            adam.zero_grad()
            torch.nn.functional.mse_loss(self._net(torch.tensor(seen[cut])), torch.tensor(wanted[cut])).backward()
            adam.step()
        self._net.eval()
        return self

    def decode(self, public: Quantised) -> AnyArray:
        """The attacker's image, uint8 (y, x)."""
        torch = need("torch")
        with torch.no_grad():
            grey = self._net(torch.tensor(self.views(public)[None])).numpy()[0, 0]
        return np.clip(np.rint((grey + 0.5) * 255), 0, 255).astype(np.uint8)


def _residual_net(torch: Any, channels: int) -> Any:
    """The first channel, and what four layers add to it."""
    nn = torch.nn

    class Net(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            layers: list[Any] = []
            for before, after in ((channels, 24), (24, 24), (24, 24)):
                layers += [nn.Conv2d(before, after, 3, padding=1, padding_mode="replicate"), nn.ReLU()]
            self.layers = nn.Sequential(*layers, nn.Conv2d(24, 1, 3, padding=1, padding_mode="replicate"))

        def forward(self, x: Any) -> Any:
            return x[:, :1] + self.layers(x)

    return Net()
