"""The list of trusted peers: what a person puts in is what counts, and damage trusts nobody."""

from __future__ import annotations

import json
import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from PPIRLogic.errors import InputError, TrustError
from PPIRLogic.network.identity import load_or_create_identity
from PPIRLogic.network.trust import TrustStore

ONE = "AAAA-AAAA-AAAA-AAAA-AAAA-AAAA-AAAA-AAAA"
TWO = "BBBB-BBBB-BBBB-BBBB-BBBB-BBBB-BBBB-BBBB"


def authority_pem(path: Path, *, ca: bool = True, days: int = 30) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Institution")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=60)).not_valid_after(now + timedelta(days=days))
    builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    path.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    return path


def test_peers_come_and_go(tmp_path: Path) -> None:
    store = TrustStore(tmp_path)
    assert store.peers() == []
    assert not store.is_trusted(ONE)
    store.add(ONE.lower().replace("-", ""), " Hospital A ")
    store.add(TWO, "dealer", role="dealer")
    again = TrustStore(tmp_path)
    assert [(p.fingerprint, p.name, p.role) for p in again.peers()] == [
        (ONE, "Hospital A", "peer"),
        (TWO, "dealer", "dealer"),
    ]
    assert again.name_of(ONE) == "Hospital A"
    assert again.is_trusted(ONE) and not again.is_trusted(ONE, "dealer")
    assert again.is_trusted(TWO, "dealer") and not again.is_trusted(TWO)
    assert again.remove("Hospital A").fingerprint == ONE
    assert again.remove(TWO).name == "dealer"
    assert not store.is_trusted(ONE)
    assert store.peers() == []


def test_adding_again_renames(tmp_path: Path) -> None:
    store = TrustStore(tmp_path)
    store.add(ONE, "old")
    store.add(ONE, "new")
    assert [peer.name for peer in store.peers()] == ["new"]


def test_names_are_unique_and_decent(tmp_path: Path) -> None:
    store = TrustStore(tmp_path)
    store.add(ONE, "A")
    with pytest.raises(InputError, match="already called"):
        store.add(TWO, "A")
    for name in ("", "a\nb", "x" * 65):
        with pytest.raises(InputError, match="printable"):
            store.add(TWO, name)
    with pytest.raises(InputError, match="fingerprint"):
        store.add("short", "B")
    assert [peer.name for peer in store.peers()] == ["A"]


def test_a_fingerprint_wins_over_a_name_that_looks_like_it(tmp_path: Path) -> None:
    store = TrustStore(tmp_path)
    store.add(TWO, ONE)
    store.add(ONE, "A")
    assert store.remove(ONE).name == "A"


def test_removing_nobody_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no trusted peer"):
        TrustStore(tmp_path).remove("nobody")


def test_a_revocation_elsewhere_is_seen_at_once(tmp_path: Path) -> None:
    running, command_line = TrustStore(tmp_path), TrustStore(tmp_path)
    command_line.add(ONE, "A")
    assert running.is_trusted(ONE)
    command_line.remove("A")
    assert not running.is_trusted(ONE)
    command_line.add(ONE, "A")
    assert running.is_trusted(ONE)
    (tmp_path / "trust.json").unlink()
    assert not running.is_trusted(ONE)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        "[" * 100_000,
        json.dumps({"format": 2, "peers": []}),
        json.dumps({"format": 1, "peers": {}}),
        json.dumps({"format": 1, "peers": [1]}),
        json.dumps({"format": 1, "peers": [{"fingerprint": "x", "name": "A", "added": "2026-01-01T00:00:00+00:00"}]}),
        json.dumps({"format": 1, "peers": [{"fingerprint": ONE, "name": 3, "added": "2026-01-01T00:00:00+00:00"}]}),
        json.dumps({"format": 1, "peers": [{"fingerprint": ONE, "name": "A", "added": "2026-01-01T00:00:00"}]}),
        json.dumps({"format": 1, "peers": [{"fingerprint": ONE, "name": "A", "added": 5}]}),
    ],
)
def test_a_damaged_file_trusts_nobody_and_stays_as_it_is(tmp_path: Path, content: str) -> None:
    store = TrustStore(tmp_path)
    store.add(ONE, "A")
    file = tmp_path / "trust.json"
    file.write_text(content)
    for question in (
        store.peers,
        lambda: store.is_trusted(ONE),
        lambda: store.add(TWO, "B"),
        lambda: store.remove("A"),
    ):
        with pytest.raises(TrustError, match="damaged"):
            question()
    assert file.read_text() == content


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")
def test_only_the_owner_may_change_the_file(tmp_path: Path) -> None:
    store = TrustStore(tmp_path)
    store.add(ONE, "A")
    file = tmp_path / "trust.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["trust.json"]
    file.chmod(0o666)
    with pytest.raises(TrustError, match="chmod 600"):
        TrustStore(tmp_path).is_trusted(ONE)


def test_authorities_come_and_go(tmp_path: Path) -> None:
    store = TrustStore(tmp_path / "home")
    added = store.add_authority(authority_pem(tmp_path / "ca.pem"), "Institution")
    store.add(ONE, "A")
    (tmp_path / "ca.pem").unlink()
    again = TrustStore(tmp_path / "home")
    assert again.authorities() == [added]
    assert again.authorities()[0].not_after > datetime.now(UTC)
    assert not again.is_trusted(added.fingerprint)
    assert again.remove_authority("Institution") == added
    assert store.authorities() == []
    assert list((tmp_path / "home" / "authorities").iterdir()) == []
    assert store.is_trusted(ONE)
    with pytest.raises(InputError, match="no authority"):
        store.remove_authority("Institution")


def test_only_current_authorities_are_accepted(tmp_path: Path) -> None:
    store = TrustStore(tmp_path / "home")
    identity = load_or_create_identity(tmp_path / "peer")
    (tmp_path / "text.pem").write_text("hello")
    for path, message in (
        (authority_pem(tmp_path / "leaf.pem", ca=False), "not the certificate of an authority"),
        (identity.certificate_file, "not the certificate of an authority"),
        (authority_pem(tmp_path / "old.pem", days=-1), "valid only from"),
        (tmp_path / "text.pem", "no certificate"),
        (tmp_path / "missing.pem", "cannot be read"),
    ):
        with pytest.raises(InputError, match=message):
            store.add_authority(path, "Institution")
    assert store.authorities() == []


def test_an_exchanged_or_missing_authority_file_is_noticed(tmp_path: Path) -> None:
    store = TrustStore(tmp_path)
    added = store.add_authority(authority_pem(tmp_path / "ca.pem"), "Institution")
    copy = tmp_path / "authorities" / f"{added.fingerprint}.pem"
    authority_pem(copy)
    with pytest.raises(TrustError, match="not the one that was added"):
        TrustStore(tmp_path).authorities()
    copy.unlink()
    with pytest.raises(TrustError, match="missing"):
        TrustStore(tmp_path).authorities()
