"""The transforms by name: ours, and what installed packages add (entry points `ppir.transforms`)."""

from PPIRLogic.registration import catalogue
from PPIRLogic.registration.transform_kinds.base import TransformKind
from PPIRLogic.registry import Registry

TRANSFORMS: Registry[TransformKind] = catalogue.TRANSFORMS


def is_deformable(name: str) -> bool:
    """Whether a transform of this name deforms; no for an unknown one."""
    return name in TRANSFORMS and TRANSFORMS[name].deformable


__all__ = ["TRANSFORMS", "TransformKind", "is_deformable"]
