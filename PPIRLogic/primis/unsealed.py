"""An image as far as a key opens it, and how it is written: never without what it is."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from PPIRLogic.arguments import as_path
from PPIRLogic.images.geometry import Geometry
from PPIRLogic.images.volume import Volume
from PPIRLogic.images.writing import write_volume
from PPIRLogic.primis.whole_files import AnyPath, read_small, refuse_unwritable, write_whole

if TYPE_CHECKING:
    import SimpleITK as sitk

_MAX_BESIDE = 2**20  # bytes
NOT_FOR_DIAGNOSIS = "not for diagnosis: this is a lossy picture of the image, not the image"


@dataclass(frozen=True)
class Unsealed:
    """An image as far as a key opens it.

    pixels: of the sealed type, (y, x) or (z, y, x). level: the name of the last level opened. exact: whether the pixels
    are bit for bit those that were sealed, which had been no fractions. geometry, tags: as they were sealed.

    >>> import numpy as np
    >>> from PPIRLogic.primis.extras import plain_grid
    >>> found = Unsealed(np.zeros((4, 4), np.uint8), plain_grid((4, 4)), "overview", False, "00" * 16, "00" * 32)
    >>> found.note
    'not for diagnosis: this is a lossy picture of the image, not the image'
    """

    pixels: NDArray[Any] = field(repr=False)
    geometry: Geometry
    level: str
    exact: bool
    image_id: str
    model: str
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def note(self) -> str:
        """What whoever looks at it must know; empty for an exact image."""
        return "" if self.exact else NOT_FOR_DIAGNOSIS

    @property
    def volume(self) -> Volume:
        """As a Volume (float32), named by its level."""
        return Volume(self.pixels, self.geometry, f"{self.level}{'' if self.exact else ' (not for diagnosis)'}")

    def to_sitk(self) -> sitk.Image:
        """As a SimpleITK image of the sealed type, with its level in the metadata."""
        import SimpleITK as sitk

        image = sitk.GetImageFromArray(self.pixels, isVector=False)
        self.geometry.stamp(image)
        image.SetMetaData("primis_level", self.level)
        image.SetMetaData("primis_note", self.note or "exact")
        return image

    def to_dict(self) -> dict[str, Any]:
        """What is known of it but its pixels, for the file beside it."""
        return {
            "image": self.image_id, "level": self.level, "exact": self.exact, "note": self.note, "model": self.model,
            "shape": list(self.pixels.shape), "dtype": self.pixels.dtype.name, "tags": self.tags,
            "geometry": self.geometry.to_dict(),
        }  # fmt: skip

    def write(self, path: AnyPath, *, overwrite: bool = False) -> Path:
        """Write the image, and beside it `NAME.json`, which says its level; returns the latter's path.

        InputError: one of the two exists and `overwrite` is false. OutputError: they cannot be written.
        """
        target = as_path(path, "The image's path")
        beside = refuse_unwritable(target, overwrite)
        words = (json.dumps(self.to_dict(), indent=2) + "\n").encode()
        # in this order, so that a lossy image never lies there without what it is, wherever a kill comes between
        if self.exact:
            write_volume(self.to_sitk(), target)
            write_whole(beside, words)
            return beside
        former = read_small(beside, _MAX_BESIDE, "The file beside the image") if beside.exists() else None
        write_whole(beside, words)
        try:
            write_volume(self.to_sitk(), target)
        except BaseException:
            beside.unlink(missing_ok=True)
            if former is not None:
                write_whole(beside, former)
            raise
        return beside
