"""What a person is told before a run that discloses more than was agreed to, with the worst case in numbers."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import slicer
from slicer.i18n import tr as _

CONSENT_KEY = "PPIR/consent"  # in the application's settings, one entry per peer, image and protocol


@dataclass(frozen=True)
class Terms:
    """What a consent is about: `numbers` is the most that the run can disclose of the fixed image."""

    transform: str
    loss: str
    mask: str
    numbers: int

    @property
    def wording(self) -> str:
        return _("{numbers:,} numbers with transform {transform}, loss {loss}, mask use {mask}").format(**asdict(self))


@dataclass(frozen=True)
class Estimate:
    """The worst case of a run, before any level's budget."""

    most: int
    each: int
    steps: int
    levels: int


def estimate(node: Any, offer: dict[str, Any]) -> Estimate:
    """At most how many numbers of the fixed image this run can disclose; InputError if it cannot be run so."""
    from PPIRLogic.images import Geometry
    from PPIRLogic.parameters import Parameters
    from PPIRLogic.policy import most_numbers

    geometry = Geometry.from_dict(offer["geometry"])
    parameters = Parameters(
        transform=node.transform, loss=node.loss, protocol=node.protocol, sampling=node.sampling,
        percent=node.percent if node.sampling != "full" else 100.0, evaluations=node.evaluations,
        levels=tuple(int(v) for v in node.levels.split(",") if v.strip()) or None, fixed_mask=node.fixedMask,
    )  # fmt: skip
    levels = most_numbers(parameters.request(offer["name"], geometry, "", ""), geometry)
    most = min(sum(g.most for g in levels), int(offer["budget"]["numbers_per_session"]))
    each = max(g.numbers_per_evaluation + g.numbers_per_gradient for g in levels)
    return Estimate(most, each, node.evaluations, len(levels))


def ask(node: Any, peer: dict[str, Any], offer: dict[str, Any]) -> bool:
    """True if a person agreed: now, or before to a run that discloses as much of the same kind."""
    settings = slicer.app.userSettings()
    key = f"{CONSENT_KEY}/{peer['fingerprint']}/{offer['name']}/{node.protocol}"
    worst = estimate(node, offer)
    terms = Terms(node.transform, node.loss, node.fixedMask, worst.most)
    former = _read(settings.value(key))
    if former is not None and _covers(former, terms):
        return True
    text = consent_text(node, peer, offer, worst, former)
    if not slicer.util.confirmOkCancelDisplay(text, windowTitle=_("What will be sent and learned")):
        return False
    settings.setValue(key, json.dumps(asdict(terms)))
    return True


def _read(value: Any) -> Terms | None:
    """What was agreed to before; None if nothing, or nothing that can be read."""
    try:
        found = json.loads(str(value))
        return Terms(str(found["transform"]), str(found["loss"]), str(found["mask"]), int(found["numbers"]))
    except (ValueError, TypeError, KeyError):
        return None


def _covers(former: Terms, now: Terms) -> bool:
    alike = (former.transform, former.loss, former.mask) == (now.transform, now.loss, now.mask)
    return alike and now.numbers <= former.numbers


def consent_text(
    node: Any, peer: dict[str, Any], offer: dict[str, Any], worst: Estimate, former: Terms | None = None
) -> str:
    """The text of the consent dialog."""
    lines = [
        _("You are about to register '{volume}' to the image '{image}' of {name}.").format(
            volume=node.movingVolume.GetName(), image=offer["name"], name=peer["name"]
        ),
        _("Fingerprint of the other site: {fingerprint}").format(fingerprint=peer["fingerprint"]),
        "",
    ]
    if former is not None:
        lines += [_("You agreed to something else before: at most {former}.").format(former=former.wording), ""]
    lines += [
        _("What is sent: values computed from my volume, {how}. My volume itself is not sent.").format(
            how=_("masked and mixed into encrypted data")
            if node.protocol != "mpc"
            else _("masked; a dealer at a third site helps, and must not work with either hospital")
        ),
        "",
        _("What the other site learns: that and when I register, how many steps it takes, the settings of the run."),
        "",
        _(
            "What I learn: the transform, the grid of the other image ({size} voxels), and at most {most} sums over its"
            " voxels ({each} per step, at most {steps} steps at each of {levels} resolutions; the owner's budget may"
            " allow fewer)."
        ).format(size=" × ".join(str(n) for n in offer["geometry"]["size"]), **asdict(worst)),
        "",
        _("Both sides are trusted to follow the protocol. This is research software, not a medical device."),
    ]
    return "\n".join(lines)
