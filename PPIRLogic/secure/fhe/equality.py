"""Whether two parties hold the same secret numbers, and nothing more: a key exchange with the numbers as password.

CPace (Haase and Labrique 2019; draft-irtf-cfrg-cpace) on Curve25519. Each party hashes the context and its numbers to
a point g of the curve (Elligator 2) and multiplies it by a secret (X25519, by OpenSSL in constant time). Both arrive at
the same key only if the points agree; each then shows the other a tag under the key. A party that holds other numbers
learns that they differ, and can try one guess per exchange; what it saw does not let it try others later. A hash of the
numbers would: they may have few candidates.

The context binds an exchange to one request of one level of one session.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from numpy.typing import NDArray

from PPIRLogic.errors import ProtocolError

PARTY_1, PARTY_2 = b"party 1", b"party 2"
SHARE_BYTES = 32
TAG_BYTES = 32
FIELD, A = 2**255 - 19, 486662  # Curve25519: v² = u³ + A·u² + u (RFC 7748)


def context_of(session: bytes, level: int, request: bytes) -> bytes:
    """The context of the test of one request, by the hash of all that was sent for it."""
    return hashlib.sha256(
        b"PPIR-equality-2" + len(session).to_bytes(4, "big") + session + level.to_bytes(4, "big") + request
    ).digest()


def generator(context: bytes, values: NDArray[np.uint64]) -> bytes:
    """The u coordinate of a point of the curve from the context (32 bytes) and the numbers, as from a random oracle."""
    digest = hashlib.shake_256(b"PPIR-generator-2" + context + values.astype("<u8").tobytes()).digest(SHARE_BYTES)
    return point_of(int.from_bytes(digest, "little") % 2**255).to_bytes(SHARE_BYTES, "little")


def point_of(r: int) -> int:
    """Elligator 2 (RFC 9380, 6.7.1): the u coordinate of a point of the curve from a number, with 2 as non-square.

    Python's powers take a time that depends on what is raised; so that is multiplied by something random before.
    """
    blind = 1 + secrets.randbelow(FIELD - 1)
    inverse = blind * pow(blind * (1 + 2 * r * r) % FIELD, FIELD - 2, FIELD)
    u = -A * inverse % FIELD
    square = pow(u * (u * u + A * u + 1) * blind**2 % FIELD, (FIELD - 1) // 2, FIELD) == 1
    return u if square else (-u - A) % FIELD


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
        self._role, self._context, self._secret = role, context, X25519PrivateKey.generate()
        self.share = self._secret.exchange(X25519PublicKey.from_public_bytes(generator(context, values)))

    def meet(self, other: bytes | bytearray | memoryview) -> None:
        """Take the other party's share; ProtocolError if it is none."""
        try:
            key = self._secret.exchange(X25519PublicKey.from_public_bytes(bytes(other)))
        except ValueError:  # of another length, or of a group so small that every secret gives the same key
            raise ProtocolError("The share of an equality test is not an element of its group.") from None
        shares = self.share + bytes(other) if self._role == PARTY_1 else bytes(other) + self.share
        self._key = hashlib.sha256(b"PPIR-key-2" + self._context + shares + key).digest()

    def tag(self) -> bytes:
        """What shows the other party that this one has the same numbers; after `meet`."""
        return hmac.digest(self._key, self._role, "sha256")

    def confirms(self, tag: bytes | bytearray | memoryview) -> bool:
        """Whether a tag shows that the other party has the same numbers; after `meet`."""
        other = PARTY_2 if self._role == PARTY_1 else PARTY_1
        return hmac.compare_digest(bytes(tag), hmac.digest(self._key, other, "sha256"))
