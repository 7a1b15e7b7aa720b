"""What a site signs, and what is wrapped for one recipient."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from PPIRLogic.errors import IdentityError
from PPIRLogic.network.identity import load_or_create_identity
from PPIRLogic.primis.signing import (
    SIGNATURE_BYTES,
    WRAP_OVERHEAD,
    fingerprint_of_point,
    identity_key,
    key_of,
    point_of,
    sign,
    signed,
    unwrap,
    wrap,
)


def new() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def test_a_signature_is_of_one_text_one_purpose_and_one_key() -> None:
    key, other = new(), new()
    point, signature = point_of(key.public_key()), sign(key, b"card", b"text")
    assert len(signature) == SIGNATURE_BYTES and signed(point, b"card", b"text", signature)
    assert not signed(point, b"grant", b"text", signature)
    assert not signed(point, b"card", b"texts", signature)
    assert not signed(point_of(other.public_key()), b"card", b"text", signature)
    assert not signed(b"\0" * 33, b"card", b"text", signature)
    for at in range(0, SIGNATURE_BYTES, 7):
        bad = signature[:at] + bytes([signature[at] ^ 1]) + signature[at + 1 :]
        assert not signed(point, b"card", b"text", bad)
    assert not signed(point, b"card", b"text", bytes(64)) and not signed(point, b"card", b"text", b"\xff" * 64)


def test_a_purpose_ends_where_the_text_begins() -> None:
    key = new()
    assert not signed(point_of(key.public_key()), b"car", b"dtext", sign(key, b"card", b"text"))


def test_what_is_wrapped_opens_for_its_recipient_alone() -> None:
    key, other = new(), new()
    wrapped = wrap(b"secret", point_of(key.public_key()), b"grant", b"bound")
    assert len(wrapped) == 6 + WRAP_OVERHEAD and b"secret" not in wrapped
    assert unwrap(wrapped, key, b"grant", b"bound") == b"secret"
    assert unwrap(wrapped, other, b"grant", b"bound") is None
    assert unwrap(wrapped, key, b"escrow", b"bound") is None
    assert unwrap(wrapped, key, b"grant", b"other") is None
    for at in range(len(wrapped)):
        assert unwrap(wrapped[:at] + bytes([wrapped[at] ^ 1]) + wrapped[at + 1 :], key, b"grant", b"bound") is None
        assert unwrap(wrapped[:at], key, b"grant", b"bound") is None


def test_every_wrapping_has_a_key_of_its_own() -> None:
    point = point_of(new().public_key())
    assert len({wrap(b"secret", point, b"g", b"")[:33] for _ in range(50)}) == 50


def test_a_point_that_is_none_is_refused() -> None:
    for point in (b"", bytes(33), b"\x02" + b"\xff" * 32, b"\x04" + bytes(64)):
        with pytest.raises(ValueError):
            key_of(point)


def test_the_fingerprint_is_the_site_s(tmp_path: Path) -> None:
    identity = load_or_create_identity(tmp_path, "A")
    assert fingerprint_of_point(point_of(identity_key(tmp_path).public_key())) == identity.fingerprint


def test_a_site_with_an_rsa_key_is_told_what_to_do(tmp_path: Path) -> None:
    identity = load_or_create_identity(tmp_path, "A")
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    forms = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    identity.key_file.write_bytes(key.private_bytes(*forms))
    identity.certificate_file.unlink()
    with pytest.raises(IdentityError, match="P-256"):
        identity_key(tmp_path)
