"""What a protocol declares of itself: its two sides, what it protects, what it carries, and the words for it.

A new protocol is one file with its two classes and one `Protocol`; nothing else in the program names it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PPIRLogic.disclosure.counted_channel import NUMBER_BYTES
from PPIRLogic.secure.product import FixedSide, Link, PrivateProduct, Term, are_per_control_point


@dataclass(frozen=True)
class Protocol:
    """One protocol. The defaults are those of one that protects, counts, and tells party 2 nothing.

    name: as on the wire and in ledgers. product, fixed_side: party 1's and party 2's class. bits: that one opened
    number can carry. words: for the report, what the protocol did for the two images. warning: said before a run.
    """

    name: str
    product: Callable[[Link], PrivateProduct]
    fixed_side: Callable[[Link], FixedSide]
    bits: int
    words: str
    warning: str = ""
    permitted_by_default: bool = False  # by an owner who names no protocols
    counted: bool = True  # False: the image itself is disclosed, single numbers are not counted
    exact: bool = True  # False: the sums have an error
    dealer: bool = False  # a dealer takes part
    two_sided: bool = False  # both images move; party 2 learns of the terms that say so, and only of them
    opens_voxels: bool = False  # of two-sided ones: the force is opened voxel by voxel
    per_control_point: bool = False  # carries terms per control point, and so the transforms that deform
    control_point_bits: int = 64  # of one number of such a term
    reveals_sampling: bool = False  # party 2 is told which samples gms chooses
    party2_learns: str = ""  # what party 2 learns, as many numbers as party 1 (the ledger's kind); empty: nothing
    encrypts_anew: bool = False  # the operands are encrypted for every evaluation
    masks_sums: bool = False  # products of three pass masked sums over to party 1, one of 8 bytes per sample
    answer_bytes: int = NUMBER_BYTES  # of one opened number
    test_bytes: int = 0  # that party 2 sends to check a request before it answers
    max_samples: int = 0  # of a level; 0: no limit of its own
    affine_protocol: str = ""  # under which the affine session runs that comes before; empty: this one

    def bits_of(self, terms: Sequence[Term]) -> int:
        """Bits that one number of these terms can carry."""
        return self.control_point_bits if are_per_control_point(terms) else self.bits

    def sent_protected(self, terms: Sequence[Term], samples: int) -> float:
        """Bytes that party 2 sends protected, before it counts and answers a request over so many samples."""
        if self.encrypts_anew or self.two_sided:
            return math.inf
        return 8.0 * samples if self.masks_sums and terms[0].vectors > 1 else -1.0
