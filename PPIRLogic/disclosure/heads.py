"""Signed heads: what a site's records come to, told to others, so that a rollback of the whole home is found.

Whoever can put back all files of a home can hide what was disclosed since: inside the home nothing contradicts. So the
two sites exchange heads at the end of a session: the number and the code of the last record, signed with the site's
key. Each keeps the other's, and shows it the next time. A site whose records do not have what it signed says so at
both. `SyslogHeads` sends heads to where this site cannot take them back.
"""

from __future__ import annotations

import base64
import errno
import json
import logging
import logging.handlers
import os
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from PPIRLogic.disclosure.chain import Chain
from PPIRLogic.errors import InputError, ProtocolError
from PPIRLogic.network.channel import parse_address
from PPIRLogic.network.identity import (
    Identity,
    fingerprint_of_key,
    load_private_key,
    public_bytes,
)
from PPIRLogic.network.messages import Fields

_MAX_INTEGER = 2**53
_MAX_BYTES = 1024  # bytes of a public key or a signature
_HELD = "ledger/heads.jsonl"


@dataclass(frozen=True)
class SignedHead:
    """site: fingerprint. number, mac: of its last record. time: seconds since 1970. key: its public key (DER)."""

    site: str
    number: int
    mac: str
    time: int
    key: bytes = field(repr=False)
    signature: bytes = field(default=b"", repr=False)

    def to_text(self) -> str:
        """One line of JSON, as it is kept and sent to a syslog."""
        return json.dumps(self.to_json(), separators=(",", ":"))

    def to_json(self) -> dict[str, Any]:
        encoded = {name: base64.b64encode(getattr(self, name)).decode() for name in ("key", "signature")}
        return {**asdict(self), **encoded}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> SignedHead:
        """ValueError for anything else."""
        try:
            raw = {name: base64.b64decode(str(data[name]), validate=True) for name in ("key", "signature")}
            return SignedHead.from_map({**data, **raw})
        except (KeyError, TypeError, ValueError, ProtocolError) as error:
            raise ValueError(str(error)) from None

    @staticmethod
    def from_map(data: Mapping[str, Any]) -> SignedHead:
        """As it travels; ProtocolError for anything else."""
        f = Fields(data, "head")
        return SignedHead(
            f.text("site"), f.integer("number", 0, _MAX_INTEGER), f.text("mac", 32), f.integer("time", 0, _MAX_INTEGER),
            f.some_bytes("key", _MAX_BYTES), f.some_bytes("signature", _MAX_BYTES),
        )  # fmt: skip

    @property
    def genuine(self) -> bool:
        """Whether the site that it names signed it. Its key is looked at only if it has that site's fingerprint."""
        if fingerprint_of_key(self.key) != self.site:
            return False
        try:
            key = serialization.load_der_public_key(self.key)
            if isinstance(key, ec.EllipticCurvePublicKey):
                key.verify(self.signature, self._signed(), ec.ECDSA(hashes.SHA256()))
            elif isinstance(key, rsa.RSAPublicKey):
                key.verify(self.signature, self._signed(), _pss(), hashes.SHA256())
            else:
                return False
        except (InvalidSignature, ValueError):
            return False
        return True

    def _signed(self) -> bytes:
        return f"PPIR head of a ledger\n{self.site}\n{self.number}\n{self.mac}\n{self.time}\n".encode()

    def signed_by(self, identity: Identity) -> SignedHead:
        """With a signature of this site."""
        key, text = load_private_key(identity.key_file), self._signed()
        if isinstance(key, rsa.RSAPrivateKey):
            return replace(self, signature=key.sign(text, _pss(), hashes.SHA256()))
        return replace(self, signature=key.sign(text, ec.ECDSA(hashes.SHA256())))


def _pss() -> padding.PSS:
    return padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)


class Heads:
    """The head of this site, and those that it holds of others.

    `letter` and `read` are what the two sites say to each other of them: `head`, the writer's own; `held`, the
    reader's, as the writer holds it; `follows`, whether the writer's records have the head that the reader holds.
    A site of a release without heads says and hears none of it.
    """

    def __init__(self, records: Chain, identity: Identity) -> None:
        self._records, self._identity = records, identity
        self._file = records.home / _HELD
        self._held: dict[str, SignedHead] | None = None

    def own(self) -> SignedHead:
        """The head of this site now, signed."""
        der = public_bytes(load_private_key(self._identity.key_file).public_key())
        number, mac = self._records.position()
        return SignedHead(self._identity.fingerprint, number, mac, int(time.time()), der).signed_by(self._identity)

    def all_held(self) -> dict[str, SignedHead]:
        """The last head of each peer, by fingerprint; read once."""
        if self._held is None:
            heads = [SignedHead.from_json(record["head"]) for _, record in self._records.read(self._file)]
            self._held = {head.site: head for head in heads}
        return self._held

    def letter(self, peer: str, *, own: bool = True, held: bool = True, follows: bool | None = None) -> dict[str, Any]:
        """What to tell a peer."""
        known = self.all_held().get(peer) if held else None
        return {
            **({"head": asdict(self.own())} if own else {}),
            **({"held": asdict(known)} if known is not None else {}),
            **({"follows": follows} if follows is not None else {}),
        }

    def read(self, peer: str, fields: Fields) -> tuple[bool | None, list[str]]:
        """What a peer tells: whether this site's records have the head that it holds (None: it holds none), and what
        a person should know. The peer's head is kept. ProtocolError for a head that the peer did not sign."""
        warnings, follows = [], None
        if "held" in fields:
            follows, problem = self._check_own(SignedHead.from_map(fields.map("held")))
            warnings += [problem] if problem else []
        if "head" in fields:
            head = SignedHead.from_map(fields.map("head"))
            if head.site != peer or not head.genuine:
                raise ProtocolError("The head of the peer's ledger is not signed by the peer.")
            warnings += self._take(head)
        if "follows" in fields and not fields.flag("follows"):
            warnings.append(
                "The peer says that its records do not have the head that it signed for this site: its ledger was"
                " put back to an earlier state, or begun anew. Ask it why."
            )
        return follows, warnings

    def _take(self, head: SignedHead) -> list[str]:
        """Keep a peer's head; what is wrong beside the one before."""
        former = self.all_held().get(head.site)
        if former is None or (former.number, former.mac) != (head.number, head.mac):
            self._records.append(self._file, {"time": time.time(), "peer": head.site, "head": head.to_json()})
            self.all_held()[head.site] = head
        if former is None or head.number > former.number or (head.number, head.mac) == (former.number, former.mac):
            return []
        return [
            f"The peer's ledger went back: it had {former.number} records at the last session, and has {head.number}."
            " Its folder was put back to an earlier state, or begun anew: what it counted is not known. Ask it why."
        ]

    def _check_own(self, head: SignedHead) -> tuple[bool | None, str]:
        """Whether this site's records have a head that another holds; None where this site did not sign it."""
        if head.site != self._identity.fingerprint or not head.genuine:
            return None, ""
        problem = contradiction(self._records, head)
        return not problem, problem


def contradiction(records: Chain, head: SignedHead) -> str:
    """What speaks against these records having had this head, '' if nothing."""
    number, _ = records.position()
    if head.number > number:
        return (
            f"This site's ledger went back: it signed a head with {head.number} records, and has {number}. The whole"
            " folder was put back to an earlier state, or begun anew: what was counted since is lost."
        )
    if records.code_of(head.number) != head.mac:
        return (
            f"This site's ledger was put back and gone on with: record {head.number} is not the one of the head that"
            " it signed. What was counted in between is lost."
        )
    return ""


def heads_in(lines: Iterable[str]) -> list[SignedHead]:
    """The heads in a file: lines of a syslog, of a peer's `heads.jsonl`, or of `ppir ledger --heads`."""
    found = []
    for line in lines:
        try:
            value = json.loads(line[line.index("{") : line.rindex("}") + 1])
            found.append(SignedHead.from_json(value.get("head", value)))
        except (ValueError, AttributeError):
            continue
    return found


class SyslogHeads:
    """Sends heads to a syslog: 'host:port' (UDP) or the path of its socket.

    Errors: InputError (no such address).
    """

    def __init__(self, address: str) -> None:
        self._problem = ""
        try:
            place: Any = address if "/" in address else parse_address(address)
            if place == address and not os.path.exists(address):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            self._handler = logging.handlers.SysLogHandler(place, logging.handlers.SysLogHandler.LOG_AUTH)
        except (OSError, AttributeError) as error:  # the latter where a system has no such sockets
            why = getattr(error, "strerror", None) or error
            raise InputError(
                f"The syslog {address} cannot be reached ({why}). Give HOST:PORT, or the path of"
                " its socket, such as /dev/log."
            ) from None
        self._handler.append_nul = False
        self._handler.handleError = self._failed  # type: ignore[method-assign]

    def send(self, head: SignedHead) -> str:
        """Send one head; what went wrong, '' if nothing is known to."""
        return self.send_text(f"head {head.to_text()}")

    def send_text(self, text: str) -> str:
        """Send one line; what went wrong, '' if nothing is known to."""
        self._problem = ""
        self._handler.emit(logging.LogRecord("ppir", logging.INFO, "", 0, f"ppir: {text}", None, None))
        return self._problem

    def close(self) -> None:
        self._handler.close()

    def _failed(self, record: logging.LogRecord) -> None:
        self._problem = str(sys.exc_info()[1])
