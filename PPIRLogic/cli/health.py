"""`ppir serve --health`: whether the service of this site answers, for systemd, containers and monitors."""

from __future__ import annotations

import socket
import ssl

from cryptography import x509

from PPIRLogic.cli.common import home_of
from PPIRLogic.cli.output import Arguments, say
from PPIRLogic.errors import IdentityError, InputError, PeerError
from PPIRLogic.network.channel.addresses import parse_address, spell_address
from PPIRLogic.network.identity import Identity, fingerprint_of_certificate, load_or_create_identity

TIMEOUT = 5.0  # seconds for all of it
_EVERY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 (where to call what listens everywhere)


def run_health(a: Arguments) -> None:
    """Exit code 0: the process at the address has this site's key. PeerError: nobody, or another, answers.

    The call ends with the handshake. It asks for nothing, is told nothing, and is in no log.
    """
    if a.relay:
        raise InputError(
            "With --relay nothing listens here that could be asked. Watch the process instead (its service manager, or"
            " the relay's record of who waits there)."
        )
    home = home_of(a)
    if not (home / "identity").is_dir():
        raise IdentityError(f"There is no site in '{home}': give its folder with --home, or PPIR_HOME.")
    identity = load_or_create_identity(home)
    host, port = parse_address(a.listen)
    where = spell_address(_EVERY_ADDRESS.get(host, host), port)
    found = _answering(identity, _EVERY_ADDRESS.get(host, host), port, where)
    if found != identity.fingerprint:
        raise PeerError(f"{where} is not the service of this site: another one, {found}, answers there.")
    say(a, "healthy", f"healthy: {where} answers as {found}", address=where, fingerprint=found)


def _answering(identity: Identity, host: str, port: int, where: str) -> str:
    """The fingerprint of the key that whoever listens there has proved to hold."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # the fingerprint is compared instead
    context.load_cert_chain(identity.certificate_file, identity.key_file)
    try:
        with socket.create_connection((host, port), TIMEOUT) as sock, context.wrap_socket(sock) as link:
            shown = link.getpeercert(binary_form=True)
    except OSError as error:
        raise PeerError(
            f"{where} does not answer ({error.strerror or type(error).__name__}). Is `ppir serve` running there?"
        ) from None
    if shown is None:
        raise PeerError(f"{where} shows no certificate: it is not `ppir serve`.")
    return fingerprint_of_certificate(x509.load_der_x509_certificate(shown))
