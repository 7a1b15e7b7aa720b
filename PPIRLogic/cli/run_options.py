"""The options of a run, and the Parameters made from them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from PPIRLogic.cli.common import Arguments, add_parent_options, counts_of, warn_published
from PPIRLogic.errors import InputError, OutputError
from PPIRLogic.images.writing import WRITABLE_IMAGES
from PPIRLogic.registration.losses import LOSSES
from PPIRLogic.registration.losses.cross_correlation import PUBLISHED
from PPIRLogic.registration.parameters import Parameters
from PPIRLogic.registration.sampling import METHODS
from PPIRLogic.transforms import BSPLINE, DIFFEO, FIELD_FILES, TRANSFORM_FILES, TRANSFORMS


def add_registration_options(p: Any) -> None:
    add_run_options(p)
    p.add_argument("--output", type=Path, required=True, help=f"transform file ({', '.join(TRANSFORM_FILES)})")
    p.add_argument("--inverse", type=Path, help="transform file for the inverse (moving to fixed); not of bspline")
    p.add_argument("--warped", type=Path, help="moving image resampled on the fixed grid")
    p.add_argument("--report", type=Path, help="report as JSON; a readable .html is written beside it")
    p.add_argument("--pictures", type=Path, help="existing folder for the report's pictures as PNG files")


def add_run_options(p: Any) -> None:
    """Everything that decides how a run goes, and so what it discloses."""
    d = Parameters()
    add_parent_options(p)
    p.add_argument("--transform", choices=tuple(TRANSFORMS), default=d.transform)
    p.add_argument("--loss", choices=tuple(LOSSES), default=d.loss)
    p.add_argument(
        "--protocol",
        choices=("fhe", "fhe_verified", "mpc", "clear", "fhe_v1", "fhe_v2", PUBLISHED),
        default=d.protocol,
        help="clear protects nothing; fhe_v1, fhe_v2, published (of cc): as published, to compare",
    )
    p.add_argument("--sampling", choices=METHODS, default=d.sampling, help="gms: ∝ gradient magnitude; urs: random")
    p.add_argument("--percent", type=float, default=None, help="of the voxels (urs) or blocks (gms) of each level")
    p.add_argument("--disclose-sampling", action="store_true", help="gms under mpc: let party 2 see the chosen blocks")
    p.add_argument("--levels", default="", help="shrink factors coarse to fine, such as 4,2,1 (default: by size)")
    p.add_argument("--evaluations", type=int, default=d.evaluations, help="most per level")
    p.add_argument("--grid-spacing", type=float, default=d.grid_spacing, help="bspline: mm at the finest level (10)")
    p.add_argument("--iterations", default="", help="bspline, diffeo: most per level, coarse to fine, such as 6,4,1")
    p.add_argument(
        "--bending", type=float, default=d.bending, help="bspline, diffeo: weight of the bending energy, mm²"
    )
    p.add_argument("--stride", type=int, default=d.stride, help="diffeo: voxels between control points of a step (5)")
    p.add_argument(
        "--elastic", type=float, default=d.elastic, help="diffeo: Gaussian over the field (cc: each velocity), mm (0)"
    )
    p.add_argument("--radius", type=float, default=d.radius_mm, help="lncc: window in mm, times the shrink factor")
    p.add_argument("--step-tolerance", type=float, default=d.step_tolerance, help="mm per mm of voxel size")
    p.add_argument("--loss-tolerance", type=float, default=d.loss_tolerance, help="relative")
    p.add_argument("--initial", default="centres", help="identity, centres, or a transform file (fixed to moving)")
    p.add_argument(
        "--bins", type=int, default=d.bins, help="of the joint histogram, for mi: 8, 16, 32, 64 (16 in 2D, 32 in 3D)"
    )
    p.add_argument(
        "--pool",
        type=int,
        default=d.pool,
        help="most samples per level, for mi (65536 in 2D; 32768 in 3D, 131072 with bspline and diffeo)",
    )
    p.add_argument("--mask-use", choices=("fill", "rows"), default=d.mask, help="use of the moving mask")
    p.add_argument("--fixed-mask", choices=("none", "fill", "private", "disclosed"), default=None)
    p.add_argument("--seed", type=int, default=d.seed)
    p.add_argument("--threads", type=int, default=os.cpu_count() or 1)


def parameters_of(a: Arguments, has_fixed_mask: bool) -> Parameters:
    from PPIRLogic.transforms import read_transform

    initial: Any = a.initial if a.initial in ("identity", "centres") else read_transform(a.initial)
    levels = counts_of("--levels", a.levels, "shrink factors such as 4,2,1")
    iterations = counts_of("--iterations", a.iterations, "one count per level, such as 6,6,2")
    if a.protocol == PUBLISHED:
        warn_published(a)
    if a.sampling != "full" and a.percent is None:
        raise InputError(f"--sampling {a.sampling} needs --percent, such as --percent 20.")
    return Parameters(
        transform=a.transform, loss=a.loss, protocol=a.protocol, sampling=a.sampling,
        percent=a.percent if a.sampling != "full" else 100.0, disclose_sampling=a.disclose_sampling, levels=levels,
        evaluations=a.evaluations, step_tolerance=a.step_tolerance, loss_tolerance=a.loss_tolerance, initial=initial,
        bins=a.bins, pool=a.pool, mask=a.mask_use, fixed_mask=a.fixed_mask or ("fill" if has_fixed_mask else "none"),
        seed=a.seed, threads=a.threads, grid_spacing=a.grid_spacing, iterations=iterations, bending=a.bending,
        radius_mm=a.radius, stride=a.stride, elastic=a.elastic,
    )  # fmt: skip


def check_outputs(a: Arguments) -> None:
    """Say before a long run, not after it, that a result could not be written."""
    if a.inverse is not None and a.transform == BSPLINE:
        raise InputError("--inverse: a B-spline has no inverse here; --transform diffeo has one.")
    transforms = FIELD_FILES if a.transform == DIFFEO else TRANSFORM_FILES
    files = ((a.output, transforms), (a.inverse, transforms), (a.warped, WRITABLE_IMAGES), (a.report, (".json",)))
    for path, endings in files:
        if path is None:
            continue
        if not path.name.lower().endswith(endings):
            why = " A displacement field needs a binary file." if path.name.lower().endswith(TRANSFORM_FILES) else ""
            raise OutputError(f"{path}: the name must end in one of {', '.join(endings)}.{why}")
        folder = path.resolve().parent
        if not folder.is_dir() or not os.access(folder, os.W_OK):
            raise OutputError(f"{path}: the folder {folder} does not exist or cannot be written to.")
        if path.is_dir():
            raise OutputError(f"{path} is a folder; give a file name.")
    if a.pictures is not None and not a.pictures.is_dir():
        raise OutputError(f"{a.pictures}: this folder does not exist. Make it, or give another with --pictures.")
