"""The deformation in torch is the client's. Only where torch is installed."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from PPIRLogic.images.geometry import Geometry  # noqa: E402
from PPIRLogic.proxy.deformation import flow  # noqa: E402
from PPIRLogic.proxy.train_generator import jacobian  # noqa: E402
from PPIRLogic.proxy.train_warps import basis, exponential, lattice, spline, warped  # noqa: E402
from PPIRLogic.transforms.displacement_field import jacobian_determinant  # noqa: E402


def smooth_velocity(mm: float) -> tuple[np.ndarray, Geometry]:
    """Two waves, nought at the border, on 2 mm voxels."""
    shape = (36, 40, 38)
    z, y, x = (np.sin(np.pi * (np.arange(n) + 0.5) / n) for n in shape)
    bump = z[:, None, None] * y[None, :, None] * x[None, None]
    wave = np.sin(np.linspace(0, 5, shape[2]))[None, None]
    v = mm * np.stack([bump * wave, bump**2, -bump]).astype(np.float32)
    return v, Geometry(shape[::-1], (2.0,) * 3, (0.0,) * 3, tuple(np.eye(3).ravel()))


def test_the_flow_is_the_clients() -> None:
    v, grid = smooth_velocity(6.0)
    ours = exponential(torch, torch.from_numpy(v)[None], 2.0, 7)[0].numpy()
    assert np.abs(ours - flow(v, grid)).max() < 0.02  # mm: linear between voxels, other first steps


def test_the_inverse_is_the_flow_of_the_negative() -> None:
    v = torch.from_numpy(smooth_velocity(8.0)[0])[None]
    there, back = exponential(torch, v, 2.0), exponential(torch, -v, 2.0)
    assert float((back + warped(torch, there, back, 2.0)).abs().max()) < 0.1


def test_jacobians_are_those_of_the_transforms() -> None:
    v, grid = smooth_velocity(6.0)
    ours = jacobian(torch, torch.from_numpy(v)[None], 2.0)[0].numpy()
    np.testing.assert_allclose(ours, jacobian_determinant(v, grid), atol=1e-4)


def test_the_lattice_is_nought_at_the_border_and_one_within() -> None:
    weights, at = lattice(torch, 60, 4.0, 40.0)
    assert weights.shape == (60, 5) and at.tolist() == sorted(at.tolist())
    assert float(weights[[0, -1]].abs().max()) < 0.1
    fine = lattice(torch, 6000, 0.04, 40.0)[0]
    assert float(fine[[0, -1]].abs().max()) < 1e-3
    np.testing.assert_allclose(fine.sum(1)[2000:4000].numpy(), 1, atol=1e-5)


def test_splines_of_equal_points_are_constant() -> None:
    bases = [basis(torch, n, 4.0, 20.0, beyond=2) for n in (10, 12, 14)]
    field = spline(torch, torch.ones(1, *(b.shape[1] for b in bases)), bases)
    np.testing.assert_allclose(field.numpy(), 1, atol=1e-5)


def test_a_shift_moves_voxels() -> None:
    volume = torch.arange(4.0 * 5 * 6).reshape(1, 1, 4, 5, 6)
    shift = torch.zeros(1, 3, 4, 5, 6)
    shift[:, 0] = 2.0  # one voxel of 2 mm along x
    moved = warped(torch, volume, shift, 2.0)
    np.testing.assert_allclose(moved[..., :-1].numpy(), volume[..., 1:].numpy(), atol=1e-4)
