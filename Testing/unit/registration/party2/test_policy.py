"""What a request from the network may not ask for is refused by name, whatever it is."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from PPIRLogic.errors import InputError, PPIRError
from PPIRLogic.images.geometry import Geometry
from PPIRLogic.images.volume import Volume
from PPIRLogic.registration.catalogue import LOSSES, OF_POINTS, TRANSFORMS, protocol_names
from PPIRLogic.registration.names import FIXED_MASK_USES, SAMPLINGS
from PPIRLogic.registration.parameters import Parameters
from PPIRLogic.registration.party2.fixed_image import FixedImage
from PPIRLogic.registration.party2.policy import Policy
from PPIRLogic.registration.request import Request

GRID = Geometry((40, 30), (1.0, 1.0), (0.0, 0.0), (1.0, 0.0, 0.0, 1.0))
IMAGE = FixedImage("x", Volume(np.random.default_rng(0).random((30, 40)).astype(np.float32), GRID, "x"))
OPEN = Policy(
    protocols=frozenset(protocol_names()), losses=frozenset(LOSSES), transforms=frozenset(TRANSFORMS),
    masks=frozenset(FIXED_MASK_USES), disclosed_sampling=True,
)  # fmt: skip
MASKED = FixedImage("x", IMAGE.volume, np.indices((30, 40)).sum(axis=0) > 20)
NAMES = {
    "loss": tuple(LOSSES),
    "transform": tuple(TRANSFORMS),
    "protocol": protocol_names(),
    "sampling": SAMPLINGS,
    "fixed_mask": FIXED_MASK_USES,
}
ANYWHERE = (*OF_POINTS, "huber", *(name for names in NAMES.values() for name in names))
GOOD = Parameters(levels=(2, 1)).request("x", GRID, "", "").to_dict()


def outcome(image: FixedImage = IMAGE, **change: Any) -> str:
    """'taken', or how the request was refused; any other exception is a bug."""
    try:
        request = Request.from_dict({**GOOD, **change})
        OPEN.check(request, "peer", image.mask is not None)
        assert image.levels(request, bytes(16))
    except PPIRError as error:
        return type(error).__name__
    return "taken"


def test_the_request_that_is_changed_below_is_taken() -> None:
    assert outcome() == "taken"


@pytest.mark.parametrize(("loss", "transform", "sampling"), list(product((*OF_POINTS, "ncc"), TRANSFORMS, SAMPLINGS)))
def test_points_and_images_are_told_apart(loss: str, transform: str, sampling: str) -> None:
    found = outcome(loss=loss, transform=transform, sampling=sampling, iterations=[1, 1], stride=5, grid_spacing=8.0)
    assert found == "PolicyError" or loss == "ncc"


@pytest.mark.parametrize("field", NAMES)
@pytest.mark.parametrize("image", [IMAGE, MASKED], ids=["", "masked"])
def test_a_name_of_something_else_is_none(field: str, image: FixedImage) -> None:
    """Such as the loss of a registration of points, as the use of a mask: nothing is served under it."""
    mask = {"fixed_mask": "fill" if image is MASKED else "none"}
    assert outcome(image, **mask) == "taken"
    for name in set(ANYWHERE) - set(NAMES[field]):
        assert outcome(image, **{**mask, field: name}) in ("PolicyError", "InputError"), name


@pytest.mark.parametrize("spacing", [0.0, 1e-320, 1e-5, 0.009])
def test_a_grid_that_is_none_is_refused(spacing: float) -> None:
    assert outcome(transform="bspline", iterations=[1, 1], grid_spacing=spacing) == "PolicyError"


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "loss": st.sampled_from(NAMES["loss"]) | st.sampled_from(ANYWHERE),
            "transform": st.sampled_from(NAMES["transform"]) | st.sampled_from(ANYWHERE),
            "protocol": st.sampled_from(NAMES["protocol"]) | st.sampled_from(ANYWHERE),
            "sampling": st.sampled_from(NAMES["sampling"]) | st.sampled_from(ANYWHERE),
            "fixed_mask": st.sampled_from(NAMES["fixed_mask"]) | st.sampled_from(ANYWHERE),
            "levels": st.lists(st.integers(-1, 65), max_size=9),
            "iterations": st.lists(st.integers(0, 1001), max_size=9),
            "percent": st.floats(),
            "grid_spacing": st.floats(),
            "radius_mm": st.floats(),
            "bending": st.floats(),
            "stride": st.integers(-1, 5000),
            "bins": st.integers(0, 1025),
            "evaluations": st.integers(-1, 10**5),
        },
    )
)
def test_whatever_is_asked_is_taken_or_refused(change: dict[str, Any]) -> None:
    for image in (IMAGE, MASKED):
        assert outcome(image, **change) in ("taken", "PolicyError", "ProtocolError", "InputError")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("disclosed_sampling", "no"),
        ("protocols", "fhe"),
        ("peers", "ABCD"),
        ("masks", {"fill": 1}),
        ("transforms", None),
        ("losses", [1]),
        ("budget", 5),
        ("ask", "yes"),
    ],
)
def test_a_field_of_another_kind_is_not_taken_for_yes(field: str, value: object) -> None:
    with pytest.raises(InputError, match=f"Unusable policy: .*{field.replace('_', ' ')}"):
        Policy(**{field: value})  # type: ignore[arg-type]


def test_names_in_a_list_are_a_set_of_names() -> None:
    assert Policy(losses=["ncc"]).losses == frozenset({"ncc"})  # type: ignore[arg-type]
