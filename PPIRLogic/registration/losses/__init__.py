"""The losses by name: ours, and what installed packages add (entry points `ppir.losses`)."""

from PPIRLogic.registration import catalogue
from PPIRLogic.registration.losses.base import Evaluation, Loss, Sums
from PPIRLogic.registry import Registry

LOSSES: Registry[Loss] = catalogue.LOSSES

__all__ = ["LOSSES", "Evaluation", "Loss", "Sums"]
