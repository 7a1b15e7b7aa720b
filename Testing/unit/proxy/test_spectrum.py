"""The table of amplitudes: written and read, and what is no such table."""

from __future__ import annotations

import json

import pytest

from PPIRLogic.errors import InputError
from PPIRLogic.proxy.spectrum import ONE, Spectrum


def test_a_table_comes_back_from_its_text() -> None:
    table = Spectrum((72, 40), ((1, 2), (3, 4), (5, 1024)))
    assert Spectrum.from_json(table.to_json()) == table
    assert table.regions == 3
    assert Spectrum.from_json(table.to_json().encode()).digest == table.digest
    assert table.digest != Spectrum.plain().digest


def test_the_shipped_table_is_of_whole_numbers() -> None:
    shipped = Spectrum.shipped()
    assert max(max(row) for row in shipped.amplitudes) <= ONE
    assert len(shipped.scales_mm) == len(shipped.amplitudes[0])


@pytest.mark.parametrize(
    "change",
    [
        {"scales_mm": []}, {"scales_mm": [4, 28]}, {"scales_mm": [56.5, 28]}, {"amplitudes": [[1]]}, {"amplitudes": []},
        {"amplitudes": [[0, 0]]}, {"amplitudes": [[-1, 2]]}, {"amplitudes": [[1, 2], [1]]}, {"amplitudes": 3},
        {"amplitudes": [[1.5, 2]]}, {"one": 7},
    ],
    ids=lambda change: json.dumps(change),
)  # fmt: skip
def test_what_is_no_table_is_refused(change: dict[str, object]) -> None:
    content = json.loads(Spectrum.plain().to_json()) | change
    with pytest.raises(InputError, match="table of amplitudes"):
        Spectrum.from_json(json.dumps(content))


def test_text_that_is_not_json_is_refused() -> None:
    with pytest.raises(InputError, match="table of amplitudes"):
        Spectrum.from_json("{")
