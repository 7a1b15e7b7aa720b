"""What an owner's rules let pass, and what they refuse in words."""

from __future__ import annotations

from typing import Any

import pytest

from PPIRLogic.errors import InputError, PolicyError
from PPIRLogic.primis.levels import LEVELS
from PPIRLogic.primis.messages import NOBODY, Ask
from PPIRLogic.primis.policy import SharingPolicy

A, B = "-".join(["AAAA"] * 8), "-".join(["BBBB"] * 8)


def may(policy: SharingPolicy, level: str, peer: str = A, given: int = 0) -> bool:
    try:
        policy.check(Ask("x-ray", bytes(32), level, "teaching"), peer, given)
    except PolicyError as error:
        assert "x-ray" in str(error)
        return False
    return True


@pytest.mark.parametrize("highest", [*LEVELS, NOBODY])
def test_a_level_and_those_below_it(highest: str) -> None:
    most = LEVELS.index(highest) if highest in LEVELS else -1
    assert [may(SharingPolicy(highest), level) for level in LEVELS] == [number <= most for number in range(len(LEVELS))]


def test_a_peer_has_a_level_of_its_own() -> None:
    policy = SharingPolicy("overview", {A.lower(): "exact", B: NOBODY})
    assert may(policy, "exact") and not may(policy, "overview", B) and not may(policy, "segmentation", "C")
    assert policy.level_for(A) == "exact"


def test_who_sees_it_at_all() -> None:
    assert SharingPolicy().shows_to(B)
    policy = SharingPolicy(levels={A: "exact"}, peers=frozenset({A}))
    assert policy.shows_to(A) and not policy.shows_to(B)


def test_so_many_grants_and_no_more() -> None:
    assert may(SharingPolicy(grants=2), "overview", given=1) and not may(SharingPolicy(grants=2), "overview", given=2)


@pytest.mark.parametrize(
    "rules",
    [
        {"level": "all"}, {"levels": {A: "some"}}, {"levels": {"me": "exact"}}, {"grants": 0}, {"grants": True},
        {"days": 1.5}, {"days": 10**6}, {"ask": "yes"}, {"peers": A}, {"peers": frozenset({"me"})},
    ],
)  # fmt: skip
def test_rules_that_cannot_be_meant(rules: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        SharingPolicy(**rules)
