"""What is fitted without a network: the best basis, weights that foretell, tables that cost what they should."""

from __future__ import annotations

import numpy as np

from PPIRLogic.primis.fitting import fitted_weights, learned_basis, learned_tables, learned_transform
from PPIRLogic.primis.model import start
from PPIRLogic.primis.transform import forward


def pictures() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:64, :64]
    waves = [2000 * np.sin((x * np.cos(a) + y * np.sin(a)) / 5) for a in rng.uniform(0, 0.4, 6)]
    return [np.stack(waves) + rng.normal(0, 40, (6, 64, 64))]


def test_the_basis_gathers_more_than_the_cosines() -> None:
    """Waves of nearly one direction: fewer learned coefficients hold what they vary."""
    stage = start().fine
    learned = learned_basis(pictures(), stage)
    assert np.allclose(learned.analysis @ learned.analysis.T, np.eye(64), atol=1e-9)
    assert np.allclose(learned.analysis[0], 1 / 8)
    shares = []
    for s in (stage, learned):
        energy = (forward(pictures()[0], s)[..., 1:] ** 2).mean(axis=(0, 1, 2))
        shares.append(np.sort(energy)[::-1][:4].sum() / energy.sum())
    assert shares[1] > shares[0]


def test_weights_that_made_the_sizes_are_found() -> None:
    rng = np.random.default_rng(1)
    features = np.column_stack([np.ones(20000), rng.exponential(2, (20000, 3))])
    true = np.array([0.1, 0.5, 0.0, 0.2])
    mean = features @ true
    sizes = rng.geometric(1 / (1 + mean)) - 1
    found = fitted_weights(features, sizes, np.ones(20000), 200)
    assert np.abs(found - true).max() < 0.05 and found.min() >= 0


def test_tables_learned_from_pictures_make_their_codes_shorter() -> None:
    from PPIRLogic.primis.codec import Part
    from PPIRLogic.primis.entropy_coding import Writer
    from PPIRLogic.primis.model import STEPS

    model = learned_transform(pictures(), start())
    fitted, _ = learned_tables(pictures(), model, np.random.default_rng(0), lambda: None)
    counted, decoded = learned_tables(pictures(), fitted, None, lambda: None)
    assert len(decoded) == len(STEPS) and decoded[0][0].shape == (6, 64, 64)
    sizes = []
    for m in (model, counted):
        writer = Writer()
        Part.of((6, 64, 64), m, pictures()[0]).refine(0, STEPS[0] * 16, m, writer, lambda: None)
        sizes.append(len(writer.finish()))
    assert sizes[1] < 0.9 * sizes[0]
