"""The measured rates of recognition, as consents and reports say them."""

from __future__ import annotations

import json

import pytest

from PPIRLogic.errors import InputError
from PPIRLogic.proxy import rates
from PPIRLogic.proxy.rates import NOT_ENCRYPTED, NOT_MEASURED, Rate, measured, parse, rates_for, warning

ROWS = [
    {"attack": "retrained network", "strength_mm": mm, "found": f, "low": f - 0.1, "high": f + 0.1, "persons": 60}
    for mm, f in ((0.0, 0.9), (4.0, 0.7), (8.0, 0.4))
] + [{"attack": "registration", "strength_mm": 8.0, "found": 0.8, "low": 0.5, "high": 0.9, "persons": 10}]  # fmt: skip


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> tuple[Rate, ...]:
    found = parse(json.dumps({"spectrum": "ab", "rates": ROWS}), "ab")
    monkeypatch.setattr(rates, "measured", lambda: found)
    return found


def test_a_strength_between_two_has_the_rate_of_the_weaker(table: tuple[Rate, ...]) -> None:
    assert [(r.attack, r.found) for r in rates_for(6.0)] == [("retrained network", 0.7)]
    assert [r.found for r in rates_for(12.0)] == [0.8, 0.4], "the worst first"


def test_every_warning_says_that_it_is_no_encryption_and_what_was_measured(table: tuple[Rate, ...]) -> None:
    text = warning(8.0)
    assert NOT_ENCRYPTED in text and "80 % of 10 persons recognised" in text and "30 to 50 %" in text


def test_registration_is_named_where_it_was_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    network, registered = (Rate(name, 8.0, 0.7, 0.6, 0.8, 10) for name in ("retrained network", "registration"))
    monkeypatch.setattr(rates, "measured", lambda: (network,))
    assert rates.NOT_ALL in warning(8.0)
    monkeypatch.setattr(rates, "measured", lambda: (network, registered))
    assert rates.NOT_ALL not in warning(8.0) and "Registration: 70 %" in warning(8.0)


def test_where_nothing_was_measured_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "measured", lambda: ())
    monkeypatch.setattr(rates, "weights_note", lambda: "")
    assert warning(8.0) == f"{NOT_ENCRYPTED}\n{NOT_MEASURED}"
    monkeypatch.setattr(rates, "weights_note", lambda: "interim")
    assert warning(8.0).endswith(f"{NOT_MEASURED}\ninterim")


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"spectrum": "ab", "rates": [{}]}', json.dumps({"rates": ROWS}),
             json.dumps({"spectrum": "ab", "rates": [{**ROWS[0], "low": 1.0}]}),
             json.dumps({"spectrum": "ab", "rates": [{**ROWS[0], "persons": 1}]})], ids=range(7),
)  # fmt: skip
def test_a_table_that_is_none(text: str) -> None:
    with pytest.raises(InputError, match="Install PPIRExtension again"):
        parse(text, "ab")


def test_rates_of_another_spectrum_count_for_nothing() -> None:
    assert parse(json.dumps({"spectrum": "ab", "rates": ROWS}), "cd") == ()


def test_what_comes_with_the_program_can_be_read() -> None:
    assert all(0 <= r.low <= r.found <= r.high <= 1 for r in measured())
