"""The protocols by name. A new protocol is one file under `secure` and one line here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from PPIRLogic.secure.base import FixedSide, Link, PrivateProduct
from PPIRLogic.secure.clear import ClearFixed, ClearProduct
from PPIRLogic.secure.fhe import FheFixed, FheProduct
from PPIRLogic.secure.fhe_verified import VerifiedFixed, VerifiedProduct
from PPIRLogic.secure.mpc import MpcFixed, MpcProduct


@dataclass(frozen=True)
class Protocol:
    """One protocol: its two sides, the bits one opened number can carry, and whether a dealer takes part."""

    product: Callable[[Link], PrivateProduct]
    fixed_side: Callable[[Link], FixedSide]
    bits: int
    dealer: bool = False
    counted: bool = True  # False: the image itself is disclosed, single numbers are not counted


PROTOCOLS = {
    "clear": Protocol(ClearProduct, ClearFixed, ClearFixed.bits_per_number, counted=False),
    "fhe": Protocol(FheProduct, FheFixed, FheFixed.bits_per_number),
    "fhe_verified": Protocol(VerifiedProduct, VerifiedFixed, VerifiedFixed.bits_per_number),
    "mpc": Protocol(MpcProduct, MpcFixed, MpcFixed.bits_per_number, dealer=True),
}
