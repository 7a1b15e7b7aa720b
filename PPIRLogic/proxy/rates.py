"""How often an attacker recognised whose proxy it was, as it was measured: what every consent and report says.

`weights/rates.json` is written by the benchmark; for a strength between two that were measured, the weaker one counts.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from PPIRLogic.errors import InputError
from PPIRLogic.proxy.spectrum import MANIFEST, Spectrum

FILE = "rates.json"
NOT_MEASURED = (
    "For this strength no rate of recognition was measured: take it that whoever has other scans finds whose it is."
)
REGISTRATION = "registration"  # what attacks are called by that register scans to a proxy
NOT_ALL = (
    "Attacks that register other scans of the persons to the proxy were not measured: expect them to find more than"
    " these networks, which see a coarse grid."
)
NOT_ENCRYPTED = (
    "A proxy is not encrypted and not anonymous: the server sees grey values, lesions and folds, moved about, and"
    " may keep them."
)


@dataclass(frozen=True)
class Rate:
    """One attack at one strength. found: of so many `of` persons, at the first guess; low, high: 95 % interval.

    chance: what guessing finds. attack: in words.

    >>> Rate("retrained network", 8.0, found=0.3, low=0.2, high=0.42, of=50).chance
    0.02
    """

    attack: str
    strength: float
    found: float
    low: float
    high: float
    of: int

    @property
    def chance(self) -> float:
        return 1.0 / self.of

    def describe(self) -> str:
        """For a person.

        >>> Rate("retrained network", 8.0, 0.3, 0.2, 0.42, 60).describe()
        'Retrained network: 30 % of 60 persons recognised (95 % interval 20 to 42 %; by chance 2 %).'
        """
        name = self.attack[:1].upper() + self.attack[1:]
        return (
            f"{name}: {100 * self.found:.0f} % of {self.of} persons recognised (95 % interval"
            f" {100 * self.low:.0f} to {100 * self.high:.0f} %; by chance {100 * self.chance:.0f} %)."
        )

    def to_dict(self) -> dict[str, Any]:
        """For a report."""
        return {
            "attack": self.attack, "strength_mm": self.strength, "found": self.found, "low": self.low,
            "high": self.high, "persons": self.of, "chance": round(self.chance, 4),
        }  # fmt: skip


def parse(text: str | bytes, spectrum: str) -> tuple[Rate, ...]:
    """The table of a file; empty if it was measured with another spectrum (SHA-256). InputError: it is not one."""
    try:
        table = json.loads(text)
        rows, of = table["rates"], str(table["spectrum"])
        found = tuple(
            Rate(str(r["attack"]), float(r["strength_mm"]), float(r["found"]), float(r["low"]), float(r["high"]),
                 int(r["persons"]))
            for r in rows
        )  # fmt: skip
        if not all(0 <= r.low <= r.found <= r.high <= 1 and r.of > 1 for r in found):
            raise ValueError
    except (ValueError, KeyError, TypeError):
        raise InputError("The table of rates of recognition is not one. Install PPIRExtension again.") from None
    return found if of == spectrum else ()


@cache
def measured() -> tuple[Rate, ...]:
    """Every rate that comes with the program, of the spectrum that comes with it."""
    path = resources.files("PPIRLogic.proxy") / "weights" / FILE
    return parse(path.read_bytes(), Spectrum.shipped().digest) if path.is_file() else ()


def rates_for(strength: float) -> list[Rate]:
    """Of each attack, what was measured at this strength, or at the next weaker one; the worst first.

    strength: mm. InputError: the table that comes with the program is damaged. Below the weakest that was measured
    there is none:

    >>> rates_for(0.0)
    []
    """
    found = []
    for attack in dict.fromkeys(r.attack for r in measured()):
        below = [r for r in measured() if r.attack == attack and r.strength <= strength]
        if below:
            found.append(max(below, key=lambda r: r.strength))
    return sorted(found, key=lambda r: -r.found)


@cache
def weights_note() -> str:
    """What has to be known of the network that comes with the program; '' where there is nothing."""
    path = resources.files("PPIRLogic.proxy") / "weights" / MANIFEST
    return str(json.loads(path.read_bytes()).get("note", "")) if path.is_file() else ""


def warning(strength: float) -> str:
    """What a person has to know before a proxy of this strength is sent."""
    rows = [rate.describe() for rate in rates_for(strength)]
    if rows and not any(REGISTRATION in rate.attack for rate in measured()):
        rows.append(NOT_ALL)
    return "\n".join(filter(None, [NOT_ENCRYPTED, *(rows or [NOT_MEASURED]), weights_note()]))
