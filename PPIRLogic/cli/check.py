"""The command `ppir check`: who answers, and what it offers."""

from __future__ import annotations

from PPIRLogic.cli.common import called, home_of, peer_address, watch_parent
from PPIRLogic.cli.output import Arguments, say
from PPIRLogic.registration.catalogue import shown_name
from PPIRLogic.registration.party1.session import ClientSession


def run_check(a: Arguments) -> None:
    if a.with_parent:
        watch_parent(a.scratch)
    with called(home_of(a), peer_address(a)) as session:
        say_offers(a, session)


def say_offers(a: Arguments, session: ClientSession) -> None:
    """Who answers, and what it offers on what terms."""
    channel = session.channel
    name = channel.known_as if channel.authority else channel.peer_name
    say(a, "peer", f"{name} at {channel.address}, fingerprint {channel.peer_fingerprint}: trusted",
        name=name, fingerprint=channel.peer_fingerprint)  # fmt: skip
    for offer in [*session.offers(), *session.points()]:
        left = offer.budget["numbers_per_image"] - offer.numbers_opened
        text = (
            f"  {offer.what} '{offer.name}': {offer.geometry.describe()}"
            f"{', with a mask' if offer.has_mask else ''}\n"
            f"    protocols {', '.join(map(shown_name, offer.protocols))}; losses {', '.join(offer.losses)}; transforms"
            f" {', '.join(offer.transforms)}; mask use {', '.join(offer.masks)}\n"
            f"    budget {offer.budget['percent_per_level']:g} % of each level,"
            f" {offer.budget['numbers_per_session']:,.0f} numbers per session, {left:,.0f} left in all"
        )
        details = {k: v for k, v in offer.__dict__.items() if k != "geometry"}
        say(a, offer.what, text, geometry=offer.geometry.to_dict(), **details)
