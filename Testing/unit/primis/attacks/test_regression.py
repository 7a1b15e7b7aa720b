"""The regression finds what is there, and gives the mean where nothing is."""

from __future__ import annotations

import numpy as np

from PPIRLogic.primis.attacks.regression import Regression


def test_it_finds_what_is_there() -> None:
    draw = np.random.default_rng(1)
    given, mix = draw.normal(size=(80, 30)), draw.normal(size=(30, 12))
    wanted = (given @ mix).reshape(80, 3, 4)
    model = Regression().fit(given[:60], wanted[:60], [str(k) for k in range(60)])
    found = model.predict(given[60:])
    assert found.shape == (20, 3, 4)
    assert np.mean(np.square(found - wanted[60:])) < 0.05 * np.mean(np.square(wanted[60:]))


def test_it_gives_the_mean_where_nothing_is() -> None:
    draw = np.random.default_rng(2)
    given, wanted = draw.normal(size=(90, 400)), draw.normal(3, 1, size=(90, 50))
    model = Regression().fit(given[:60], wanted[:60], [str(k) for k in range(60)])
    off = np.square(model.predict(given[60:]) - wanted[60:]).mean()
    assert off < 1.03 * np.square(wanted[:60].mean(0) - wanted[60:]).mean()


def test_what_is_the_same_everywhere_tells_nothing() -> None:
    wanted = np.random.default_rng(4).normal(size=(20, 3))
    model = Regression().fit(np.ones((20, 5)), wanted, [str(k) for k in range(20)])
    assert np.allclose(model.predict(np.zeros((2, 5))), wanted.mean(0))


def test_patients_are_held_back_whole() -> None:
    """A feature that names the patient helps on that patient's other images alone, so it is not believed."""
    patients = [str(k // 4) for k in range(80)]
    draw = np.random.default_rng(3)
    values = draw.normal(size=(20, 6))
    given, wanted = np.repeat(np.eye(20), 4, axis=0), np.repeat(values, 4, axis=0)
    whole = Regression().fit(given, wanted, patients).strength
    assert whole > Regression().fit(given, wanted, [str(k) for k in range(80)]).strength
