"""Which files are read, and what must be right about each before ITK reads it.

ITK's readers fill what is missing with zeros, or with what happens to be in memory. So every format that is offered is
checked here first: its length against its header, its check values, and the place that it gives the voxels. Formats of
which this cannot be said are not offered (Docs/decisions/0007).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PPIRLogic.images.checks.dicom_file import is_dicom
from PPIRLogic.images.checks.metaimage import check_metaimage
from PPIRLogic.images.checks.nifti import check_nifti, is_nifti
from PPIRLogic.images.checks.nrrd import check_nrrd
from PPIRLogic.images.checks.pictures import check_png, check_tiff
from PPIRLogic.images.checks.reasons import Damaged, Unusable

__all__ = ["FORMATS", "READABLE", "Damaged", "Format", "Unusable", "format_of"]

READABLE = ".nrrd, .nhdr, .mha, .mhd, .nii, .nii.gz, .hdr with .img, DICOM, .png, .tif"
_HEAD = 512


@dataclass(frozen=True)
class Format:
    """A format that is offered. reader: ITK's name of it. check: raises Damaged or Unusable."""

    name: str
    reader: str
    matches: Callable[[str, bytes], bool]
    check: Callable[[Path], None]


def _no_check(path: Path) -> None:
    """DICOM files are checked together."""


FORMATS = (
    Format("NRRD", "NrrdImageIO", lambda name, head: head.startswith(b"NRRD000"), check_nrrd),
    Format("PNG", "PNGImageIO", lambda name, head: head.startswith(b"\x89PNG\r\n\x1a\n"), check_png),
    Format("TIFF", "TIFFImageIO", lambda name, head: head[:4] in (b"II*\0", b"MM\0*"), check_tiff),
    Format("DICOM", "GDCMImageIO", lambda name, head: is_dicom(head), _no_check),
    Format(
        "NIfTI", "NiftiImageIO",
        lambda name, head: name.endswith((".nii", ".nii.gz", ".hdr", ".hdr.gz", ".img", ".img.gz"))
        and (is_nifti(head) or head[:2] == b"\x1f\x8b" or name.endswith((".img", ".img.gz"))),
        check_nifti,
    ),
    Format("MetaImage", "MetaImageIO", lambda name, head: name.endswith((".mha", ".mhd")), check_metaimage),
)  # fmt: skip


def format_of(path: Path) -> Format | None:
    """The format of a file by its beginning and its name; None if it is not one that is offered."""
    with open(path, "rb") as file:
        head = file.read(_HEAD)
    return next((f for f in FORMATS if f.matches(path.name.lower(), head)), None)
