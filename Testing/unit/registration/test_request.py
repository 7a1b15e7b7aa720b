"""Requests and grants from the network: taken in range, refused by name."""

from __future__ import annotations

import re
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from junk_support import junk

from PPIRLogic.errors import ProtocolError, VersionError
from PPIRLogic.network.messages import (
    DEALER,
    PARTY_1,
    PARTY_2,
    PROTOCOL_VERSION,
    check_version,
)
from PPIRLogic.registration.request import LevelGrant, Request

GOOD = Request("brain", "fhe", "affine", "ncc", (4, 2, 1), "urs", 12.5, False, "private", 40, 7, dealer="ab-cd")
words = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=16)
requests = st.builds(
    Request,
    image=words,
    protocol=words,
    transform=words,
    loss=words,
    levels=st.lists(st.integers(1, 64), min_size=1, max_size=8).map(tuple),
    sampling=words,
    percent=st.floats(1e-6, 100),
    disclose_sampling=st.booleans(),
    fixed_mask=words,
    evaluations=st.integers(1, 10_000),
    iterations=st.lists(st.integers(1, 1000), max_size=8).map(tuple),
    grid_spacing=st.floats(0, 1e4),
    stride=st.integers(0, 4096),
    radius_mm=st.floats(0, 1e4),
    seed=st.integers(0, 2**62),
    dealer=words,
    software=words,
)


@settings(max_examples=100, deadline=None)
@given(requests)
def test_a_request_survives_the_wire(request_: Request) -> None:
    received = Request.from_dict(msgpack.unpackb(msgpack.packb(request_.to_dict())))
    assert received == request_ and received.software == request_.software
    assert msgpack.packb(received.to_dict()) == msgpack.packb(request_.to_dict())  # both sides hash these bytes


@settings(max_examples=120, deadline=None)
@given(
    st.dictionaries(st.sampled_from(sorted(GOOD.to_dict())), junk, min_size=1),
    st.sets(st.sampled_from(sorted(GOOD.to_dict())), max_size=2),
)
def test_any_map_is_a_request_in_range_or_refused(over: dict[str, Any], drop: set[str]) -> None:
    data = {k: v for k, v in (GOOD.to_dict() | over).items() if k not in drop}
    try:
        request = Request.from_dict(data)
    except (ProtocolError, VersionError):
        return
    assert not drop
    assert all(type(v) is int and 1 <= v <= 64 for v in request.levels) and 1 <= len(request.levels) <= 8
    assert 1e-6 <= request.percent <= 100 and 1 <= request.evaluations <= 10_000
    assert 0 <= request.seed <= 2**62 and request.version == PROTOCOL_VERSION
    assert all(isinstance(v, str) and v.isprintable() and len(v) <= 128 for v in (request.image, request.protocol))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("levels", []), ("levels", [0]), ("levels", [65]), ("levels", [True]), ("levels", [1.0]), ("levels", [1] * 9),
        ("levels", "421"), ("percent", 0), ("percent", 101), ("percent", float("nan")), ("percent", "5"),
        ("evaluations", 0), ("evaluations", 10_001), ("evaluations", True), ("seed", -1), ("image", "a\nb"),
        ("image", "\x1b[2J"), ("image", "x" * 129), ("image", b"brain"), ("disclose_sampling", 1), ("loss", None),
    ],
)  # fmt: skip
def test_a_field_out_of_range_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(ProtocolError, match=f"'{field}' of 'open'"):
        Request.from_dict(GOOD.to_dict() | {field: value})


@pytest.mark.parametrize("field", sorted(GOOD.to_dict()))
def test_no_field_may_be_missing(field: str) -> None:
    data = GOOD.to_dict()
    del data[field]
    with pytest.raises(ProtocolError, match=field):
        Request.from_dict(data)


@pytest.mark.parametrize("version, update", [(0, PARTY_1), (PROTOCOL_VERSION - 1, PARTY_1), (99, PARTY_2)])
def test_another_version_is_refused_and_says_where_to_update(version: int, update: str) -> None:
    with pytest.raises(VersionError, match=rf"Update PPIRExtension at {re.escape(update)}\.") as caught:
        Request.from_dict(GOOD.to_dict() | {"version": version})
    assert f"version {version}" in str(caught.value) and f"version {PROTOCOL_VERSION}" in str(caught.value)


def test_another_version_may_have_other_fields() -> None:
    with pytest.raises(VersionError):
        Request.from_dict({"version": PROTOCOL_VERSION + 1, "something": "new"})


def test_a_message_of_the_first_builds_says_no_version() -> None:
    with pytest.raises(VersionError, match=rf"{re.escape(DEALER)} version 1\. Update PPIRExtension at {DEALER}\."):
        check_version({"key": bytes(32)}, "joined", PARTY_1, DEALER)
    with pytest.raises(ProtocolError, match="'version'"):
        check_version({"version": "2"}, "info", PARTY_1, PARTY_2)
    check_version({"version": PROTOCOL_VERSION}, "info", PARTY_1, PARTY_2)


@settings(max_examples=60, deadline=None)
@given(st.builds(LevelGrant, *[st.integers(1, 64)] * 3, st.integers(0, 10_000), st.integers(0, 2**62)))
def test_a_grant_survives_the_wire(grant: LevelGrant) -> None:
    assert LevelGrant.from_dict(msgpack.unpackb(msgpack.packb(grant.to_dict()))) == grant


@settings(max_examples=100, deadline=None)
@given(junk | st.dictionaries(st.sampled_from(["factor", "samples", "evaluations", "numbers_left"]), junk))
def test_no_junk_is_a_grant(data: Any) -> None:
    with pytest.raises(ProtocolError):
        LevelGrant.from_dict(data)
