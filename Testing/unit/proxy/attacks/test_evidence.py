"""Rates and their intervals."""

from __future__ import annotations

import numpy as np

from PPIRLogic.proxy.attacks.evidence import finding, wilson


def test_all_right_none_right_and_guessing() -> None:
    right = list(range(20))
    assert finding("a", 8, "plain", np.eye(20), right).found == 1
    assert finding("a", 8, "plain", -np.eye(20), right).found == 0
    blind = finding("a", 8, "plain", np.zeros((20, 20)), right)
    assert blind.found == 0.05 and blind.area == 0.5


def test_intervals_hold_the_value_and_shrink_with_persons() -> None:
    rng = np.random.default_rng(0)
    widths = []
    for count in (10, 80):
        alike = rng.normal(size=(count, count)) + np.eye(count)
        found = finding("a", 8, "plain", alike, list(range(count)))
        assert found.low <= found.found <= found.high
        widths.append(found.high - found.low)
    assert widths[1] < widths[0]


def test_several_proxies_of_a_person_do_not_count_as_several_persons() -> None:
    alike = np.tile(np.eye(12)[:, ::-1], (3, 1))
    once, often = (finding("a", 8, "p", alike[:n], (list(range(12)) * 3)[:n]) for n in (12, 36))
    assert (often.low, often.high) == (once.low, once.high) and often.probes == 36


def test_wilson_is_never_beyond_nought_and_one() -> None:
    assert wilson(0.0, 10)[0] == 0 and wilson(1.0, 10)[1] == 1
    assert wilson(0.0, 10)[1] > 0.2
