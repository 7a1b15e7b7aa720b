"""`train` on heads that are a few balls: the same bytes twice, after an interruption too; what it cannot use.

Only where the extra `train` is installed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from proxy_support import write_label_maps

from PPIRLogic.errors import Cancelled, InputError
from PPIRLogic.progress import CancelToken
from PPIRLogic.proxy import train_generator, train_segmentation, training
from PPIRLogic.proxy.segmentation import MANIFEST, NETWORK, Segmenter
from PPIRLogic.proxy.spectrum import SPECTRUM, Spectrum

for package in ("torch", "onnx", "onnxruntime"):
    pytest.importorskip(package)
STEPS = 2


@pytest.fixture(scope="module", autouse=True)
def little() -> Iterator[None]:
    """Less of everything."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_segmentation, "_KEEP_EVERY", 1)
        patch.setattr(train_segmentation, "_SIDES", ((16,), (32,), (32,)))
        patch.setattr(train_generator, "_SUBJECTS", 3)
        patch.setattr(train_generator, "_KEEP_EVERY", 1)
        patch.setattr(train_generator, "_PATCH", (16, 32, 32))
        patch.setattr(training, "judged", lambda *_: [])
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_label_maps(tmp_path_factory.mktemp("labels"))


def run(folder: Path, output: Path, cancel: CancelToken | None = None, stop_at: str = "") -> training.TrainedNetworks:
    def tell(what: str, part: float) -> None:
        if cancel is not None and what.startswith(stop_at):
            cancel.cancel()

    return training.train(
        folder, output, steps=STEPS, generator_steps=3, subjects=3, progress=tell if stop_at else None, cancel=cancel
    )


def files(of: Path) -> dict[str, str]:
    return {name: hashlib.sha256((of / name).read_bytes()).hexdigest() for name in (NETWORK, SPECTRUM)}


def test_a_stopped_training_goes_on_to_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    whole = run(folder, tmp_path / "whole")
    for stop_at in ("segmentation", "generator"):
        token = CancelToken()
        with pytest.raises(Cancelled):
            run(folder, tmp_path / "stopped", token, stop_at)
    assert files(run(folder, tmp_path / "stopped").folder) == files(whole.folder)
    manifest = json.loads((whole.folder / MANIFEST).read_text())
    assert manifest["sha256"] == files(whole.folder) and manifest["model"] == whole.model
    assert Segmenter.from_file(whole.folder / NETWORK).digest == whole.model
    assert Spectrum.from_json((whole.folder / SPECTRUM).read_bytes()) == whole.spectrum
    with pytest.raises(InputError, match="other label maps"):
        training.train(folder, tmp_path / "whole", seed=1, steps=STEPS, generator_steps=3, subjects=3)


def test_too_few_label_maps_and_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No label maps"):
        training.train(tmp_path, tmp_path / "out")
    write_label_maps(tmp_path, 2)
    with pytest.raises(InputError, match="at least 3"):
        training.train(tmp_path, tmp_path / "out")


def test_the_written_network_is_the_trained_one() -> None:
    import onnxruntime
    import torch

    torch.manual_seed(3)
    network = train_segmentation.segmentation_network(torch, 7)
    content = train_segmentation.as_onnx(torch, network)
    assert content == train_segmentation.as_onnx(torch, network)
    volume = np.random.default_rng(0).random((1, 1, 16, 24, 32)).astype(np.float32)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    found = session.run(None, {"volume": volume})[0]
    with torch.no_grad():
        wanted = network(torch.from_numpy(volume)).numpy()
    assert np.abs(found - wanted).max() < 0.02 * np.abs(wanted).max()  # weights of 16 bits
