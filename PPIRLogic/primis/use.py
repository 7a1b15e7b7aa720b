"""What decoded images are still good for: the same classifier, segmenter and texture on originals and on decoded ones.

All three are ordinary and small: what is measured is the loss between original and decoded, not the best diagnosis.
Needs the extra `train`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.arrays import AnyArray
from PPIRLogic.primis.evidence import need
from PPIRLogic.progress import CancelToken

TEXTURES = ("contrast", "dissimilarity", "homogeneity", "energy", "correlation")
GREYS = 32  # of the co-occurrence matrix
_FINE = 80  # pixels of an image whose gradients are looked at; finer ones are noise, also to a radiologist's label
_COARSE = 20
_BATCH = 8


def smaller(images: AnyArray, size: int) -> AnyArray:
    """Images (n, y, x) averaged over whole blocks to (n, size, size), float; or as they are if they do not divide."""
    n, rows, columns = images.shape
    if rows % size or columns % size:
        return images.astype(np.float64)
    shape = (n, size, rows // size, size, columns // size)
    return np.asarray(images.reshape(shape).mean((2, 4), dtype=np.float64))


class Classifier:
    """Logistic regression on gradient histograms and a coarse copy of the image.

    size: pixels to which an image is averaged before its gradients are taken.
    Errors: MissingDependencyError without scikit-learn or scikit-image.
    """

    def __init__(self, size: int = _FINE) -> None:
        self._size = size
        self._model: Any = None

    def fit(self, images: AnyArray, positive: AnyArray) -> Classifier:
        """Learn from uint8 images (n, y, x) and bool labels (n,)."""
        linear, pipeline, scale = (need(f"sklearn.{m}") for m in ("linear_model", "pipeline", "preprocessing"))
        regression = linear.LogisticRegression(C=1e-3, max_iter=2000)
        self._model = pipeline.make_pipeline(scale.StandardScaler(), regression).fit(self._features(images), positive)
        return self

    def scores(self, images: AnyArray) -> AnyArray:
        """One number an image: the higher, the likelier it is positive."""
        return np.asarray(self._model.decision_function(self._features(images)))

    def _features(self, images: AnyArray) -> AnyArray:
        hog = need("skimage.feature").hog
        cell = max(self._size // 10, 4)
        gradients = [hog(i / 255, 9, (cell, cell), (2, 2), feature_vector=True) for i in smaller(images, self._size)]
        return np.hstack([gradients, smaller(images, _COARSE).reshape(len(images), -1) / 255])


class LungSegmenter:
    """A small U-Net (torch, one thread) that finds the lungs on images averaged to 80 pixels.

    Errors: MissingDependencyError without torch.
    """

    def __init__(self, channels: tuple[int, int, int] = (8, 16, 32)) -> None:
        self._channels = channels
        self._net: Any = None

    def fit(
        self,
        images: AnyArray,
        masks: AnyArray,
        *,
        epochs: int = 10,
        seed: int = 0,
        progress: Callable[[int, int], None] = lambda done, of: None,
        cancel: CancelToken | None = None,
    ) -> LungSegmenter:
        """Learn from uint8 images and bool masks (n, y, x). progress(epochs done, epochs)."""
        torch = need("torch")
        torch.manual_seed(seed)
        self._net = _u_net(torch, self._channels)
        given, wanted = self._input(images), torch.tensor(smaller(masks, _FINE)[:, None], dtype=torch.float32)
        steps = epochs * -(-len(images) // _BATCH)
        adam = torch.optim.Adam(self._net.parameters(), 2e-3)
        pace = torch.optim.lr_scheduler.OneCycleLR(adam, 5e-3, steps + 1)
        loss_of = torch.nn.functional.binary_cross_entropy_with_logits
        for epoch in range(epochs):
            for chosen in torch.randperm(len(images)).split(_BATCH):
                if cancel is not None:
                    cancel.check()
                adam.zero_grad()
                loss_of(self._net(given[chosen]), wanted[chosen]).backward()
                adam.step()
                pace.step()
            progress(epoch + 1, epochs)
        self._net.eval()
        return self

    def masks(self, images: AnyArray) -> NDArray[np.bool_]:
        """Where the lungs are, bool, of the images' shape."""
        torch = need("torch")
        with torch.no_grad():
            found = torch.cat([self._net(part) for part in self._input(images).split(32)])
            found = torch.nn.functional.interpolate(found, size=images.shape[1:], mode="bilinear")
        return cast("NDArray[np.bool_]", found.numpy()[:, 0] > 0)

    @staticmethod
    def _input(images: AnyArray) -> Any:
        torch = need("torch")
        grey = smaller(images, _FINE)
        grey = (grey - grey.mean((1, 2), keepdims=True)) / (grey.std((1, 2), keepdims=True) + 1e-3)
        return torch.tensor(grey[:, None], dtype=torch.float32)


def _u_net(torch: Any, channels: tuple[int, int, int]) -> Any:
    """Three resolutions; the coarser ones are added to the finer by interpolation."""
    nn, functional = torch.nn, torch.nn.functional

    def block(before: int, after: int) -> Any:
        layers: list[Any] = []
        for first in (before, after):
            layers += [nn.Conv2d(first, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
        return nn.Sequential(*layers)

    class UNet(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            fine, middle, coarse = channels
            self.down = nn.ModuleList([block(1, fine), block(fine, middle), block(middle, coarse)])
            self.up = nn.ModuleList([block(coarse + middle, middle), block(middle + fine, fine)])
            self.last = nn.Conv2d(fine, 1, 1)

        def forward(self, x: Any) -> Any:
            fine = self.down[0](x)
            middle = self.down[1](functional.max_pool2d(fine, 2))
            out = self.down[2](functional.max_pool2d(middle, 2))
            for layer, beside in zip(self.up, (middle, fine), strict=True):
                wider = functional.interpolate(out, size=beside.shape[2:], mode="bilinear")
                out = layer(torch.cat([wider, beside], 1))
            return self.last(out)

    return UNet()


def dice(one: AnyArray, other: AnyArray) -> AnyArray:
    """Overlap of masks (n, y, x), for each image; 1 where both are empty.

    >>> dice(np.array([[[1, 1, 0]]]), np.array([[[1, 0, 0]]]))
    array([0.66666667])
    """
    a, b = (np.asarray(m, bool).reshape(len(m), -1) for m in (one, other))
    sizes = a.sum(1) + b.sum(1)
    return np.where(sizes > 0, 2 * (a & b).sum(1) / np.maximum(sizes, 1), 1.0)


def texture(images: AnyArray) -> AnyArray:
    """The features TEXTURES of uint8 images (n, y, x), (n, 5): of the grey-level co-occurrence matrix of 32 levels, at
    a distance of 1 pixel, as the mean over four directions. MissingDependencyError without scikit-image."""
    feature = need("skimage.feature")
    angles = [k * np.pi / 4 for k in range(4)]
    rows = []
    for image in images:
        grey = (image.astype(np.int64) * GREYS // 256).astype(np.uint8)
        matrix = feature.graycomatrix(grey, [1], angles, levels=GREYS, symmetric=True, normed=True)
        rows.append([feature.graycoprops(matrix, name).mean() for name in TEXTURES])
    return np.array(rows)
