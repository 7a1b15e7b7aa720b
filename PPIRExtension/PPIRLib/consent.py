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


def ask(node: Any, peer: dict[str, Any], offer: dict[str, Any], estimate: dict[str, Any]) -> bool:
    """True if a person agreed: now, or before to a run that discloses as much of the same kind.

    peer, offer, estimate: what `ppir estimate` said.
    """
    settings = slicer.app.userSettings()
    key = f"{CONSENT_KEY}/{peer['fingerprint']}/{offer['name']}/{node.protocol}"
    loss = node.loss if node.movingPoints is None else _("points")
    terms = Terms(node.transform, loss, _mask_use(node, offer), int(estimate["most"]))
    former = _read(settings.value(key))
    if former is not None and _covers(former, terms):
        return True
    text = consent_text(node, peer, offer, estimate, former)
    if not slicer.util.confirmOkCancelDisplay(text, windowTitle=_("What will be sent and learned")):
        return False
    settings.setValue(key, json.dumps(asdict(terms)))
    return True


def _mask_use(node: Any, offer: dict[str, Any]) -> str:
    """What 'auto' stands for, as in the engine."""
    if node.fixedMask != "auto":
        return str(node.fixedMask)
    return "fill" if offer["has_mask"] and "none" not in offer["masks"] else "none"


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
    node: Any, peer: dict[str, Any], offer: dict[str, Any], estimate: dict[str, Any], former: Terms | None = None
) -> str:
    """The text of the consent dialog."""
    lines = [
        _("You are about to register '{mine}' to '{image}' of {name}.").format(
            mine=plain((node.movingPoints or node.movingVolume).GetName()),
            image=plain(offer["name"]),
            name=plain(peer["name"]),
        ),
        _("Fingerprint of the other site: {fingerprint}").format(fingerprint=peer["fingerprint"]),
        "",
    ]
    if former is not None:
        lines += [_("You agreed to something else before: at most {former}.").format(former=former.wording), ""]
    lines += [
        _("What is sent: values computed from my {what}, {how}. My {what} itself is not sent.").format(
            what=_("volume") if node.movingPoints is None else _("list of points"),
            how=_("masked and mixed into encrypted data")
            if node.protocol != "mpc"
            else _("masked; a dealer at a third site helps, and must not work with either hospital"),
        ),
        "",
        _(
            "What the other site learns: that and when I register, how many steps it takes, the settings of the"
            " run{more}."
        ).format(more=_shown(estimate)),
        "",
        _learned(offer, estimate),
        "",
        _("Both sides and the dealer are trusted to follow the protocol.")
        if node.protocol == "mpc"
        else _(
            "A site that does not follow the protocol learns no more than this, but for a few guesses and how the other"
            " one reacts; it can spoil the result."
        ),
        _("This is research software, not a medical device."),
    ]
    return "\n".join(lines)


def plain(text: str) -> str:
    """A word, a peer's above all, without what Qt would take for markup: it must not restyle a question to a person."""
    return text.replace("<", "‹").replace(">", "›")


def _shown(estimate: dict[str, Any]) -> str:
    """What else, where both images move."""
    numbers = sum(row.get("shown", 0) for row in estimate["levels"])
    if not numbers:
        return ""
    return _(
        ", which steps led on, and at most {numbers:,} sums over both images, of which its own steps are made"
    ).format(numbers=numbers)


def _learned(offer: dict[str, Any], estimate: dict[str, Any]) -> str:
    if offer["event"] == "point set":
        return _(
            "What I learn: the transform, how many the other points are and roughly where, and {most} sums over their"
            " coordinates ({percent:.2g} % of their number)."
        ).format(
            most=estimate["most"],
            percent=100 * estimate["most"] / estimate["levels"][0]["samples"],
        )  # fmt: skip
    return _(
        "What I learn: the transform, the grid of the other image ({size} voxels), and at most {most} sums over its"
        " voxels: {levels}. The owner's budget may allow fewer."
    ).format(
        size=" × ".join(str(n) for n in offer["geometry"]["size"]),
        most=estimate["most"],
        levels="; ".join(_level(row) for row in estimate["levels"]),
    )


def _level(row: dict[str, Any]) -> str:
    return _("{transform} at 1/{factor} of the resolution {most} ({percent:.2g} % of that level)").format(
        percent=100 * row["most"] / row["samples"], **row
    )
