"""What can be typed after `ppir identity` and `ppir trust`."""

from __future__ import annotations

from typing import Any

from PPIRLogic.cli.parsers.common import add_command
from PPIRLogic.network.names import PEER, ROLES

ACTIONS = ("list", "add", "remove", "add-authority", "add-crl", "lift")


def add_identity(commands: Any) -> None:
    text = "Show this site's fingerprint, to be read out to the other site; makes a key on first use."
    p = add_command(commands, "identity", "site:run_identity", text, "ppir identity --name 'Hospital A'")
    p.add_argument("--name", help="name of this site (on first use, or with --renew)")
    p.add_argument("--renew", action="store_true", help="new certificate for the same key; the fingerprint stays")
    p.add_argument("--new-key", action="store_true", help="new key; every peer must trust the new fingerprint")


def add_trust(commands: Any) -> None:
    text = "List, add or remove the peers this site trusts. Compare fingerprints by telephone, not by mail."
    text += " lift: go on with a peer that is blocked, after three tests under fhe that it failed or left unfinished."
    p = add_command(commands, "trust", "site:run_trust", text, "ppir trust add 7QHX-2B3M-… --name 'Hospital B'")
    p.add_argument("action", nargs="?", choices=ACTIONS, default="list")
    p.add_argument("what", nargs="?", default="", help="fingerprint, name, or file of an institution's CA or CRL")
    p.add_argument("--name", default="", help="what to call this peer")
    p.add_argument(
        "--role",
        choices=ROLES,
        default=PEER,
        help="a peer registers and serves; a dealer only deals (mpc); a relay only passes on bytes",
    )
