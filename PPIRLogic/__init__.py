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

There is no global state: identity, trust and ledger live in the folder given as `home`.
"""

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
from PPIRLogic.version import __version__

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
    "Volume",
    "__version__",
    "deal",
    "read_mask",
    "read_points",
    "read_transform",
    "read_volume",
    "register",
    "register_points",
    "serve",
    "simulate",
    "simulate_points",
    "write_transform",
    "write_volume",
]
