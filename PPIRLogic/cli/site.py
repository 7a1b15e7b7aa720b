"""The commands about this site: `ppir identity`, `ppir trust`."""

from __future__ import annotations

from pathlib import Path

from PPIRLogic.cli.common import home_of
from PPIRLogic.cli.output import Arguments, say
from PPIRLogic.disclosure.chain import Chain
from PPIRLogic.disclosure.failed_checks import FailedChecks
from PPIRLogic.errors import InputError
from PPIRLogic.network.identity import load_or_create_identity, normalise_fingerprint, renew_identity
from PPIRLogic.network.names import PEER
from PPIRLogic.network.trust import TrustStore


def run_identity(a: Arguments) -> None:
    home = home_of(a)
    if a.renew or a.new_key:
        identity = renew_identity(home, name=a.name, new_key=a.new_key)
    else:
        identity = load_or_create_identity(home, a.name)
    text = (
        f"site         {identity.name}\nfingerprint  {identity.fingerprint}\n"
        f"valid until  {identity.not_after:%Y-%m-%d}\n"
        f"Read the fingerprint to the other site, which runs:  ppir trust add {identity.fingerprint}"
    )
    say(a, "identity", text, name=identity.name, fingerprint=identity.fingerprint)


def run_trust(a: Arguments) -> None:
    store, records = TrustStore(home_of(a)), Chain(home_of(a))
    failures = FailedChecks(home_of(a), records)
    if a.action != "list" and not a.what:
        raise InputError(f"ppir trust {a.action}: give a fingerprint, a name or a file.")
    if a.action == "add":
        fingerprint = normalise_fingerprint(a.what)
        peer = store.add(fingerprint, a.name or fingerprint[:9], a.role)
        text = f"trusted{_as_role(peer.role)}: {peer.name}  {peer.fingerprint}"
        say(a, "trusted", text, name=peer.name, fingerprint=peer.fingerprint, role=peer.role)
    elif a.action == "remove":
        removed = store.remove(a.what)
        say(a, "removed", f"no longer trusted: {removed.name}  {removed.fingerprint}", fingerprint=removed.fingerprint)
    elif a.action == "lift":
        known = {peer.name: peer.fingerprint for peer in store.peers()}
        try:
            fingerprint = known.get(a.what) or normalise_fingerprint(a.what)
        except InputError:
            raise InputError(f"trust lift {a.what}: no trusted peer has this name, and it is no fingerprint.") from None
        count = failures.lift(fingerprint)
        if count:
            records.log("tests lifted", peer=fingerprint, tests=count)
        say(
            a,
            "lifted",
            f"{count} failed or unfinished tests of {fingerprint} lifted",
            fingerprint=fingerprint,
            failures=count,
        )
    elif a.action == "add-authority":
        authority = store.add_authority(a.what, a.name or Path(a.what).stem)
        say(a, "trusted", f"trusted authority: {authority.name}", name=authority.name)
    elif a.action == "add-crl":
        authority = store.add_revocations(a.what)
        count = len(authority.revoked or ())
        say(a, "revoked", f"{count} certificates revoked by {authority.name}", name=authority.name, revoked=count)
    else:
        for peer in store.peers():
            count = failures.count(peer.fingerprint)
            note = f"  ({count} failed or unfinished tests; `ppir trust lift` forgives them)" if count else ""
            text = f"{peer.fingerprint}  {peer.name}{_as_role(peer.role)}{note}"
            say(a, "peer", text, fingerprint=peer.fingerprint, name=peer.name, role=peer.role, failures=count)
        for authority in store.authorities():
            revoked = f"  ({len(authority.revoked)} revoked)" if authority.revoked is not None else ""
            say(a, "authority", f"authority: {authority.name}{revoked}", name=authority.name)


def _as_role(role: str) -> str:
    return "" if role == PEER else f" as a {role}"
