"""One affine registration by another program: other_program.py PROGRAM FIXED MOVING OUTPUT.json.

A script of its own that imports nothing of this package, so that any Python with the program can run it. Exit code 3:
the program is not installed. The transform maps fixed to moving points.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

THREADS = 2
Found = tuple[list[float], list[float], float]  # parameters, centre, seconds


def elastix(fixed_file: str, moving_file: str) -> Found:
    """elastix with its own default affine parameters."""
    import itk

    itk.set_nthreads(THREADS)
    fixed, moving = (itk.imread(f, itk.F) for f in (fixed_file, moving_file))
    began = time.perf_counter()
    parameters = itk.ParameterObject.New()
    chosen = parameters.GetDefaultParameterMap("affine")
    chosen["Registration"] = ("MultiResolutionRegistration",)
    chosen["WriteResultImage"] = ("false",)
    parameters.AddParameterMap(chosen)
    method = itk.ElastixRegistrationMethod.New(fixed, moving)
    method.SetParameterObject(parameters)
    method.SetNumberOfThreads(THREADS)
    method.SetLogToConsole(False)
    method.UpdateLargestPossibleRegion()
    out = method.GetTransformParameterObject().GetParameterMap(0)
    seconds = time.perf_counter() - began
    return [float(v) for v in out["TransformParameters"]], [float(v) for v in out["CenterOfRotationPoint"]], seconds


def ants(fixed_file: str, moving_file: str) -> Found:
    """ANTs (antspyx): 'Affine' with its own defaults; in 2D all samples, without which runs end far apart."""
    import ants as program

    fixed, moving = (program.image_read(f, pixeltype="float") for f in (fixed_file, moving_file))
    share = 1.0 if fixed.dimension == 2 else 0.2
    began = time.perf_counter()
    found = program.registration(fixed, moving, "Affine", random_seed=1, aff_random_sampling_rate=share)
    seconds = time.perf_counter() - began
    transform = program.read_transform(found["fwdtransforms"][0])
    return [float(v) for v in transform.parameters], [float(v) for v in transform.fixed_parameters], seconds


def simpleitk(fixed_file: str, moving_file: str, modalities: int = 1) -> Found:
    """SimpleITK: correlation, or mutual information of two modalities; gradient descent of regular steps."""
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(THREADS)
    fixed, moving = (sitk.ReadImage(f, sitk.sitkFloat32) for f in (fixed_file, moving_file))
    began = time.perf_counter()
    dim = fixed.GetDimension()
    start = sitk.CenteredTransformInitializer(
        fixed, moving, sitk.AffineTransform(dim), sitk.CenteredTransformInitializerFilter.GEOMETRY
    )
    method = sitk.ImageRegistrationMethod()
    if modalities == 1:
        method.SetMetricAsCorrelation()
    else:
        method.SetMetricAsMattesMutualInformation(32)
        method.SetMetricSamplingStrategy(method.RANDOM)
        method.SetMetricSamplingPercentage(0.1 if dim == 3 else 1.0, 1)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-5, 1000, 0.5, 1e-8)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([4, 2, 1])
    method.SetSmoothingSigmasPerLevel([2, 1, 0])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    method.SetInitialTransform(start, inPlace=True)
    method.Execute(fixed, moving)
    seconds = time.perf_counter() - began
    affine = sitk.AffineTransform(start)
    return list(affine.GetParameters()), list(affine.GetCenter()), seconds


def simpleitk_mattes(fixed_file: str, moving_file: str) -> Found:
    return simpleitk(fixed_file, moving_file, modalities=2)


PROGRAMS: dict[str, tuple[Callable[[str, str], Found], str]] = {
    "elastix": (elastix, "itk-elastix"),
    "ants": (ants, "antspyx"),
    "simpleitk": (simpleitk, "SimpleITK"),
    "simpleitk-mattes": (simpleitk_mattes, "SimpleITK"),
}


def main() -> None:
    name, fixed, moving, output = sys.argv[1:]
    register, package = PROGRAMS[name]
    try:
        found: Any = register(fixed, moving)
    except ImportError as error:
        print(error, file=sys.stderr)
        sys.exit(3)
    parameters, centre, seconds = found
    with open(output, "w") as file:
        json.dump({"parameters": parameters, "centre": centre, "seconds": seconds, "version": version(package)}, file)


if __name__ == "__main__":
    main()
