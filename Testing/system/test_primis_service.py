"""Sealed images over the network: catalogue, files and grants between two sites, and a peer that does not behave."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from system_support import SOON, answer, call, last_words, rows_of, try_to_send, wait_until

from PPIRLogic.errors import (
    BusyError,
    InputError,
    OutputError,
    PeerError,
    PolicyError,
    PPIRError,
    ProtocolError,
    RefusedError,
    TrustError,
    VersionError,
)
from PPIRLogic.local_processes import Site, make_sites
from PPIRLogic.network import caller
from PPIRLogic.network.channel import Channel
from PPIRLogic.network.identity import load_or_create_identity
from PPIRLogic.network.trust import TrustStore
from PPIRLogic.primis import messages as m
from PPIRLogic.primis import party2
from PPIRLogic.primis.cards import MAX_CARD, own_card
from PPIRLogic.primis.grant_records import GrantRecords
from PPIRLogic.primis.grants import read_grant
from PPIRLogic.primis.levels import LEVELS
from PPIRLogic.primis.party1 import SharingClient, ask
from PPIRLogic.primis.policy import SharingPolicy
from PPIRLogic.primis.sealing import seal, unseal
from PPIRLogic.primis.shared_files import SharedFile

PIXELS = np.random.default_rng(3).integers(0, 4000, (900, 900)).astype(np.uint16)  # noise: more than one chunk
SMALL = (np.add.outer(np.arange(60), np.arange(50)) * 7).astype(np.uint8)


@dataclass
class Owner:
    """Hospital B in this process, over real sockets; `events` are what its owner was told."""

    service: party2.SharingService
    events: list[dict[str, Any]]
    site: Site

    @property
    def address(self) -> str:
        return str(self.service.listener.address)

    def told(self, event: str) -> list[dict[str, Any]]:
        return [e for e in list(self.events) if e["event"] == event]

    def grants(self, peer: str = "") -> int:
        return len(GrantRecords(self.site.home).all(peer=peer))


@contextlib.contextmanager
def owner(site: Site, *files: SharedFile) -> Iterator[Owner]:
    events: list[dict[str, Any]] = []
    service = party2.SharingService(
        "127.0.0.1:0", load_or_create_identity(site.home), site.home, files, on_event=events.append
    )
    thread = threading.Thread(target=service.run, daemon=True)
    thread.start()
    try:
        yield Owner(service, events, site)
    finally:
        service.stop()
        thread.join(SOON)
        assert not thread.is_alive()


@dataclass
class Person:
    """Who is asked: says what was set, and remembers the questions."""

    says: bool = True
    asked: tuple[str, ...] = ()

    def __call__(self, who: str, question: m.Ask) -> bool:
        self.asked = (*self.asked, f"{who}: {question.name}, {question.level}, {question.purpose}")
        return self.says


PERSON = Person()


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Site]:
    return make_sites(tmp_path_factory.mktemp("primis"), ("A", "B", "C", "D"))


@pytest.fixture(scope="module")
def files(sites: dict[str, Site], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("sealed")
    for name, pixels in (("large", PIXELS), ("small", SMALL)):
        seal(pixels, folder / f"{name}.ppis", home=sites["B"].home)
    return {name: folder / f"{name}.ppis" for name in ("large", "small")}


@pytest.fixture(scope="module")
def served(sites: dict[str, Site], files: dict[str, Path]) -> Iterator[Owner]:
    """Four names of two files. After all tests an honest question still gets its grant."""
    small, a = files["small"], sites["A"].fingerprint
    shared = (
        SharedFile("noise", files["large"], SharingPolicy("exact", grants=10**6)),
        SharedFile("x-ray", small, SharingPolicy("segmentation", {a: "texture"}, grants=10**6, days=7)),
        SharedFile("asked", small, SharingPolicy("exact", ask=PERSON, grants=10**6)),
        SharedFile("for C", small, SharingPolicy(peers=frozenset({sites["C"].fingerprint}))),
        SharedFile("kept", small, SharingPolicy(m.NOBODY)),
    )
    with owner(sites["B"], *shared) as one:
        one.service.methods[m.OPENS].questions = party2.RateLimit(10**6, 0.001)  # the tests ask more than any site may
        yield one
        assert one.told("session failed") == []
        with SharingClient(one.address, home=sites["C"].home) as client:
            assert read_grant(client.ask(client.find("x-ray"), "overview", "after all")).level == 1


# --------------------------------------------------------------------------------------------------- in good order


def test_a_file_and_a_grant_reach_the_other_site(served: Owner, sites: dict[str, Site], tmp_path: Path) -> None:
    got = ask("x-ray", served.address, "classification", "a study", tmp_path, home=sites["A"].home)
    assert got.file.read_bytes() == served.service.site.kept["x-ray"].shared.path.read_bytes()
    opened = unseal(got.file, grant=got.grant, home=sites["A"].home)
    assert opened.level == "classification" and not opened.exact and opened.pixels.shape == SMALL.shape
    made = read_grant(got.grant.read_bytes())
    assert (made.recipient, made.issuer) == (sites["A"].fingerprint, sites["B"].fingerprint)
    assert made.purpose == "a study" and made.expires - made.issued == 7 * 86_400 and len(got.grant.read_bytes()) <= 400
    with pytest.raises(InputError, match="up to classification, not up to exact"):
        unseal(got.file, grant=got.grant, level="exact", home=sites["A"].home)


def test_it_is_on_record_once_and_without_content(served: Owner, sites: dict[str, Site], tmp_path: Path) -> None:
    before = served.grants(sites["C"].fingerprint)
    ask("x-ray", served.address, "overview", "on record", tmp_path, home=sites["C"].home)
    assert served.grants(sites["C"].fingerprint) == before + 1
    audit = [r for r in rows_of(sites["B"].home / "audit.jsonl") if r.get("peer") == sites["C"].fingerprint]
    assert {"sealed file fetched", "grant given"} <= {r["event"] for r in audit}
    given = next(r for r in audit if r["event"] == "grant given")
    assert (given["image"], given["level"], given["purpose"]) == ("x-ray", "overview", "on record")
    assert max(len(json.dumps(r)) for r in audit) < 700, "no record has room for content"


def test_an_exact_image_is_that_image(served: Owner, sites: dict[str, Site], tmp_path: Path) -> None:
    got = ask("noise", served.address, "exact", "a second opinion", tmp_path, home=sites["A"].home)
    opened = unseal(got.file, grant=got.grant, home=sites["A"].home)
    assert opened.exact and np.array_equal(opened.pixels, PIXELS) and opened.pixels.dtype == PIXELS.dtype


def test_the_catalogue_shows_what_is_public_and_permitted(served: Owner, sites: dict[str, Site]) -> None:
    with SharingClient(served.address, home=sites["A"].home) as client:
        offers = {o.name: o for o in client.catalogue()}
    assert set(offers) == {"noise", "x-ray", "asked", "kept"}, "what is for C is not shown to A"
    assert [offers[n].level for n in ("noise", "x-ray", "kept")] == ["exact", "texture", m.NOBODY]
    assert offers["asked"].asks and not offers["noise"].asks
    assert offers["x-ray"].shape == SMALL.shape and len(offers["x-ray"].codes) == len(LEVELS)
    with SharingClient(served.address, home=sites["C"].home) as client:
        assert {o.name: o.level for o in client.catalogue()}["x-ray"] == "segmentation"


def test_a_person_decides(served: Owner, sites: dict[str, Site], tmp_path: Path) -> None:
    PERSON.says, PERSON.asked = False, ()
    with pytest.raises(RefusedError, match="declined"):
        ask("asked", served.address, "exact", "a thesis", tmp_path, home=sites["A"].home)
    PERSON.says = True
    ask("asked", served.address, "overview", "a thesis", tmp_path, home=sites["A"].home)
    assert PERSON.asked[0] == f"'A' (fingerprint {sites['A'].fingerprint}): asked, exact, a thesis"
    assert PERSON.asked[1].endswith("asked, overview, a thesis")


def test_a_lost_line_is_taken_up_where_it_was_lost(
    served: Owner, sites: dict[str, Site], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caller, "AGAIN", (0.1, 0.1))
    stages: list[tuple[str, int]] = []
    with SharingClient(served.address, home=sites["A"].home) as client:

        def cut(stage: str, done: int, total: int) -> None:
            stages.append((stage, done))
            if stages.count((stage, done)) == 1 and stage == "fetching" and done == m.CHUNK:
                client.connected._link.stop()

        client._tell = cut
        path = client.fetch(client.find("noise"), tmp_path)
    assert path.read_bytes() == served.service.site.kept["noise"].shared.path.read_bytes()
    offsets = [done for stage, done in stages if stage == "fetching"]
    assert ("reconnecting", 0) in stages and sorted(set(offsets)) == offsets, "nothing was fetched twice"


def test_a_fetch_goes_on_in_another_process(served: Owner, sites: dict[str, Site], tmp_path: Path) -> None:
    done: list[int] = []
    with SharingClient(served.address, home=sites["A"].home) as client:
        offer = client.find("noise")
        whole = served.service.site.kept["noise"].shared.path.read_bytes()
        (tmp_path / f".{offer.digest.hex()[:32]}.part").write_bytes(whole[:777])
        client._tell = lambda stage, at, total: done.append(at)
        assert client.fetch(offer, tmp_path).read_bytes() == whole and done[0] == 777
        damaged = tmp_path / "damaged"
        damaged.mkdir()
        (damaged / f".{offer.digest.hex()[:32]}.part").write_bytes(bytes(777))
        with pytest.raises(ProtocolError, match="SHA-256 differs"):
            client.fetch(offer, damaged)
        assert list(damaged.iterdir()) == [], "nothing is left of what was wrong"


def test_what_is_in_the_folder_already_stays(served: Owner, sites: dict[str, Site], tmp_path: Path) -> None:
    (tmp_path / "x-ray.ppis").write_bytes(b"another hospital's x-ray")
    got = ask("x-ray", served.address, "overview", "beside it", tmp_path, home=sites["A"].home)
    assert (tmp_path / "x-ray.ppis").read_bytes() == b"another hospital's x-ray"
    assert got.file.name.startswith("x-ray-") and got.grant.name.startswith(f"{got.file.stem}.overview")
    assert ask("x-ray", served.address, "overview", "again", tmp_path, home=sites["A"].home).file == got.file


def test_a_former_grant_stays(served: Owner, sites: dict[str, Site], tmp_path: Path) -> None:
    one, two = (ask("x-ray", served.address, "overview", w, tmp_path, home=sites["A"].home) for w in ("one", "two"))
    assert one.file == two.file and one.grant != two.grant and two.grant.name.startswith("x-ray.overview-")
    assert [read_grant(got.grant.read_bytes()).purpose for got in (one, two)] == ["one", "two"]
    assert unseal(one.file, grant=two.grant, home=sites["A"].home).level == "overview"


def test_nobody_there_is_said_in_the_words_of_this_service(sites: dict[str, Site]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        with pytest.raises(PeerError, match=r"is `ppir primis serve` running there") as said:
            SharingClient(f"127.0.0.1:{taken.getsockname()[1]}", home=sites["A"].home)
    assert "ppir serve" not in str(said.value)


def test_two_services_of_one_home(served: Owner, sites: dict[str, Site], files: dict[str, Path]) -> None:
    with pytest.raises(OutputError, match=r"Another `ppir primis serve` uses .*\(ppir primis serve A B"):
        party2.share([SharedFile("x-ray", files["small"])], "127.0.0.1:0", home=sites["B"].home)


def test_a_file_that_was_sealed_again_is_not_mixed(sites: dict[str, Site], tmp_path: Path) -> None:
    path = tmp_path / "one.ppis"
    seal(SMALL, path, home=sites["D"].home)
    with owner(sites["D"], SharedFile("one", path)) as one:
        with SharingClient(one.address, home=sites["A"].home) as client:
            offer = client.find("one")
            seal(SMALL, path, home=sites["D"].home, overwrite=True)
            for question in (lambda: client.fetch(offer, tmp_path / "in"), lambda: client.ask(offer, "overview", "x")):
                with pytest.raises(RefusedError, match="sealed again"):
                    question()
                client._open()
            assert client.find("one").digest != offer.digest
            path.unlink()
            with pytest.raises(InputError, match="there are: none"):
                client.find("one")
            with pytest.raises(RefusedError, match="log has the reason") as refused:
                client.fetch(offer, tmp_path / "in")
        assert str(tmp_path) not in str(refused.value) and str(path) in one.told("fault")[0]["reason"]


def test_so_many_grants_also_after_a_restart(sites: dict[str, Site], tmp_path: Path) -> None:
    path = tmp_path / "one.ppis"
    seal(SMALL, path, home=sites["D"].home)
    shared, given = SharedFile("one", path, SharingPolicy("exact", grants=2)), []
    for purpose in ("first", "second", "third"):
        with owner(sites["D"], shared) as one, SharingClient(one.address, home=sites["A"].home) as client:
            offer = client.find("one")
            given.append(offer.left)
            if offer.left:
                made = client.ask(offer, "overview", purpose)
                assert client.ask(offer, "overview", purpose) == made, "the same question, the same grant"
            else:
                with pytest.raises(PolicyError, match="as many as its owner gives"):
                    client.ask(offer, "overview", purpose)
    assert given == [2, 1, 0]


def test_a_catalogue_of_several_pages(sites: dict[str, Site], tmp_path: Path) -> None:
    seal(SMALL, tmp_path / "one.ppis", home=sites["D"].home)
    names = [f"slice {number}" for number in range(m.PAGE + 5)]
    shared = [SharedFile(name, tmp_path / "one.ppis") for name in names]
    with owner(sites["D"], *shared) as one, SharingClient(one.address, home=sites["A"].home) as client:
        assert [o.name for o in client.catalogue()] == names


def test_nothing_is_granted_that_is_not_on_record(
    served: Owner, sites: dict[str, Site], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk: no grant leaves, the owner is told why, the peer is told that alone."""

    def full(*_: Any, **__: Any) -> None:
        raise OutputError(f"The ledger {sites['B'].home} could not be written (the disk is full).")

    monkeypatch.setattr(GrantRecords, "granted", full)
    with pytest.raises(RefusedError, match="nothing is disclosed that is not on record") as refused:
        ask("x-ray", served.address, "overview", "a full disk", tmp_path, home=sites["A"].home)
    assert str(sites["B"].home) not in str(refused.value) and not list(tmp_path.glob("*.ppig"))
    assert "the disk is full" in served.told("grant refused")[-1]["reason"]


def test_what_cannot_be_shared(served: Owner, sites: dict[str, Site], files: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "text.ppis").write_text("nothing sealed")
    for site, path, words in (
        ("B", files["small"], "uses the ledger"), ("D", files["small"], "not sealed by this site"),
        ("D", tmp_path / "text.ppis", "no .ppis file"), ("D", tmp_path / "none.ppis", "none.ppis"),
    ):  # fmt: skip
        with pytest.raises(PPIRError, match=words), owner(sites[site], SharedFile("x", path)):
            raise AssertionError("it was shared")


# ------------------------------------------------------------------------------------- a peer that does not behave


@contextlib.contextmanager
def client(served: Owner, site: Site, *, opens: bool = True) -> Iterator[Channel]:
    """A raw client that may say whatever it likes."""
    with call(site, served.address) as channel:
        if opens:
            channel.send(m.OPENS, m.opening())
            answer(channel, m.OPENS)
        yield channel


def said(channel: Channel, kind: type[PPIRError], *words: str) -> PPIRError:
    error = last_words(channel)
    assert type(error) is kind and all(w in str(error) for w in words), repr(error)
    return error


def digest_of(served: Owner, name: str) -> bytes:
    return served.service.site.kept[name].digest


def question(served: Owner, name: str = "x-ray", **fields: Any) -> dict[str, Any]:
    return {**m.Ask(name, digest_of(served, name), "overview", "teaching").to_dict(), **fields}


@pytest.mark.parametrize("kind", ["catalogue", "fetch", "ask", "chunk", "grant", "open", "nonsense"])
def test_before_a_session_is_open(kind: str, served: Owner, sites: dict[str, Site]) -> None:
    with client(served, sites["A"], opens=False) as channel:
        try_to_send(channel, kind, {"first": 0})
        said(channel, ProtocolError, kind, "before a session")


@pytest.mark.parametrize("kind", ["primis", "info", "chunk", "grant", "open", "nonsense"])
def test_in_a_session_only_questions_come(kind: str, served: Owner, sites: dict[str, Site]) -> None:
    with client(served, sites["A"]) as channel:
        channel.send(kind, m.opening())
        said(channel, ProtocolError, kind)


@pytest.mark.parametrize(
    ("data", "kind"), [({}, VersionError), ({"version": 2}, VersionError), ({"version": "1"}, ProtocolError)]
)
def test_openings_that_do_not_fit(
    data: dict[str, Any], kind: type[PPIRError], served: Owner, sites: dict[str, Site]
) -> None:
    with client(served, sites["A"], opens=False) as channel:
        channel.send(m.OPENS, data)
        if not data:  # the first version said none: it is this one
            assert answer(channel, m.OPENS).data["images"] == 4
        else:
            said(channel, kind)


@pytest.mark.parametrize("name", ["for C", "crown jewels", "../x-ray"])
@pytest.mark.parametrize("kind", ["fetch", "ask"])
def test_what_one_does_not_see_is_not_there(kind: str, name: str, served: Owner, sites: dict[str, Site]) -> None:
    """The same words for what there is not and for what is another's."""
    with client(served, sites["A"]) as channel:
        card = own_card(sites["A"].home) if kind == "ask" else b""
        channel.send(kind, {**question(served), "name": name, "offset": 0}, card)
        said(channel, PolicyError, f"No sealed image '{name}' is offered to this site; see the catalogue.")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"level": "exact"}, "at most the level 'texture'"), ({"name": "kept"}, "gives no grant"),
        ({"digest": bytes(32)}, "sealed again"),
    ],
)  # fmt: skip
def test_more_than_the_owner_permits(fields: dict[str, Any], words: str, served: Owner, sites: dict[str, Site]) -> None:
    before = served.grants()
    with client(served, sites["A"]) as channel:
        channel.send("ask", question(served, **fields), own_card(sites["A"].home))
        assert isinstance(last_words(channel), RefusedError)
        assert words in str(last_words(channel))
    assert served.grants() == before


def test_anothers_card_gets_nothing(served: Owner, sites: dict[str, Site]) -> None:
    """C may ask; but not for a grant that A opens, nor with a card that it changed."""
    before, card = served.grants(), bytearray(own_card(sites["A"].home))
    with client(served, sites["C"]) as channel:
        channel.send("ask", question(served), bytes(card))
        said(channel, PolicyError, "another site's")
    card[70] ^= 1
    for wrong in (bytes(card), b"", b"PPIC", bytes(card[:-1]), own_card(sites["C"].home) + b"x"):
        with client(served, sites["C"]) as channel:
            channel.send("ask", question(served), wrong)
            said(channel, ProtocolError, "card")
    with client(served, sites["C"]) as channel:
        try_to_send(channel, "ask", question(served), bytes(MAX_CARD + 1))
        assert wait_until(lambda: channel.interrupted), "more than a card is not even read"
    assert served.grants() == before


def test_a_replay_adds_nothing(served: Owner, sites: dict[str, Site]) -> None:
    """The same question again and again, also over a new line, is one grant."""
    asked, card, before = question(served, purpose="replayed"), own_card(sites["A"].home), served.grants()
    given = []
    for _ in range(2):
        with client(served, sites["A"]) as channel:
            for _ in range(3):
                channel.send("ask", asked, card)
                given.append(bytes(answer(channel, "grant").payload))
    assert len(set(given)) == 1 and served.grants() == before + 1


def test_too_many_questions(sites: dict[str, Site], tmp_path: Path) -> None:
    path = tmp_path / "one.ppis"
    seal(SMALL, path, home=sites["D"].home)
    with owner(sites["D"], SharedFile("x-ray", path, SharingPolicy("exact"))) as one:
        for _ in range(party2.QUESTIONS):
            with client(one, sites["A"]) as channel:
                channel.send("ask", question(one, level="exact"), b"no card")
                said(channel, ProtocolError)
        with client(one, sites["A"]) as channel:
            channel.send("ask", question(one), own_card(sites["A"].home))
            said(channel, BusyError, "too many grants", "ask again in")
        with SharingClient(one.address, home=sites["C"].home) as other:
            assert other.ask(other.find("x-ray"), "overview", "another site"), "others are served on"


def test_one_question_at_a_time_is_put_to_a_person(sites: dict[str, Site], tmp_path: Path) -> None:
    path, asked, answers = tmp_path / "one.ppis", threading.Event(), threading.Event()
    seal(SMALL, path, home=sites["D"].home)

    def person(who: str, what: m.Ask) -> bool:
        asked.set()
        return answers.wait(SOON)

    with owner(sites["D"], SharedFile("x-ray", path, SharingPolicy("exact", ask=person))) as one:
        before = one.grants()
        card = own_card(sites["A"].home)
        with client(one, sites["A"]) as first, client(one, sites["A"]) as second:
            first.send("ask", question(one), card)
            assert asked.wait(SOON)
            second.send("ask", question(one, purpose="meanwhile"), card)
            said(second, BusyError, "Another question")
            first.close()
        answers.set()
        assert wait_until(lambda: one.told("session ended")), "nothing is given to one that left"
        assert one.grants() == before


def test_a_race_for_the_last_grant(sites: dict[str, Site], tmp_path: Path) -> None:
    path, got = tmp_path / "one.ppis", list[str]()
    seal(SMALL, path, home=sites["D"].home)
    with owner(sites["D"], SharedFile("x-ray", path, SharingPolicy("exact", grants=1))) as one:

        def race(number: int) -> None:
            with SharingClient(one.address, home=sites["A"].home) as each:
                try:
                    each.ask(each.find("x-ray"), "overview", f"number {number}")
                    got.append("granted")
                except PolicyError:
                    got.append("refused")

        threads = [threading.Thread(target=race, args=(number,)) for number in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SOON)
    assert sorted(got) == ["granted", *["refused"] * 4]


def test_who_is_trusted_no_more_gets_nothing(sites: dict[str, Site], tmp_path: Path) -> None:
    """Also within a session, and between a person's yes and the grant."""
    path, store = tmp_path / "one.ppis", TrustStore(sites["D"].home)
    seal(SMALL, path, home=sites["D"].home)

    def person(who: str, what: m.Ask) -> bool:
        store.remove(sites["C"].fingerprint)
        return True

    rules = SharingPolicy("exact", ask=person)
    try:
        with owner(sites["D"], SharedFile("x-ray", path, rules)) as one, client(one, sites["C"]) as channel:
            before = one.grants()
            channel.send("ask", question(one), own_card(sites["C"].home))
            said(channel, TrustError, "no longer trusts")
            assert one.grants() == before
    finally:
        store.add(sites["C"].fingerprint, "C")


@pytest.mark.parametrize("offset", [-1, 2**31, 10**6 * 5])
def test_offsets_that_are_none(offset: int, served: Owner, sites: dict[str, Site]) -> None:
    with client(served, sites["A"]) as channel:
        channel.send("fetch", {"name": "x-ray", "digest": digest_of(served, "x-ray"), "offset": offset})
        said(channel, ProtocolError, "offset")


def test_bytes_that_mean_nothing(served: Owner, sites: dict[str, Site]) -> None:
    with client(served, sites["A"]) as channel:
        channel.send("catalogue", {"first": 0}, b"x" * 100)
        said(channel, ProtocolError, "mean nothing")


FIELDS = ("name", "digest", "level", "purpose", "offset", "first")
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**63), st.floats(), st.text(max_size=300), st.binary(max_size=300),
    st.lists(st.integers(0, 9), max_size=40), st.dictionaries(st.text(max_size=5), st.integers(0, 9), max_size=5),
)  # fmt: skip


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    kind=st.sampled_from(["catalogue", "fetch", "ask"]), name=st.sampled_from(FIELDS), value=VALUES,
    payload=st.binary(max_size=300),
)  # fmt: skip
def test_whatever_a_field_is(
    kind: str, name: str, value: Any, payload: bytes, served: Owner, sites: dict[str, Site]
) -> None:
    """An answer or an error in words; nothing is granted, no session fails on a fault of ours."""
    before = served.grants()
    with client(served, sites["A"]) as channel:
        data = {**question(served), "offset": 0, "first": 0, name: value}
        channel.send(kind, data, payload if kind == "ask" else b"")
        message = channel.receive(SOON)
        if message.kind == "error":
            error = said(channel, m_error(message))
            assert len(str(error)) < 600 and not isinstance(error, PeerError)
        else:
            assert message.kind in ("catalogue", "chunk")
    assert served.grants() == before and served.told("session failed") == []


def m_error(message: Any) -> type[PPIRError]:
    return {"ProtocolError": ProtocolError, "PolicyError": PolicyError, "RefusedError": RefusedError}[
        message.data["error"]
    ]


# ------------------------------------------------------------------------------------- a site that does not behave


class Liar:
    """Hospital B with one answer changed."""

    def __init__(self, kind: str, change: Any) -> None:
        self.kind, self.change = kind, change

    def __call__(self, send: Any) -> Any:
        def changed(channel: Channel, kind: str, data: Any = None, payload: Any = b"") -> None:
            if kind == self.kind and "first" not in (data or {}):
                data, payload = self.change(dict(data or {}), bytes(payload))
            send(channel, kind, data, payload)

        return changed


def flipped(data: dict[str, Any], payload: bytes) -> tuple[dict[str, Any], bytes]:
    return data, bytes([payload[0] ^ 1]) + payload[1:]


def images(change: dict[str, Any]) -> Any:
    return lambda data, payload: ({**data, "images": [{**row, **change} for row in data["images"]]}, payload)


@pytest.mark.parametrize(
    ("kind", "change", "words"),
    [
        ("chunk", flipped, "SHA-256 differs"),
        ("chunk", lambda d, p: (d, p[:-1]), "bytes of 'x-ray'"),
        ("chunk", lambda d, p: ({**d, "offset": 7}, p), "offset"),
        ("grant", flipped, "does not open 'x-ray'"),
        ("grant", lambda d, p: (d, b""), "grant of 0 bytes"),
        ("grant", lambda d, p: (d, p * 9), "bytes; one has"),
        ("catalogue", lambda d, p: ({**d, "total": 2**40}, p), "total"),
        ("catalogue", images({"size": 2**60}), "size"),
        ("catalogue", images({"codes": "many"}), "codes"),
        ("catalogue", lambda d, p: ({**d, "images": [7]}, p), "not a map"),
    ],
)
def test_a_site_that_sends_something_else(
    kind: str, change: Any, words: str, served: Owner, sites: dict[str, Site], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(Channel, "send", Liar(kind, change)(Channel.send))
    with pytest.raises(ProtocolError, match=words):
        ask("x-ray", served.address, "overview", "teaching", tmp_path, home=sites["A"].home)
    assert not list(tmp_path.glob("*.ppig")) and not list(tmp_path.glob(".*"))


def test_a_grant_of_another_level_or_for_another_is_refused(
    served: Owner, sites: dict[str, Site], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with SharingClient(served.address, home=sites["A"].home) as one:
        less = one.ask(one.find("x-ray"), "overview", "less")
        other = one.ask(one.find("noise"), "segmentation", "another image")
    with SharingClient(served.address, home=sites["C"].home) as two:
        theirs = two.ask(two.find("x-ray"), "segmentation", "theirs")
    wrong_ones = ((less, "up to the level 'seg"), (other, "another image"), (theirs, "another recipient"))
    for wrong, words in wrong_ones:
        monkeypatch.setattr(Channel, "send", Liar("grant", lambda d, p, w=wrong: (d, w))(_SEND))
        with pytest.raises(ProtocolError, match=words):
            ask("x-ray", served.address, "segmentation", "teaching", tmp_path, home=sites["A"].home)
    assert not list(tmp_path.glob("*.ppig"))


_SEND = Channel.send
