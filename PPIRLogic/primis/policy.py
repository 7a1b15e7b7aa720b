"""What the owner of a sealed image grants without further ado, asks a person about, or refuses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from PPIRLogic.errors import InputError, PolicyError
from PPIRLogic.network.identity import normalise_fingerprint
from PPIRLogic.primis.grants import MAX_DAYS
from PPIRLogic.primis.levels import LEVELS, NOBODY
from PPIRLogic.primis.messages import Ask


@dataclass(frozen=True)
class SharingPolicy:
    """One owner's rules for one sealed image. Everything not listed is refused.

    level: the highest that is granted to anybody, 'none' for nothing; levels: that of single peers, by fingerprint.
    peers: who sees the image at all; empty means every trusted peer (and those of `levels` in any case). grants: how
    many one peer may get of this image, over all sessions. days: until a grant expires. ask: a person's answer before
    each grant (who asks: this site's name for the peer, and its fingerprint; the question) → yes or no; without it the
    rules alone decide. Errors: InputError (a level that there is not, a number out of range, no fingerprint).

    >>> policy = SharingPolicy(level="segmentation", grants=2)
    >>> policy.check(Ask("x-ray", bytes(32), "overview", "teaching"), peer="", given=0)
    >>> policy.check(Ask("x-ray", bytes(32), "exact", "teaching"), peer="", given=0)
    Traceback (most recent call last):
    PPIRLogic.errors.PolicyError: The owner of 'x-ray' grants at most the level 'segmentation' to this site, ...
    """

    level: str = "overview"
    levels: Mapping[str, str] = field(default_factory=dict)
    peers: frozenset[str] = frozenset()
    grants: int = 10
    days: int = 30
    ask: Callable[[str, Ask], bool] | None = None

    def __post_init__(self) -> None:
        """InputError for what cannot be meant; one that is taken for true, such as 'no', would disclose."""
        for level in (self.level, *self.levels.values()):
            if level not in (*LEVELS, NOBODY):
                raise InputError(f"Unusable policy: {level!r} is no level; known: {', '.join((*LEVELS, NOBODY))}.")
        for name, value, high in (("grants", self.grants, 10**6), ("days", self.days, MAX_DAYS)):
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= high:
                raise InputError(f"Unusable policy: {name} is {value!r}; it must be a whole number from 1 to {high}.")
        if self.ask is not None and not callable(self.ask):
            raise InputError(f"Unusable policy: ask is {self.ask!r}; it must be a function, or None.")
        if isinstance(self.peers, str):
            raise InputError("Unusable policy: peers is one text; it must be a set of fingerprints.")
        object.__setattr__(self, "levels", {normalise_fingerprint(p): level for p, level in self.levels.items()})
        object.__setattr__(self, "peers", frozenset(map(normalise_fingerprint, self.peers)))

    def shows_to(self, peer: str) -> bool:
        """Whether a peer sees the image in the catalogue."""
        return peer in self.levels or not self.peers or peer in self.peers

    def level_for(self, peer: str) -> str:
        """The highest level that this peer may be granted; 'none' for nothing."""
        return self.levels.get(peer, self.level)

    def check(self, question: Ask, peer: str, given: int) -> None:
        """PolicyError naming what is refused and what is permitted. given: grants that this peer has had."""
        highest = self.level_for(peer)
        if highest == NOBODY:
            raise PolicyError(f"The owner of '{question.name}' gives no grant of it to this site.")
        if LEVELS.index(question.level) > LEVELS.index(highest):
            raise PolicyError(
                f"The owner of '{question.name}' grants at most the level '{highest}' to this site, not"
                f" '{question.level}'."
            )
        if given >= self.grants:
            raise PolicyError(
                f"This site has had {given} grants of '{question.name}', as many as its owner gives to one site."
            )
