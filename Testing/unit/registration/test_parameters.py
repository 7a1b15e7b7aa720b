"""Wrong settings are an InputError that names them, whatever they are; right ones are held as plain values."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st

from PPIRLogic.disclosure.accounts import Budget
from PPIRLogic.errors import InputError
from PPIRLogic.registration.options import OPTIONS
from PPIRLogic.registration.parameters import Parameters
from PPIRLogic.registration.party2.policy import Policy

ODD: list[Any] = [
    10**400, -(10**400), float("nan"), float("inf"), "no", "", b"x", [], {}, {1}, {5: 1}, object(), 3 + 4j,
    np.array([4, 2]), np.array(5.5), (2.5,), ("a",), [None], -1,
]  # fmt: skip


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("value", ODD, ids=lambda v: type(v).__name__ + repr(v)[:12])
def test_odd_values_are_refused_or_held_as_plain_ones(name: str, value: Any) -> None:
    try:
        held = getattr(Parameters(**{name: value}), name)
    except InputError as error:
        assert str(error)
        return
    assert type(held) in (str, int, float, bool, tuple, type(None)), (name, held)


@given(st.sampled_from(sorted(OPTIONS)), st.one_of(st.integers(), st.floats(), st.text(), st.booleans(), st.none()))
def test_nothing_but_an_input_error_comes_of_any_value(name: str, value: Any) -> None:
    with contextlib.suppress(InputError):
        Parameters(**{name: value})


def test_numbers_of_numpy_and_lists_are_taken() -> None:
    p = Parameters(
        evaluations=np.int64(7), seed=2.0, grid_spacing=np.float32(8), levels=[4, 2], disclose_sampling=np.True_
    )  # type: ignore[arg-type]
    assert (p.evaluations, p.seed, p.grid_spacing, p.levels, p.disclose_sampling) == (7, 2, 8.0, (4, 2), True)
    assert [type(v) for v in (p.evaluations, p.seed, p.grid_spacing)] == [int, int, float]


def test_a_protocol_goes_by_the_name_that_people_see_or_by_that_on_the_wire() -> None:
    names = [Parameters(transform="diffeo", loss="cc", protocol=p).protocol for p in ("published", "published_cc")]
    assert names == ["published", "published"]


def test_a_transform_is_an_initial_one() -> None:
    given = sitk.Euler2DTransform()
    assert Parameters(initial=given).initial is given


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"protocols": {"nope"}}, "'nope'"),
        ({"losses": {"huber"}}, "'huber'"),
        ({"transforms": {"twist"}}, "'twist'"),
        ({"masks": {"all"}}, "'all'"),
        ({"peers": {"FINGERPRINT-OF-A"}}, "fingerprint"),
    ],
)
def test_a_policy_that_names_what_there_is_not_is_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Policy(**settings)


def test_a_fingerprint_counts_however_it_is_written() -> None:
    one = "EN5A-OMDA-J7QM-IVRC-VWFR-BEH3-GTHE-KY3M"
    assert Policy(peers=frozenset({one.lower().replace("-", "")})).peers == {one}


def test_a_policy_takes_the_name_that_people_see() -> None:
    assert Policy(protocols=frozenset({"published_cc"})).protocols == {"published"}


@pytest.mark.parametrize("value", [float("nan"), -1, "5", None, True, float("inf")])
def test_a_budget_that_is_none_is_refused(value: Any) -> None:
    with pytest.raises(InputError, match="percent per level"):
        Budget(percent_per_level=value)
