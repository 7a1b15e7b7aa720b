"""`ppir proxy train`: the segmentation network and the spectrum from label maps, the same bytes from the same seed."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from PPIRLogic.errors import InputError
from PPIRLogic.files import shown_path
from PPIRLogic.progress import CancelToken
from PPIRLogic.proxy import train_generator, train_segmentation
from PPIRLogic.proxy.segmentation import MANIFEST, NETWORK, Segmenter
from PPIRLogic.proxy.spectrum import SPECTRUM, Spectrum
from PPIRLogic.proxy.train_judging import judged
from PPIRLogic.proxy.train_lengths import GENERATOR_STEPS, STEPS
from PPIRLogic.proxy.train_networks import torch_module
from PPIRLogic.proxy.train_scans import LabelMap, Scanner, read_label_maps
from PPIRLogic.proxy.train_subjects import make_pool

SUBJECTS = 96  # virtual ones that the generator is learned with
_APART = 0.2  # of the label maps, the last ones by name: to judge with


@dataclass(frozen=True)
class TrainedNetworks:
    """folder: where the weights lie; model: SHA-256 of the network; spectrum: what was learned; sizes: bytes of each
    file; seconds; held_out: a row a strength (mm, Dice of each class on maps that were not trained on)."""

    folder: Path
    model: str
    spectrum: Spectrum
    sizes: dict[str, int]
    seconds: float
    held_out: list[dict[str, Any]]


def train(
    data: str | Path,
    output: str | Path,
    *,
    seed: int = 0,
    steps: int = STEPS,
    generator_steps: int = GENERATOR_STEPS,
    subjects: int = SUBJECTS,
    progress: Callable[[str, float], None] | None = None,
    cancel: CancelToken | None = None,
) -> TrainedNetworks:
    """Train both, and judge them on label maps that were kept apart.

    data: a folder of label maps (`*labels.nrrd`, FreeSurfer's numbers, 2 mm). output: a folder for segmentation.onnx,
    spectrum.json, manifest.json and report.json; a run that was stopped goes on from what it left there in `kept`.
    progress: told what is done and which part of it, 0 to 1. One thread.
    Errors: InputError for data that cannot be used, MissingDependencyError without the extra `train`, Cancelled.
    """
    torch = torch_module()
    check = (cancel or CancelToken()).check
    say = progress or (lambda what, part: None)
    began = time.monotonic()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    maps = read_label_maps(data)
    teach, judge = split(maps)
    folder, kept = Path(output), Path(output) / "kept"
    kept.mkdir(parents=True, exist_ok=True)
    _check_kept(kept, maps, (seed, steps, generator_steps, subjects))
    scanner = Scanner(torch, teach)
    network = train_segmentation.train_segmentation(
        scanner, seed=seed, steps=steps, kept=kept, check=check,
        progress=lambda done, loss: say(f"segmentation (loss {loss:.3f})", 0.65 * done / steps),
    )  # fmt: skip
    pool = make_pool(scanner, subjects, seed + 1, check)
    spectrum = train_generator.train_generator(
        scanner, pool, network, seed=seed, steps=generator_steps, kept=kept,
        check=check, progress=lambda done, words: say(f"generator ({words})", 0.65 + 0.3 * done / generator_steps),
    )  # fmt: skip
    content = {NETWORK: train_segmentation.as_onnx(torch, network), SPECTRUM: spectrum.to_json().encode()}
    rows = judged(Scanner(torch, judge), Segmenter.of(content[NETWORK]), spectrum, seed, check)
    sizes = {name: len(data) for name, data in content.items()}
    trained = TrainedNetworks(folder, _digest(content[NETWORK]), spectrum, sizes, time.monotonic() - began, rows)
    _write(trained, content, {"seed": seed, "steps": steps, "generator_steps": generator_steps, "subjects": subjects})
    say("finished", 1.0)
    return trained


def split(maps: Sequence[LabelMap]) -> tuple[list[LabelMap], list[LabelMap]]:
    """Label maps to train on, and to judge with. InputError if there are too few."""
    apart = max(1, int(len(maps) * _APART))
    if len(maps) < 3:
        raise InputError(f"Training needs at least 3 label maps, of which some are kept apart; {len(maps)} are here.")
    return list(maps[:-apart]), list(maps[-apart:])


def _check_kept(kept: Path, maps: Sequence[LabelMap], numbers: tuple[int, ...]) -> None:
    """What lies in `kept` must be of the same run."""
    digest = hashlib.sha256(repr(numbers).encode())
    for one in maps:
        digest.update(np.ascontiguousarray(one.tissues).tobytes())
    name = kept / "run.txt"
    if name.is_file() and name.read_text(encoding="utf-8") != digest.hexdigest():
        raise InputError(
            f"'{shown_path(kept)}' was left by a training with other label maps, seed or steps. Give another output"
            " folder, or remove that one."
        )
    name.write_text(digest.hexdigest(), encoding="utf-8")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _write(trained: TrainedNetworks, content: dict[str, bytes], run: dict[str, int]) -> None:
    for name, data in content.items():
        (trained.folder / name).write_bytes(data)
    manifest = {"model": trained.model, "sha256": {name: _digest(data) for name, data in content.items()}, **run}
    (trained.folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    report = manifest | {"seconds": round(trained.seconds), "held out": trained.held_out}
    (trained.folder / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
