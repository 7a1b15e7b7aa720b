"""The protocols by name. A new protocol is one file under `secure` and one line here."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PPIRLogic.losses import LOSSES
from PPIRLogic.losses.cc import FORCE, PUBLISHED, VOXELS
from PPIRLogic.peer.messages import Request
from PPIRLogic.secure.base import FixedSide, Link, PrivateProduct, Term, are_by_knot
from PPIRLogic.secure.cc import CcFixed, CcProduct, ClearCcFixed, ClearCcProduct, PublishedFixed, PublishedProduct
from PPIRLogic.secure.ckks import ANSWER_BYTES, BITS
from PPIRLogic.secure.clear import ClearFixed, ClearProduct
from PPIRLogic.secure.fhe import FheFixed, FheProduct
from PPIRLogic.secure.fhe_v1 import FheV1Fixed, FheV1Product
from PPIRLogic.secure.fhe_v2 import FheV2Fixed, FheV2Product
from PPIRLogic.secure.fhe_verified import VerifiedFixed, VerifiedProduct
from PPIRLogic.secure.mpc import MpcFixed, MpcProduct
from PPIRLogic.secure.outlet import NUMBER_BYTES
from PPIRLogic.secure.slots import SLOT_BITS


@dataclass(frozen=True)
class Protocol:
    """One protocol: its two sides, the bits one opened number can carry, and whether a dealer takes part.

    told_samples: party 2 is told which samples gms chooses. shown: what party 2 learns, as many numbers as party 1
    (the ledger's kind); empty where it learns nothing.
    """

    product: Callable[[Link], PrivateProduct]
    fixed_side: Callable[[Link], FixedSide]
    bits: int
    dealer: bool = False
    knot_bits: int = 64  # of one number of a term by knot
    told_samples: bool = False
    shown: str = ""
    exact: bool = True  # False: the sums have an error
    encrypts_anew: bool = False  # True: the operands are encrypted for every evaluation
    masks_sums: bool = False  # True: products of three pass masked sums over to party 1, one of 8 bytes per sample
    answer_bytes: int = NUMBER_BYTES  # of one opened number
    two_sided: bool = False  # party 2 learns of the terms that say so, and only of them
    counted: bool = True  # False: the image itself is disclosed, single numbers are not counted

    def bits_of(self, terms: Sequence[Term]) -> int:
        """Bits that one number of these terms can carry."""
        return self.knot_bits if are_by_knot(terms) else self.bits

    def sent_protected(self, terms: Sequence[Term], samples: int) -> float:
        """Bytes that party 2 sends protected, before it counts and answers a request over so many samples."""
        if self.encrypts_anew or self.two_sided:
            return math.inf
        return 8.0 * samples if self.masks_sums and terms[0].vectors > 1 else -1.0


PROTOCOLS = {
    "clear": Protocol(ClearProduct, ClearFixed, ClearFixed.bits_per_number, counted=False),
    "fhe": Protocol(FheProduct, FheFixed, FheFixed.bits_per_number, knot_bits=SLOT_BITS),
    "fhe_verified": Protocol(VerifiedProduct, VerifiedFixed, VerifiedFixed.bits_per_number),
    "mpc": Protocol(MpcProduct, MpcFixed, MpcFixed.bits_per_number, dealer=True, told_samples=True, masks_sums=True),
    "fhe_v1": Protocol(
        FheV1Product, FheV1Fixed, BITS, told_samples=True, shown="result", exact=False, encrypts_anew=True
    ),
    "fhe_v2": Protocol(
        FheV2Product,
        FheV2Fixed,
        BITS,
        told_samples=True,
        shown="half of the result",
        exact=False,
        encrypts_anew=True,
        answer_bytes=ANSWER_BYTES,
    ),
}

TWO_SIDED = {  # of losses that move both images
    "clear": Protocol(ClearCcProduct, ClearCcFixed, CcFixed.bits_per_number, two_sided=True, counted=False),
    "mpc": Protocol(CcProduct, CcFixed, CcFixed.bits_per_number, dealer=True, shown=FORCE, two_sided=True),
    PUBLISHED: Protocol(
        PublishedProduct, PublishedFixed, CcFixed.bits_per_number, dealer=True, shown=VOXELS, two_sided=True
    ),
}
NAMES = tuple(dict.fromkeys((*PROTOCOLS, *TWO_SIDED)))


def protocol_of(request: Request) -> Protocol:
    """How a request is run: a loss that moves both images has sides of its own under a protocol's name."""
    two_sided = request.loss in LOSSES and LOSSES[request.loss].two_sided
    return TWO_SIDED[request.protocol] if two_sided else PROTOCOLS[request.protocol]
