"""The test of equality: passes for equal numbers alone, is bound to its context, and shows nothing to repeat."""

from __future__ import annotations

import numpy as np
import pytest

from PPIRLogic.errors import ProtocolError
from PPIRLogic.secure.fhe.equality import PARTY_1, PARTY_2, SHARE_BYTES, EqualityTest, P, context_of, generator

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


def test_shares_are_new_every_time_and_lie_in_the_group_of_squares() -> None:
    shares = [int.from_bytes(EqualityTest(PARTY_1, CONTEXT, VALUES).share, "big") for _ in range(4)]
    assert len(set(shares)) == 4
    assert all(pow(s, (P - 1) // 2, P) == 1 for s in shares)


def test_every_generator_generates_the_whole_group() -> None:
    """So a share, its exponent unknown, fits a wrong guess of the numbers as well as a right one."""
    for values in (VALUES, VALUES + np.uint64(1)):
        assert pow(generator(CONTEXT, values), (P - 1) // 2, P) == 1 != generator(CONTEXT, values)  # the order is prime


@pytest.mark.parametrize("value", [0, 1, P - 1, P, P + 1])
def test_a_share_outside_the_group_is_refused(value: int) -> None:
    with pytest.raises(ProtocolError, match="group"):
        EqualityTest(PARTY_1, CONTEXT, VALUES).meet(value.to_bytes(SHARE_BYTES, "big"))


@pytest.mark.parametrize("length", [0, SHARE_BYTES - 1, SHARE_BYTES + 1])
def test_a_share_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(ProtocolError, match="group"):
        EqualityTest(PARTY_1, CONTEXT, VALUES).meet(b"\1" * length)


def arctan_of_inverse(k: int) -> int:
    """arctan(1/k)·2^3100."""
    total = term = (1 << 3100) // k
    n, sign = 3, -1
    while term:
        term //= k * k
        total += sign * (term // n)
        n, sign = n + 2, -sign
    return total


def test_the_modulus_is_the_safe_prime_of_rfc_3526() -> None:
    """2^3072 − 2^3008 − 1 + 2^64·(floor(2^2942·π) + 1690314); P and (P − 1)/2 pass Fermat's test."""
    pi = 4 * (4 * arctan_of_inverse(5) - arctan_of_inverse(239)) >> 3100 - 2942
    assert 2**3072 - 2**3008 - 1 + 2**64 * (pi + 1690314) == P
    assert pow(2, P - 1, P) == 1 and pow(2, (P - 3) // 2, (P - 1) // 2) == 1
