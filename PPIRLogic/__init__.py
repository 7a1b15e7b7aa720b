"""Privacy-preserving image registration between two parties that do not show each other their images.

Party 1 holds the moving image, party 2 the fixed image; the result is an ordinary transform that maps fixed points
to moving points (ITK's resampling direction) in LPS millimetres. The whole public interface is here:

    register(moving, peer, …)        party 1: align my image to the one a peer serves
    serve(images, address, …)        party 2: serve fixed images under their owners' policies
    deal(address, …)                 the dealer of the mpc protocol, at a third site
    register_points(points, peer, …) party 1: align my points to the corresponding points of a peer
    simulate(fixed, moving, …)       both parties as real processes on this machine
    simulate_points(fixed, moving)   the same for point sets
    read_volume, read_mask, Volume   images in
    read_points, PointSet            points in
    read_transform, write_transform  transforms in and out
    read_source_series, write_dicom  results as DICOM objects

There is no global state: identity, trust and ledger live in the folder given as `home`. A name is loaded when it is
first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from PPIRLogic import former_paths
from PPIRLogic.version import __version__

if TYPE_CHECKING:
    from PPIRLogic.dicom.results import write_dicom
    from PPIRLogic.dicom.source_series import SourceSeries, read_source_series
    from PPIRLogic.disclosure.accounts import Budget
    from PPIRLogic.errors import PPIRError
    from PPIRLogic.images.geometry import Geometry
    from PPIRLogic.images.reading import read_mask, read_volume
    from PPIRLogic.images.volume import Volume
    from PPIRLogic.images.writing import write_volume
    from PPIRLogic.points.files import read_points
    from PPIRLogic.points.pointset import PointSet
    from PPIRLogic.progress import CancelToken, Progress
    from PPIRLogic.registration.parameters import Parameters
    from PPIRLogic.registration.party1.register import register
    from PPIRLogic.registration.party2.fixed_image import FixedImage
    from PPIRLogic.registration.party2.policy import Policy
    from PPIRLogic.registration.party2.site import Shared
    from PPIRLogic.registration.points.fixed_points import FixedPoints
    from PPIRLogic.registration.points.register import PointsResult, register_points
    from PPIRLogic.registration.request import Peer
    from PPIRLogic.registration.result import RegistrationResult
    from PPIRLogic.registration.simulate import simulate, simulate_points
    from PPIRLogic.serving import deal, serve
    from PPIRLogic.transforms import LinearTransform, read_transform, write_transform

_HOMES = {
    "Budget": "disclosure.accounts",
    "CancelToken": "progress",
    "FixedImage": "registration.party2.fixed_image",
    "FixedPoints": "registration.points.fixed_points",
    "Geometry": "images.geometry",
    "LinearTransform": "transforms",
    "PPIRError": "errors",
    "Parameters": "registration.parameters",
    "Peer": "registration.request",
    "PointSet": "points.pointset",
    "PointsResult": "registration.points.register",
    "Policy": "registration.party2.policy",
    "Progress": "progress",
    "RegistrationResult": "registration.result",
    "Shared": "registration.party2.site",
    "SourceSeries": "dicom.source_series",
    "Volume": "images.volume",
    "deal": "serving",
    "read_mask": "images.reading",
    "read_points": "points.files",
    "read_source_series": "dicom.source_series",
    "read_transform": "transforms",
    "read_volume": "images.reading",
    "register": "registration.party1.register",
    "register_points": "registration.points.register",
    "serve": "serving",
    "simulate": "registration.simulate",
    "simulate_points": "registration.simulate",
    "write_dicom": "dicom.results",
    "write_transform": "transforms",
    "write_volume": "images.writing",
}
__all__ = [
    "Budget",
    "CancelToken",
    "FixedImage",
    "FixedPoints",
    "Geometry",
    "LinearTransform",
    "PPIRError",
    "Parameters",
    "Peer",
    "PointSet",
    "PointsResult",
    "Policy",
    "Progress",
    "RegistrationResult",
    "Shared",
    "SourceSeries",
    "Volume",
    "__version__",
    "deal",
    "read_mask",
    "read_points",
    "read_source_series",
    "read_transform",
    "read_volume",
    "register",
    "register_points",
    "serve",
    "simulate",
    "simulate_points",
    "write_dicom",
    "write_transform",
    "write_volume",
]
former_paths.install(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'PPIRLogic' has no attribute '{name}'")
    value = getattr(import_module(f"PPIRLogic.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
