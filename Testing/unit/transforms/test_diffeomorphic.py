"""Diffeomorphic transforms: there and back, in files, and the settings of runs on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk
from fields_support import affine_of, grids, wave

from PPIRLogic.images.geometry import Geometry
from PPIRLogic.transforms import DiffeoTransform, LinearTransform
from PPIRLogic.transforms.displacement_field import (
    jacobian_determinant,
    zero_field,
)


@grids
def test_many_small_steps_fold_nowhere_and_go_back(grid: Geometry) -> None:
    """Together they move points further than their sum could without folding, were they added."""
    found, added = DiffeoTransform.identity(affine_of(grid), grid), zero_field(grid)
    for _ in range(6):
        velocity = wave(grid, 2.0)
        found, added = found.moved(velocity), added + velocity
    assert jacobian_determinant(added, grid).min() < 0
    statistics = found.finished(grid).statistics()
    assert statistics["jacobian"]["smallest"] > 0 and statistics["jacobian"]["folded_percent"] == 0
    assert statistics["largest_mm"] > 6 and statistics["inverse_error_voxels"]["mean"] < 0.15


@grids
def test_files_hold_the_transform_and_its_inverse(grid: Geometry, tmp_path: Path) -> None:
    affine = LinearTransform("affine", np.eye(grid.dimension) * 1.1, np.arange(1.0, grid.dimension + 1), grid.centre())
    found = DiffeoTransform.identity(affine, grid).moved(wave(grid, 4.0)).finished(grid)
    paths = tmp_path / "t.h5", tmp_path / "i.h5"
    for path, transform in zip(paths, (found.to_sitk(), found.inverse_to_sitk()), strict=True):
        sitk.WriteTransform(transform, str(path))
    there, back = (sitk.ReadTransform(str(p)) for p in paths)
    moved = 0.0
    for index in np.random.default_rng(5).integers(8, np.array(grid.size) - 8, (40, grid.dimension)).tolist():
        x = np.array(grid.to_sitk_reference().TransformIndexToPhysicalPoint(index))
        y = np.array(there.TransformPoint(x.tolist()))
        wanted = affine.apply(x + found.field[(slice(None), *reversed(index))])
        assert np.allclose(y, wanted, atol=1e-4)
        assert np.linalg.norm(np.array(back.TransformPoint(y.tolist())) - x) < 0.2
        moved = max(moved, float(np.linalg.norm(y - affine.apply(x))))
    assert moved > 1
