"""The loops of the number-theoretic transforms of `ring`: which vectors go through which stages.

A file of its own because `vectors` loads numba: `ring` loads it with the first transform.
"""

from __future__ import annotations

from typing import Any

from PPIRLogic.compiled import compiled
from PPIRLogic.secure.fhe import vectors


@compiled
def _ahead(x: Any, base: Any, block: Any, n: Any, twiddle: Any, quotient: Any, p: Any) -> None:
    """In place: the `block`th part, n coefficients at `base`, of a polynomial through its last stages, to below p."""
    parts = 1
    while n > 16:
        n >>= 3
        for i in range(parts):
            for j in range(base + i * n * 64, base + (i * 8 + 1) * n * 8, vectors.WIDE):
                vectors.forward_8(x, x, j, n * 8, twiddle, quotient, block * parts + i, p)
        parts <<= 3
    if n == 16:
        n >>= 2
        for i in range(parts):
            for j in range(base + i * n * 32, base + (i * 4 + 1) * n * 8, vectors.WIDE):
                vectors.forward_4(x, x, j, n * 8, twiddle, quotient, block * parts + i, p)
        parts <<= 2
    for i in range(parts):
        if n == 8:
            vectors.last_8(x, x, base + i * 64, 8, twiddle, quotient, block * parts + i, p)
        else:
            vectors.last_4(x, x, base + i * 32, 8, twiddle, quotient, block * parts + i, p)


@compiled
def forward(x: Any, twiddle: Any, quotient: Any, prime: Any) -> None:
    part = x.size // 8
    for j in range(0, part, vectors.WIDE):
        vectors.forward_8(x, x, j, part, twiddle, quotient, 1, prime)
    for i in range(8):  # each small enough for the first cache
        _ahead(x, i * part, 8 + i, part // 8, twiddle, quotient, prime)


@compiled
def _back(x: Any, base: Any, block: Any, n: Any, twiddle: Any, quotient: Any, p: Any) -> None:
    """In place: the `block`th part, n coefficients at `base`, back through the stages of `_ahead`, to below 2p."""
    rest = n
    while rest > 16:
        rest >>= 3
    if rest == 8:
        span, parts = 8, n >> 3
        for i in range(parts):
            vectors.first_inverse_8(x, x, base + i * 64, 8, twiddle, quotient, block * parts + i, p)
    else:
        span, parts = 4, n >> 2
        for i in range(parts):
            vectors.first_inverse_4(x, x, base + i * 32, 8, twiddle, quotient, block * parts + i, p)
    if rest == 16:
        span, parts = 16, parts >> 2
        for i in range(parts):
            for j in range(base + i * 128, base + i * 128 + 32, vectors.WIDE):
                vectors.inverse_4(x, x, j, 32, twiddle, quotient, block * parts + i, p)
    while span < n:
        parts >>= 3
        for i in range(parts):
            for j in range(base + i * span * 64, base + (i * 8 + 1) * span * 8, vectors.WIDE):
                vectors.inverse_8(x, x, j, span * 8, twiddle, quotient, block * parts + i, p)
        span <<= 3


@compiled
def inverse(x: Any, twiddle: Any, quotient: Any, prime: Any) -> None:
    part = x.size // 8
    for i in range(8):
        _back(x, i * part, 8 + i, part // 8, twiddle, quotient, prime)
    for j in range(0, part, vectors.WIDE):
        vectors.last_inverse_8(x, x, j, part, twiddle, quotient, 1, prime)


@compiled
def transform_and_add(
    values: Any, c: Any, total: Any, twiddle: Any, quotient: Any, prime: Any, negative_inverse: Any, x: Any
) -> None:
    """total (parts, n) += Σ over the lanes of the transform of `values` times c (parts, n·8), over 2^32, mod p.

    values: signed integers, |v| < p, coefficient-major (n·8,); x: room for their transform. See `add_products`.
    """
    part = x.size // 8
    for j in range(0, part, vectors.WIDE):
        vectors.lifted_8(values, x, j, part, twiddle, quotient, 1, prime)
    for i in range(8):
        _ahead(x, i * part, 8 + i, part // 8, twiddle, quotient, prime)
        for k in range(i * part // 8, (i + 1) * part // 8, vectors.COEFFICIENTS):
            for copy in range(total.shape[0]):
                vectors.add_products(x, c[copy], total[copy], k, prime, negative_inverse)


@compiled
def reverse_chunks(values: Any, out: Any) -> None:
    """Eight chunks of n integers to eight polynomials (coefficient-major), coefficient n−1−j = value j of its chunk."""
    n = out.size // 8
    for j in range(n):
        for lane in range(8):
            out[(n - 1 - j) * 8 + lane] = values[lane * n + j]


@compiled
def accumulate(
    block: Any, columns: Any, group: Any, total: Any, results: Any, primes: Any, twiddle: Any, quotient: Any,
    negative_inverses: Any, turned: Any, x: Any
) -> None:  # fmt: skip
    """total (results, parts, primes, n) += products of the columns with the operands of a group, as `Accumulator` says.

    turned, x: room for columns with their chunks reversed, and for one that is transformed.
    """
    for k in range(columns.size):
        reverse_chunks(block[columns[k]], turned[k])
    for i in range(primes.size):  # a prime's share of the operand stays in the second cache
        for k in range(columns.size):
            transform_and_add(
                turned[k], group[:, i], total[results[k], :, i], twiddle[i], quotient[i], primes[i],
                negative_inverses[i], x
            )  # fmt: skip
