"""The keyed deformation: the same on every machine, of its strength, without folds, undone by its inverse."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sample_data_support import ROOT

from PPIRLogic.errors import InputError
from PPIRLogic.proxy import deformation
from PPIRLogic.proxy.deformation import (
    INVERSE_MM,
    JACOBIAN,
    STRENGTHS,
    UNIT,
    Deformation,
    Nodes,
    draws,
    regions_of,
    strength_mm,
    velocity,
)
from PPIRLogic.proxy.keys import ProxyKey
from PPIRLogic.proxy.spectrum import Spectrum
from PPIRLogic.secure.prg import Stream

KEY, PLAIN = ProxyKey(bytes(range(32))), Spectrum.plain()
LEARNED = Spectrum((72, 40, 24), ((300, 700, 400), (600, 500, 200), (900, 300, 100)))
SPACING = (3.0, 3.0, 4.0)
SHAPE = (46, 64, 58)  # z y x
FROZEN = "9387f4ef5d2ae41e"  # of the velocity and both fields below


def ball(shape: tuple[int, ...] = SHAPE, share: float = 0.75) -> NDArray[np.bool_]:
    grids = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    return np.asarray(sum(g**2 for g in grids) < share**2)


def made(strength: float = 8.0, digest: bytes = b"scan", **options: object) -> Deformation:
    given = {"mask": ball(), "spacing": SPACING, "spectrum": PLAIN, **options}
    return Deformation.make(KEY, digest, strength=strength, **given)  # type: ignore[arg-type]


def fingerprint() -> str:
    """What two machines must agree in."""
    mask = ball((9, 10, 11))
    mask[4, 5, 5] = True
    v = velocity(KEY, b"scan", mask, (14.0, 13.0, 15.0), 4.0, LEARNED)
    d = Deformation.make(KEY, b"scan", mask, (14.0, 13.0, 15.0), 4.0, LEARNED)
    warped = d.warp(np.arange(990, dtype=np.uint16).astype(np.uint8).reshape(9, 10, 11))
    data = v.astype("<i8").tobytes() + d.out.astype("<f4").tobytes() + d.back.astype("<f4").tobytes() + warped.tobytes()
    return hashlib.sha256(data).hexdigest()[:16]


def test_the_field_is_what_it_was_and_what_other_machines_get() -> None:
    assert fingerprint() == FROZEN


@pytest.mark.long
def test_compiled_or_not_every_bit_is_the_same() -> None:
    code = "import sys; sys.path[:0] = sys.argv[1:]; import test_deformation; print(test_deformation.fingerprint())"
    folders = [str(ROOT), str(ROOT / "Testing" / "unit"), str(ROOT / "Testing" / "unit" / "proxy")]
    done = subprocess.run(
        [sys.executable, "-c", code, *folders], env={"NUMBA_DISABLE_JIT": "1", "PATH": ""}, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == FROZEN


def test_the_velocity_is_exactly_nought_at_the_border() -> None:
    for spectrum in (PLAIN, LEARNED):
        v = velocity(KEY, b"scan", ball(), SPACING, 8.0, spectrum)
        for axis in range(1, 4):
            assert not v.take([0, -1], axis).any()
        assert v.any()


@given(st.sampled_from(sorted(STRENGTHS)), st.binary(max_size=8), st.integers(0, 3))
@settings(max_examples=5, deadline=None)
def test_the_strength_is_the_root_mean_square_about_the_mean_inside_the_mask(name: str, digest: bytes, n: int) -> None:
    mask, mm = ball(share=0.5 + 0.1 * n), strength_mm(name)
    v = velocity(KEY, digest, mask, SPACING, mm, LEARNED, n) * UNIT
    inside = v[:, Nodes.over(mask.shape, SPACING, 2000).nearest(mask)]
    assert np.sqrt(inside.var(axis=1).mean()) == pytest.approx(mm, abs=1e-3)


def test_every_part_of_the_address_gives_another_field() -> None:
    def one(
        key: ProxyKey = KEY, digest: bytes = b"scan", mask: NDArray[np.bool_] | None = None,
        spacing: tuple[float, ...] = SPACING, strength: float = 8.0, spectrum: Spectrum = PLAIN, draw: int = 0,
    ) -> bytes:  # fmt: skip
        field = velocity(key, digest, ball() if mask is None else mask, spacing, strength, spectrum, draw)
        return hashlib.sha256(np.sign(field).tobytes() + str(field.shape).encode()).digest()

    found = [
        one(), one(key=ProxyKey(bytes(32))), one(digest=b"other"), one(draw=1), one(strength=12.0),
        one(spacing=(3.0, 3.001, 4.0)), one(mask=ball((46, 64, 59))),
    ]  # fmt: skip
    assert len(set(found)) == len(found) and one() == found[0]


@pytest.mark.parametrize("name", sorted(STRENGTHS))
def test_no_fold_and_back_again_to_a_tenth_of_a_millimetre(name: str) -> None:
    for spectrum in (PLAIN, LEARNED):
        d = made(STRENGTHS[name], spectrum=spectrum)
        error = d.inverse_error()
        assert d.smallest_jacobian() > 0 and error.mean() <= 0.1 and error.max() <= INVERSE_MM


def test_fields_that_fold_are_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first that does not fold is taken, and it is the one of that draw."""
    found = made(8.0)
    second = velocity(KEY, b"scan", ball(), SPACING, 8.0, PLAIN, 1)
    folded, real = iter([True]), deformation.jacobian_determinant
    monkeypatch.setattr(
        deformation, "jacobian_determinant", lambda out, grid: real(out, grid) - (10.0 if next(folded, False) else 0.0)
    )
    other = made(8.0)
    assert found.draw == 0 and other.draw == 1
    expected = deformation.flow((second * UNIT).astype(np.float32), other.nodes.grid())
    assert (other.out == expected).all()


def test_what_cannot_be_deformed_without_a_fold_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deformation, "DRAWS", 3)
    with pytest.raises(InputError, match="Give a lower strength"):
        made(24.0, mask=ball((12, 24, 24)), spacing=(3.0, 3.0, 3.0))
    with pytest.raises(InputError, match="mask is empty"):
        made(mask=np.zeros(SHAPE, bool))


def test_there_and_back_gives_the_image_again() -> None:
    d = made(8.0)
    z, y, x = np.meshgrid(*(np.linspace(0, 9, n) for n in SHAPE), indexing="ij")
    smooth = (128 + 100 * np.sin(x) * np.sin(y) * np.cos(z)).astype(np.float32)
    moved = d.warp(smooth)
    back = d.unwarp(moved[None])[0]
    inside = ball(share=0.6)
    assert np.abs(moved - smooth)[inside].mean() > 20
    assert np.abs(back - smooth)[inside].mean() < 2


def test_dense_fields_are_those_of_the_nodes() -> None:
    d = made(8.0)
    assert d.forward.shape == d.backward.shape == (3, *SHAPE)
    there = np.abs(d.forward).max(axis=(1, 2, 3))
    assert (there <= np.abs(d.out).max(axis=(1, 2, 3))).all() and (
        there > 0.9 * np.abs(d.out).max(axis=(1, 2, 3))
    ).all()


def test_pictures_in_two_dimensions() -> None:
    mask = ball((200, 180))
    d = made(8.0, mask=mask, spacing=(1.0, 1.2))
    picture = (mask * 200).astype(np.uint8)
    warped = d.warp(picture)
    assert d.forward.shape == (2, 200, 180) and warped.shape == picture.shape
    assert (warped != picture).mean() > 0.02
    assert ((d.unwarp(warped[None])[0] > 100) != mask).mean() < 0.01


def test_another_shape_is_refused() -> None:
    with pytest.raises(InputError, match="has shape"):
        made().warp(np.zeros((3, 4, 5), np.uint8))


def test_regions_go_from_the_rim_to_the_depth() -> None:
    regions = regions_of(ball(), SPACING, 3, (8, 8, 8))
    assert regions.shape == (7, 7, 7) and set(np.unique(regions)) == {0, 1, 2}
    assert regions[3, 3, 3] == 2 and not regions[0].any() and not regions[:, :, -1].any()
    assert not regions_of(ball(), SPACING, 1, (4, 4, 4)).any()


def test_draws_are_about_normal() -> None:
    found = draws(Stream(bytes(32), "test"), 200_000).astype(float)
    deviation = 65536 * np.sqrt(1 / 3) / 16
    assert abs(found.mean()) < 0.01 * deviation and found.std() == pytest.approx(deviation, rel=0.01)


@pytest.mark.parametrize("wrong", ["", "none", "nan", "0", "-4", "25", None, [], 1e9])
def test_strengths_that_are_none(wrong: object) -> None:
    with pytest.raises(InputError, match="low, medium, high"):
        strength_mm(wrong)  # type: ignore[arg-type]


def test_the_bound_of_the_determinant_is_kept_on_the_way_out() -> None:
    from PPIRLogic.transforms.displacement_field import jacobian_determinant

    d = made(12.0, spectrum=LEARNED)
    assert jacobian_determinant(d.out, d.nodes.grid()).min() >= JACOBIAN
