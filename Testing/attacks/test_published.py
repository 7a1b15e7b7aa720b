"""Attacks on published or obvious variants of what we do, and the same attack on ours.

Shared decryptions of an approximate scheme (Li & Micciancio 2021), the openings of the published cross-correlation,
and a coarse copy of the image measured within a budget that was meant for the fine one. Real images.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from algebra import backward, correlation, forward, negacyclic, power, undo
from numpy.typing import NDArray
from recording import Record
from scipy import fft, ndimage

from PPIRLogic.disclosure.accounts import Budget, ImageAccount
from PPIRLogic.images.intensities import normalise, robust_range
from PPIRLogic.images.reading import read_volume
from PPIRLogic.registration.losses import LOSSES
from PPIRLogic.registration.session import entries_of
from PPIRLogic.secure.fhe.parameters import PRIMES
from PPIRLogic.secure.fhe.ring import DEGREE
from PPIRLogic.secure.product import Term, numbers_of
from PPIRLogic.transforms import parameter_count

Array = NDArray[Any]
ROOT = Path(__file__).parents[2]
PLACES = ROOT / "PPIRLogic" / "sample_data", ROOT / "Resources" / "SampleData"
PRIME = PRIMES[0]


def brain(name: str) -> Array:
    """A slice, normalised to [0, 1]; the two of the pair show the same head, moved."""
    volume = read_volume(next(p / name for p in PLACES if (p / name).is_file()))
    return np.asarray(normalise(volume, robust_range(volume, None)).array, float)


# ----------------------------------------------------------------------- shared decryptions of an approximate scheme


def key_from(phase: Array, c0: Array, c1: Array) -> Array:
    """s = (phase − c0) / c1 modulo the first prime: exact if the phase is, noise if it is off by the error."""
    difference = forward((phase.astype(np.int64) - c0) % PRIME, PRIME)
    return backward(difference * power(forward(c1, PRIME), PRIME - 2, PRIME) % np.uint64(PRIME), PRIME)


def test_shared_approximate_decryptions_give_the_key_and_exact_ones_do_not(record: Record) -> None:
    """CKKS as published: message plus error is shared. Ours: an integer modulo t, from which the error is gone."""
    rng = np.random.default_rng(0)
    s = rng.integers(-1, 2, DEGREE)
    error = np.rint(rng.normal(0, 3.2, DEGREE)).astype(np.int64)
    c1 = rng.integers(0, PRIME, DEGREE)
    product = backward(forward(c1, PRIME) * forward(s % PRIME, PRIME) % np.uint64(PRIME), PRIME)

    message = np.rint(rng.normal(0, 2.0**20, DEGREE)).astype(np.int64)  # scaled sums
    c0 = (message + error - product) % PRIME
    shared = negacyclic((message + error).astype(float))  # party 2 shares its slots, in double precision
    assert np.array_equal(key_from(np.rint(undo(shared)), c0, c1), s)

    small_t = 2**10
    plain = rng.integers(0, small_t, DEGREE)
    encoded = (plain * PRIME + small_t // 2) // small_t
    exact = (encoded + error - product) % PRIME
    opened = ((exact + product) % PRIME * small_t + PRIME // 2) // PRIME % small_t
    assert np.array_equal(opened, plain)
    guess = key_from((opened * PRIME + small_t // 2) // small_t, exact, c1)
    assert abs(correlation(guess, s)) < 6 / np.sqrt(DEGREE)
    record(
        "the key from shared decryptions (curious party 1)",
        "CKKS, all slots at full precision: all 8192 coefficients",
        f"exact BFV: correlation {correlation(guess, s):+.3f} (chance {6 / np.sqrt(DEGREE):.3f})",
    )


# ------------------------------------------------------------------------------- the published cross-correlation


def window_sum(image: Array) -> Array:
    return np.asarray(ndimage.uniform_filter(image, 5, mode="reflect")) * 25


def less_mean(image: Array) -> Array:
    return image - ndimage.uniform_filter(image, 5, mode="reflect")


def test_the_published_openings_of_cc_give_both_images(record: Record) -> None:
    """Opened per voxel: c₁ = 2D/EF, c₂ = J̄ − (D/E)Ī, c₃ = Ī − (D/F)J̄. Ours opens sums over all voxels."""
    i, j = brain("BrainProtonDensitySliceR10X13Y17S12.png"), brain("BrainProtonDensitySliceBorder20.png")
    i, j = (
        i + 1e-3 * np.random.default_rng(0).normal(size=i.shape),
        j + 1e-3 * np.random.default_rng(1).normal(size=j.shape),
    )
    i_bar, j_bar = less_mean(i), less_mean(j)
    d, e, f = window_sum(i_bar * j_bar), window_sum(i_bar**2), window_sum(j_bar**2)
    c1, c2, c3 = 2 * d / (e * f), j_bar - d / e * i_bar, i_bar - d / f * j_bar
    by_party_1 = (i_bar - c3) / (e * c1 / 2)  # D/F = E·c₁/2, and E is party 1's own
    by_party_2 = (j_bar - c2) / (f * c1 / 2)
    recovered = correlation(by_party_1, j_bar), correlation(by_party_2, i_bar)
    assert min(recovered) > 0.99
    image = with_means(by_party_1)
    assert correlation(image, j) > 0.9
    numbers = numbers_of(LOSSES["ncc"].terms(parameter_count("affine", 2)))
    assert 100 * numbers < j.size  # per evaluation: sums over all voxels, no value of one
    record(
        "the image from the openings of local cross-correlation (curious party 1)",
        f"as published: J̄ r = {recovered[0]:.4f} (party 2: Ī r = {recovered[1]:.4f}), "
        f"J r = {correlation(image, j):.4f}",
        f"ncc opens {numbers} sums per evaluation instead of {3 * j.size} values; what these give: disclosure.md",
    )


def with_means(j_bar: Array) -> Array:
    """J, up to a constant, from J − mean(J): the window is diagonal in cosines."""
    angles = [np.pi * np.arange(n) / n for n in j_bar.shape]
    one, two = ((1 + 2 * np.cos(a) + 2 * np.cos(2 * a)) / 5 for a in angles)
    kept = 1 - one[:, None] * two[None]
    kept[0, 0] = np.inf
    return np.asarray(fft.idctn(fft.dctn(j_bar) / kept))


# ---------------------------------------------------------------------------- a coarse copy within a fine budget


def boxes(image: Array, count: int) -> tuple[Array, int]:
    """What so many box averages show, drawn at the image's own size, and how many were used."""
    ratio = np.sqrt(image.size / count)
    grid = [max(1, int(n / ratio)) for n in image.shape]
    index = [np.minimum(np.arange(n) * g // n, g - 1) for n, g in zip(image.shape, grid, strict=True)]
    labels = index[0][:, None] * grid[1] + index[1][None]
    means = np.bincount(labels.ravel(), image.ravel()) / np.bincount(labels.ravel())
    return means[labels], len(means)


def granted(path: Path, level: int, voxels: int) -> int:
    """Numbers that the default budget lets a peer open at a level, one by one."""
    account, count = ImageAccount(path, Budget()), 0
    left = account.left(level, voxels, 46)
    if left:
        account.spend(entries_of([Term(0, "J", "gradient")] * left, 46, level, 0, "r"), "s", voxels, 0)
        count = account.opened(level)
    return count


def test_a_coarse_copy_is_bounded_by_the_budget_of_its_own_level(tmp_path: Path, record: Record) -> None:
    """The budget of the finest level, taken as box averages, is a picture of so many boxes: a known limit."""
    image = brain("BrainProtonDensitySliceBorder20.png")
    coarse = (
        image[: image.shape[0] // 8 * 8, : image.shape[1] // 8 * 8].reshape(image.shape[0] // 8, 8, -1, 8).mean((1, 3))
    )
    fine, own = granted(tmp_path / "a", 1, image.size), granted(tmp_path / "b", 8, coarse.size)
    assert fine > coarse.size > 15 * own
    one_budget = correlation(coarse, boxes(coarse, min(fine, coarse.size))[0])
    per_level, used = boxes(coarse, max(own, 1))
    finest, cells = boxes(image, fine)
    assert one_budget > 0.99 and correlation(coarse, per_level) < one_budget
    record(
        "a coarse copy of the image (party 1 that chooses its S)",
        f"one budget of 5 % for all levels: the whole image at 1/8, r = {one_budget:.2f}",
        f"budget per level: {used} boxes, r = {correlation(coarse, per_level):.2f}; known limit: the finest level's own"
        f" {fine} numbers as {cells} boxes, r = {correlation(image, finest):.2f}",
    )
