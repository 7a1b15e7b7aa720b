"""Addresses as people write them."""

from __future__ import annotations

import re

from PPIRLogic.errors import InputError
from PPIRLogic.network.identity import clean_text

DEFAULT_PORT = 7443


def parse_address(text: str) -> tuple[str, int]:
    """Split 'host:7443', '[::1]:7443' or 'host' (port 7443) into host and port; InputError for anything else."""
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.%a-z]+)\]|([^\s\[\]:/@]+))(?::([0-9]{1,5}))?", text.strip())
    if not match or int(match[3] or 0) > 65535:
        raise InputError(
            f"{clean_text(text)!r} is not an address: write host, host:port or [IPv6 address]:port, "
            f"with a port up to 65535 (default {DEFAULT_PORT})"
        )
    if match[2] and re.fullmatch(r"[0-9.]+", match[2]) and match[2].count(".") != 3:
        raise InputError(
            f"{clean_text(text)!r} is a number, not a host: write host:port, such as hospital-b.example:{DEFAULT_PORT}"
        )
    return match[1] or match[2], DEFAULT_PORT if match[3] is None else int(match[3])


def spell_address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
