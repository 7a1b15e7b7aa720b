"""Linking finds what patients have in common, and nothing in noise."""

from __future__ import annotations

import numpy as np

from PPIRLogic.primis.attacks.linking import by_correlation, by_distance, by_equal_bytes, link, pairs_of

PATIENTS = [str(k // 3) for k in range(90)]
DRAW = np.random.default_rng(0)
OWN = np.repeat(DRAW.normal(size=(30, 40)), 3, axis=0) + 0.5 * DRAW.normal(size=(90, 40))
NOISE = DRAW.normal(size=(90, 40))


def test_pairs() -> None:
    same, other = pairs_of(PATIENTS)
    assert len(same) == 90 and len(other) >= len(same)
    assert all(PATIENTS[i] == PATIENTS[j] and i != j for i, j in same)
    assert all(PATIENTS[i] != PATIENTS[j] for i, j in other)


def test_what_patients_have_in_common_links_them() -> None:
    for alike in (by_correlation, by_distance):
        found, nothing = link(PATIENTS, alike(OWN)), link(PATIENTS, alike(NOISE))
        assert found is not None and found.low > 0.9
        assert nothing is not None and nothing.holds(0.5)


def test_equal_bytes_are_counted_up_to_the_shorter_end() -> None:
    assert by_equal_bytes([b"abcd", b"abxdef"])(0, 1) == 0.75


def test_nobody_has_two() -> None:
    assert link([str(k) for k in range(90)], by_distance(OWN)) is None
