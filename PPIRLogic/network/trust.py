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
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from PPIRLogic.errors import InputError, TrustError
from PPIRLogic.files import make_private_directory, read_bounded, write_private_file
from PPIRLogic.network.identity import MAX_PEM_BYTES, check_name, fingerprint_of_certificate, normalise_fingerprint

MAX_TRUST_BYTES = 4 * 1024 * 1024
MAX_ENTRIES = 10_000
FORMAT = 1
PEER, DEALER = "peer", "dealer"
ROLES = (PEER, DEALER)


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
    """An institution's certificate authority; every valid certificate that it issued is trusted."""

    fingerprint: str
    name: str
    added: datetime
    certificate: x509.Certificate = field(repr=False, compare=False)

    @property
    def not_after(self) -> datetime:
        """Until when the authority's own certificate is valid (UTC)."""
        return self.certificate.not_valid_after_utc


@dataclass(frozen=True)
class _Content:
    peers: tuple[TrustedPeer, ...] = ()
    authorities: tuple[TrustedAuthority, ...] = ()


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
            self._write(_Content((*others, peer), content.authorities))
        return peer

    def remove(self, fingerprint_or_name: str) -> TrustedPeer:
        """Trust this peer no longer. Raises InputError if there is none of that fingerprint or name."""
        with self._lock:
            content = self._read()
            found = _find(content.peers, fingerprint_or_name)
            if found is None:
                raise InputError(
                    f"no trusted peer has the name or fingerprint {fingerprint_or_name!r}: see `ppir trust list`"
                )
            self._write(_Content(tuple(peer for peer in content.peers if peer is not found), content.authorities))
        return found

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
            self._write(_Content(content.peers, (*others, authority)))
        return authority

    def remove_authority(self, fingerprint_or_name: str) -> TrustedAuthority:
        """Trust this authority no longer. Raises InputError if there is none of that fingerprint or name."""
        with self._lock:
            content = self._read()
            found = _find(content.authorities, fingerprint_or_name)
            if found is None:
                raise InputError(f"no authority has the name or fingerprint {fingerprint_or_name!r}")
            kept = tuple(authority for authority in content.authorities if authority is not found)
            self._write(_Content(content.peers, kept))
            (self._folder / f"{found.fingerprint}.pem").unlink(missing_ok=True)
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
        return TrustedAuthority(fingerprint, name, added, certificate)

    def _write(self, content: _Content) -> None:
        if max(len(content.peers), len(content.authorities)) > MAX_ENTRIES:
            raise InputError(f"the list of trusted peers is full ({MAX_ENTRIES}): remove some first")
        document = {
            "format": FORMAT,
            "peers": [asdict(peer) | {"added": peer.added.isoformat()} for peer in content.peers],
            "authorities": [
                {"fingerprint": ca.fingerprint, "name": ca.name, "added": ca.added.isoformat()}
                for ca in content.authorities
            ],
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
