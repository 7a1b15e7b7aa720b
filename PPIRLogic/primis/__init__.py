"""PRIMIS: an image as several sealed codes, each with a key of its own. Who holds a key sees so much and no more.

    seal(image, output, …)             an image into a .ppis file: overview, segmentation, …, exact
    unseal(file, grant=…, level=…)     the image as far as a key goes
    grant(file, card, level, …)        the key up to a level for one recipient, on record (at most 400 bytes)
    inspect(file)                      what anybody can read of it
    reseal(file, output)               the same under new keys: former grants open nothing of it
    own_card(home), read_card(data)    a site's card: the key to which grants for it are encrypted
    share(files, address), ask(name, peer, …)  the same over the network

A name is loaded when it is first used; the codec needs `pip install ppir[primis]`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PPIRLogic.primis.cards import Card, own_card, read_card
    from PPIRLogic.primis.escrow import restore_escrow, write_escrow
    from PPIRLogic.primis.grant_records import GrantRecords
    from PPIRLogic.primis.grants import Grant, read_grant
    from PPIRLogic.primis.levels import LEVELS
    from PPIRLogic.primis.party1 import ask
    from PPIRLogic.primis.party2 import share
    from PPIRLogic.primis.policy import SharingPolicy
    from PPIRLogic.primis.sealed_file import Header, SealedFile
    from PPIRLogic.primis.sealing import grant, has_key, image_key, inspect, reseal, seal, unseal
    from PPIRLogic.primis.shared_files import SharedFile
    from PPIRLogic.primis.unsealed import Unsealed

_HOMES = {
    "Card": "cards",
    "Grant": "grants",
    "GrantRecords": "grant_records",
    "Header": "sealed_file",
    "LEVELS": "levels",
    "SealedFile": "sealed_file",
    "SharedFile": "shared_files",
    "SharingPolicy": "policy",
    "Unsealed": "unsealed",
    "ask": "party1",
    "grant": "sealing",
    "has_key": "sealing",
    "image_key": "sealing",
    "inspect": "sealing",
    "own_card": "cards",
    "read_card": "cards",
    "read_grant": "grants",
    "reseal": "sealing",
    "restore_escrow": "escrow",
    "seal": "sealing",
    "share": "party2",
    "unseal": "sealing",
    "write_escrow": "escrow",
}
__all__ = [
    "LEVELS",
    "Card",
    "Grant",
    "GrantRecords",
    "Header",
    "SealedFile",
    "SharedFile",
    "SharingPolicy",
    "Unsealed",
    "ask",
    "grant",
    "has_key",
    "image_key",
    "inspect",
    "own_card",
    "read_card",
    "read_grant",
    "reseal",
    "restore_escrow",
    "seal",
    "share",
    "unseal",
    "write_escrow",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'PPIRLogic.primis' has no attribute '{name}'")
    value = getattr(import_module(f"PPIRLogic.primis.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
