"""What both ends of a connection do alike: prepare the encryption, and turn an encrypted link into a channel."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from OpenSSL import SSL
from OpenSSL import crypto as openssl_crypto

from PPIRLogic.errors import IdentityError, TrustError
from PPIRLogic.network.channel.channel import Channel
from PPIRLogic.network.channel.frames import MAX_PAYLOAD
from PPIRLogic.network.channel.peer_certificate import CertificateCheck
from PPIRLogic.network.channel.tls import Tls
from PPIRLogic.network.identity import Identity, fingerprint_of_certificate, load_certificates, load_private_key
from PPIRLogic.network.trust import TrustStore


def make_engine(identity: Identity, trust: TrustStore, certificate_check: CertificateCheck) -> SSL.Connection:
    """A TLS 1.3 engine on memory buffers that asks the check about the other side's certificate.

    Everything is read afresh, so that a renewed certificate or a removed authority counts from the next connection.
    """
    certificates = load_certificates(identity.certificate_file)
    if certificates[0].not_valid_after_utc <= datetime.now(UTC):
        raise IdentityError("this site's certificate has expired: run `ppir identity --renew`")
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    # Every connection proves itself anew: without cache and tickets there is nothing to resume from.
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
    try:
        context.use_certificate(certificates[0])
        for intermediate in certificates[1:]:
            context.add_extra_chain_cert(intermediate)
        context.use_privatekey(load_private_key(identity.key_file))
        context.check_privatekey()
    except SSL.Error:
        raise IdentityError(
            f"the key {identity.key_file} and the certificate beside it do not fit together: run "
            "`ppir identity --renew`"
        ) from None
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, certificate_check.judge)
    context.set_verify_depth(4)
    store = context.get_cert_store()
    if store is None:
        raise IdentityError("the TLS library offers no certificate store: reinstall pyOpenSSL")
    # An institution may name a subordinate authority without naming the one above it.
    store.set_flags(openssl_crypto.X509StoreFlags.PARTIAL_CHAIN)
    for authority in trust.authorities():
        store.add_cert(openssl_crypto.X509.from_cryptography(authority.certificate))
    return SSL.Connection(context, None)


def introduce(
    link: Tls,
    certificate_check: CertificateCheck,
    identity: Identity,
    address: str,
    *,
    server: bool,
    heartbeat: float,
    dead_after: float,
    on_end: Callable[[], None] | None = None,
    max_payload: int = MAX_PAYLOAD,
    start: bool = True,
) -> Channel:
    """Turn a link whose handshake is done into a channel, which runs unless `start` is False.

    Raises ConnectionEnded or a PPIRError.
    """
    shown = link.peer_certificate()
    # Belt and braces: the handshake cannot have succeeded without the consent of this check to this certificate.
    if shown is None or not certificate_check.accepted:
        raise TrustError(certificate_check.refusal or "no certificate was accepted")
    if fingerprint_of_certificate(shown) != certificate_check.fingerprint:
        raise TrustError("the certificate changed during the handshake")
    channel = Channel(
        link,
        peer_name=certificate_check.name,
        peer_fingerprint=certificate_check.fingerprint,
        address=address,
        heartbeat=heartbeat,
        dead_after=dead_after,
        still_trusted=certificate_check.still_trusted,
        on_end=on_end,
    )
    channel.known_as, channel.authority = certificate_check.known_as, certificate_check.authority
    # The listener speaks first: in TLS 1.3 only this tells the caller that its own certificate was accepted.
    channel.greet(identity.name, first=server)
    if start:
        channel.accept_payloads(max_payload)
        channel.start()
    return channel
