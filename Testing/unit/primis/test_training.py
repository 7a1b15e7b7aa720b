"""`train` on a few images: the same bytes twice, after an interruption too; what it says; what it cannot use.

Only where the extra `train` is installed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from PPIRLogic.errors import Cancelled, InputError
from PPIRLogic.primis import filter_training, fitting, training
from PPIRLogic.primis.model import FILTER, MANIFEST, TABLES, Model
from PPIRLogic.primis.study import kept_apart
from PPIRLogic.primis.training import TrainedCodec, train
from PPIRLogic.progress import CancelToken

ROUNDS = 4


@pytest.fixture(scope="module", autouse=True)
def little() -> Iterator[None]:
    """Less of everything, so that a training takes a second or two."""
    for package in ("torch", "onnx"):  # not as the file is read: other tests have no use for them
        pytest.importorskip(package)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "_ENLARGED", 1)
        patch.setattr(training, "_SWEEPS", 1)
        patch.setattr(fitting, "_SAMPLES", 300)
        patch.setattr(fitting, "_ROUNDS", 3)
        patch.setattr(filter_training, "_BATCH", 4)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight pictures of eight patients, some of whom are kept apart."""
    out, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    y, x = np.mgrid[:160, :160]
    for n in range(8):
        wave = 120 + 60 * np.sin(x / (5 + n)) * np.cos(y / 11) + rng.normal(0, 3, x.shape)
        Image.fromarray(wave.clip(0, 255).astype(np.uint8)).save(out / f"image{n}.png")
    assert 0 < sum(kept_apart(f"image{n}.png") for n in range(8)) < 7
    return out


@pytest.fixture(scope="module")
def trained(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainedCodec:
    return train([folder], tmp_path_factory.mktemp("weights"), rounds=ROUNDS, judged=1)


def files(of: Path) -> dict[str, str]:
    return {name: hashlib.sha256((of / name).read_bytes()).hexdigest() for name in (TABLES, FILTER)}


def test_the_files_are_a_model_and_its_report(trained: TrainedCodec) -> None:
    manifest = json.loads((trained.folder / MANIFEST).read_text(encoding="utf-8"))
    assert manifest["sha256"] == files(trained.folder) and manifest["model"] == trained.digest
    model = Model.of(*((trained.folder / name).read_bytes() for name in (TABLES, FILTER)))
    assert model.digest == trained.digest
    report = json.loads((trained.folder / "report.json").read_text(encoding="utf-8"))
    sizes = [row["bytes"] for row in report["held out"]]
    assert sizes == sorted(sizes) and len(sizes) == 5 and report["held out"][-1]["ssim"] == 1
    assert (trained.folder / "report.png").read_bytes()[:4] == b"\x89PNG"


def test_a_stopped_training_goes_on_to_the_same_bytes(
    folder: Path, trained: TrainedCodec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filter_training, "_KEEP_EVERY", 1)
    token, told = CancelToken(), []

    def stop_in_the_filter(what: str, part: float) -> None:
        told.append(part)
        if what.startswith("filter") and len([p for p in told if p > 0.4]) == 2:
            token.cancel()

    with pytest.raises(Cancelled):
        train([folder], tmp_path, rounds=ROUNDS, judged=1, progress=stop_in_the_filter, cancel=token)
    assert not (tmp_path / MANIFEST).exists()
    again = train([folder], tmp_path, rounds=ROUNDS, judged=1, progress=lambda what, part: told.append(part))
    assert files(again.folder) == files(trained.folder) and again.digest == trained.digest
    with pytest.raises(InputError, match="other images, seed or rounds"):
        train([folder], tmp_path, seed=1, rounds=ROUNDS)


def test_a_filter_that_died_is_known_from_one_that_lives() -> None:
    import torch

    torch.manual_seed(0)
    pictures = np.random.default_rng(0).random((2, 1, 32, 32)).astype(np.float32)
    network = filter_training._network(torch)
    assert filter_training._is_dead(torch, network, pictures), "none has learned anything at the beginning"
    torch.nn.init.normal_(network[-1].weight, std=0.01)
    assert not filter_training._is_dead(torch, network, pictures)
    torch.nn.init.constant_(network[-3].bias, -100.0)  # nothing passes the rectifier
    assert filter_training._is_dead(torch, network, pictures)


def test_the_rate_rises_first_and_falls_then() -> None:
    rates = [filter_training._rate(n, 1200) for n in range(1200)]
    top = int(np.argmax(rates))
    assert rates[0] < 0.05 * max(rates) and 0 < top < 100 and rates[-1] < 0.05 * max(rates)


def test_what_cannot_be_trained_on_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="one folder of X-rays"):
        train([], tmp_path / "out")
    with pytest.raises(InputError, match="does not exist"):
        train([tmp_path / "nowhere"], tmp_path / "out")
    for n in range(2):
        Image.fromarray(np.indices((160, 160)).sum(0).astype(np.uint8)).save(tmp_path / f"image{n}.png")
    with pytest.raises(InputError, match="Too few patients"):
        train([tmp_path], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert training.ROUNDS > ROUNDS
