"""Attacks without training: they name everybody without a deformation, and what each one looks at."""

from __future__ import annotations

import numpy as np
import pytest

from PPIRLogic.images.geometry import Geometry
from PPIRLogic.images.volume import Volume
from PPIRLogic.proxy.attacks import scans
from PPIRLogic.proxy.preparation import Prepared, prepare
from PPIRLogic.proxy.spectrum import Spectrum

PERSONS = 5


def head(person: int, visit: int) -> Prepared:
    """Blobs that are a person's own, with a visit's noise."""
    rng = np.random.default_rng(person)
    z, y, x = np.mgrid[-12:12, -14:14, -12:12]
    mask = np.sqrt(z**2 + (y / 1.2) ** 2 + x**2) < 10
    volume = np.full(mask.shape, 300.0)
    for centre in rng.uniform(-7, 7, (6, 3)):
        volume += 200 * np.exp(-((z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2) / 12)
    volume += np.random.default_rng(100 * visit + person).normal(0, 3, mask.shape)
    grid = Geometry((24, 28, 24), (6.0,) * 3, (0.0,) * 3, (-1, 0, 0, 0, -1, 0, 0, 0, 1))
    return prepare(Volume(volume, grid), mask)


@pytest.fixture(scope="module")
def heads() -> tuple[list[Prepared], list[Prepared]]:
    first, second = ([head(person, visit) for person in range(PERSONS)] for visit in (1, 2))
    return first, second


def test_without_a_deformation_everybody_is_named(heads: tuple[list[Prepared], list[Prepared]]) -> None:
    found = {f.attack: f for f in scans.all_findings(*heads, 0.0, name="none")}
    assert found[scans.NEAREST].found == 1
    assert scans.KNOWN not in found  # nothing to know


def test_every_attack_is_judged_on_proxies(heads: tuple[list[Prepared], list[Prepared]]) -> None:
    found = {f.attack: f for f in scans.all_findings(*heads, 6.0, spectrum=Spectrum.plain(), name="plain")}
    assert set(found) == {scans.NEAREST, scans.HISTOGRAMS, scans.KNOWN}
    assert found[scans.KNOWN].probes == PERSONS - 1
    assert all(0 <= f.low <= f.found <= f.high <= 1 and f.strength_mm == 6 for f in found.values())


def test_who_has_the_field_undoes_it(heads: tuple[list[Prepared], list[Prepared]]) -> None:
    """The known pair itself, undone, is its scan again; another proxy is not."""
    proxies = scans.make_proxies(heads[0], 6.0, Spectrum.plain())
    alike = scans.known_plaintext(heads[0], proxies)
    assert alike[0, 0] > 0.97
    assert np.mean(np.diag(alike)[1:]) < alike[0, 0]


def test_two_proxies_of_one_scan_under_two_keys_differ(heads: tuple[list[Prepared], list[Prepared]]) -> None:
    one, other = (scans.make_proxies(heads[0][:1], 6.0, Spectrum.plain())[0] for _ in range(2))
    assert (one.array != other.array).any()
