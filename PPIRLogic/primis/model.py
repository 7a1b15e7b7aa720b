"""What the codec has learned: the transform, the tables and the filter, under one digest."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.errors import InputError
from PPIRLogic.primis.coefficients import BINS, FINE, SUM, PlaneModel
from PPIRLogic.primis.entropy_coding import TOTAL, Tables
from PPIRLogic.primis.exact_residual import FINEST, PARTS, ResidualModel
from PPIRLogic.primis.transform import FRACTION, Stage, cosine_basis, lapped_border

STEPS = (120, 38, 15, 9)  # of the four lossy levels, in 255ths of the image's range
LOSSY = len(STEPS)
# Of weights with the same tables and another filter: files that were sealed with them open to the same codes.
SAME_TABLES = ("1272c1e2dfe76c6ed2e58474804577ec8db5617aa56042698e3031b7b23888b8",)
TABLES, FILTER, MANIFEST = "tables.npz", "filter.onnx", "manifest.json"


@dataclass(frozen=True)
class Model:
    """fine: blocks of 8 x 8; means: blocks of 4 x 4 of their means, each with a PlaneModel a level; tops: tables of the
    coarsest means, a row a level; residual: of the exact level; filter: what smooths a decoded picture, in ONNX, empty
    before it is trained; digest: SHA-256, hex."""

    fine: Stage
    means: Stage
    fine_levels: tuple[PlaneModel, ...]
    means_levels: tuple[PlaneModel, ...]
    tops: Tables
    residual: ResidualModel
    filter: bytes = b""

    @property
    def digest(self) -> str:
        """SHA-256 of the tables and the filter, hex."""
        return hashlib.sha256(digest_of(self.tables) + digest_of(self.filter)).hexdigest()

    @property
    def tables(self) -> bytes:
        """All but the filter, as a .npz file; the same model gives the same bytes."""
        out = io.BytesIO()
        np.savez(out, allow_pickle=False, **_arrays(self))
        return out.getvalue()

    @classmethod
    def of(cls, tables: bytes, filter_: bytes) -> Model:
        """The inverse of `tables` and `filter`."""
        with np.load(io.BytesIO(tables), allow_pickle=False) as kept:
            found = {name: kept[name] for name in kept.files}
        stages = [
            Stage(size, *(found[f"{name}_{part}"] for part in ("analysis", "synthesis", "before", "after")))
            for name, size in (("fine", 8), ("means", 4))
        ]
        levels = [
            tuple(
                PlaneModel(
                    found[f"{name}_bias"][level], found[f"{name}_near"][level], found[f"{name}_around"][level],
                    Tables(found[f"{name}_frequencies"][level]), found[f"{name}_shrink"][level],
                )
                for level in range(LOSSY)
            )
            for name in ("fine", "means")
        ]  # fmt: skip
        value, size, rough, bias = (found[f"rest_{part}"] for part in ("value", "size", "rough", "bias"))
        rest = ResidualModel(value, size, rough, bias, Tables(found["rest_frequencies"]))
        return cls(stages[0], stages[1], levels[0], levels[1], Tables(found["tops"]), rest, filter_)


def digest_of(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def _arrays(model: Model) -> dict[str, NDArray[Any]]:
    out: dict[str, NDArray[Any]] = {"tops": model.tops.frequencies.astype(np.uint16)}
    for name, stage, levels in (
        ("fine", model.fine, model.fine_levels),
        ("means", model.means, model.means_levels),
    ):
        for part in ("analysis", "before"):
            out[f"{name}_{part}"] = getattr(stage, part).astype(np.float32)
        for part in ("synthesis", "after"):
            out[f"{name}_{part}"] = getattr(stage, part).astype(np.int16 if FRACTION < 15 else np.int32)
        for part in ("bias", "near", "around", "shrink"):
            out[f"{name}_{part}"] = np.array([getattr(level, part) for level in levels], np.int32)
        out[f"{name}_frequencies"] = np.array([level.tables.frequencies for level in levels], np.uint16)
    for part in ("value", "size", "rough", "bias"):
        out[f"rest_{part}"] = getattr(model.residual, part).astype(np.int32)
    out["rest_frequencies"] = model.residual.tables.frequencies.astype(np.uint16)
    return out


def table(frequencies: NDArray[Any]) -> NDArray[np.int64]:
    """Rows of whole numbers that add up to about TOTAL, none nought, from counts of any size."""
    counts = np.asarray(frequencies, np.float64)
    symbols = counts.shape[-1]
    shares = counts / counts.sum(axis=-1, keepdims=True)
    return np.rint(shares * (TOTAL - 2 * symbols - 1)).astype(np.int64) + 1


def of_shape(sizes: NDArray[Any], reach: int) -> NDArray[np.int64]:
    """Tables of two-sided geometric numbers, a row for each mean size."""
    at = np.abs(np.arange(-reach, reach + 1))
    size = np.asarray(sizes, np.float64)[:, None]
    decay = size / (1 + size)
    rows = decay**at * np.where(at == 0, 1, 0.5)
    rows[:, [0, -1]] *= 1 + size
    return table(rows)


def of_noise(sizes: NDArray[Any], reach: int) -> NDArray[np.int64]:
    """Tables of rounded noise (logistic), a row for each mean size."""
    edges = np.arange(-reach, reach) + 0.5
    scaled = edges * (2 * np.log(2)) / np.asarray(sizes, np.float64)[:, None]
    below = 1 / (1 + np.exp(-np.clip(scaled, -50, 50)))
    return table(np.diff(below, axis=1, prepend=0, append=1))


def _start_planes(planes: int) -> PlaneModel:
    near = np.full((planes, planes), SUM // FINE // planes, np.int32)
    around = np.full((planes, 8), SUM // FINE // 10, np.int32)
    middles = 2.0 ** (np.arange(BINS) / 2 - 10)  # mean size, in steps
    rows = np.vstack([of_shape(middles, 12), of_shape(np.clip(middles, 0.4, 2), 12)])
    return PlaneModel(
        np.full(planes, SUM >> 9, np.int32), near, around, Tables(rows), np.zeros((planes, 2, 3), np.int32)
    )


def start() -> Model:
    """The model that training begins at: cosine transforms, weights and tables by rule of thumb."""
    size = np.full((4, 8), PARTS // 8, np.int64)
    size[0] = 0
    sizes = 2.0 ** ((np.arange(FINEST) - 24) / 4)
    residual = ResidualModel(
        np.zeros((4, 8), np.int64), size, np.array([40, 8, 4, 4]), np.full(4, 64), Tables(of_noise(sizes, 32))
    )
    return Model(
        Stage.of(cosine_basis(8), lapped_border(8)),
        Stage.of(cosine_basis(4), lapped_border(4)),
        (_start_planes(64),) * LOSSY,
        (_start_planes(16),) * LOSSY,
        Tables(of_shape(np.array([8.0] + [0.6] * (LOSSY - 1)), 24)),
        residual,
    )


@cache
def shipped() -> Model:
    """The model that comes with the program. Raises InputError if its files were changed."""
    folder = resources.files("PPIRLogic.primis") / "weights"
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    content = {name: (folder / name).read_bytes() for name in (TABLES, FILTER)}
    for name, found in content.items():
        if digest_of(found).hex() != manifest["sha256"][name]:
            raise InputError(f"The file {name} of PRIMIS's weights was changed. Install PPIRExtension again.")
    return Model.of(content[TABLES], content[FILTER])


@cache
def shipped_digest() -> str:
    return shipped().digest


def known(digest: str) -> Model:
    """The model of a digest, or an error that says what to do."""
    if digest not in (shipped_digest(), *SAME_TABLES):
        raise InputError(
            f"This image was sealed with the model {str(digest)[:12]}…, which this program does not have (it has"
            f" {shipped_digest()[:12]}…). Install the release of PPIRExtension that sealed it, or ask its owner to seal"
            " it again with this one."
        )
    return shipped()
