"""The network that segments a proxy at the server (ONNX Runtime): tissue probabilities of a prepared volume."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.errors import InputError, MissingDependencyError
from PPIRLogic.files import shown_path
from PPIRLogic.proxy.resampling import resampled

NETWORK, MANIFEST = "segmentation.onnx", "manifest.json"
NAMES = ("background", "grey matter", "white matter", "deep grey matter", "ventricles")
_MERGED = (0, 1, 2, 3, 4, 0, 3)  # which of the names each class of the network counts as
SPACING_MM = 2.0  # of the network's grid
_MULTIPLE = 8  # voxels: what the sides are filled up to
MAX_VOXELS = 1 << 25
MAX_BYTES = 2_000_000


@dataclass(frozen=True)
class Segmenter:
    """content: an ONNX file; digest: its SHA-256, hex, which names the model; threads: of ONNX Runtime."""

    content: bytes
    digest: str
    threads: int = 1

    @property
    def names(self) -> tuple[str, ...]:
        """What the probabilities are of, in order."""
        return NAMES

    @classmethod
    def of(cls, content: bytes, threads: int = 1) -> Segmenter:
        return cls(content, hashlib.sha256(content).hexdigest(), threads)

    @classmethod
    def from_file(cls, path: str | Path, threads: int = 1) -> Segmenter:
        """The network of an ONNX file that `ppir proxy train` wrote. Raises InputError for any other file."""
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            raise InputError(f"The model '{shown_path(Path(path))}' cannot be read: {error.strerror}.") from None
        found = cls.of(content, threads)
        try:
            shape = _session(content, threads).get_inputs()[0].shape
        except MissingDependencyError:
            raise
        except Exception:  # ONNX Runtime has many
            shape = []
        if list(shape)[:2] != [1, 1]:
            raise InputError(
                f"'{shown_path(Path(path))}' is not a model of the proxy. Give what `ppir proxy train` wrote."
            )
        return found

    @classmethod
    def shipped(cls, threads: int = 1) -> Segmenter:
        """The network that comes with the program. Raises InputError if its file was changed."""
        return cls.of(_shipped(), threads)

    def probabilities(self, volume: NDArray[np.uint8], spacing: Sequence[float]) -> NDArray[np.uint8]:
        """Shares in 255ths (names, z, y, x), which add up to about 255.

        volume: uint8 (z, y, x), as prepared, x to the right, y to the front, z up; spacing: mm (x, y, z). Raises
        InputError for what is no such volume, or too large.
        """
        if volume.ndim != 3 or volume.dtype != np.uint8 or not all(volume.shape) or volume.size > MAX_VOXELS:
            raise InputError(f"The network takes a volume of 8-bit greys and at most {MAX_VOXELS} voxels.")
        if len(spacing) != 3 or not all(0.2 <= s <= 10 for s in spacing):
            raise InputError("The network takes voxels of 0.2 to 10 mm along each axis. Resample the volume.")
        extents = [n * s for n, s in zip(volume.shape, spacing[::-1], strict=True)]
        sides = [max(1, round(e / SPACING_MM)) for e in extents]
        if np.prod([s + _MULTIPLE for s in sides]) > MAX_VOXELS // 4:
            raise InputError("The volume is larger than a head. Cut it to the head.")
        there = resampled(volume.astype(np.float32) / 255, sides)
        back = self._at_network_grid(there)
        return np.stack([_to_bytes(resampled(share, volume.shape)) for share in back])

    def _at_network_grid(self, volume: NDArray[np.float32]) -> NDArray[np.float32]:
        """Shares (names, z, y, x) of a volume of the network's spacing."""
        before = [(-n % _MULTIPLE) // 2 for n in volume.shape]
        filled = np.pad(volume, [(b, -n % _MULTIPLE - b) for b, n in zip(before, volume.shape, strict=True)])
        given = {"volume": np.ascontiguousarray(filled[None, None])}
        logits = _session(self.content, self.threads).run(None, given)[0][0]
        logits -= logits.max(axis=0, keepdims=True)
        shares = np.exp(logits, out=logits)
        shares /= shares.sum(axis=0, keepdims=True)
        whole = np.stack([sum(shares[c] for c, m in enumerate(_MERGED) if m == k) for k in range(len(NAMES))])
        return whole[(slice(None), *(slice(b, b + n) for b, n in zip(before, volume.shape, strict=True)))]


def merged(classes: NDArray[Any]) -> NDArray[np.int64]:
    """Classes of the network as numbers of the names."""
    return np.array(_MERGED)[classes]


def _to_bytes(share: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.rint(np.clip(share, 0, 1) * 255).astype(np.uint8)


@cache
def _session(content: bytes, threads: int) -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise MissingDependencyError(
            "Segmenting needs the package onnxruntime: pip install 'PPIRExtension[proxy]'."
        ) from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


@cache
def _shipped() -> bytes:
    folder = resources.files("PPIRLogic.proxy") / "weights"
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    content = (folder / NETWORK).read_bytes()
    if hashlib.sha256(content).hexdigest() != manifest["sha256"][NETWORK]:
        raise InputError(f"The file {NETWORK} of the proxy's weights was changed. Install PPIRExtension again.")
    return content
