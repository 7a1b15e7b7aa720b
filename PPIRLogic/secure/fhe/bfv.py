"""The exact encrypted inner product: BFV with coefficient packing, two parties, no third one.

Party 2 encrypts each chunk of n fixed values as Σ v_j X^j. Party 1 multiplies by Σ s_j X^(n−1−j): coefficient
n−1 of the product is the inner product. Keys and parameter validation are Microsoft SEAL's (through
tenseal.sealapi, 128-bit classical security by its own table); the transforms and the multiply-accumulate are
ours (`ring`), in SEAL's own residue form, because SEAL's Python binding moves ciphertexts only through files
and holds the interpreter lock. No byte from the network ever reaches SEAL.

What protects what (n = 8192, Q = four 30-bit primes, 2^120; t = 2^46 − 21, prime):

- Party 2's image: ring learning with errors under its secret key; fresh keys per level, never stored.
- Party 1's S, against the key holder, who can open every ciphertext: a request is uniform, whatever keys and
  ciphertexts the key holder made.
  (1) `c1` of the answer is re-randomised with a fresh encryption of zero; the public polynomials `pk1` and every `c1`
      are expanded from a seed both parties contributed to, so a key holder cannot choose a key that does not mask:
      one sample of ring learning with errors per answer;
  (2) of `c0` only the coefficient that carries the result travels, rounded to Q' = the product of three of the four
      primes (2^90), plus a pad R uniform modulo Q'. Nothing is left beside the pad: no noise, no phase.
  Party 2 computes w = floor(t·phase/Q'), party 1 knows r = floor(t·R/Q'): the number is w − r modulo t. It is off by
  one if the noise carries, with a probability of the noise divided by Q'/t = 2^44: below 2^-39.
- `check_range` refuses, before anything is sent, an S for which the result could wrap or the noise could carry more
  often than that.
- Several secrets may share the public polynomials: (a, −a·s_i + e_i) for independent s_i. The operand chooses a, the
  copy the secret; never two operands under one secret and one a.

The time party 1 takes tells how many of its chunks are empty, not which.
"""

from __future__ import annotations

import hashlib
import secrets
from functools import lru_cache
from typing import Any

import numpy as np
from numpy import uint32

from PPIRLogic.errors import MissingDependencyError, ProtocolError
from PPIRLogic.secure.fhe import ring
from PPIRLogic.secure.fhe.parameters import KEPT, PLAIN_MODULUS, PRIMES, Q_KEPT, SPECIAL_BITS
from PPIRLogic.secure.fhe.ring import DEGREE, Residues
from PPIRLogic.secure.layout import LANES
from PPIRLogic.secure.prg import Stream

CHUNK_BYTES = len(PRIMES) * DEGREE * 15 // 4
C1_BYTES = KEPT * DEGREE * 15 // 4
COEFFICIENT_BYTES = 12
GROUP = LANES * DEGREE

PRIME_ARRAY = np.array(PRIMES, np.uint32)


def answer_bytes(outputs: int = 1, copies: int = 1) -> int:
    """The length of one re-randomised answer that carries so many numbers, each under so many secrets."""
    return C1_BYTES + COEFFICIENT_BYTES * outputs * copies


def positions(outputs: int) -> range:
    """The coefficients that carry the numbers of one answer: the last of each of `outputs` equal parts."""
    part = DEGREE // outputs
    return range(part - 1, DEGREE, part)


def new_pads(count: int) -> list[int]:
    """One-time pads, uniform modulo Q'."""
    return [secrets.randbelow(Q_KEPT) for _ in range(count)]


def floor_modulo_t(value: int) -> int:
    """floor(t·value/Q'): what a phase or a pad, in [0, Q'), stands for modulo t."""
    return value * PLAIN_MODULUS // Q_KEPT


@lru_cache(maxsize=1)
def seal_context() -> tuple[Any, Any]:
    try:
        import tenseal.sealapi as seal
    except ImportError as error:
        raise MissingDependencyError(
            "The fhe protocol needs the package tenseal, which is not installed here: pip install 'ppir[fhe]'."
        ) from error
    parameters = seal.EncryptionParameters(seal.SCHEME_TYPE.BFV)
    parameters.set_poly_modulus_degree(DEGREE)
    moduli = seal.CoeffModulus.Create(DEGREE, [ring.PRIME_BITS] * len(PRIMES) + [SPECIAL_BITS])
    parameters.set_coeff_modulus(moduli)
    parameters.set_plain_modulus(PLAIN_MODULUS)
    context = seal.SEALContext(parameters, True, seal.SEC_LEVEL_TYPE.TC128)
    if not context.parameters_set() or tuple(m.value() for m in moduli)[: len(PRIMES)] != PRIMES:
        raise MissingDependencyError(
            "The installed tenseal does not accept the parameters of the fhe protocol"
            f" ({context.parameters_error_message()}). Install tenseal 0.3.18."
        )
    return seal, context


def joint_seed(session: bytes, level: int, first: bytes, second: bytes) -> bytes:
    """The seed of a level's public polynomials: both parties' 32 bytes, the session and the level."""
    return hashlib.sha256(b"PPIR-BFV-seed" + session + level.to_bytes(4, "big") + first + second).digest()


def uniform_polynomial(seed: bytes, *label: str | int) -> Residues:
    """A public uniform polynomial in the transform domain, (primes, n), from the joint seed."""
    out = np.empty((len(PRIMES), DEGREE), np.uint32)
    words = Stream(seed, "uniform", *label).words(len(PRIMES) * (DEGREE + 256)).reshape(len(PRIMES), -1)
    for i, prime in enumerate(PRIMES):
        if ring.uniform_below(words[i], uint32(prime), out[i]) < 0:  # probability below 2^-300
            raise ProtocolError("The seed of this level gave too few uniform words; start the run again.")
    return out
