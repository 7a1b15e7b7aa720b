"""What is taken of a scan: the brain or the faceless head, 8 bits, canonical axes, and the way back."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from heads_support import RAS, SPACING, brain_of, head, nose

from PPIRLogic.errors import InputError
from PPIRLogic.images.geometry import Geometry
from PPIRLogic.images.volume import Volume
from PPIRLogic.proxy.head import brain_mask, face_mask, head_mask
from PPIRLogic.proxy.keys import ProxyKey
from PPIRLogic.proxy.preparation import Axes, prepare

KEY = ProxyKey(bytes(32))


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_brain_is_found_and_nothing_of_the_face_is_left(seed: int) -> None:
    scan, labels = head(seed)
    found = brain_mask(scan.array, SPACING, scan.name)
    brain = brain_of(labels)
    assert dice(found, brain) > 0.9 and (found & brain).sum() > 0.95 * brain.sum()
    skin = (scan.array > 180) & ~brain
    assert (found & skin).sum() < 0.001 * skin.sum()


def test_a_head_without_its_face_keeps_the_brain_and_the_back() -> None:
    scan, labels = head(2)
    brain, whole = brain_of(labels), head_mask(scan.array, SPACING)
    face = face_mask(whole, brain, SPACING)
    assert not (face & brain).any()
    assert nose().sum() > 100 and (whole & ~face)[nose()].mean() < 0.15
    assert (whole & ~face)[:, :20].sum() == whole[:, :20].sum()
    kept = prepare(scan, strip="face")
    assert kept.strip == "face" and kept.mask.sum() > prepare(scan).mask.sum()


def test_all_orientations_give_one_proxy_and_lead_back() -> None:
    """A scan stored along any axes, in any directions, is the same array here, and its answer lies on its own grid."""
    scan, labels = head(1)
    mask = brain_of(labels)
    first = prepare(scan, mask)
    for order in itertools.permutations(range(3)):
        for flips in ((False, False, False), (True, False, True), (False, True, True)):
            image = _stored(scan, order, flips)
            other = Volume.from_sitk(image)
            turned = prepare(other, _stored_mask(mask, order, flips))
            assert (turned.array == first.array).all() and turned.spacing == first.spacing
            assert turned.digest(KEY) == first.digest(KEY)
            there = turned.onto_scan(turned.array)
            assert there.shape == other.array.shape
            assert np.corrcoef(there[there > 0], other.array[there > 0])[0, 1] > 0.99


def _stored(scan: Volume, order: tuple[int, ...], flips: tuple[bool, ...]) -> sitk.Image:
    image = sitk.PermuteAxes(scan.to_sitk(), order)
    return sitk.Flip(image, list(flips))


def _stored_mask(mask: np.ndarray, order: tuple[int, ...], flips: tuple[bool, ...]) -> np.ndarray:
    image = sitk.PermuteAxes(sitk.GetImageFromArray(mask.astype(np.uint8)), order)
    return sitk.GetArrayFromImage(sitk.Flip(image, list(flips))) > 0


def test_axes_of_an_oblique_grid_are_the_nearest() -> None:
    turned = np.array([[0.1, -0.99, 0.0], [0.99, 0.1, 0.0], [0.0, 0.0, -1.0]])
    axes = Axes.of(Geometry((4, 5, 6), (1.0, 2.0, 3.0), (0.0,) * 3, tuple(turned.ravel())))
    array = np.arange(120).reshape(6, 5, 4)
    assert axes.turned(array).shape == (6, 4, 5) and (axes.back(axes.turned(array)) == array).all()
    assert axes.spacing(Geometry((4, 5, 6), (1.0, 2.0, 3.0), (0.0,) * 3, tuple(turned.ravel()))) == (2.0, 1.0, 3.0)


def test_values_place_and_margin() -> None:
    scan, labels = head(1)
    mask = brain_of(labels)
    found = prepare(scan, mask)
    values = np.sort(found.array[found.mask])
    assert found.array.dtype == np.uint8 and not found.array[~found.mask].any()
    assert values[int(0.005 * values.size)] == 0 and values[int(0.995 * values.size)] == 255
    inside = np.argwhere(found.mask)
    margin = np.minimum(inside.min(axis=0), np.array(found.mask.shape) - 1 - inside.max(axis=0))
    assert (margin * 3.0 >= 15).all()
    assert (found.onto_scan(found.mask.astype(np.uint8)) > 0).sum() == mask.sum()
    assert (found.from_scan(labels)[found.mask] > 0).all()


def test_a_scan_that_differs_by_its_scale_gives_the_same_proxy_and_another_scan_another() -> None:
    scan, labels = head(1)
    mask, digest = brain_of(labels), prepare(scan, brain_of(labels)).digest(KEY)
    louder = Volume(scan.array * 4, scan.geometry)
    assert prepare(louder, mask).digest(KEY) == digest
    assert prepare(replace(scan, name="renamed"), mask).digest(KEY) == digest
    assert prepare(head(2)[0], mask).digest(KEY) != digest


@pytest.mark.parametrize("kind", ["tag", "hounsfield", "shifted"])
def test_a_ct_is_refused_before_anything_is_deformed(kind: str) -> None:
    scan, labels = head(1)
    values = np.where(labels > 0, 35.0, np.where(scan.array > 30, 800.0, -1000.0))
    values += np.random.default_rng(0).normal(0, 4, values.shape)
    if kind == "tag":
        volume = replace(scan, modality="CT")
    else:
        volume = Volume(values + (1024.0 if kind == "shifted" else 0.0), scan.geometry, "ct.nrrd")
    with pytest.raises(InputError, match=r"is a CT.*Nothing was sent"):
        prepare(volume, brain_of(labels) if kind != "shifted" else None)


def test_other_modalities_are_refused() -> None:
    with pytest.raises(InputError, match="of the kind 'US'"):
        prepare(replace(head(1)[0], modality="US"))


def test_what_has_no_brain_is_refused() -> None:
    noise = Volume(
        np.random.default_rng(0).normal(100, 30, (20, 20, 20)), Geometry((20, 20, 20), SPACING, (0,) * 3, RAS)
    )
    with pytest.raises(InputError, match="Give a mask of the brain"):
        prepare(noise)


def test_masks_that_cannot_be_used() -> None:
    scan, labels = head(1)
    for mask, words in ((np.zeros(labels.shape, bool), "empty"), (np.ones((3, 4, 5), bool), "shape")):
        with pytest.raises(InputError, match=words):
            prepare(scan, mask)
    with pytest.raises(InputError, match="constant inside"):
        flat = np.where(brain_of(labels), 100.0, scan.array)
        prepare(Volume(flat, scan.geometry), brain_of(labels))
    with pytest.raises(InputError, match="brain or face"):
        prepare(scan, strip="all")


def test_a_picture_is_taken_without_its_background() -> None:
    picture = np.zeros((120, 100))
    picture[20:100, 20:80] = np.arange(4800).reshape(80, 60) / 20 + 60
    found = prepare(Volume(picture, Geometry((100, 120), (1.0, 1.0), (0.0, 0.0), (1, 0, 0, 1))))
    assert found.mask.sum() == pytest.approx(4800, rel=0.02)
    assert (found.onto_scan(found.mask) == (picture > 0)).mean() > 0.99
