"""This site's own key and certificate, and the fingerprint by which other sites know it.

The key is an ECDSA P-256 key that never leaves `home/identity/key.pem`. The certificate is self-signed by
default; an institution may replace `home/identity/certificate.pem` by one that its own authority issued for
the same key (intermediate certificates may follow it in the same file). The fingerprint covers only the
public key, so that renewing the certificate does not change it.

The certificate's name is visible to everyone who can reach the listening port.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import re
import socket
import stat
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import platformdirs
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from PPIRLogic.errors import IdentityError, InputError
from PPIRLogic.files import make_private_directory, read_bounded, write_private_file

FINGERPRINT_CHARACTERS = 32  # 160 bits in base32
VALID_DAYS = 730
MAX_NAME = 64  # characters; also the limit of an X.509 common name
MAX_PEM_BYTES = 256 * 1024

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True)
class Identity:
    """Who this site is: its name, where its key and certificate lie, and until when the certificate holds (UTC)."""

    name: str
    key_file: Path
    certificate_file: Path
    fingerprint: str
    not_after: datetime


def default_home() -> Path:
    """The folder with this site's key, trusted peers and policy: $PPIR_HOME, else the user's data folder.

    InputError where this user has none.
    """
    chosen = os.environ.get("PPIR_HOME", "").strip()
    try:
        home = Path(chosen).expanduser() if chosen else platformdirs.user_data_path("ppir")
    except RuntimeError:
        home = Path("~")
    if home.parts[:1] == ("~",):
        raise InputError(
            "This user has no home folder. Say where this site's key and trust lie with --home or PPIR_HOME."
        )
    return home


def check_name(name: str) -> str:
    """Return `name` without surrounding blanks; InputError unless it is 1 to 64 printable characters."""
    name = name.strip()
    if not 1 <= len(name) <= MAX_NAME or not name.isprintable():
        raise InputError(f"a site's name must have 1 to {MAX_NAME} printable characters; choose another one")
    return name


# ---------------------------------------------------------------------------------------------- fingerprints


def fingerprint_of_certificate(certificate: x509.Certificate) -> str:
    """Fingerprint of the certificate's public key: 160 bits of SHA-256 as 8 groups of 4 base32 characters."""
    return fingerprint_of_key(public_bytes(certificate.public_key()))


def public_bytes(key: Any) -> bytes:
    """A public key as DER (SubjectPublicKeyInfo)."""
    der: bytes = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return der


def fingerprint_of_key(der: bytes) -> str:
    """Fingerprint of a public key as `public_bytes` gives it."""
    return _grouped(base64.b32encode(hashlib.sha256(der).digest()[:20]).decode("ascii"))


def normalise_fingerprint(text: str) -> str:
    """The one spelling of a fingerprint that a person typed; lower case, blanks and missing dashes are fine.

    Raises InputError for anything that is not exactly 32 base32 characters (A-Z and 2-7).
    """
    plain = re.sub(r"[\s-]", "", text)
    plain = plain.upper() if plain.isascii() else plain
    wrong = sorted(set(re.sub(r"[A-Z2-7]", "", plain)))
    if wrong:
        shown = " ".join(repr(character) for character in wrong[:5])
        hint = ""
        if set(wrong) & set("018"):
            hint = "; the digits 0, 1 and 8 never occur: read them as the letters O, I or L, and B"
        raise InputError(f"not a fingerprint: it contains {shown}, but only A-Z and 2-7 occur in one{hint}")
    if len(plain) != FINGERPRINT_CHARACTERS:
        raise InputError(
            f"not a fingerprint: it has {len(plain)} characters without the dashes instead of "
            f"{FINGERPRINT_CHARACTERS}; compare it with what `ppir identity` shows at the other site"
        )
    return _grouped(plain)


def _grouped(plain: str) -> str:
    return "-".join(plain[i : i + 4] for i in range(0, len(plain), 4))


# ---------------------------------------------------------------------------------------------- private files


# ---------------------------------------------------------------------------------------------- the identity


def load_or_create_identity(home: Path, name: str | None = None) -> Identity:
    """Load this site's identity from `home`, making a key and a certificate on first use.

    `name` is used only when a certificate has to be made (default: the computer's name).
    Raises IdentityError if what is there cannot be used, with what to do about it.
    """
    key_file, certificate_file = _paths(home)
    if not key_file.exists():
        if certificate_file.exists():
            raise IdentityError(
                f"the key {key_file} is missing although its certificate is there: restore it from a backup, "
                "or make a new one with `ppir identity --renew --new-key` and give the other sites its fingerprint"
            )
        _store(home, ec.generate_private_key(ec.SECP256R1()), name, new_key=True)
    elif not certificate_file.exists():
        _store(home, load_private_key(key_file), name, new_key=False)
    return _load(home)


def renew_identity(home: Path, *, name: str | None = None, new_key: bool = False) -> Identity:
    """Make a new self-signed certificate, valid for 730 days from now.

    The key, and with it the fingerprint, stays unless `new_key` is true; after that every other site has to
    trust the new fingerprint. Raises IdentityError if the key cannot be used or the files cannot be written.
    """
    key_file, certificate_file = _paths(home)
    if name is None:
        with contextlib.suppress(IdentityError):
            name = common_name(load_certificates(certificate_file)[0])
    make_key = new_key or not (key_file.exists() or certificate_file.exists())
    key = ec.generate_private_key(ec.SECP256R1()) if make_key else load_private_key(key_file)
    _store(home, key, name, new_key=make_key)
    return _load(home)


def load_private_key(key_file: Path) -> PrivateKey:
    """The private key in `key_file`; IdentityError if others can read the file or it holds no usable key."""
    try:
        if os.name == "posix" and stat.S_IMODE(key_file.stat().st_mode) & 0o077:
            raise IdentityError(
                f"the key {key_file} can be read by other users of this computer: run `chmod 600 {key_file}`, and "
                "if somebody may have copied it, make a new one with `ppir identity --renew --new-key`"
            )
        key = serialization.load_pem_private_key(read_bounded(key_file, MAX_PEM_BYTES), password=None)
    except IdentityError:
        raise
    except OSError as error:
        raise IdentityError(f"the key {key_file} cannot be read: {_why(error)}") from None
    except Exception:  # the library raises several types; none of them may show the file's content
        raise IdentityError(
            f"the key {key_file} is damaged or protected by a password: restore it from a backup, or make a new "
            "one with `ppir identity --renew --new-key`"
        ) from None
    if not isinstance(key, (ec.EllipticCurvePrivateKey, rsa.RSAPrivateKey)):
        raise IdentityError(f"the key {key_file} is of an unknown kind: use `ppir identity --renew --new-key`")
    return key


def load_certificates(certificate_file: Path) -> list[x509.Certificate]:
    """The certificate in `certificate_file`, followed by intermediate ones if there are any."""
    try:
        certificates = x509.load_pem_x509_certificates(read_bounded(certificate_file, MAX_PEM_BYTES))
        certificates[0].public_key()
        return certificates
    except OSError as error:
        raise IdentityError(f"the certificate {certificate_file} cannot be read: {_why(error)}") from None
    except Exception:  # see load_private_key
        raise IdentityError(
            f"the certificate {certificate_file} is damaged: run `ppir identity --renew` to make a new one for the "
            "same key"
        ) from None


def common_name(certificate: x509.Certificate) -> str:
    """The certificate's common name in printable characters, '' if it has none."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return clean_text(str(names[0].value)) if names else ""


def clean_text(text: str) -> str:
    """`text` from another site made fit for a line of a log: printable characters only, at most 64 of them."""
    return "".join(c if c.isprintable() else "?" for c in text[:MAX_NAME]).strip()


def _paths(home: Path) -> tuple[Path, Path]:
    folder = Path(home) / "identity"
    return folder / "key.pem", folder / "certificate.pem"


def _load(home: Path) -> Identity:
    key_file, certificate_file = _paths(home)
    key = load_private_key(key_file)
    certificate = load_certificates(certificate_file)[0]
    if certificate.public_key() != key.public_key():
        raise IdentityError(
            f"the certificate {certificate_file} does not belong to the key {key_file}: restore the two from the "
            "same backup, or run `ppir identity --renew` to make a certificate for this key"
        )
    now = datetime.now(UTC)
    if certificate.not_valid_after_utc <= now:
        raise IdentityError(
            f"this site's certificate {certificate_file} expired on {certificate.not_valid_after_utc:%Y-%m-%d}: "
            "run `ppir identity --renew` (the fingerprint stays the same)"
        )
    if certificate.not_valid_before_utc > now:
        raise IdentityError(
            f"this site's certificate {certificate_file} is valid only from "
            f"{certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC: check this computer's clock"
        )
    return Identity(
        name=common_name(certificate) or _host_name(),
        key_file=key_file,
        certificate_file=certificate_file,
        fingerprint=fingerprint_of_certificate(certificate),
        not_after=certificate.not_valid_after_utc,
    )


def _store(home: Path, key: PrivateKey, name: str | None, *, new_key: bool) -> None:
    key_file, certificate_file = _paths(home)
    certificate = _self_signed(key, _check_bytes(check_name(name)) if name else _host_name())
    try:
        make_private_directory(key_file.parent)
        if new_key:
            write_private_file(
                key_file,
                key.private_bytes(
                    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
                ),
            )
        write_private_file(certificate_file, certificate.public_bytes(serialization.Encoding.PEM))
    except OSError as error:
        raise IdentityError(
            f"this site's identity cannot be written to {key_file.parent}: {_why(error)}; make the folder writable "
            "or set PPIR_HOME to another one"
        ) from None


def _check_bytes(name: str) -> str:
    """The name itself; InputError if a certificate cannot hold it."""
    if len(name.encode()) > MAX_NAME:
        raise InputError(
            f"a site's name must fit in {MAX_NAME} bytes of printable characters (é has two); choose another one"
        )
    return name


def _self_signed(key: PrivateKey, name: str) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))  # the other site's clock may be a little behind
        .not_valid_after(now + timedelta(days=VALID_DAYS))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(_dns_name(name))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=False)
        .sign(key, hashes.SHA256())
    )


def _dns_name(name: str) -> str:
    """`name` as a DNS name: letters, digits, dots and dashes, labels of at most 63 characters."""
    labels = re.sub(r"[^a-z0-9.-]+", "-", name.lower()).split(".")
    kept = [label.strip("-")[:63].rstrip("-") for label in labels]
    return ".".join(label for label in kept if label) or "ppir-site"


def _host_name() -> str:
    return clean_text(socket.gethostname()) or "ppir-site"


def _why(error: OSError) -> str:
    return error.strerror or type(error).__name__
