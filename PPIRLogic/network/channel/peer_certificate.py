"""Who is allowed in: the decision about the other side's certificate."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from cryptography import x509

from PPIRLogic.errors import PPIRError
from PPIRLogic.network.identity import common_name, fingerprint_of_certificate, normalise_fingerprint
from PPIRLogic.network.names import DEALER, PEER, RELAY
from PPIRLogic.network.trust import TrustedAuthority, TrustStore

_ADD = {
    PEER: "ppir trust add",
    DEALER: "ppir trust add --role dealer",
    RELAY: "ppir trust add --role relay",
}
_HOW = {
    PEER: "A dealer or a relay neither registers nor serves. If it is a hospital, run `ppir trust add",
    DEALER: "If it is the dealer and no hospital, run `ppir trust add --role dealer",
    RELAY: "If it is the relay and nothing else, run `ppir trust add --role relay",
}
_WRONG_TIME = (9, 10)  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED


class CertificateCheck:
    """Decides during one handshake whether the other side's certificate is accepted, and remembers why not.

    The verification calls it once for every fault and once for every certificate, the peer's own one last.
    """

    def __init__(
        self, trust: TrustStore, expected_fingerprint: str | None, expected_name: str | None, role: str = PEER
    ) -> None:
        """`role`: what the other side is on this connection. Whom an authority vouches for is a peer."""
        self._trust, self._role = trust, role
        self._expected_fingerprint = normalise_fingerprint(expected_fingerprint) if expected_fingerprint else None
        self._expected_name = expected_name
        self._faults: list[int] = []
        self._chain: set[tuple[x509.Name, int]] = set()  # issuer and serial number of every certificate shown
        self._anchor = ""  # fingerprint of the authority at the top of the chain
        self.accepted = False
        self.authority = ""  # fingerprint of the one that vouches for it, where nobody here named it
        self.known_as = ""  # in words of this site's own
        self.refusal = ""
        self.fingerprint = ""
        self.name = ""

    def judge(self, _connection: Any, certificate: Any, fault: int, depth: int, ok: int) -> bool:
        try:
            return self._weigh(certificate.to_cryptography(), fault, depth, bool(ok))
        except PPIRError as error:  # the trust store cannot be read: nobody is trusted
            return self._refuse(str(error))
        except Exception as error:  # a certificate that cannot be understood is not accepted, whatever is wrong
            return self._refuse(f"its certificate cannot be understood ({type(error).__name__})")

    def still_trusted(self) -> bool:
        """Whether the trust store would accept the same peer now."""
        if self._trust.peer_of(self.fingerprint) is not None:
            return self._trust.is_trusted(self.fingerprint, self._role)
        if not self.authority or self._trust.is_denied(self.fingerprint):
            return False
        authority = self._vouching()
        return authority is not None and not self._is_revoked(authority)

    def _weigh(self, certificate: x509.Certificate, fault: int, depth: int, ok: bool) -> bool:
        self._chain.add((certificate.issuer, certificate.serial_number))
        if depth == 0 and (ok or fault in _WRONG_TIME) and not self._is_current(certificate):
            return False
        if not ok:
            # Not yet fatal: a trusted fingerprint needs no authority. _decide looks at the list.
            self._faults.append(fault)
        elif not self._anchor:  # the first certificate that is called without a fault is the top of the chain
            self._anchor = fingerprint_of_certificate(certificate)
        # Deciding at the fault itself, too, makes the library send the alert that fits the fault.
        return self._decide(certificate) if depth == 0 else True

    def _is_current(self, certificate: x509.Certificate) -> bool:
        now = datetime.now(UTC)
        who = f"the certificate of {common_name(certificate)!r} ({fingerprint_of_certificate(certificate)})"
        if certificate.not_valid_after_utc <= now:
            return self._refuse(
                f"{who} expired on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC: that site has to run "
                "`ppir identity --renew`"
            )
        if certificate.not_valid_before_utc > now:
            return self._refuse(
                f"{who} is valid only from {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC: check the clocks "
                "of both computers"
            )
        return True

    def _decide(self, certificate: x509.Certificate) -> bool:
        self.fingerprint = fingerprint_of_certificate(certificate)
        claimed = common_name(certificate)
        if self._expected_fingerprint not in (None, self.fingerprint):
            return self._refuse(
                f"it shows the fingerprint {self.fingerprint} instead of the expected {self._expected_fingerprint}: "
                "another computer answers there, or its key was replaced; ask the other site before you go on"
            )
        known = self._trust.peer_of(self.fingerprint)
        if known is not None:  # what a person said of this key counts, whatever an authority says
            if known.role != self._role:
                return self._refuse(
                    f"{known.name!r} ({self.fingerprint}) is trusted here as a {known.role}, and this takes a"
                    f" {self._role}: a key has one role. {_HOW[self._role]} {self.fingerprint}`"
                )
            self.name, self.known_as = known.name, repr(known.name)
        elif self._faults or self._role != PEER or (authority := self._vouching()) is None:
            return self._refuse(
                f"the fingerprint {self.fingerprint} (which calls itself {claimed!r}) is not trusted here: compare it "
                f"with the other site by telephone, and if it is the same run `{_ADD[self._role]} {self.fingerprint}`"
            )
        elif self._trust.is_denied(self.fingerprint) or self._is_revoked(authority):
            return self._refuse(
                f"the fingerprint {self.fingerprint} (which calls itself {claimed!r}) was removed here, or revoked by"
                f" {authority.name!r}: if it is to be trusted, run `ppir trust add {self.fingerprint}`"
            )
        elif self._expected_name is not None and not _has_name(certificate, self._expected_name):
            return self._refuse(f"its certificate is not for the expected name {self._expected_name!r}")
        else:
            self.name, self.authority = claimed, authority.fingerprint
            self.known_as = f"a site for which {authority.name!r} vouches, and which calls itself {claimed!r},"
        self.accepted = True
        return True

    def _is_revoked(self, authority: TrustedAuthority) -> bool:
        """Whether the authority revoked the peer's certificate, or the intermediate one that it issued."""
        revoked = authority.revoked or frozenset()
        return any(issuer == authority.certificate.subject and serial in revoked for issuer, serial in self._chain)

    def _vouching(self) -> TrustedAuthority | None:
        """The trusted authority at the top of the chain."""
        return next((a for a in self._trust.authorities() if a.fingerprint == self._anchor), None)

    def _refuse(self, reason: str) -> bool:
        self.refusal = self.refusal or reason
        self.accepted = False
        return False


def _has_name(certificate: x509.Certificate, name: str) -> bool:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    return name.lower() in (dns.lower() for dns in names.get_values_for_type(x509.DNSName))
