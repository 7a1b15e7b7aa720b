"""Whom this site trusts: fingerprints of single peers, and certificate authorities of institutions.

Everything is in `home/trust.json`, which a person may read; authorities are copied to
`home/authorities/FINGERPRINT.pem`. The file is read again whenever it changes, so that a peer that is removed
while a run goes on is no longer trusted from the next question on. A file that cannot be understood trusts
nobody: it raises an error and is never replaced by an empty one.
"""

from __future__ import annotations

import json
import os
import stat
import threading
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from PPIRLogic.errors import InputError, TrustError
from PPIRLogic.files import make_private_directory, read_bounded, write_private_file
from PPIRLogic.network.identity import MAX_PEM_BYTES, check_name, fingerprint_of_certificate, normalise_fingerprint
from PPIRLogic.network.names import PEER, ROLES

MAX_TRUST_BYTES = 4 * 1024 * 1024
MAX_CRL_BYTES = 16 * 1024 * 1024
MAX_ENTRIES = 10_000
FORMAT = 1


@dataclass(frozen=True)
class TrustedPeer:
    """A peer that a person of this site chose to trust; `added` is UTC.

    role: the one thing it is trusted for. A 'peer' registers and serves, a 'dealer' deals under mpc and nothing else.
    An entry of a former release has no role: it is a peer.
    """

    fingerprint: str
    name: str
    added: datetime
    role: str = PEER


@dataclass(frozen=True)
class TrustedAuthority:
    """An institution's certificate authority; every valid certificate that it issued, and did not revoke, is trusted.

    revoked: serial numbers in the list that it published and that was added here; None without such a list.
    """

    fingerprint: str
    name: str
    added: datetime
    certificate: x509.Certificate = field(repr=False, compare=False)
    revoked: frozenset[int] | None = field(default=None, repr=False, compare=False)

    @property
    def not_after(self) -> datetime:
        """Until when the authority's own certificate is valid (UTC)."""
        return self.certificate.not_valid_after_utc


@dataclass(frozen=True)
class _Content:
    peers: tuple[TrustedPeer, ...] = ()
    authorities: tuple[TrustedAuthority, ...] = ()
    denied: tuple[str, ...] = ()  # fingerprints that nobody can vouch for


class TrustStore:
    """The peers and authorities that the site with this `home` trusts. Safe to use from several threads."""

    def __init__(self, home: Path) -> None:
        self.home = Path(home)
        self._file = Path(home) / "trust.json"
        self._folder = Path(home) / "authorities"
        self._lock = threading.RLock()
        self._stamp: tuple[int, int, int] | None = None
        self._content = _Content()

    # ------------------------------------------------------------------ peers

    def peers(self) -> list[TrustedPeer]:
        """All trusted peers, oldest first. Raises TrustError if the file cannot be read or understood."""
        return list(self._read().peers)

    def add(self, fingerprint: str, name: str, role: str = PEER) -> TrustedPeer:
        """Trust the peer with this fingerprint, in this role; one that is already there gets the new name and role.

        Raises InputError for a bad fingerprint, name or role, or if another peer has that name; TrustError if the file
        cannot be read or written.
        """
        if role not in ROLES:
            raise InputError(f"a trusted site is one of {', '.join(ROLES)}, not {role!r}")
        peer = TrustedPeer(normalise_fingerprint(fingerprint), check_name(name), _now(), role)
        with self._lock:
            content = self._read()
            others = [known for known in content.peers if known.fingerprint != peer.fingerprint]
            if any(known.name == peer.name for known in others):
                raise InputError(
                    f"another trusted peer is already called {peer.name!r}: choose another name, or run "
                    f"`ppir trust remove` with its fingerprint first"
                )
            denied = tuple(one for one in content.denied if one != peer.fingerprint)
            self._write(_Content((*others, peer), content.authorities, denied))
        return peer

    def remove(self, fingerprint_or_name: str) -> TrustedPeer:
        """Trust this peer no longer, whoever vouches for it; `add` takes that back.

        Raises InputError if there is none of that fingerprint or name. Where authorities are trusted, any fingerprint
        can be removed: one of them may vouch for it.
        """
        with self._lock:
            content = self._read()
            found = _find(content.peers, fingerprint_or_name)
            if found is None and content.authorities:
                found = _unnamed(fingerprint_or_name)
            if found is None:
                raise InputError(
                    f"no trusted peer has the name or fingerprint {fingerprint_or_name!r}: see `ppir trust list`"
                )
            kept = tuple(peer for peer in content.peers if peer is not found)
            denied = tuple(sorted({*content.denied, found.fingerprint}))
            self._write(_Content(kept, content.authorities, denied))
        return found

    def is_denied(self, fingerprint: str) -> bool:
        """Whether a person removed this fingerprint: then no authority can vouch for it."""
        return normalise_fingerprint(fingerprint) in self._read().denied

    def is_trusted(self, fingerprint: str, role: str = PEER) -> bool:
        """Whether a person trusts exactly this fingerprint now, in this role (authorities do not count here)."""
        found = self.peer_of(fingerprint)
        return found is not None and found.role == role

    def peer_of(self, fingerprint: str) -> TrustedPeer | None:
        """The entry of this fingerprint, in whatever role; None if there is none."""
        wanted = normalise_fingerprint(fingerprint)
        return next((peer for peer in self._read().peers if peer.fingerprint == wanted), None)

    def name_of(self, fingerprint: str) -> str | None:
        """The name under which the fingerprint is trusted, None if it is not."""
        found = self.peer_of(fingerprint)
        return None if found is None else found.name

    # ------------------------------------------------------------------ authorities

    def authorities(self) -> list[TrustedAuthority]:
        """All trusted authorities, oldest first. Raises TrustError like `peers`."""
        return list(self._read().authorities)

    def add_authority(self, pem_path: Path | str, name: str) -> TrustedAuthority:
        """Trust every certificate that this authority issues; the first certificate of the file counts.

        Raises InputError if the file holds no certificate, or that of no authority, or an expired one.
        """
        certificate = _authority_certificate(Path(pem_path))
        authority = TrustedAuthority(fingerprint_of_certificate(certificate), check_name(name), _now(), certificate)
        with self._lock:
            content = self._read()
            others = [known for known in content.authorities if known.fingerprint != authority.fingerprint]
            if any(known.name == authority.name for known in others):
                raise InputError(f"another authority is already called {authority.name!r}: choose another name")
            try:
                make_private_directory(self._folder)
                pem = certificate.public_bytes(serialization.Encoding.PEM)
                write_private_file(self._folder / f"{authority.fingerprint}.pem", pem)
            except OSError as error:
                raise TrustError(f"the authority cannot be copied to {self._folder}: {error.strerror}") from None
            self._write(_Content(content.peers, (*others, authority), content.denied))
        return authority

    def add_revocations(self, path: Path | str) -> TrustedAuthority:
        """Take over the list of revoked certificates (CRL, PEM or DER) of a trusted authority, which it replaces.

        Raises InputError if the file is none, if no trusted authority signed it, or if it is older than what is here.
        """
        data, found = _revocations(Path(path))
        with self._lock:
            content = self._read()
            signer = next((a for a in content.authorities if _signed(found, a.certificate)), None)
            if signer is None:
                raise InputError(f"{path} is not signed by an authority that is trusted here (`ppir trust list`)")
            file = self._folder / f"{signer.fingerprint}.crl"
            if signer.revoked is not None and _revocations(file)[1].last_update_utc > found.last_update_utc:
                raise InputError(f"{path} is older than the list of {signer.name!r} that is here already")
            try:
                write_private_file(file, data)
            except OSError as error:
                raise TrustError(f"the list cannot be copied to {self._folder}: {error.strerror}") from None
            updated = replace(signer, revoked=_serials(found))
            kept = tuple(updated if a is signer else a for a in content.authorities)
            self._write(_Content(content.peers, kept, content.denied))
        return updated

    def remove_authority(self, fingerprint_or_name: str) -> TrustedAuthority:
        """Trust this authority no longer. Raises InputError if there is none of that fingerprint or name."""
        with self._lock:
            content = self._read()
            found = _find(content.authorities, fingerprint_or_name)
            if found is None:
                raise InputError(f"no authority has the name or fingerprint {fingerprint_or_name!r}")
            kept = tuple(authority for authority in content.authorities if authority is not found)
            self._write(_Content(content.peers, kept, content.denied))
            for ending in ("pem", "crl"):
                (self._folder / f"{found.fingerprint}.{ending}").unlink(missing_ok=True)
        return found

    # ------------------------------------------------------------------ the file

    def _read(self) -> _Content:
        """What the file says now; kept in memory until the file's time, size or inode changes."""
        with self._lock:
            try:
                status = self._file.stat()
            except FileNotFoundError:
                # Nobody was ever added, or somebody took the file away: either way nobody is trusted.
                self._stamp, self._content = None, _Content()
                return self._content
            except OSError as error:
                raise TrustError(f"the list of trusted peers {self._file} cannot be read: {error.strerror}") from None
            stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
            if stamp != self._stamp:
                self._stamp = None  # a failure below must not leave the old content in force
                self._check_owner_only(status)
                self._content = self._parse()
                self._stamp = stamp
            return self._content

    def _check_owner_only(self, status: os.stat_result) -> None:
        if os.name == "posix" and stat.S_IMODE(status.st_mode) & 0o022:
            raise TrustError(
                f"other users of this computer can change the list of trusted peers {self._file}: look through it "
                f"and then run `chmod 600 {self._file}`"
            )

    def _parse(self) -> _Content:
        try:
            document = json.loads(read_bounded(self._file, MAX_TRUST_BYTES))
            if document["format"] != FORMAT:
                raise ValueError(f"format {str(document['format'])[:20]} instead of {FORMAT}")
            peers, authorities = _entries(document, "peers"), _entries(document, "authorities")
            return _Content(
                tuple(TrustedPeer(*_common(entry), _role(entry)) for entry in peers),
                tuple(self._load_authority(entry) for entry in authorities),
                tuple(normalise_fingerprint(entry["fingerprint"]) for entry in _entries(document, "denied")),
            )
        except OSError as error:
            raise TrustError(f"the list of trusted peers {self._file} cannot be read: {error.strerror}") from None
        except (InputError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise TrustError(
                f"the list of trusted peers {self._file} is damaged ({type(error).__name__}: {error}); nobody is "
                "trusted until it is restored from a backup, or moved away and the peers are added again"
            ) from None

    def _load_authority(self, entry: dict[str, Any]) -> TrustedAuthority:
        fingerprint, name, added = _common(entry)
        path = self._folder / f"{fingerprint}.pem"
        try:
            certificate = x509.load_pem_x509_certificate(read_bounded(path, MAX_PEM_BYTES))
        except FileNotFoundError:
            raise ValueError(f"the certificate of the authority {name!r} is missing") from None
        if fingerprint_of_certificate(certificate) != fingerprint:
            raise ValueError(f"the certificate of the authority {name!r} is not the one that was added")
        return TrustedAuthority(fingerprint, name, added, certificate, self._load_revoked(entry, fingerprint))

    def _load_revoked(self, entry: dict[str, Any], fingerprint: str) -> frozenset[int] | None:
        if not entry.get("revocations"):
            return None
        return _serials(_revocations(self._folder / f"{fingerprint}.crl")[1])

    def _write(self, content: _Content) -> None:
        if max(len(content.peers), len(content.authorities)) > MAX_ENTRIES:
            raise InputError(f"the list of trusted peers is full ({MAX_ENTRIES}): remove some first")
        document = {
            "format": FORMAT,
            "peers": [asdict(peer) | {"added": peer.added.isoformat()} for peer in content.peers],
            "authorities": [
                {
                    "fingerprint": ca.fingerprint,
                    "name": ca.name,
                    "added": ca.added.isoformat(),
                    "revocations": ca.revoked is not None,
                }
                for ca in content.authorities
            ],
            "denied": [{"fingerprint": fingerprint} for fingerprint in content.denied],
        }
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_private_file(self._file, (json.dumps(document, indent=2) + "\n").encode("utf-8"))
        except OSError as error:
            raise TrustError(
                f"the list of trusted peers {self._file} cannot be written: {error.strerror}; make the folder "
                "writable or set PPIR_HOME to another one"
            ) from None
        self._stamp = None  # two writes within one tick of the clock would otherwise look the same


def _entries(document: dict[str, Any], key: str) -> list[dict[str, Any]]:
    entries = document.get(key, [])
    if not isinstance(entries, list) or len(entries) > MAX_ENTRIES:
        raise ValueError(f"{key} is not a list of at most {MAX_ENTRIES} entries")
    return entries


def _common(entry: dict[str, Any]) -> tuple[str, str, datetime]:
    added = datetime.fromisoformat(entry["added"])
    if added.tzinfo is None:
        raise ValueError("a time without its zone")
    return normalise_fingerprint(entry["fingerprint"]), check_name(entry["name"]), added


def _role(entry: dict[str, Any]) -> str:
    """A word that this release does not know is kept: such an entry plays no role here."""
    role = entry.get("role")
    return PEER if role is None else check_name(role)


def _find(entries: tuple[Any, ...], fingerprint_or_name: str) -> Any:
    """The entry of that fingerprint, else of that name, else None."""
    try:
        fingerprint = normalise_fingerprint(fingerprint_or_name)
    except InputError:
        fingerprint = ""
    # A fingerprint wins, so that nobody can hide behind a name that looks like another one's fingerprint.
    by_fingerprint = next((entry for entry in entries if entry.fingerprint == fingerprint), None)
    return by_fingerprint or next((entry for entry in entries if entry.name == fingerprint_or_name.strip()), None)


def _unnamed(text: str) -> TrustedPeer | None:
    """An entry for a fingerprint that has none."""
    try:
        return TrustedPeer(normalise_fingerprint(text), "whoever vouches for it", _now())
    except InputError:
        return None


def _revocations(path: Path) -> tuple[bytes, x509.CertificateRevocationList]:
    try:
        data = read_bounded(path, MAX_CRL_BYTES)
        pem = data.lstrip().startswith(b"-----BEGIN")
        return data, x509.load_pem_x509_crl(data) if pem else x509.load_der_x509_crl(data)
    except OSError as error:
        raise InputError(f"the list of revoked certificates {path} cannot be read: {error.strerror}") from None
    except ValueError:
        raise InputError(f"{path} holds no list of revoked certificates (CRL) in PEM or DER form") from None


def _signed(found: x509.CertificateRevocationList, certificate: x509.Certificate) -> bool:
    try:
        return found.issuer == certificate.subject and found.is_signature_valid(certificate.public_key())  # type: ignore[arg-type]
    except Exception:  # a key of a kind that signs no such list
        return False


def _serials(found: x509.CertificateRevocationList) -> frozenset[int]:
    return frozenset(one.serial_number for one in found)


def _authority_certificate(path: Path) -> x509.Certificate:
    """The first certificate in `path`, which must be that of an authority and valid now; InputError otherwise."""
    try:
        certificate = x509.load_pem_x509_certificates(read_bounded(path, MAX_PEM_BYTES))[0]
        fingerprint_of_certificate(certificate)
    except OSError as error:
        raise InputError(f"the authority's certificate {path} cannot be read: {error.strerror}") from None
    except Exception:  # the library raises several types for damaged files
        raise InputError(f"{path} holds no certificate in PEM form: ask the institution for one") from None
    try:
        is_authority = bool(certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca)
    except (x509.ExtensionNotFound, ValueError):
        is_authority = False
    if not is_authority:
        raise InputError(
            f"{path} is not the certificate of an authority; to trust a single peer use `ppir trust add FINGERPRINT`"
        )
    if not certificate.not_valid_before_utc <= _now() < certificate.not_valid_after_utc:
        raise InputError(
            f"the authority's certificate {path} is valid only from {certificate.not_valid_before_utc:%Y-%m-%d} to "
            f"{certificate.not_valid_after_utc:%Y-%m-%d}: ask the institution for its current one"
        )
    return certificate


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
