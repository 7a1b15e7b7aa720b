"""The parameters of the encrypted product: ring, moduli, and what fits in them."""

from __future__ import annotations

import math

from PPIRLogic.secure.exact_range import EXACT_MODULUS

PLAIN_MODULUS = EXACT_MODULUS
PRIMES = (1073430529, 1073479681, 1073643521, 1073692673)
SPECIAL_BITS = 20
KEPT = 3  # primes left after the modulus switch
Q = math.prod(PRIMES)
Q_KEPT = math.prod(PRIMES[:KEPT])
