"""Proxies: whose they are, found by attacks that need no training, in a small form; *known limit*: it is found often.

The whole, on real scans and with networks: `make bench-proxy`.
"""

from __future__ import annotations

import numpy as np
import pytest
from recording import Record

from PPIRLogic.images.geometry import Geometry
from PPIRLogic.images.volume import Volume
from PPIRLogic.proxy.attacks import scans
from PPIRLogic.proxy.attacks.evidence import finding
from PPIRLogic.proxy.preparation import Prepared, prepare
from PPIRLogic.proxy.spectrum import Spectrum

PERSONS = 8
STRENGTH = 9.0  # mm


def brain(person: int, visit: int) -> Prepared:
    """Blobs that are a person's own, in a ball; with a visit's noise."""
    rng = np.random.default_rng(person)
    z, y, x = np.mgrid[-14:14, -16:16, -14:14]
    mask = np.sqrt(z**2 + (y / 1.2) ** 2 + x**2) < 12
    volume = np.full(mask.shape, 300.0)
    for centre in rng.uniform(-8, 8, (9, 3)):
        volume += 200 * np.exp(-((z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2) / 6)
    volume += np.random.default_rng(100 * visit + person).normal(0, 3, mask.shape)
    grid = Geometry((28, 32, 28), (6.0,) * 3, (0.0,) * 3, (-1, 0, 0, 0, -1, 0, 0, 0, 1))
    return prepare(Volume(volume, grid), mask)


@pytest.fixture(scope="module")
def visits() -> tuple[list[Prepared], list[Prepared]]:
    first, second = ([brain(person, visit) for person in range(PERSONS)] for visit in (1, 2))
    return first, second


def test_a_proxy_is_compared_with_every_candidate(
    visits: tuple[list[Prepared], list[Prepared]], record: Record
) -> None:
    alike = [
        scans.nearest_image(visits[0], scans.make_proxies(visits[1], mm, Spectrum.plain())) for mm in (0.0, STRENGTH)
    ]
    clear, proxy = (finding(scans.NEAREST, 0, "plain", scores, range(PERSONS)) for scores in alike)
    record("deformation proxy: nearest image (known limit)", f"not deformed: {clear}", f"{STRENGTH:g} mm: {proxy}")
    assert clear.found == 1 and proxy.area <= clear.area
    own = [float(np.diag(scores).mean()) for scores in alike]
    assert own[1] < own[0] - 0.02


def test_a_known_scan_gives_its_own_field_and_no_other(
    visits: tuple[list[Prepared], list[Prepared]], record: Record
) -> None:
    """Who has one pair undoes that proxy; the next scan has another field, even of the same site."""
    proxies = scans.make_proxies(visits[0], STRENGTH, Spectrum.plain())
    alike = scans.known_plaintext(visits[0], proxies)
    own, others = float(alike[0, 0]), float(np.mean(np.diag(alike)[1:]))
    record(
        "deformation proxy: one pair of scan and proxy is known", f"its own field undone: correlation {own:.2f}",
        f"other proxies under it: {others:.2f}",
    )  # fmt: skip
    assert own > 0.95 and others < own - 0.05
