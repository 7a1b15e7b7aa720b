"""An authority vouches for its keys until this site says no, or the authority does: both beat a valid certificate."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from recording import Record
from system_support import Phantom, call, grid, owner, shared, two_sites, wait_until
from test_budgets import member_of
from test_tls import authority, certificate_for
from thief import Thief

from PPIRLogic.errors import InputError, PPIRError, TrustError
from PPIRLogic.local_processes import Site
from PPIRLogic.network.identity import load_certificates, load_or_create_identity
from PPIRLogic.network.trust import TrustStore

GRID = grid((64, 64), (1.0, 1.0), (0.0, 0.0))
IMAGE = shared(Phantom.make(GRID).on(GRID))


def revocations(path: Path, issuer: tuple[x509.Name, Any], serials: list[int], days: int = 0) -> Path:
    """An authority's list, published so many days ago."""
    now = datetime.now(UTC) - timedelta(days=days)
    builder = x509.CertificateRevocationListBuilder(issuer[0], now, now + timedelta(days=30))
    for serial in serials:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build()
        builder = builder.add_revoked_certificate(entry)
    path.write_bytes(builder.sign(issuer[1], hashes.SHA256()).public_bytes(Encoding.PEM))
    return path


@pytest.fixture
def place(tmp_path: Path) -> tuple[Site, Site, tuple[x509.Name, Any]]:
    """The owner, a member of an authority that it trusts, and the authority."""
    _, two = two_sites(tmp_path)
    issuer = authority(tmp_path / "ca.pem")
    TrustStore(two.home).add_authority(tmp_path / "ca.pem", "Hospital group")
    return two, member_of(tmp_path / "pc", issuer, certificate_for, two), issuer


def test_a_key_that_was_removed_stays_out_whoever_vouches(place: Any, record: Record) -> None:
    two, member, _ = place
    store = TrustStore(two.home)
    with owner(two, IMAGE) as one:
        with Thief(member, one.address) as thief:
            assert thief.read([1, 2])
            store.remove(member.fingerprint)
            assert wait_until(lambda: not thief.read([3])), "a session that runs ends, too"
        with pytest.raises(PPIRError):
            call(member, one.address)
        assert wait_until(lambda: any("was removed here" in e["reason"] for e in one.told("refused connection")))
        store.add(member.fingerprint, "pc")
        call(member, one.address).close()
        store.remove("pc")  # and one that a person named falls back to nothing, not to its authority
        with pytest.raises(PPIRError):
            call(member, one.address)
    record("a removed key with a valid certificate of a trusted authority", "let in by its authority", "refused")


def test_what_an_authority_revoked_is_refused(place: Any, tmp_path: Path) -> None:
    two, member, issuer = place
    store = TrustStore(two.home)
    serial = load_certificates(load_or_create_identity(member.home).certificate_file)[0].serial_number
    with owner(two, IMAGE) as one:
        assert store.add_revocations(revocations(tmp_path / "a.crl", issuer, [1, 2], 2)).revoked == {1, 2}
        call(member, one.address).close()
        store.add_revocations(revocations(tmp_path / "b.crl", issuer, [serial], 1))
        with pytest.raises(PPIRError):
            call(member, one.address)
        assert wait_until(lambda: any("or revoked by" in e["reason"] for e in one.told("refused connection")))
    with pytest.raises(InputError, match="older than the list"):
        store.add_revocations(tmp_path / "a.crl")
    (two.home / "authorities" / f"{store.authorities()[0].fingerprint}.crl").unlink()
    with pytest.raises(TrustError, match="damaged"):
        TrustStore(two.home).authorities()


def test_a_list_of_a_stranger_revokes_nothing(place: Any, tmp_path: Path) -> None:
    two, member, issuer = place
    store = TrustStore(two.home)
    forged = (issuer[0], ec.generate_private_key(ec.SECP256R1()))
    with pytest.raises(InputError, match="not signed by an authority"):
        store.add_revocations(revocations(tmp_path / "f.crl", forged, [1]))
    (tmp_path / "text.crl").write_text("hello")
    with pytest.raises(InputError, match="holds no list"):
        store.add_revocations(tmp_path / "text.crl")
    with owner(two, IMAGE) as one:
        call(member, one.address).close()
