"""What an owner permits for one fixed image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from PPIRLogic.disclosure.accounts import Budget
from PPIRLogic.errors import InputError, PolicyError
from PPIRLogic.network.identity import normalise_fingerprint
from PPIRLogic.registration.catalogue import OF_POINTS, protocol_names, shown_name, warn_of_former, wire_name
from PPIRLogic.registration.losses import LOSSES
from PPIRLogic.registration.names import BINS, FIXED_MASK_USES, check_factors
from PPIRLogic.registration.protocols import permitted_by_default, protocol_of
from PPIRLogic.registration.request import LevelGrant, Request
from PPIRLogic.registration.rules import request_problem
from PPIRLogic.registration.transform_kinds import TRANSFORMS


@dataclass(frozen=True)
class Policy:
    """One owner's rules for one shared image. Everything not listed is refused.

    `peers`: fingerprints that may use the image; empty means every trusted peer. `protocols`: by default ours that
    protect the image; what a plugin adds must be named. `masks`: how a mask of the fixed image may be used; under all
    but 'none', which must be named, no number depends on the voxels outside it. `disclose_frame`: tell peers the
    UID of the DICOM frame of reference, so that their DICOM results name it. `ask`: a person's answer before each
    session (who asks: this site's name for the peer, and its fingerprint; the request; what each level may open) → yes
    or no.

    >>> sorted(Policy().protocols)
    ['fhe', 'mpc']
    >>> strict = Policy(protocols=frozenset({"mpc"}), transforms=frozenset({"rigid"}))
    >>> strict.check(Request("atlas", "mpc", "rigid", "ncc", (4, 2, 1)), peer="", has_mask=False)
    >>> strict.check(Request("atlas", "fhe", "rigid", "ncc", (4, 2, 1)), peer="", has_mask=False)
    Traceback (most recent call last):
    PPIRLogic.errors.PolicyError: The protocol 'fhe' is not permitted for image 'atlas' by its owner; ...
    """

    protocols: frozenset[str] = field(default_factory=permitted_by_default)
    losses: frozenset[str] = frozenset(LOSSES.builtin)
    transforms: frozenset[str] = frozenset(TRANSFORMS.builtin)
    masks: frozenset[str] = frozenset({"fill", "private"})
    peers: frozenset[str] = frozenset()
    disclosed_sampling: bool = False
    disclose_frame: bool = False
    budget: Budget = field(default_factory=Budget)
    ask: Callable[[str, Request, list[LevelGrant]], bool] | None = None

    def __post_init__(self) -> None:
        """InputError for a name that there is not, or a fingerprint that is none."""
        self._check_kinds()
        for name in self.protocols:
            warn_of_former(name)
        object.__setattr__(self, "protocols", frozenset(map(wire_name, self.protocols)))
        object.__setattr__(self, "peers", frozenset(map(normalise_fingerprint, self.peers)))
        for what, named, known in (
            ("protocol", self.protocols, protocol_names()),
            ("loss", self.losses, tuple(LOSSES)),
            ("transform", self.transforms, tuple(TRANSFORMS)),
            ("use of the fixed mask", self.masks, FIXED_MASK_USES),
        ):
            if unknown := sorted(set(named) - set(known)):
                raise InputError(
                    f"A policy names the {what} '{unknown[0]}', which is unknown here: {', '.join(known)}."
                )

    def _check_kinds(self) -> None:
        """InputError for a field of another kind. One that is taken for true, such as 'no', would disclose."""
        for name in ("protocols", "losses", "transforms", "masks", "peers"):
            value = getattr(self, name)
            if not isinstance(value, (set, frozenset, list, tuple)) or not all(isinstance(v, str) for v in value):
                raise InputError(f"Unusable policy: {name} is {value!r}; it must be a set of names.")
            object.__setattr__(self, name, frozenset(value))
        if type(self.disclosed_sampling).__name__ not in ("bool", "bool_"):
            raise InputError(f"Unusable policy: disclosed sampling is {self.disclosed_sampling!r}; True or False.")
        if type(self.disclose_frame).__name__ not in ("bool", "bool_"):
            raise InputError(f"Unusable policy: disclose frame is {self.disclose_frame!r}; True or False.")
        if not isinstance(self.budget, Budget):
            raise InputError(f"Unusable policy: its budget is a {type(self.budget).__name__}. Give a Budget.")
        if self.ask is not None and not callable(self.ask):
            raise InputError(f"Unusable policy: ask is {self.ask!r}; it must be a function, or None.")

    def check(self, request: Request, peer: str, has_mask: bool) -> None:
        """PolicyError naming what is refused and what is permitted."""
        if self.peers and peer not in self.peers:
            raise PolicyError(f"The owner of image '{request.image}' does not offer it to this peer.")
        for what, value, allowed in (
            ("protocol", request.protocol, self.protocols),
            ("loss", request.loss, self.losses),
            ("transform", request.transform, self.transforms),
            ("use of the fixed mask", request.fixed_mask, self.masks if has_mask else frozenset(FIXED_MASK_USES)),
        ):
            of_points = what == "loss" and value in OF_POINTS  # which an image refuses, and no policy names
            if value not in allowed and not of_points:
                raise PolicyError(
                    f"The {what} '{shown_name(value)}' is not permitted for image '{request.image}' by its owner;"
                    f" permitted: {', '.join(sorted(map(shown_name, allowed)))}."
                )
        if request.fixed_mask != "none" and not has_mask:
            raise PolicyError(
                f"Image '{request.image}' is shared without a mask: the use of its mask must be 'none', not"
                f" '{request.fixed_mask}'."
            )
        check_factors(request.levels)
        if request.bins not in BINS:
            raise PolicyError(f"A joint histogram of {request.bins} bins is not offered: {', '.join(map(str, BINS))}.")
        if problem := request_problem(request):
            raise PolicyError(problem)
        if request.sampling == "gms" and protocol_of(request).reveals_sampling:
            self._check_disclosed_sampling(request)

    def _check_disclosed_sampling(self, request: Request) -> None:
        if not (self.disclosed_sampling and request.disclose_sampling):
            raise PolicyError(
                f"Under {shown_name(request.protocol)}, gms sampling shows party 2 where the moving image has edges."
                " Both sides must allow it by name (register --disclose-sampling, serve --allow-disclosed-sampling);"
                " or use fhe, or urs."
            )
