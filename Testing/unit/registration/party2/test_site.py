"""What a site shares is checked when it is put together."""

from __future__ import annotations

import numpy as np
import pytest

from PPIRLogic.errors import InputError
from PPIRLogic.images.geometry import Geometry
from PPIRLogic.images.volume import Volume
from PPIRLogic.registration.party2.fixed_image import FixedImage
from PPIRLogic.registration.party2.policy import Policy
from PPIRLogic.registration.party2.site import MAX_NAME, Shared

VOLUME = Volume(np.arange(12.0).reshape(3, 4), Geometry((4, 3), (1.0, 1.0), (0.0, 0.0), (1, 0, 0, 1)))


@pytest.mark.parametrize("name", ["", " ", "a\nb", " atlas", "x" * (MAX_NAME + 1), "\x1b[31m", 5, None])
def test_a_name_that_peers_could_not_read_is_refused(name: object) -> None:
    with pytest.raises(InputError, match="printable characters"):
        Shared(FixedImage(name, VOLUME), Policy())  # type: ignore[arg-type]


def test_any_printable_name_is_taken() -> None:
    for name in ("atlas", "T1 der Leber, 3 T", "脳", "x" * MAX_NAME):
        assert Shared(FixedImage(name, VOLUME), Policy()).image.name == name
