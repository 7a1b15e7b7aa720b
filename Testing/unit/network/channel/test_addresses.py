"""Addresses of sites."""

from __future__ import annotations

import pytest

from PPIRLogic.errors import InputError
from PPIRLogic.network.channel import parse_address
from PPIRLogic.network.channel.addresses import split_route


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("host:1234", ("host", 1234)),
        ("host", ("host", 7443)),
        (" 10.0.0.1:0 ", ("10.0.0.1", 0)),
        ("[::1]:7443", ("::1", 7443)),
        ("[fe80::1%eth0]", ("fe80::1%eth0", 7443)),
        ("a.b-c.example:65535", ("a.b-c.example", 65535)),
    ],
)
def test_addresses(text: str, expected: tuple[str, int]) -> None:
    assert parse_address(text) == expected


@pytest.mark.parametrize(
    "text", ["", ":1", "h:", "h:x", "h:65536", "::1", "[::1", "https://h", "a b", "u@h", "h:-1", "h:1:2"]
)
def test_no_addresses(text: str) -> None:
    with pytest.raises(InputError, match="not an address"):
        parse_address(text)


@pytest.mark.parametrize("text", ["7443", "127.1", "10.1.2:80", "0x7f000001:7443", "0x7f.1:7", "1.2.3.0x4", "host.7"])
def test_what_the_system_would_take_for_a_number_is_no_host(text: str) -> None:
    with pytest.raises(InputError, match="is a number, not a host"):
        parse_address(text)


def test_what_is_wrong_with_an_address_is_said() -> None:
    for text, said in (("::1", "in brackets"), ("https://h:7443", "leave out https://")):
        with pytest.raises(InputError, match=said):
            parse_address(text)


FINGERPRINT = "QXE4-LZH2-7M4G-SZHK-F2OH-ZBHV-GFKC-NN4J"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("host:1234", ("", "host:1234")),
        (f"{FINGERPRINT}@relay.example:443", (FINGERPRINT, "relay.example:443")),
        (f" {FINGERPRINT.replace('-', '').lower()}@[::1]:1 ", (FINGERPRINT, "[::1]:1")),
    ],
    ids=["plain", "relay", "typed"],
)
def test_the_way_to_a_site_at_a_relay(text: str, expected: tuple[str, str]) -> None:
    assert split_route(text) == expected


@pytest.mark.parametrize("text", ["@relay:1", "user@relay", f"{FINGERPRINT}A@relay", f"{FINGERPRINT}@B@relay"])
def test_no_way_to_a_site(text: str) -> None:
    with pytest.raises(InputError, match="not a fingerprint"):
        split_route(text)
