"""What the generator has learned: how strong the deformation is, by region of the head and by scale."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from importlib import resources

from PPIRLogic.errors import InputError

ONE = 1024  # amplitudes are whole numbers in units of 1/ONE
MAX_AMPLITUDE = 64 * ONE
SPECTRUM, MANIFEST = "spectrum.json", "manifest.json"


@dataclass(frozen=True)
class Spectrum:
    """scales_mm: distances of the control points, coarse to fine. amplitudes: a row a region, from the rim of the mask
    to its depth, a column a scale; only their ratios count, since the field is scaled to its strength afterwards.

    >>> Spectrum.plain().amplitudes
    ((870, 512),)
    """

    scales_mm: tuple[int, ...]
    amplitudes: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        rows = self.amplitudes
        whole = all(isinstance(n, int) for row in (self.scales_mm, *rows) for n in row)
        if (
            not whole
            or not self.scales_mm
            or not rows
            or any(len(row) != len(self.scales_mm) for row in rows)
            or not all(0 <= n <= MAX_AMPLITUDE for row in rows for n in row)
            or not all(8 <= n <= 400 for n in self.scales_mm)
            or not any(any(row) for row in rows)
        ):
            raise InputError("A table of amplitudes is not one. Install PPIRExtension again, or train anew.")

    @property
    def regions(self) -> int:
        return len(self.amplitudes)

    @classmethod
    def plain(cls) -> Spectrum:
        """The same everywhere, at two scales: what has learned nothing."""
        return cls((56, 28), ((870, 512),))

    def to_json(self) -> str:
        """The same table gives the same bytes."""
        content = {"scales_mm": self.scales_mm, "amplitudes": self.amplitudes, "one": ONE}
        return json.dumps(content, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Spectrum:
        """The inverse of `to_json`. Raises InputError for anything else."""
        try:
            content = json.loads(text)
            if content["one"] != ONE:
                raise ValueError
            return cls(tuple(content["scales_mm"]), tuple(tuple(row) for row in content["amplitudes"]))
        except (ValueError, KeyError, TypeError):
            raise InputError("A table of amplitudes is not one. Install PPIRExtension again, or train anew.") from None

    @property
    def digest(self) -> str:
        """SHA-256 of the JSON, hex."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @classmethod
    def shipped(cls) -> Spectrum:
        """The table that comes with the program. Raises InputError if its file was changed."""
        return _shipped()


@cache
def _shipped() -> Spectrum:
    folder = resources.files("PPIRLogic.proxy") / "weights"
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    content = (folder / SPECTRUM).read_bytes()
    if hashlib.sha256(content).hexdigest() != manifest["sha256"][SPECTRUM]:
        raise InputError(f"The file {SPECTRUM} of the proxy's weights was changed. Install PPIRExtension again.")
    return Spectrum.from_json(content)
