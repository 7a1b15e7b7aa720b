"""This site's key and certificate: made once, kept private, refused when damaged."""

from __future__ import annotations

import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from PPIRLogic.errors import IdentityError, InputError
from PPIRLogic.network.identity import (
    clean_text,
    default_home,
    fingerprint_of_certificate,
    load_certificates,
    load_or_create_identity,
    load_private_key,
    normalise_fingerprint,
    renew_identity,
)

posix_only = pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")


def test_first_use_makes_a_private_key_and_a_certificate(tmp_path: Path) -> None:
    identity = load_or_create_identity(tmp_path / "new" / "home", "Hospital A (Ward 3)")
    certificate = load_certificates(identity.certificate_file)[0]
    assert identity.name == "Hospital A (Ward 3)"
    assert identity.fingerprint == fingerprint_of_certificate(certificate)
    days = (identity.not_after - datetime.now(UTC)).total_seconds() / 86400
    assert 729.9 < days <= 730
    extensions = certificate.extensions
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert set(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == {
        ExtendedKeyUsageOID.SERVER_AUTH,
        ExtendedKeyUsageOID.CLIENT_AUTH,
    }
    names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["hospital-a-ward-3"]
    assert sorted(file.name for file in identity.key_file.parent.iterdir()) == ["certificate.pem", "key.pem"]


@posix_only
def test_only_the_owner_can_read_the_key(tmp_path: Path) -> None:
    identity = load_or_create_identity(tmp_path)
    assert stat.S_IMODE(identity.key_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(identity.key_file.parent.stat().st_mode) == 0o700
    identity.key_file.chmod(0o640)
    with pytest.raises(IdentityError, match="chmod 600"):
        load_or_create_identity(tmp_path)


def test_second_use_loads_the_same(tmp_path: Path) -> None:
    assert load_or_create_identity(tmp_path, "A") == load_or_create_identity(tmp_path, "ignored")


def test_renewal_keeps_the_fingerprint_and_the_name(tmp_path: Path) -> None:
    old = load_or_create_identity(tmp_path, "A")
    serial = load_certificates(old.certificate_file)[0].serial_number
    new = renew_identity(tmp_path)
    assert (new.fingerprint, new.name) == (old.fingerprint, "A")
    assert load_certificates(new.certificate_file)[0].serial_number != serial
    rotated = renew_identity(tmp_path, new_key=True)
    assert rotated.fingerprint != old.fingerprint
    assert rotated.name == "A"
    assert load_or_create_identity(tmp_path) == rotated


@pytest.mark.parametrize("which", ["key.pem", "certificate.pem"])
@pytest.mark.parametrize(
    "content", [b"", b"nonsense", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_damaged_files_are_refused(tmp_path: Path, which: str, content: bytes) -> None:
    file = load_or_create_identity(tmp_path).key_file.with_name(which)
    file.write_bytes(content)
    with pytest.raises(IdentityError, match="damaged"):
        load_or_create_identity(tmp_path)
    assert file.read_bytes() == content


def test_a_key_of_another_certificate_is_refused_and_renewal_repairs_it(tmp_path: Path) -> None:
    mine, other = load_or_create_identity(tmp_path / "a"), load_or_create_identity(tmp_path / "b")
    mine.key_file.write_bytes(other.key_file.read_bytes())
    with pytest.raises(IdentityError, match="does not belong"):
        load_or_create_identity(tmp_path / "a")
    assert renew_identity(tmp_path / "a").fingerprint == other.fingerprint


def test_a_missing_key_is_not_silently_replaced(tmp_path: Path) -> None:
    load_or_create_identity(tmp_path).key_file.unlink()
    with pytest.raises(IdentityError, match="new-key"):
        load_or_create_identity(tmp_path)


def test_a_missing_certificate_is_made_for_the_key(tmp_path: Path) -> None:
    identity = load_or_create_identity(tmp_path)
    identity.certificate_file.unlink()
    assert load_or_create_identity(tmp_path).fingerprint == identity.fingerprint


@pytest.mark.parametrize(("start", "end", "message"), [(-20, -1, "--renew"), (1, 20, "clock")])
def test_certificates_outside_their_time_are_refused(tmp_path: Path, start: int, end: int, message: str) -> None:
    identity = load_or_create_identity(tmp_path)
    key = load_private_key(identity.key_file)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "A")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now + timedelta(days=start)).not_valid_after(now + timedelta(days=end))
    identity.certificate_file.write_bytes(_pem(builder.sign(key, hashes.SHA256())))
    with pytest.raises(IdentityError, match=message):
        load_or_create_identity(tmp_path)
    assert renew_identity(tmp_path).fingerprint == identity.fingerprint


def _pem(certificate: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.PEM)


@pytest.mark.parametrize("name", ["x" * 65, "two\nlines", "\x1b[31m", "  ", "é" * 33])
def test_odd_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="printable"):
        load_or_create_identity(tmp_path, name)
    assert not (tmp_path / "identity").exists()


def test_fingerprints_are_normalised() -> None:
    right = "ABCD-EFGH-IJKL-MNOP-QRST-UVWX-YZ23-4567"
    for text in (right, right.lower(), right.replace("-", ""), right.replace("-", " "), f"\t{right}\n"):
        assert normalise_fingerprint(text) == right


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "0 characters"),
        ("ABCD", "4 characters"),
        ("A" * 33, "33 characters"),
        ("0" + "A" * 31, "letters O"),
        ("!" + "A" * 31, "'!'"),
        ("ß" * 16, "only A-Z"),
        ("Ａ" * 32, "only A-Z"),
    ],
)
def test_anything_else_is_no_fingerprint(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        normalise_fingerprint(text)


def test_fingerprint_depends_on_the_key_only(tmp_path: Path) -> None:
    fingerprints = {load_or_create_identity(tmp_path / name, name).fingerprint for name in "ab"}
    assert len(fingerprints) == 2
    assert all(normalise_fingerprint(f) == f and len(f) == 39 for f in fingerprints)


def test_the_home_can_be_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PPIR_HOME", str(tmp_path))
    assert default_home() == tmp_path
    monkeypatch.delenv("PPIR_HOME")
    assert default_home().name == "ppir"


def test_text_of_others_cannot_steer_a_terminal() -> None:
    assert clean_text("a\x1b[2J\nb\u202e") == "a?[2J?b?"


def test_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric import ed25519
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    identity = load_or_create_identity(tmp_path)
    key = ed25519.Ed25519PrivateKey.generate()
    identity.key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(IdentityError, match="unknown kind"):
        load_or_create_identity(tmp_path)
