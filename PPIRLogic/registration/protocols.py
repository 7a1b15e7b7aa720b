"""The protocols by name: ours, and what installed packages add (entry points `ppir.protocols`).

A loss that moves both images has sides of its own under a protocol's name; those are in a table of their own.
"""

from __future__ import annotations

from PPIRLogic.registration import catalogue
from PPIRLogic.registration.losses import LOSSES
from PPIRLogic.registration.request import Request
from PPIRLogic.registry import Registry
from PPIRLogic.secure.protocol import Protocol

PROTOCOLS: Registry[Protocol] = catalogue.PROTOCOLS
TWO_SIDED: Registry[Protocol] = catalogue.TWO_SIDED


def protocol_named(name: str) -> Protocol:
    """The protocol of this name, for what does not depend on the loss. KeyError for an unknown one."""
    return PROTOCOLS[name] if name in PROTOCOLS else TWO_SIDED[name]


def protocol_of(request: Request) -> Protocol:
    """How a request is run. KeyError for a protocol that this loss does not have."""
    two_sided = request.loss in LOSSES and LOSSES[request.loss].two_sided
    return TWO_SIDED[request.protocol] if two_sided else PROTOCOLS[request.protocol]


def permitted_by_default() -> frozenset[str]:
    """What an owner permits who names no protocols: ours that protect the image and open what is counted."""
    return frozenset(name for name in PROTOCOLS.builtin if PROTOCOLS[name].permitted_by_default)
