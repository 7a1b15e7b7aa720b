"""What a site signs (its card, its grants), and what is encrypted to one recipient. All of it P-256 by `cryptography`.

Keys and signatures have one length each: a point is 33 bytes (compressed), a signature 64 (r and s).
"""

from __future__ import annotations

from pathlib import Path

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from PPIRLogic.errors import IdentityError
from PPIRLogic.network.identity import fingerprint_of_key, load_or_create_identity, load_private_key, public_bytes

POINT_BYTES = 33
SIGNATURE_BYTES = 64
WRAP_OVERHEAD = POINT_BYTES + 16  # bytes


def point_of(key: ec.EllipticCurvePublicKey) -> bytes:
    """A public key as 33 bytes."""
    return key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint)


def key_of(point: bytes) -> ec.EllipticCurvePublicKey:
    """A public key from its 33 bytes; ValueError if they are none."""
    return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)


def fingerprint_of_point(point: bytes) -> str:
    """The fingerprint of the site whose identity key this is; ValueError if it is no key."""
    return fingerprint_of_key(public_bytes(key_of(point)))


def identity_key(home: Path) -> ec.EllipticCurvePrivateKey:
    """The site's own signing key; IdentityError where it is not P-256, as a key of an institution may be."""
    key = load_private_key(load_or_create_identity(home).key_file)
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    raise IdentityError(
        "Cards and grants are signed with a key of the curve P-256, and this site's is of another kind. Make one with"
        " `ppir identity --renew --new-key`; the other sites then have to trust the new fingerprint."
    )


def sign(key: ec.EllipticCurvePrivateKey, purpose: bytes, text: bytes) -> bytes:
    """A signature of 64 bytes over a text and what it is for."""
    r, s = decode_dss_signature(key.sign(purpose + b"\0" + text, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def signed(point: bytes, purpose: bytes, text: bytes, signature: bytes) -> bool:
    """Whether the site with this public key signed the text, for this purpose."""
    der = encode_dss_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))
    try:
        key_of(point).verify(der, purpose + b"\0" + text, ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, ValueError):
        return False
    return True


def wrap(secret: bytes, point: bytes, purpose: bytes, bound: bytes) -> bytes:
    """ECIES: `secret` for the holder of a recipient's key, bound to `bound`; `WRAP_OVERHEAD` bytes longer.

    A new P-256 key agrees with the recipient's; HKDF-SHA256 makes one AES-256-GCM key and nonce of it, used once.
    """
    own = ec.generate_private_key(ec.SECP256R1())
    ephemeral = point_of(own.public_key())
    key, nonce = _agreed(own.exchange(ec.ECDH(), key_of(point)), ephemeral, point, purpose)
    return ephemeral + AESGCM(key).encrypt(nonce, secret, bound)


def unwrap(wrapped: bytes, key: ec.EllipticCurvePrivateKey, purpose: bytes, bound: bytes) -> bytes | None:
    """What `wrap` wrapped for this key; None for anything else."""
    ephemeral, sealed = wrapped[:POINT_BYTES], wrapped[POINT_BYTES:]
    try:
        shared = key.exchange(ec.ECDH(), key_of(ephemeral))
        agreed, nonce = _agreed(shared, ephemeral, point_of(key.public_key()), purpose)
        return AESGCM(agreed).decrypt(nonce, sealed, bound)
    except (ValueError, InvalidTag):
        return None


def _agreed(shared: bytes, ephemeral: bytes, point: bytes, purpose: bytes) -> tuple[bytes, bytes]:
    info = purpose + ephemeral + point
    out = HKDF(algorithm=hashes.SHA256(), length=32 + 12, salt=None, info=info).derive(shared)
    return out[:32], out[32:]
