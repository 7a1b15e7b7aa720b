"""The test of equality: passes for equal numbers alone, is bound to its context, and shows nothing to repeat."""

from __future__ import annotations

import numpy as np
import pytest

from PPIRLogic.errors import ProtocolError
from PPIRLogic.secure.fhe.equality import (
    FIELD,
    PARTY_1,
    PARTY_2,
    SHARE_BYTES,
    A,
    EqualityTest,
    context_of,
    generator,
    point_of,
)

CONTEXT = context_of(b"s" * 32, 1, b"r" * 32)
VALUES = np.array([3, 2**46 - 22, 0], np.uint64)


def run(one: EqualityTest, two: EqualityTest) -> tuple[bool, bool]:
    one.meet(two.share)
    two.meet(one.share)
    return two.confirms(one.tag()), one.confirms(two.tag())


def test_equal_numbers_pass_and_one_that_differs_fails_both_sides() -> None:
    assert run(EqualityTest(PARTY_1, CONTEXT, VALUES), EqualityTest(PARTY_2, CONTEXT, VALUES)) == (True, True)
    for other in (VALUES + np.array([0, 0, 1], np.uint64), VALUES[:2], VALUES[::-1]):
        assert run(EqualityTest(PARTY_1, CONTEXT, VALUES), EqualityTest(PARTY_2, CONTEXT, other)) == (False, False)


@pytest.mark.parametrize("other", [(b"t" * 32, 1, b"r" * 32), (b"s" * 32, 2, b"r" * 32), (b"s" * 32, 1, b"q" * 32)])
def test_a_test_is_of_one_session_level_and_request(other: tuple[bytes, int, bytes]) -> None:
    two = EqualityTest(PARTY_2, context_of(*other), VALUES)
    assert run(EqualityTest(PARTY_1, CONTEXT, VALUES), two) == (False, False)


def test_a_tag_sent_back_confirms_nothing() -> None:
    one, two = EqualityTest(PARTY_1, CONTEXT, VALUES), EqualityTest(PARTY_2, CONTEXT, VALUES)
    run(one, two)
    assert not one.confirms(one.tag()) and not two.confirms(two.tag())


def on_curve(u: int) -> bool:
    return pow(u**3 + A * u**2 + u, (FIELD - 1) // 2, FIELD) in (0, 1)


def test_shares_are_new_every_time_and_lie_on_the_curve() -> None:
    shares = [int.from_bytes(EqualityTest(PARTY_1, CONTEXT, VALUES).share, "little") for _ in range(4)]
    assert len(set(shares)) == 4
    assert all(on_curve(s) for s in shares)


def test_a_generator_is_a_point_of_the_curve_that_follows_from_context_and_numbers() -> None:
    """So a share, its secret unknown, fits a wrong guess of the numbers as well as a right one."""
    found = {
        generator(context, values) for context in (CONTEXT, bytes(32)) for values in (VALUES, VALUES + np.uint64(1))
    }
    assert len(found) == 4
    assert all(on_curve(int.from_bytes(g, "little")) for g in found)
    assert generator(CONTEXT, VALUES) == generator(CONTEXT, VALUES.copy())


@pytest.mark.parametrize("r", [0, 1, 2, 3, FIELD - 1, 2**254 + 12345, 2**255 - 1])
def test_the_map_to_the_curve_is_elligator_2(r: int) -> None:
    """By its inverse (Bernstein and others 2013, 5.3): r² is −u/(2(u + A)) or −(u + A)/(2u)."""
    u = point_of(r)
    assert on_curve(u)
    if r % FIELD:
        one, other = u, (u + A) % FIELD
        roots = {-a * pow(2 * b, -1, FIELD) % FIELD for a, b in ((one, other), (other, one))}
        assert r * r % FIELD in roots
    else:
        assert u in (-A % FIELD, 0)


SMALL = (  # the points of small order, and their other spellings: every secret gives the same key, zero
    0,
    1,
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
    FIELD - 1,
    FIELD,
    FIELD + 1,
)


@pytest.mark.parametrize("value", SMALL)
def test_a_share_of_a_small_group_is_refused(value: int) -> None:
    with pytest.raises(ProtocolError, match="group"):
        EqualityTest(PARTY_1, CONTEXT, VALUES).meet(value.to_bytes(SHARE_BYTES, "little"))


@pytest.mark.parametrize("length", [0, SHARE_BYTES - 1, SHARE_BYTES + 1])
def test_a_share_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(ProtocolError, match="group"):
        EqualityTest(PARTY_1, CONTEXT, VALUES).meet(b"\1" * length)
