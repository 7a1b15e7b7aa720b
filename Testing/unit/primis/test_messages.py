"""Every field of a message about sealed images is checked before it is used."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from PPIRLogic.errors import ProtocolError, VersionError
from PPIRLogic.network.channel import MAX_HEADER
from PPIRLogic.primis import messages as m
from PPIRLogic.primis.grants import MAX_PURPOSE

OFFER = m.SealedOffer("x-ray 7", 5000, bytes(32), (512, 400), "uint16", (900, 800, 700, 600, 500), "texture", True, 3)
FETCH, ASK = m.Fetch("x-ray 7", bytes(32), 2**20), m.Ask("x-ray 7", bytes(32), "overview", "teaching")
PARTS: tuple[tuple[Any, dict[str, Any]], ...] = (
    (m.SealedOffer, OFFER.to_dict()), (m.Fetch, FETCH.to_dict()), (m.Ask, ASK.to_dict()), (m.Page, {"first": 32}),
)  # fmt: skip
ANYTHING = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=80), st.binary(max_size=80)),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


def test_what_is_sent_is_what_is_read() -> None:
    assert m.SealedOffer.from_dict(msgpack.unpackb(msgpack.packb(OFFER.to_dict()))) == OFFER
    assert m.Fetch.from_dict(FETCH.to_dict()) == FETCH and m.Ask.from_dict(ASK.to_dict()) == ASK


def test_a_full_page_fits_a_message() -> None:
    widest = m.SealedOffer(
        "\U0001f600" * m.MAX_NAME, 2**31 - 1, bytes(32), (65535,) * 3, "uint16", (2**31 - 1,) * 5, "classification",
        True, 2**31,
    )  # fmt: skip
    page = {"total": m.MAX_IMAGES, "images": [widest.to_dict()] * m.PAGE}
    assert len(msgpack.packb(page)) < MAX_HEADER - 200


@given(st.data())
def test_a_field_of_anything_is_read_or_refused(data: st.DataObject) -> None:
    """No other error than that of the protocol, whatever one field is, or if it is missing."""
    part, fields = data.draw(st.sampled_from(PARTS))
    name = data.draw(st.sampled_from(sorted(fields)))
    changed = {**fields, name: data.draw(ANYTHING)}
    if data.draw(st.booleans()):
        del changed[name]
    try:
        found = part.from_dict(changed)
    except ProtocolError as error:
        assert len(str(error)) < 500
    else:
        assert name in changed and isinstance(found, part)


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        (m.Ask, "level", "everything"), (m.Ask, "purpose", "  "), (m.Ask, "purpose", "x" * (MAX_PURPOSE + 1)),
        (m.Ask, "purpose", "a\nb"), (m.Ask, "digest", bytes(31)), (m.Ask, "name", ""), (m.Fetch, "offset", -1),
        (m.Fetch, "offset", True), (m.Fetch, "name", "\x1b[2J"), (m.SealedOffer, "codes", [1, -2]),
        (m.SealedOffer, "shape", []), (m.SealedOffer, "shape", [10**9, 4]), (m.SealedOffer, "dtype", "object"),
        (m.SealedOffer, "level", "all"), (m.SealedOffer, "size", 0),
        (m.SealedOffer, "asks", 1), (m.Page, "first", 2**40),
    ],
)  # fmt: skip
def test_what_is_refused(part: Any, name: str, value: Any) -> None:
    fields = dict(PARTS)[part]
    assert part.from_dict(fields)
    with pytest.raises(ProtocolError, match=name):
        part.from_dict({**fields, name: value})


def test_another_version_names_who_is_to_update() -> None:
    m.check_opening(m.opening(), m.SHARES, m.ASKS)
    with pytest.raises(VersionError, match=r"2 of the messages about sealed images.*at the site that shares"):
        m.check_opening({"version": m.PRIMIS_VERSION + 1}, m.SHARES, m.ASKS)
    with pytest.raises(ProtocolError):
        m.check_opening({"version": "1"}, m.SHARES, m.ASKS)
