"""The network at the server: what it gives, what it refuses, and the one that is shipped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from proxy_support import grey_network, made_anew

from PPIRLogic.errors import InputError
from PPIRLogic.proxy.segmentation import MAX_BYTES, NAMES, Segmenter, merged

pytest.importorskip("onnxruntime")


def striped() -> np.ndarray:
    """Bands of grey, white and nothing."""
    volume = np.zeros((24, 30, 26), np.uint8)
    volume[:, 5:15], volume[:, 15:25] = 128, 204
    return volume


def test_the_network_of_the_tests_is_what_it_says() -> None:
    pytest.importorskip("onnx")
    assert made_anew() == grey_network()


def test_shares_add_up_and_follow_the_greys() -> None:
    shares = Segmenter.of(grey_network()).probabilities(striped(), (2.0, 2.0, 2.0))
    assert shares.shape == (len(NAMES), 24, 30, 26) and shares.dtype == np.uint8
    assert np.abs(shares.sum(axis=0, dtype=int) - 255).max() <= len(NAMES)
    found = shares.argmax(0)
    assert set(np.unique(found[:, 7:13])) == {NAMES.index("grey matter")}
    assert set(np.unique(found[:, 17:23])) == {NAMES.index("white matter")}
    assert set(np.unique(found[:, :3])) == {0}


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.0, 1.0, 3.0), (4.0, 4.0, 4.0)], ids=str)
def test_any_voxels_come_back_in_their_own_shape(spacing: tuple[float, float, float]) -> None:
    shares = Segmenter.of(grey_network()).probabilities(striped(), spacing)
    assert shares.shape[1:] == striped().shape
    assert shares.argmax(0)[12, 10, 13] == NAMES.index("grey matter")


@pytest.mark.parametrize(
    ("volume", "spacing"),
    [
        (np.zeros((4, 4), np.uint8), (2.0, 2.0)), (np.zeros((4, 4, 4), np.int16), (2.0,) * 3),
        (np.zeros((4, 0, 4), np.uint8), (2.0,) * 3), (np.zeros((4, 4, 4), np.uint8), (0.0, 2.0, 2.0)),
        (np.zeros((4, 4, 4), np.uint8), (2.0, float("nan"), 2.0)), (np.zeros((200,) * 3, np.uint8), (10.0,) * 3),
    ],
    ids=["2D", "16 bits", "empty", "no spacing", "nan", "too large"],
)  # fmt: skip
def test_other_volumes_are_refused(volume: np.ndarray, spacing: tuple[float, ...]) -> None:
    with pytest.raises(InputError):
        Segmenter.of(grey_network()).probabilities(volume, spacing)


def test_a_file_that_is_no_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        Segmenter.from_file(tmp_path / "nothing.onnx")
    (tmp_path / "junk.onnx").write_bytes(b"junk")
    with pytest.raises(InputError, match="not a model"):
        Segmenter.from_file(tmp_path / "junk.onnx")
    (tmp_path / "good.onnx").write_bytes(grey_network())
    assert Segmenter.from_file(tmp_path / "good.onnx").digest == Segmenter.of(grey_network()).digest


def test_the_networks_classes_are_told_by_their_names() -> None:
    assert merged(np.array([0, 1, 2, 3, 4, 5, 6])).tolist() == [0, 1, 2, 3, 4, 0, 3]


def test_the_shipped_network_is_small_and_runs() -> None:
    shipped = Segmenter.shipped()
    assert len(shipped.content) <= MAX_BYTES
    assert shipped.probabilities(striped(), (2.0, 2.0, 2.0)).shape == (len(NAMES), *striped().shape)
