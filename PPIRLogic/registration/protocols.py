"""The protocols by name. A new protocol is one file under `secure` and one line here."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PPIRLogic.disclosure.counted_channel import NUMBER_BYTES
from PPIRLogic.registration.losses import LOSSES
from PPIRLogic.registration.losses.cross_correlation import FORCE, PUBLISHED, VOXELS
from PPIRLogic.registration.request import Request
from PPIRLogic.registration.symmetric.protocol import (
    CcFixed,
    CcProduct,
    ClearCcFixed,
    ClearCcProduct,
    PublishedFixed,
    PublishedProduct,
)
from PPIRLogic.secure.clear import ClearFixed, ClearProduct
from PPIRLogic.secure.fhe.protocol import FheFixed, FheProduct
from PPIRLogic.secure.fhe.slots import SLOT_BITS
from PPIRLogic.secure.fhe.verified import VerifiedFixed, VerifiedProduct
from PPIRLogic.secure.mpc.protocol import MpcFixed, MpcProduct
from PPIRLogic.secure.product import FixedSide, Link, PrivateProduct, Term, are_per_control_point
from PPIRLogic.secure.published.ckks import ANSWER_BYTES, BITS
from PPIRLogic.secure.published.fhe_v1 import FheV1Fixed, FheV1Product
from PPIRLogic.secure.published.fhe_v2 import FheV2Fixed, FheV2Product


@dataclass(frozen=True)
class Protocol:
    """One protocol: its two sides, the bits one opened number can carry, and whether a dealer takes part.

    reveals_sampling: party 2 is told which samples gms chooses. party2_learns: what party 2 learns, as many numbers as
    party 1 (the ledger's kind); empty where it learns nothing.
    """

    product: Callable[[Link], PrivateProduct]
    fixed_side: Callable[[Link], FixedSide]
    bits: int
    dealer: bool = False
    control_point_bits: int = 64  # of one number of a term by knot
    reveals_sampling: bool = False
    party2_learns: str = ""
    exact: bool = True  # False: the sums have an error
    encrypts_anew: bool = False  # True: the operands are encrypted for every evaluation
    masks_sums: bool = False  # True: products of three pass masked sums over to party 1, one of 8 bytes per sample
    answer_bytes: int = NUMBER_BYTES  # of one opened number
    two_sided: bool = False  # party 2 learns of the terms that say so, and only of them
    counted: bool = True  # False: the image itself is disclosed, single numbers are not counted

    def bits_of(self, terms: Sequence[Term]) -> int:
        """Bits that one number of these terms can carry."""
        return self.control_point_bits if are_per_control_point(terms) else self.bits

    def sent_protected(self, terms: Sequence[Term], samples: int) -> float:
        """Bytes that party 2 sends protected, before it counts and answers a request over so many samples."""
        if self.encrypts_anew or self.two_sided:
            return math.inf
        return 8.0 * samples if self.masks_sums and terms[0].vectors > 1 else -1.0


PROTOCOLS = {
    "clear": Protocol(ClearProduct, ClearFixed, ClearFixed.bits_per_number, counted=False),
    "fhe": Protocol(FheProduct, FheFixed, FheFixed.bits_per_number, control_point_bits=SLOT_BITS),
    "fhe_verified": Protocol(VerifiedProduct, VerifiedFixed, VerifiedFixed.bits_per_number),
    "mpc": Protocol(
        MpcProduct, MpcFixed, MpcFixed.bits_per_number, dealer=True, reveals_sampling=True, masks_sums=True
    ),
    "fhe_v1": Protocol(
        FheV1Product, FheV1Fixed, BITS, reveals_sampling=True, party2_learns="result", exact=False, encrypts_anew=True
    ),
    "fhe_v2": Protocol(
        FheV2Product,
        FheV2Fixed,
        BITS,
        reveals_sampling=True,
        party2_learns="half of the result",
        exact=False,
        encrypts_anew=True,
        answer_bytes=ANSWER_BYTES,
    ),
}

TWO_SIDED = {  # of losses that move both images
    "clear": Protocol(ClearCcProduct, ClearCcFixed, CcFixed.bits_per_number, two_sided=True, counted=False),
    "mpc": Protocol(CcProduct, CcFixed, CcFixed.bits_per_number, dealer=True, party2_learns=FORCE, two_sided=True),
    PUBLISHED: Protocol(
        PublishedProduct, PublishedFixed, CcFixed.bits_per_number, dealer=True, party2_learns=VOXELS, two_sided=True
    ),
}
NAMES = tuple(dict.fromkeys((*PROTOCOLS, *TWO_SIDED)))


def protocol_of(request: Request) -> Protocol:
    """How a request is run: a loss that moves both images has sides of its own under a protocol's name."""
    two_sided = request.loss in LOSSES and LOSSES[request.loss].two_sided
    return TWO_SIDED[request.protocol] if two_sided else PROTOCOLS[request.protocol]
