"""What is recognised as a copy, what is not, and what an owner declares."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from PPIRLogic.disclosure.subjects import BUCKETS, Subjects, alike, sketch
from PPIRLogic.errors import OutputError

KEY = b"k" * 32


def scan(seed: int, shape: tuple[int, ...] = (20, 24, 28)) -> NDArray[Any]:
    """Smooth anatomy that all share, and what is one's own."""
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij"))
    draw = np.random.default_rng(seed)
    own = sum(draw.normal() * np.cos(draw.uniform(2, 9, len(shape)) @ grid.reshape(len(shape), -1)) for _ in range(20))
    return 1000 * np.exp(-2 * np.square(grid).sum(axis=0)) + 40 * np.reshape(own, shape)


def one_voxel(a: NDArray[Any]) -> NDArray[Any]:
    out = a.copy()
    out.flat[777] = 1e5
    return out


CHANGES = {
    "as integers": lambda a: np.rint(a),
    "as float32": lambda a: a.astype(np.float32),
    "scaled": lambda a: 1.0001 * a,
    "other units": lambda a: 0.37 * a - 1024,
    "negative": lambda a: -a,
    "one voxel": one_voxel,
    "a hair of noise": lambda a: a + np.random.default_rng(1).normal(0, 0.2, a.shape),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("shape", [(20, 24, 28), (64, 64)])
def test_nearly_the_same_voxels_are_recognised(change: str, shape: tuple[int, ...]) -> None:
    first = scan(1, shape)
    assert alike(sketch(first, KEY), sketch(CHANGES[change](first), KEY))


def test_others_are_not_recognised() -> None:
    """Twelve people of one anatomy, each with each; another key; another shape; an empty image."""
    marks = [sketch(scan(seed), KEY) for seed in range(12)]
    assert all(not alike(a, b) for i, a in enumerate(marks) for b in marks[:i])
    assert not alike(marks[0], sketch(scan(0), b"another key"))
    assert not alike(marks[0], sketch(scan(0)[:-1], KEY))
    blank = sketch(np.zeros((9, 9)), KEY)
    assert blank == "0" * BUCKETS and not alike(blank, blank)


LIMITS = {
    "flipped": lambda a: a[..., ::-1],
    "a column less": lambda a: a[..., :-1],
    "noise of 3 %": lambda a: a + np.random.default_rng(1).normal(0, 0.03 * np.ptp(a), a.shape),
}


@pytest.mark.parametrize("change", LIMITS)
def test_an_owner_who_changes_more_names_the_subject_is_a_known_limit(change: str) -> None:
    first = scan(1)
    assert not alike(sketch(first, KEY), sketch(LIMITS[change](first), KEY))


@given(st.text(max_size=600), st.text(alphabet="-0+", min_size=BUCKETS, max_size=BUCKETS))
@settings(max_examples=50, deadline=None)
def test_a_sketch_that_is_none_is_like_nothing(broken: str, whole: str) -> None:
    assert not alike(broken, whole) or len(broken) == BUCKETS


def test_images_belong_together_by_copy_or_by_word_and_over_restarts(tmp_path: Path) -> None:
    first, other = sketch(scan(1), KEY), sketch(scan(2), KEY)
    subjects = Subjects(tmp_path / "s.jsonl", KEY)
    assert subjects.declare("a", first, "") == [] and subjects.images_of("a") == ("a",)
    assert subjects.declare("b", other, "Miller") == []
    assert subjects.declare("c", sketch(scan(1) * 2, KEY), "") == ["a"]
    assert subjects.images_of("c") == subjects.images_of("a") == ("a", "c")
    again = Subjects(tmp_path / "s.jsonl", KEY)
    assert again.images_of("a") == ("a", "c") and again.images_of("b") == ("b",)
    again.declare("d", "", "Miller")
    again.declare("c", sketch(scan(1) * 2, KEY), "Miller")  # said later: all of both belong together
    assert set(again.images_of("d")) == {"a", "b", "c", "d"} and again.images_of("unknown") == ("unknown",)
    text = (tmp_path / "s.jsonl").read_text()
    assert "Miller" not in text
    size = len(text)
    again.declare("c", sketch(scan(1) * 2, KEY), "Miller")
    assert len((tmp_path / "s.jsonl").read_text()) == size, "what is known is not written again"


def test_a_damaged_file_is_no_empty_one(tmp_path: Path) -> None:
    (tmp_path / "s.jsonl").write_text('{"time":1,"image":"a"}\n')
    with pytest.raises(OutputError, match="damaged at line 1"):
        Subjects(tmp_path / "s.jsonl", KEY)
