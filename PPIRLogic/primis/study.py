"""Images of many patients to train and to judge with: a folder, and perhaps who is on them and what they show."""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.errors import InputError
from PPIRLogic.files import shown_path
from PPIRLogic.images.reading import read_volume

TABLE = "labels.csv"  # columns image, patient, label; the last two may be missing
IMAGES, MASKS = "images", "lungs_silver"
SUFFIXES = (".png", ".tif", ".tiff", ".dcm", ".nrrd", ".mha", ".nii", ".nii.gz")
MAX_ROWS = 100_000
_APART = 77  # of 256: three patients in ten


@dataclass(frozen=True)
class Study:
    """Images of one size, each with its patient.

    images: uint8 (n, size, size). names: of the files. patients: of each image, as the table or DICOM says (a digest);
    a file of which nobody says whose it is counts as a patient of its own. labels: of each image, or empty. masks: bool
    (n, size, size), or None.
    """

    images: NDArray[np.uint8]
    names: tuple[str, ...]
    patients: tuple[str, ...]
    labels: tuple[str, ...] = ()
    masks: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.names)

    def part(self, chosen: NDArray[np.bool_] | Sequence[int]) -> Study:
        """The images that are chosen, by a mask or by index."""
        index = np.arange(len(self))[np.asarray(chosen)]
        labels = tuple(self.labels[i] for i in index) if self.labels else ()
        masks = self.masks[index] if self.masks is not None else None
        names, patients = (tuple(v[i] for i in index) for v in (self.names, self.patients))
        return replace(self, images=self.images[index], names=names, patients=patients, labels=labels, masks=masks)

    def split(self) -> tuple[Study, Study]:
        """To train with, and to judge with: no patient is in both, and a patient is on the same side everywhere."""
        apart = np.array([kept_apart(p) for p in self.patients], bool)
        return self.part(~apart), self.part(apart)


def kept_apart(patient: str) -> bool:
    """Whether a patient is one to judge with. By a digest of the name, so that no list has to be kept.

    >>> [kept_apart(p) for p in ("00000061", "00000211", "00000218")]
    [False, True, False]
    """
    return hashlib.sha256(patient.encode()).digest()[0] < _APART


def read_study(folder: str | os.PathLike[str], *, size: int = 160, most: int = 0) -> Study:
    """The images of `folder` (or of its folder 'images'), each cut to a square and averaged to `size` pixels.

    Of a volume, the middle slice. `labels.csv` in it may name patient and label of each image, and a folder
    `lungs_silver` may hold masks of the same names. most: so many images at most, the first by name (0: all).
    Errors: InputError for a folder, table or image that cannot be used.

    >>> read_study("nowhere")
    Traceback (most recent call last):
    PPIRLogic.errors.InputError: The folder 'nowhere' of images does not exist. Check the path.
    """
    top = Path(folder)
    if not top.is_dir():
        raise InputError(f"The folder '{shown_path(top)}' of images does not exist. Check the path.")
    inside = top / IMAGES if (top / IMAGES).is_dir() else top
    said = _read_table(top / TABLE) if (top / TABLE).is_file() else {}
    files = [p for p in sorted(inside.iterdir()) if p.name.lower().endswith(SUFFIXES)]
    files = [p for p in files if p.name in said] if said else files
    files = files[:most] if most else files
    if not files:
        raise InputError(f"The folder '{shown_path(inside)}' holds no image ({', '.join(SUFFIXES)}) that can be used.")
    images, patients, labels = [], [], []
    for path in files:
        volume = read_volume(path)
        patient, label = said.get(path.name, ("", ""))
        images.append(_eight_bits(averaged(_middle(volume.array, size, path), size)))
        patients.append(patient or volume.subject or path.name)
        labels.append(label)
    names = tuple(p.name for p in files)
    masks = _masks(top / MASKS, names, size)
    return Study(np.stack(images), names, tuple(patients), tuple(labels) if all(labels) else (), masks)


def _masks(folder: Path, names: Sequence[str], size: int) -> NDArray[np.bool_] | None:
    paths = [folder / name for name in names]
    if not all(path.is_file() for path in paths):
        return None
    inside = [(read_volume(path).array > 0).astype(np.float64) for path in paths]
    return np.stack([averaged(_middle(m, size, p), size) >= 0.5 for m, p in zip(inside, paths, strict=True)])


def _read_table(path: Path) -> dict[str, tuple[str, str]]:
    """(patient, label) by the name of the image."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [row for row, _ in zip(csv.DictReader(file), range(MAX_ROWS), strict=False)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"The table '{shown_path(path)}' cannot be read: {error}. Mend or remove it.") from None
    if not rows or "image" not in rows[0]:
        raise InputError(f"The table '{shown_path(path)}' has no column 'image'. Its columns: image, patient, label.")
    return {r["image"] or "": (r.get("patient") or "", r.get("label") or "") for r in rows}


def _eight_bits(grey: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Rounded; over all but the outermost greys of the image where they do not fit."""
    if grey.max() > 255 or grey.min() < 0:
        low, high = np.percentile(grey, [0.1, 99.9])
        grey = np.clip(255 * (grey - low) / max(float(high - low), 1e-9), 0, 255)
    return np.round(grey).astype(np.uint8)


def _middle(array: NDArray[Any], size: int, path: Path) -> NDArray[np.float64]:
    """The middle square of an image, of a volume's middle slice."""
    plane = array[len(array) // 2] if array.ndim == 3 else array
    side = min(plane.shape)
    if side < size:
        shape = " x ".join(map(str, plane.shape))
        raise InputError(f"The image '{shown_path(path)}' has {shape} pixels: {size} x {size} at least are needed.")
    top, left = ((n - side) // 2 for n in plane.shape)
    return np.asarray(plane[top : top + side, left : left + side], np.float64)


def averaged(square: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """A square image, averaged by area to size × size."""
    weights = _weights(len(square), size)
    out: NDArray[np.float64] = weights @ square @ weights.T
    return out


def _weights(side: int, size: int) -> NDArray[np.float64]:
    """(size, side): how much of every old pixel lies in every new one; rows sum to 1."""
    edges = np.arange(size + 1) * side / size
    low, high = edges[:-1, None], edges[1:, None]
    old = np.arange(side)[None]
    shared = np.clip(np.minimum(high, old + 1) - np.maximum(low, old), 0, None)
    weights: NDArray[np.float64] = shared / shared.sum(1, keepdims=True)
    return weights
