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

from PPIRLogic.api import deal, serve
from PPIRLogic.errors import PPIRError
from PPIRLogic.fixed import FixedImage
from PPIRLogic.images import Geometry, Volume, read_mask, read_volume, write_volume
from PPIRLogic.peer.ledger import Budget
from PPIRLogic.points.files import read_points
from PPIRLogic.points.fixed import FixedPoints
from PPIRLogic.points.pointset import PointSet
from PPIRLogic.pointsets import PointsResult, register_points
from PPIRLogic.policy import Policy
from PPIRLogic.registration import CancelToken, Parameters, Peer, Progress, RegistrationResult, register
from PPIRLogic.server import Shared
from PPIRLogic.simulate import simulate, simulate_points
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
