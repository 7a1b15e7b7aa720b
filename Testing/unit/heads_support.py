"""A synthetic head and what segments it, for tests of proxies: of ellipsoids, 3 mm, with skull, skin and a nose."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.images.geometry import Geometry
from PPIRLogic.images.volume import Volume

SPACING = (3.0, 3.0, 3.0)
SHAPE = (72, 76, 64)  # z y x
RAS = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0)
NAMES = ("background", "grey matter", "white matter", "deep grey matter", "ventricles")


def _ellipsoid(centre: tuple[float, ...], axes: tuple[float, ...]) -> NDArray[np.bool_]:
    """Centre and half axes in mm, z y x, from the middle of the array."""
    grids = np.meshgrid(*((np.arange(n) - (n - 1) / 2) * 3.0 for n in SHAPE), indexing="ij")
    return np.asarray(sum(((g - c) / a) ** 2 for g, c, a in zip(grids, centre, axes, strict=True)) < 1)


def head(seed: int = 0, place: tuple[float, ...] = RAS) -> tuple[Volume, NDArray[np.uint8]]:
    """A T1-like scan and its tissues (0 to 4), each seed another person."""
    rng = np.random.default_rng(seed)
    size = 1 + 0.06 * rng.standard_normal(3)
    brain = tuple((np.array([62.0, 80.0, 66.0]) * size).tolist())
    wider = [tuple(a + mm for a in brain) for mm in (-9.0, 4.0, 10.0, 16.0)]
    middle = (12.0, 0.0, 0.0)
    values, labels = np.full(SHAPE, 4.0), np.zeros(SHAPE, np.uint8)
    values[_ellipsoid(middle, wider[3]) | _ellipsoid((-40.0, 75.0, 0.0), (20.0, 34.0, 16.0))] = 190.0  # skin, nose
    values[_ellipsoid(middle, wider[2])] = 12.0  # skull
    values[_ellipsoid(middle, wider[1])] = 50.0  # fluid
    for label, value, part in (
        (1, 110.0, _ellipsoid(middle, brain)),
        (2, 170.0, _ellipsoid(middle, wider[0])),
        (3, 140.0, _ellipsoid((6.0, 0.0, 14.0), (9.0, 14.0, 8.0)) | _ellipsoid((6.0, 0.0, -14.0), (9.0, 14.0, 8.0))),
        (4, 50.0, _ellipsoid((22.0, -6.0, 12.0), (9.0, 22.0, 8.0)) | _ellipsoid((22.0, -6.0, -12.0), (9.0, 22.0, 8.0))),
    ):
        values[part], labels[part] = value, label
    values[_ellipsoid((12.0, 34.0, 0.0), (16.0, 16.0, 16.0))] = 10.0  # a dark and a bright place, so that the range
    values[_ellipsoid((12.0, -40.0, 0.0), (16.0, 16.0, 16.0))] = 210.0  # of the greys is what the thresholds expect
    values += 3 * rng.standard_normal(SHAPE)
    grid = Geometry(SHAPE[::-1], SPACING, (90.0, 100.0, -100.0), place)
    return Volume(values, grid, "head.nrrd", modality="MR"), labels


def nose() -> NDArray[np.bool_]:
    """Where the nose and the mouth of every head are."""
    grids = np.indices(SHAPE)
    return np.asarray(_ellipsoid((-40.0, 75.0, 0.0), (20.0, 34.0, 16.0)) & (grids[1] > 55))


def brain_of(labels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """The mask of the brain itself."""
    return labels > 0


class Thresholds:
    """Segments by grey values alone, at once: what the network is in tests of everything around it."""

    names = NAMES
    digest = hashlib.sha256(b"thresholds").hexdigest()

    def probabilities(self, volume: NDArray[np.uint8], spacing: tuple[float, ...]) -> NDArray[np.uint8]:
        """uint8 (classes, z, y, x)."""
        found = np.zeros((len(self.names), *volume.shape), np.uint8)
        label = np.select([volume < 26, volume < 89, volume < 147, volume < 185], [0, 4, 1, 3], 2)
        for value in range(len(self.names)):
            found[value][label == value] = 255
        return found
