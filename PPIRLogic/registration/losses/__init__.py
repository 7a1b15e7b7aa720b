"""The losses by name. A new loss is one file and one line here."""

from PPIRLogic.registration.losses.base import Evaluation, Loss, Sums
from PPIRLogic.registration.losses.cross_correlation import CrossCorrelation
from PPIRLogic.registration.losses.lncc import LNCC
from PPIRLogic.registration.losses.mutual_information import MutualInformation
from PPIRLogic.registration.losses.ncc import NCC
from PPIRLogic.registration.losses.ssd import SSD

LOSSES: dict[str, Loss] = {loss.name: loss for loss in (SSD(), NCC(), LNCC(), CrossCorrelation(), MutualInformation())}

__all__ = ["CC", "LNCC", "LOSSES", "NCC", "SSD", "Evaluation", "Loss", "Mattes", "Sums"]
