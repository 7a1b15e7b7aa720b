"""Addresses as people write them."""

from __future__ import annotations

import re

from PPIRLogic.errors import InputError
from PPIRLogic.network.identity import clean_text, normalise_fingerprint
from PPIRLogic.network.names import DEFAULT_PORT


def parse_address(text: str) -> tuple[str, int]:
    """Split 'host:7443', '[::1]:7443' or 'host' (port 7443) into host and port; InputError for anything else."""
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.%a-z]+)\]|([^\s\[\]:/@]+))(?::([0-9]{1,5}))?", text.strip())
    if "://" in text:
        raise InputError(f"{clean_text(text)!r} is not an address: leave out {clean_text(text.split('://')[0])}://")
    if text.count(":") > 1 and re.fullmatch(r"[0-9A-Fa-f:.]+", text.strip()):
        raise InputError(f"{clean_text(text)!r} is not an address: write IPv6 in brackets, as in [::1]:{DEFAULT_PORT}")
    if not match or int(match[3] or 0) > 65535:
        raise InputError(
            f"{clean_text(text)!r} is not an address: write host, host:port or [IPv6 address]:port, "
            f"with a port up to 65535 (default {DEFAULT_PORT})"
        )
    last = match[2].rpartition(".")[2] if match[2] else ""
    number = re.fullmatch(r"[0-9]+|0[xX][0-9a-fA-F]*", last)  # what the system would take for an IPv4 address
    if number and not re.fullmatch(r"[0-9]+(\.[0-9]+){3}", match[2]):
        raise InputError(
            f"{clean_text(text)!r} is a number, not a host: write host:port, such as hospital-b.example:{DEFAULT_PORT}"
        )
    return match[1] or match[2], DEFAULT_PORT if match[3] is None else int(match[3])


def split_route(text: str) -> tuple[str, str]:
    """Split 'FINGERPRINT@host:port' into the site and the relay at which it waits; site '' for a plain address.

    >>> split_route("hospital-b.example:7443")
    ('', 'hospital-b.example:7443')
    """
    site, at, relay = text.strip().rpartition("@")
    return (normalise_fingerprint(site), relay) if at else ("", text)


def spell_address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
