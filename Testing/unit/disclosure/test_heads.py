"""Signed heads: who signed them, what two of them say, where they are kept and sent."""

from __future__ import annotations

import json
import socket
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from PPIRLogic.disclosure.chain import Chain
from PPIRLogic.disclosure.heads import Heads, SignedHead, SyslogHeads, contradiction, heads_in
from PPIRLogic.errors import InputError, ProtocolError
from PPIRLogic.network.identity import load_or_create_identity, renew_identity
from PPIRLogic.network.messages import Fields


def site(home: Path) -> Heads:
    return Heads(Chain(home), load_or_create_identity(home, home.name))


def message(head: SignedHead) -> Fields:
    return Fields({"head": asdict(head)}, "finish")


def test_a_head_is_the_site_s_own_and_says_how_far_its_records_go(tmp_path: Path) -> None:
    heads = site(tmp_path)
    Chain(tmp_path).log("one")
    head = heads.own()
    assert head.genuine and head.number == 1 and head.mac == Chain(tmp_path).code_of(1)
    assert SignedHead.from_json(json.loads(head.to_text())) == SignedHead.from_map(asdict(head)) == head
    other = site(tmp_path / "other").own()
    for false in (
        replace(head, number=2), replace(head, mac="0" * 32), replace(head, time=0), replace(head, site=other.site),
        replace(head, key=other.key), replace(head, key=b""), replace(head, signature=other.signature),
    ):  # fmt: skip
        assert not false.genuine


def test_a_site_with_an_rsa_key_signs_too(tmp_path: Path) -> None:
    identity = load_or_create_identity(tmp_path)
    key = rsa.generate_private_key(65537, 2048)
    identity.key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    heads = Heads(Chain(tmp_path), renew_identity(tmp_path))
    assert heads.own().genuine and not replace(heads.own(), number=7).genuine


def test_a_peer_s_ledger_that_goes_back_or_stands_beside_is_said(tmp_path: Path) -> None:
    here, there = site(tmp_path / "here"), site(tmp_path / "there")
    peer = there.own().site
    records = Chain(tmp_path / "there")
    for _ in range(3):
        records.log("x")
    early, late = there.own(), (records.log("y"), there.own())[1]
    assert here.read(peer, message(early)) == (None, []) and here.read(peer, message(late)) == (None, [])
    assert here.read(peer, message(late)) == (None, []), "the same again is no change"
    _, (said,) = here.read(peer, message(early))
    assert "it had 4 records at the last session, and has 3" in said
    assert here.all_held()[peer] == early
    forked = replace(early, mac="0" * 32).signed_by(load_or_create_identity(tmp_path / "there"))
    assert len(here.read(peer, message(forked))[1]) == 1
    assert Chain(tmp_path / "here").verify().faults == []


def test_what_a_peer_holds_of_this_site_is_looked_up_in_its_own_records(tmp_path: Path) -> None:
    here, there = site(tmp_path / "here"), site(tmp_path / "there")
    Chain(tmp_path / "here").log("x")
    mine = here.own()
    own, peer = mine.site, there.own().site
    there.read(own, message(mine))
    letter = there.letter(own, own=False)
    assert letter == {"held": asdict(mine)}
    assert here.read(peer, Fields(letter, "opened")) == (True, [])
    ahead = replace(mine, number=9).signed_by(load_or_create_identity(tmp_path / "here"))
    assert here.read(peer, Fields({"held": asdict(ahead)}, "opened"))[0] is False
    false = replace(mine, number=9)  # the peer made it up
    assert here.read(peer, Fields({"held": asdict(false)}, "opened")) == (None, [])
    assert here.read(peer, Fields({"follows": False}, "opened"))[1][0].startswith("The peer says")


@pytest.mark.parametrize(
    "spoiled",
    [{"number": -1}, {"number": "1"}, {"mac": "x" * 33}, {"key": b"x" * 2000}, {"site": 5}, {"signature": None}],
)
def test_a_head_of_another_form_is_refused(spoiled: dict[str, object], tmp_path: Path) -> None:
    head = site(tmp_path).own()
    with pytest.raises(ProtocolError):
        SignedHead.from_map({**asdict(head), **spoiled})
    with pytest.raises(ProtocolError):
        site(tmp_path / "b").read(head.site, Fields({"head": [1]}, "finish"))


def test_heads_are_found_in_the_lines_of_a_syslog_and_of_a_peer(tmp_path: Path) -> None:
    heads = site(tmp_path)
    one = heads.own()
    kept = json.dumps({"time": 1, "peer": one.site, "head": one.to_json(), "chain": [1, 1, "", ""], "mac": "x"})
    lines = ["noise {", f"<38>Nov 30 host ppir: head {one.to_text()}", kept, "", '{"head": 5}', "{}", one.to_text()]
    assert heads_in(lines) == [one] * 3


def test_a_home_that_was_put_back_contradicts_its_head(tmp_path: Path) -> None:
    heads, records = site(tmp_path), Chain(tmp_path)
    before = heads.own()
    records.log("x")
    after = heads.own()
    assert contradiction(records, before) == contradiction(records, after) == ""
    assert "has 1" in contradiction(records, replace(after, number=2))
    assert "gone on with" in contradiction(records, replace(after, mac="0" * 32))


def test_heads_go_to_a_syslog_over_udp_and_a_socket(tmp_path: Path) -> None:
    head = site(tmp_path).own()
    for family, address in (
        (socket.AF_INET, ("127.0.0.1", 0)),
        (getattr(socket, "AF_UNIX", None), str(tmp_path / "log")),
    ):
        if family is None:
            continue
        with socket.socket(family, socket.SOCK_DGRAM) as server:
            server.bind(address)
            server.settimeout(5)
            name = server.getsockname()
            syslog = SyslogHeads(name if isinstance(name, str) else f"127.0.0.1:{name[1]}")
            assert syslog.send(head) == ""
            line = server.recv(4096).decode()
            syslog.close()
        assert line.startswith("<38>ppir: head {") and heads_in([line]) == [head] and len(line) < 1024
    assert family is None or "No such file" in syslog.send(head) or "refused" in syslog.send(head)
    with pytest.raises(InputError, match="cannot be reached"):
        SyslogHeads(str(tmp_path / "nothing"))
    with pytest.raises(InputError):
        SyslogHeads("not an address")
