"""What a served point set may tell at the default budget."""

from __future__ import annotations

import pytest

from PPIRLogic.disclosure.accounts import Budget, DisclosureRecord


@pytest.mark.parametrize(
    ("numbers", "dimension", "bits", "points"), [(13, 3, 46, 87), (7, 2, 46, 70), (13, 3, 64, 116), (7, 2, 64, 94)]
)
def test_the_smallest_sets_within_the_default_budget(numbers: int, dimension: int, bits: int, points: int) -> None:
    """Σ q·pᵀ, Σ p and Σ ‖p‖² are d² + d + 1 numbers, of d coordinates for each point."""
    assert numbers == dimension**2 + dimension + 1
    record = DisclosureRecord(Budget())
    assert record.left(1, dimension * points, bits) >= numbers > record.left(1, dimension * (points - 1), bits)
