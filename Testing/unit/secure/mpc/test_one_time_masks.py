"""Shares and masks of secret sharing."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from PPIRLogic.registration.dealer.orders import Order
from PPIRLogic.secure.integer_sums import ring_dot
from PPIRLogic.secure.layout import GROUP, group_size
from PPIRLogic.secure.mpc.one_time_masks import mask_of_columns, mask_of_operand, share_of_product

K0, K1 = b"0" * 32, b"1" * 32


@settings(max_examples=25, deadline=None)
@given(
    samples=st.sampled_from([1, 7, 1000, GROUP - 1, GROUP, GROUP + 1]),
    columns=st.integers(1, 3),
    where=st.tuples(st.integers(0, 64), st.integers(0, 10**6)),
    seed=st.integers(0, 2**32 - 1),
)
def test_shares_of_both_parties_add_up_to_the_product(
    samples: int, columns: int, where: tuple[int, int], seed: int
) -> None:
    generator = np.random.default_rng(seed)
    s = generator.integers(-(2**31), 2**31, (columns, samples))
    v = generator.integers(-(2**31), 2**31, samples)
    order = Order(*where, samples, columns, tuple((k, "J") for k in range(columns)))
    first, second = share_of_product(K0, *where, columns), order.correlation(K0, K1)
    for group in range(-(-samples // GROUP)):
        count = group_size(samples, group)
        part = slice(group * GROUP, group * GROUP + count)
        a, b = mask_of_columns(K0, *where, group, columns, count), mask_of_operand(K1, where[0], "J", group, count)
        e, f = s[:, part] - a, v[part] - b
        first = first + [ring_dot(row, f) for row in s[:, part]]
        second = second + [ring_dot(row, b) for row in e]
    wrapped = [int(x) % 2**64 for x in s.astype(object) @ v.astype(object)]
    assert (first + second).astype(np.uint64).tolist() == wrapped


def test_no_two_masks_share_an_address() -> None:
    """One word of every mask of several levels, evaluations, groups and operands: all different."""
    words = [int(mask_of_columns(K0, v, e, g, 1, 1)[0, 0]) for v in range(4) for e in range(20) for g in range(5)]
    words += [int(share_of_product(K0, v, e, 1)[0]) for v in range(4) for e in range(20)]
    words += [int(mask_of_operand(K0, v, o, g, 1)[0]) for v in range(4) for o in ("J", "J2", "M") for g in range(5)]
    assert len(set(words)) == len(words) == 540


def test_columns_of_one_evaluation_have_masks_of_their_own() -> None:
    masks = mask_of_columns(K0, 1, 2, 0, 5, 500)
    assert masks.shape == (5, 500) and len(np.unique(masks)) == 2500
