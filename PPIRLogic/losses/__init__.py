"""The losses by name. A new loss is one file and one line here."""

from PPIRLogic.losses.base import Evaluation, Loss, Sums
from PPIRLogic.losses.cc import CC
from PPIRLogic.losses.lncc import LNCC
from PPIRLogic.losses.mattes import Mattes
from PPIRLogic.losses.ncc import NCC
from PPIRLogic.losses.ssd import SSD

LOSSES: dict[str, Loss] = {loss.name: loss for loss in (SSD(), NCC(), LNCC(), CC(), Mattes())}

__all__ = ["CC", "LNCC", "LOSSES", "NCC", "SSD", "Evaluation", "Loss", "Mattes", "Sums"]
