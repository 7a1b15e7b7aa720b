"""`ppir primis train`: the transform, the tables and the filter from images, the same bytes from the same seed."""

from __future__ import annotations

import hashlib
import io
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.errors import InputError
from PPIRLogic.files import shown_path
from PPIRLogic.images.reading import read_volume
from PPIRLogic.primis.codec import FULL, Part, Window, decode_levels, encode, window_of
from PPIRLogic.primis.filter_training import torch_module, train_filter
from PPIRLogic.primis.fitting import learned_residual, learned_tables, learned_transform
from PPIRLogic.primis.levels import LEVELS
from PPIRLogic.primis.model import FILTER, LOSSY, MANIFEST, STEPS, TABLES, Model, start
from PPIRLogic.primis.study import Study, read_study
from PPIRLogic.progress import CancelToken

ROUNDS = 1200  # of the filter
_SWEEPS = 4  # of the tables
_VOLUMES = (".mha", ".mhd", ".nrrd", ".nii", ".gz")
_SLICES = 24  # of a volume
_ENLARGED = 16  # X-rays that are also shown at twice the size, with grain
_GRAIN = 1.5  # greys


@dataclass(frozen=True)
class TrainedCodec:
    """folder: where the weights lie; digest: of the model; sizes: bytes of each file; seconds; held_out: a row a level
    (name, bytes of all codes up to it, PSNR in dB, SSIM) on patients that were not trained on; images: how many."""

    folder: Path
    digest: str
    sizes: dict[str, int]
    seconds: float
    held_out: list[dict[str, Any]]
    images: dict[str, int]


def train(
    data: Sequence[str | Path],
    output: str | Path,
    *,
    seed: int = 0,
    rounds: int = ROUNDS,
    judged: int = 60,
    progress: Callable[[str, float], None] | None = None,
    cancel: CancelToken | None = None,
) -> TrainedCodec:
    """Learn the codec's weights from folders of images, and judge them on patients that were kept apart.

    data: folders of X-rays (see `read_study`) or of volumes (.mha, .nrrd, .nii), of which slices are taken. output: a
    folder for tables.npz, filter.onnx, manifest.json, report.json and report.png; a run that was stopped goes on from
    what it left there in `kept`. rounds: of the filter's training; judged: how many images to judge with. progress:
    told what is done and which part of it, 0 to 1.
    Errors: InputError for data that cannot be used, MissingDependencyError without the extra `train`, Cancelled.
    """
    torch_module()
    check = (cancel or CancelToken()).check
    say = progress or (lambda what, part: None)
    began = time.monotonic()
    folder = Path(output)
    study, volumes = _read(data)
    teach, judge = study.split()
    if len(teach) < 2 or not len(judge):
        raise InputError("Too few patients: some are kept apart to judge with. Give more images.")
    groups = _groups(teach, volumes, seed)
    kept = folder / "kept"
    kept.mkdir(parents=True, exist_ok=True)
    _check_kept(kept, groups, seed, rounds)
    model, decoded, wanted = _tables(groups, kept, say, check, seed)
    filter_ = train_filter(
        decoded, wanted, STEPS, seed=seed, rounds=rounds, kept=kept / "filter.npz", check=check,
        progress=lambda done, loss: say(f"filter (loss {loss:.3f})", 0.4 + 0.5 * done / rounds),
    )  # fmt: skip
    model = replace(model, filter=filter_)
    images = {"X-rays": len(teach), "patients": len(set(teach.patients)), "slices": sum(len(v) for v in volumes)}
    rows = judge_on(model, judge.images[:judged], lambda part: say("judging", 0.9 + 0.1 * part), check)
    trained = TrainedCodec(
        folder, model.digest, {TABLES: len(model.tables), FILTER: len(filter_)}, time.monotonic() - began, rows, images
    )
    _write(trained, model, seed, rounds)
    say("finished", 1.0)
    return trained


def _read(data: Sequence[str | Path]) -> tuple[Study, list[NDArray[np.float32]]]:
    """The X-rays of one folder, and slices of all volumes of the others."""
    studies: list[Study] = []
    volumes: list[NDArray[np.float32]] = []
    for name in data:
        files = sorted(p for p in Path(name).glob("*") if p.suffix.lower() in _VOLUMES and "mask" not in p.name)
        if files:
            volumes += [_slices(p) for p in files]
        else:
            studies.append(read_study(name))
    if len(studies) != 1:
        raise InputError(f"Give one folder of X-rays (and any of volumes), not {len(studies)}.")
    return studies[0], volumes


def _slices(path: Path) -> NDArray[np.float32]:
    array = read_volume(path).array
    if array.ndim != 3:
        raise InputError(f"'{shown_path(path)}' is not a volume. Give volumes, or a folder of X-rays.")
    inner = array[len(array) // 6 : len(array) - len(array) // 6]
    return inner[:: max(1, len(inner) // _SLICES)]


def _groups(teach: Study, volumes: Sequence[NDArray[np.float32]], seed: int) -> list[NDArray[np.int64]]:
    """Pictures (n, y, x) of one size each: X-rays, some of them enlarged, and slices."""
    rng = np.random.default_rng(seed)
    some = teach.images[:: max(1, len(teach) // _ENLARGED)][:_ENLARGED].astype(np.float64)
    large = np.repeat(np.repeat(some, 2, axis=1), 2, axis=2)
    for axis in (1, 2):
        large = (np.roll(large, 1, axis) + 2 * large + np.roll(large, -1, axis)) / 4
    large = np.clip(np.rint(large + rng.normal(0, _GRAIN, large.shape)), 0, 255)
    groups: list[NDArray[Any]] = [teach.images, large, *(np.rint(v) for v in volumes)]
    return [g.astype(np.int64) for g in groups]


def _inside(group: NDArray[np.int64], whole: bool) -> tuple[NDArray[np.float64], list[Window]]:
    """A group as the codec has it inside, with the windows: one a picture, or one for the whole volume."""
    if whole:
        windows = [window_of(group.astype(np.int16), 1.0)] * len(group)
    else:
        windows = [window_of(picture.astype(np.uint8), 1.0) for picture in group]
    return np.stack([w.inward(p) for w, p in zip(windows, group, strict=True)]), windows


def _check_kept(kept: Path, groups: Sequence[NDArray[np.int64]], seed: int, rounds: int) -> None:
    """What lies in `kept` must be of the same run."""
    digest = hashlib.sha256(f"{seed} {rounds} {STEPS}".encode())
    for group in groups:
        digest.update(group.tobytes())
    name = kept / "run.txt"
    if name.is_file() and name.read_text(encoding="utf-8") != digest.hexdigest():
        raise InputError(
            f"'{shown_path(kept)}' was left by a training with other images, seed or rounds. Give another output folder"
            ", or remove that one."
        )
    name.write_text(digest.hexdigest(), encoding="utf-8")


def _tables(
    groups: Sequence[NDArray[np.int64]], kept: Path, say: Callable[[str, float], None], check: Callable[[], None],
    seed: int,
) -> tuple[Model, list[list[NDArray[np.float32]]], list[NDArray[np.float32]]]:  # fmt: skip
    """All but the filter, and what to train that on."""
    pairs = [_inside(group, whole=i > 1) for i, group in enumerate(groups)]
    pictures = [p for p, _ in pairs]
    done = kept / TABLES
    if done.is_file():
        model = Model.of(done.read_bytes(), b"")
    else:
        say("transform", 0.0)
        model = learned_transform(pictures, start())
        say("weights of the contexts", 0.02)
        model, _ = learned_tables(pictures, model, np.random.default_rng(seed), check)
        for sweep in range(_SWEEPS):
            say(f"tables, sweep {sweep + 1} of {_SWEEPS}", 0.2 + 0.04 * sweep)
            model, decoded = learned_tables(pictures, model, None, check)
        # What is kept has rounded numbers: go on with those.
        model = Model.of(model.tables, b"")
    say("decoding", 0.35)
    decoded = _decoded(pictures, model, check)
    if not done.is_file():
        bases = [
            np.stack([w.outward(p, "int16") for w, p in zip(windows, base, strict=True)])
            for (_, windows), base in zip(pairs, decoded[-1], strict=True)
        ]
        model = Model.of(replace(model, residual=learned_residual(groups, bases, model, check)).tables, b"")
        done.write_bytes(model.tables)
    shown = [[(d / FULL).astype(np.float32) for d in level] for level in decoded]
    return model, shown, [(p / FULL).astype(np.float32) for p in pictures]


def _decoded(
    pictures: Sequence[NDArray[np.float64]], model: Model, check: Callable[[], None]
) -> list[list[NDArray[np.float64]]]:
    parts = [Part.of(p.shape, model, p) for p in pictures]
    out = []
    for level in range(LOSSY):
        for part in parts:
            part.refine(level, STEPS[level] * (FULL // 255), model, None, check)
        out.append([part.picture(model) for part in parts])
    return out


def judge_on(
    model: Model, images: NDArray[np.uint8], progress: Callable[[float], None], check: Callable[[], None]
) -> list[dict[str, Any]]:
    """Mean bytes (of all codes up to the level), PSNR and SSIM of each level, and whether the exact one is exact."""
    from skimage.metrics import structural_similarity

    found = np.zeros((len(LEVELS), 3))
    for number, image in enumerate(images):
        check()
        coded = encode(image, model=model)
        shown = decode_levels(coded.codes, coded.shape, coded.dtype, model)
        for level, back in enumerate(shown):
            size = sum(len(c) for c in coded.codes[: level + 1])
            error = max(float(np.mean((back.astype(float) - image) ** 2)), 1e-3)
            found[level] += size, 10 * np.log10(255**2 / error), structural_similarity(image, back, data_range=255)
        if not np.array_equal(shown[-1], image):
            raise InputError("The exact level did not give an image back. Report this.")
        progress((number + 1) / len(images))
    found /= len(images)
    return [
        {"level": name, "bytes": round(float(size), 1), "psnr": round(float(psnr), 2), "ssim": round(float(ssim), 4)}
        for name, (size, psnr, ssim) in zip(LEVELS, found, strict=True)
    ]


def _write(trained: TrainedCodec, model: Model, seed: int, rounds: int) -> None:
    content = {TABLES: model.tables, FILTER: model.filter}
    for name, data in content.items():
        (trained.folder / name).write_bytes(data)
    manifest = {
        "model": model.digest,
        "sha256": {name: hashlib.sha256(data).hexdigest() for name, data in content.items()},
        "seed": seed,
        "rounds": rounds,
    }
    (trained.folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    report = manifest | {"seconds": round(trained.seconds), "images": trained.images, "held out": trained.held_out}
    (trained.folder / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    (trained.folder / "report.png").write_bytes(_figure(trained.held_out))


def _figure(rows: Sequence[dict[str, Any]]) -> bytes:
    """PSNR and SSIM of the lossy levels against bytes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.4), dpi=120, facecolor="white", layout="constrained")
    for axes, what, unit in zip(figure.subplots(1, 2), ("psnr", "ssim"), ("PSNR (dB)", "SSIM"), strict=True):
        lossy = rows[:LOSSY]
        axes.plot([r["bytes"] for r in lossy], [r[what] for r in lossy], "o-")
        for row in lossy:
            axes.annotate(row["level"], (row["bytes"], row[what]), textcoords="offset points", xytext=(6, -10))
        axes.set_xlabel("bytes of all codes up to the level")
        axes.set_ylabel(unit)
        axes.set_xlim(0, 1.35 * lossy[-1]["bytes"])
        axes.grid(alpha=0.3)
    out = io.BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()
