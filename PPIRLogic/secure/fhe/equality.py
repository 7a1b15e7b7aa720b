"""Whether two parties hold the same secret numbers, and nothing more: a key exchange with the numbers as password.

CPace (Haase and Labrique 2019; draft-irtf-cfrg-cpace) in the group of squares modulo the 3072-bit safe prime of
RFC 3526, group 15. Each party hashes the context and its numbers to a generator g and sends g to a secret power. Both
arrive at the same key only if the generators agree; each then shows the other a tag under the key. A party that holds
other numbers learns that they differ, and can try one guess per exchange; what it saw does not let it try others
later. A hash of the numbers would: they may have few candidates.

The context binds an exchange to one request of one level of one session.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.errors import ProtocolError

PARTY_1, PARTY_2 = b"party 1", b"party 2"
SHARE_BYTES = 384
TAG_BYTES = 32
_EXPONENT_BITS = 384  # twice the 128 bits of security of the group, and a margin
_HASH_BYTES = SHARE_BYTES + 16  # a number of so many bits modulo P is uniform to 2^-128

# RFC 3526, group 15: P = 2^3072 − 2^3008 − 1 + 2^64·(floor(2^2942·π) + 1690314); (P − 1)/2 is prime, too
P = int(
    "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DD"
    "EF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7ED"
    "EE386BFB5A899FA5AE9F24117C4B1FE649286651ECE45B3DC2007CB8A163BF0598DA48361C55D39A69163FA8FD24CF5F"
    "83655D23DCA3AD961C62F356208552BB9ED529077096966D670C354E4ABC9804F1746C08CA18217C32905E462E36CE3B"
    "E39E772C180E86039B2783A2EC07A28FB5C55DF06F4C52C9DE2BCBF6955817183995497CEA956AE515D2261898FA0510"
    "15728E5A8AAAC42DAD33170D04507A33A85521ABDF1CBA64ECFB850458DBEF0A8AEA71575D060C7DB3970F85A6E1E4C7"
    "ABF5AE8CDB0933D71E8C94E04A25619DCEE3D2261AD2EE6BF12FFA06D98A0864D87602733EC86A64521F2B18177B200C"
    "BBE117577A615D6C770988C0BAD946E208E24FA074E5AB3143DB5BFCE0FD108E4B82D120A93AD2CAFFFFFFFFFFFFFFFF",
    16,
)


def context_of(session: bytes, level: int, request: bytes) -> bytes:
    """The context of the test of one request, by the hash of all that was sent for it."""
    return hashlib.sha256(
        b"PPIR-equality-1" + len(session).to_bytes(4, "big") + session + level.to_bytes(4, "big") + request
    ).digest()


def generator(context: bytes, values: NDArray[np.uint64]) -> int:
    """A square modulo P from the context (32 bytes) and the numbers, as from a random oracle."""
    digest = hashlib.shake_256(b"PPIR-generator-1" + context + values.astype("<u8").tobytes()).digest(_HASH_BYTES)
    return pow(int.from_bytes(digest, "big") % P, 2, P)


class EqualityTest:
    """One party's side of one test of its `values`. Use it once.

    >>> mine, theirs = np.array([5, 7], np.uint64), np.array([5, 7], np.uint64)
    >>> one, two = EqualityTest(PARTY_1, bytes(32), mine), EqualityTest(PARTY_2, bytes(32), theirs)
    >>> one.meet(two.share), two.meet(one.share)
    (None, None)
    >>> two.confirms(one.tag()), one.confirms(two.tag())
    (True, True)
    """

    def __init__(self, role: bytes, context: bytes, values: NDArray[np.uint64]) -> None:
        self._role, self._context, self._exponent = role, context, secrets.randbits(_EXPONENT_BITS)
        self.share = pow(generator(context, values), self._exponent, P).to_bytes(SHARE_BYTES, "big")

    def meet(self, other: bytes | bytearray | memoryview) -> None:
        """Take the other party's share; ProtocolError if it is none."""
        y = int.from_bytes(other, "big")
        if len(other) != SHARE_BYTES or not 1 < y < P - 1:
            raise ProtocolError("The share of an equality test is not an element of its group.")
        key = pow(y, 2 * self._exponent, P).to_bytes(SHARE_BYTES, "big")  # squared: an element outside becomes one
        shares = self.share + bytes(other) if self._role == PARTY_1 else bytes(other) + self.share
        self._key = hashlib.sha256(b"PPIR-key-1" + self._context + shares + key).digest()

    def tag(self) -> bytes:
        """What shows the other party that this one has the same numbers; after `meet`."""
        return hmac.digest(self._key, self._role, "sha256")

    def confirms(self, tag: bytes | bytearray | memoryview) -> bool:
        """Whether a tag shows that the other party has the same numbers; after `meet`."""
        other = PARTY_2 if self._role == PARTY_1 else PARTY_1
        return hmac.compare_digest(bytes(tag), hmac.digest(self._key, other, "sha256"))
