"""lncc is ncc of what each owner normalised locally."""

from __future__ import annotations

import numpy as np
import pytest
from sample_data_support import sample

from PPIRLogic.errors import InputError
from PPIRLogic.images.intensities import normalise, robust_range
from PPIRLogic.images.pyramid import build_level, smooth
from PPIRLogic.images.reading import read_volume
from PPIRLogic.images.volume import Volume
from PPIRLogic.registration.levels import make_levels
from PPIRLogic.registration.losses import LOSSES
from PPIRLogic.registration.losses.lncc import LNCC, locally_normalised
from PPIRLogic.registration.losses.ncc import NCC
from PPIRLogic.registration.operands import FIXED_SCALE
from PPIRLogic.registration.parameters import Parameters
from PPIRLogic.registration.party2.fixed_image import FixedImage

FIXED = sample("BrainProtonDensitySliceBSplined10.png")


def test_local_normalisation_is_blind_to_slow_changes_of_brightness_and_contrast() -> None:
    volume = normalise(image := read_volume(FIXED, role="fixed"), robust_range(image))
    y = np.linspace(-1, 1, volume.array.shape[0], dtype=np.float32)[:, None]
    drifted = Volume(volume.array * (1 + 0.1 * y) + 0.1 * y, volume.geometry, "drifted")
    inside = smooth(volume, 8.0).array > 0.2
    plain, local = (
        np.abs(f(volume).array - f(drifted).array)[inside].mean() / f(volume).array[inside].std()
        for f in (lambda v: v, lambda v: locally_normalised(v, 6.0))
    )
    assert local < 0.25 * plain
    flat = Volume(np.full_like(volume.array, 0.2), volume.geometry, "flat")
    assert np.allclose(locally_normalised(flat, 4.0).array, 0.5, atol=1e-3)  # the floor: air stays flat


def test_lncc_is_ncc_of_what_each_owner_normalised() -> None:
    fixed = read_volume(FIXED, role="fixed")
    request = Parameters(transform="affine", loss="lncc", radius_mm=4.0, levels=(4, 2)).request(
        "x", fixed.geometry, "", ""
    )
    level = [level for level in make_levels(fixed.geometry, request) if not level.purpose][1]
    found = FixedImage("x", fixed).operands(level, ("J",), request)["J"]
    scaled = normalise(fixed, robust_range(fixed))
    local = locally_normalised(build_level(scaled, 2, level.sigma_mm), 4.0)  # half of radius times factor
    wanted = np.rint((local.array.reshape(-1)[level.samples].astype(np.float64) - 0.5) * FIXED_SCALE)
    assert np.array_equal(found, wanted)
    assert LOSSES["lncc"].terms(6) == NCC().terms(6)


@pytest.mark.parametrize("radius", [0.0, 200.0])
def test_a_window_must_fit_the_image(radius: float) -> None:
    with pytest.raises(InputError, match="window of lncc"):
        LNCC(radius).prepared(read_volume(FIXED, role="fixed"), 1)
