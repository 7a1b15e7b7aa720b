"""What a person is told before the first run with a peer, in plain words and with the worst case in numbers."""

from __future__ import annotations

from typing import Any

from slicer.i18n import tr as _


def consent_text(node: Any, peer: dict[str, Any], offer: dict[str, Any]) -> str:
    """The text of the consent dialog."""
    lines = [
        _("You are about to register '{volume}' to the image '{image}' of {name}.").format(
            volume=node.movingVolume.GetName(), image=offer["name"], name=peer["name"]
        ),
        _("Fingerprint of the other site: {fingerprint}").format(fingerprint=peer["fingerprint"]),
        "",
        _("What is sent: values computed from my volume, {how}. My volume itself is not sent.").format(
            how=_("masked and mixed into encrypted data")
            if node.protocol == "fhe"
            else _("masked; a dealer at a third site helps, and must not work with either hospital")
        ),
        _("What the other site learns: that and when I register, how many steps it takes, the settings of the run."),
        _("What I learn: the transform, the grid of the other image ({size} voxels), and {numbers}").format(
            size=" × ".join(str(n) for n in offer["geometry"]["size"]), numbers=worst_case(node, offer)
        ),
        "",
        _("Both sides are trusted to follow the protocol. This is research software, not a medical device."),
    ]
    return "\n".join(lines)


def worst_case(node: Any, offer: dict[str, Any]) -> str:
    """At most how many numbers of the fixed image this run can disclose."""
    from PPIRLogic.images import Geometry
    from PPIRLogic.parameters import Parameters
    from PPIRLogic.policy import most_numbers

    geometry = Geometry.from_dict(offer["geometry"])
    parameters = Parameters(
        transform=node.transform, loss=node.loss, protocol=node.protocol, sampling=node.sampling, percent=node.percent,
        levels=tuple(int(v) for v in node.levels.split(",") if v.strip()) or None, evaluations=node.evaluations,
        fixed_mask=node.fixedMask,
    )  # fmt: skip
    request = parameters.request(offer["name"], geometry, "", "")
    levels = most_numbers(request, geometry)
    most = min(sum(g.most for g in levels), int(offer["budget"]["numbers_per_session"]))
    each = max(g.numbers_per_evaluation + g.numbers_per_gradient for g in levels)
    return _(
        "at most {most} sums over its voxels ({each} per step, at most {steps} steps at each of {levels} resolutions;"
        " the owner's budget may allow fewer)."
    ).format(most=most, each=each, steps=node.evaluations, levels=len(levels))
