"""What is on record cannot be changed or lost without a word, by whoever can write the files of a site."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import stat
import threading
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import tampering
from recording import Record
from system_support import Phantom, account_numbers, grid, owner, shared, two_sites, wait_until
from tampering import Tampering, made
from thief import Thief

from PPIRLogic.cli.main import main
from PPIRLogic.disclosure.accounts import Accounts, Budget
from PPIRLogic.disclosure.chain import Chain
from PPIRLogic.disclosure.chain_check import names_of
from PPIRLogic.disclosure.heads import Heads
from PPIRLogic.disclosure.record_file import PLAIN
from PPIRLogic.errors import BudgetError, OutputError, ProtocolError, RecordError
from PPIRLogic.local_processes import Site, make_sites
from PPIRLogic.network.identity import load_or_create_identity

GRID = grid((64, 64), (1.0, 1.0), (0.0, 0.0))
IMAGE = shared(Phantom.make(GRID).on(GRID), budget=Budget(numbers_per_image=60))


def read_more(site: Site, two: Site, finish: bool = False) -> int:
    """Voxels that a peer reads, session after session, until its budget is used up; or in one that it ends in order."""
    read = 0
    with owner(two, IMAGE) as one, contextlib.suppress(BudgetError):
        while True:
            with Thief(site, one.address) as thief:
                read += len(thief.read(range(9 if finish else 3000)))
                if finish:
                    thief.session.finish()
                    return read
    return read


@pytest.mark.parametrize("damage", ["removed", "emptied", "cut"])
def test_a_lost_key_is_not_made_anew(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record: Record
) -> None:
    one_site, two = two_sites(tmp_path)
    first = read_more(one_site, two)
    assert first > 100 and read_more(one_site, two) == 0
    key = two.home / "ledger" / "key"
    whole = key.read_bytes()
    spoiled = {"removed": None, "emptied": b"", "cut": whole[:-1]}[damage]
    key.unlink() if spoiled is None else key.write_bytes(spoiled)
    before = account_numbers(two.home)
    with pytest.raises(RecordError, match="from a backup"):
        read_more(one_site, two)
    assert account_numbers(two.home) == before
    key.write_bytes(whole)
    assert read_more(one_site, two) == 0, "put back, it counts as before"
    if damage != "removed":
        return
    key.unlink()
    for check in ("_refuse_if_anything_is_on_record", "_check_former_release"):
        monkeypatch.setattr(Chain, check, lambda self: None)
    for name in ("subjects.jsonl", "head"):
        (two.home / "ledger" / name).unlink()
    again = read_more(one_site, two)
    assert again == first
    record("the key by which images are recognised is removed", f"{again} voxels more, a new key", "nothing is served")


def not_private(home: Path) -> dict[str, str]:
    """What others than its owner may look into, and its mode."""
    modes = {p: stat.S_IMODE(p.stat().st_mode) for p in (home, *home.rglob("*"))}
    return {str(p): oct(m) for p, m in modes.items() if m != (0o700 if p.is_dir() else 0o600)}


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")
def test_records_are_for_their_owner_alone(tmp_path: Path) -> None:
    one_site, two = two_sites(tmp_path)
    former = os.umask(0)
    try:
        read_more(one_site, two, finish=True)
        assert not_private(two.home) == not_private(one_site.home) == {}
        for path in two.home.rglob("*"):
            if path.parent.name != "identity" and path.name != "trust.json":
                path.chmod(0o777 if path.is_dir() else 0o666)
        (two.home / "trust.json").chmod(0o644)
        two.home.chmod(0o755)
        read_more(one_site, two, finish=True)  # what is there is tightened when it is used
    finally:
        os.umask(former)
    for home in (one_site.home, two.home):
        assert len(list(home.rglob("*"))) >= 9
        assert not_private(home) == {}


def test_a_thief_of_budgets_that_edits_the_account(tmp_path: Path, record: Record) -> None:
    """As in the review: numbers set to 0, lines cut from the end, sessions taken out of the audit log."""

    def zeroed(path: Path) -> None:
        text = path.read_text()
        path.write_text("\n".join(json.dumps({**json.loads(t), "numbers": 0, "bits": 0}) for t in text.splitlines()))

    def cut(path: Path) -> None:
        path.write_text(path.read_text().splitlines(keepends=True)[0])

    one_site, two = two_sites(tmp_path)
    read_more(one_site, two)
    (account,) = (two.home / "ledger" / "accounts").glob("*.jsonl")
    for edit in (zeroed, cut, Path.unlink):
        whole = account.read_bytes()
        edit(account)
        with pytest.raises(RecordError, match=rf"{account.name} is damaged at line \d.*ppir ledger --accept"):
            read_more(one_site, two)
        account.write_bytes(whole)
    audit = two.home / "audit.jsonl"
    lines = audit.read_text().splitlines(keepends=True)
    audit.write_text("".join(line for line in lines if '"event":"session"' not in line))
    with pytest.raises(RecordError, match=r"audit.jsonl is damaged at line 2"):
        read_more(one_site, two)
    audit.write_text("".join(lines))
    assert read_more(one_site, two) == 0


def test_an_account_that_is_edited_while_it_is_served(tmp_path: Path) -> None:
    one_site, two = two_sites(tmp_path)
    with owner(two, IMAGE) as one, Thief(one_site, one.address) as thief:
        assert thief.read(range(9))
        (account,) = (two.home / "ledger" / "accounts").glob("*.jsonl")
        account.write_text(account.read_text().replace('"numbers":4', '"numbers":0'))
        assert thief.read(range(9)) == {}
        (ended,) = [e for e in one.told("session ended") if "RecordError" in e["reason"]]
        assert "damaged at line 1: it was changed" in ended["reason"]


def found(home: Path) -> str:
    """What `verify` names first, '' where it finds nothing."""
    try:
        return str(next(iter(Chain(home).verify().faults), ""))
    except RecordError as error:
        return str(error)


@contextlib.contextmanager
def changed(home: Path, one: Tampering) -> Iterator[None]:
    """Here the home is changed in one file."""
    former = (home / one.file).read_bytes()
    one.apply(home)
    try:
        yield
    finally:
        (home / one.file).write_bytes(former)


def tried(home: Path, one: Tampering) -> str:
    """'' where a change is found and named, else what is wrong."""
    with changed(home, one):
        said, named = found(home), f"{one.file}, line {one.line}:" if one.line else one.file
        with contextlib.suppress(RecordError):
            Chain(home).open(sessions=True)
            return f"{one.what} of {one.file} {one.line}: a service starts"
    return "" if named in said else f"{one.what} of {one.file} {one.line}: {said}"


def all_changes(home: Path, copies: list[Path]) -> list[Tampering]:
    changes = [*tampering.of_the_key(home), *tampering.of_the_head(home)]
    for file in names_of(home):
        for kind in (tampering.edits, tampering.cuts, tampering.moves):
            changes += kind(home, file)
        changes += tampering.rollbacks(home, copies, file)
    for path in (home / "ledger" / "unfinished").glob("*.json"):
        name = path.relative_to(home).as_posix()
        changes += [replace(c, line=1) for c in tampering.edits(home, name)] + [
            *tampering.rollbacks(home, copies, name)
        ]
    return changes


def unnoticed(home: Path, one: Tampering) -> bool:
    """Whether a home of plain records is read without a word after a change."""
    with changed(home, one):
        try:
            Accounts(home / "ledger" / "accounts").rows()
            for name in names_of(home):
                PLAIN.read(home / name)
        except OutputError:
            return False
        return True


@pytest.mark.parametrize("every", [5, pytest.param(1, marks=pytest.mark.long)])
def test_every_change_of_a_file_is_found_and_named(every: int, tmp_path: Path, record: Record) -> None:
    home, copies = made(tmp_path / "ours", Chain, days=2)
    assert found(home) == "" and len(names_of(home)) >= 9
    changes = all_changes(home, copies)
    assert len(changes) > 700 and len({one.what for one in changes}) >= 15
    assert [problem for one in changes[::every] if (problem := tried(home, one))] == []
    assert found(home) == "", "put back, all is whole"
    shutil.rmtree(home / "ledger")
    assert f"{home / 'ledger' / 'key'}, by which" in found(home), "all but the audit log removed"
    plain, former = made(tmp_path / "plain", lambda home: PLAIN, days=2)
    same = [c for name in names_of(plain) for c in (*tampering.cuts(plain, name), *tampering.moves(plain, name),
            *tampering.rollbacks(plain, former, name))]  # fmt: skip
    passed = sum(unnoticed(plain, one) for one in same[::every])
    assert passed > 0.7 * len(same[::every])
    record(
        f"{len(changes[::every])} edits, cuts, swaps, copies and rollbacks of one file: a record, the key or the head",
        f"{passed} of {len(same[::every])} pass unnoticed (edits of numbers: all)",
        "all found, with file and line; no service starts",
    )


def put_back(home: Path, copy: Path) -> None:
    """The whole home as it was."""
    shutil.rmtree(home)
    shutil.copytree(copy, home)


def warnings_of(home: Path) -> list[str]:
    audit = home / "audit.jsonl"
    rows = [json.loads(line) for line in audit.read_text().splitlines()] if audit.exists() else []
    return [row["text"] for row in rows if row["event"] == "ledger warning"]


def test_a_whole_home_that_is_put_back_is_found_against_what_others_hold(tmp_path: Path, record: Record) -> None:
    """A peer says so at its next session, at both sides; a syslog's lines and a peer's file say it to `--against`."""
    one_site, two = two_sites(tmp_path)
    copy, held = tmp_path / "copy", one_site.home / "ledger" / "heads.jsonl"
    with syslog() as (address, lines):
        assert read_more(one_site, two, finish=True) == 9
        shutil.copytree(two.home, copy)
        with owner(two, IMAGE, syslog=address) as one, Thief(one_site, one.address) as thief:
            thief.read(range(30))
            thief.session.finish()
        assert wait_until(lambda: sum('"site"' in line for line in lines) >= 3), "listening, finished, stopped"
    (tmp_path / "syslog").write_text("\n".join(lines))
    assert warnings_of(one_site.home) == warnings_of(two.home) == []
    for source in (held, tmp_path / "syslog"):
        assert verify(two.home, source) == 0
    before = account_numbers(two.home)
    put_back(two.home, copy)
    assert account_numbers(two.home) < before and verify(two.home) == 0, "by itself nothing contradicts"
    for source in (held, tmp_path / "syslog"):
        assert verify(two.home, source) == RecordError.exit_code
    assert read_more(one_site, two, finish=True) == 9
    assert "This site's ledger went back" in warnings_of(two.home)[0]
    said = warnings_of(one_site.home)
    assert ["went back: it had" in said[0], "do not have the head that it signed" in said[1]] == [True, True]
    record(
        "the whole folder of a site is put back to an earlier state",
        "unnoticed",
        "said at both sides, by the next session",
    )


def test_a_home_that_is_put_back_and_gone_on_with_is_found(tmp_path: Path) -> None:
    """It has more records than the head that the peer holds, and not that one. The other side may be party 1, too."""
    sites = dict(zip(("A", "B"), two_sites(tmp_path), strict=True))
    for name in sites:
        read_more(sites["A"], sites["B"], finish=True)
        home, copy = sites[name].home, tmp_path / f"copy {name}"
        shutil.copytree(home, copy)
        for _ in range(2):
            read_more(sites["A"], sites["B"], finish=True)
        put_back(home, copy)
        for _ in range(40):
            Chain(home).log("something else")
        read_more(sites["A"], sites["B"], finish=True)
        assert "put back and gone on with" in warnings_of(home)[-1]
        other = sites["B" if name == "A" else "A"].home
        assert "The peer says that its records do not have the head" in warnings_of(other)[-1]


def test_a_head_that_another_signed_is_refused(tmp_path: Path) -> None:
    one_site, two = two_sites(tmp_path)
    stranger = make_sites(tmp_path / "others", ("X",))["X"]
    with owner(two, IMAGE) as one:
        for spoil in ("site", "number", "signature"):
            with Thief(one_site, one.address) as thief:
                heads = thief.session._heads
                head = (
                    Heads(Chain(stranger.home), load_or_create_identity(stranger.home)).own()
                    if spoil == "site"
                    else heads.own()
                )
                if spoil == "number":
                    head = replace(head, number=head.number + 100)
                if spoil == "signature":
                    head = replace(head, signature=b"")
                heads.letter = lambda *args, head=head, **kwargs: {"head": asdict(head)}  # type: ignore[method-assign]
                with pytest.raises(ProtocolError, match="not signed by the peer"):
                    thief.session.finish()
    assert Heads(Chain(two.home), load_or_create_identity(two.home)).all_held() == {}


def test_a_peer_of_a_release_without_heads_is_served_and_serves(tmp_path: Path) -> None:
    """The same version of the protocol: what it does not know it passes over, what it does not say is not missed."""
    one_site, two = two_sites(tmp_path)
    with owner(two, IMAGE) as one:
        for silent in ("party 1", "party 2"):
            with Thief(one_site, one.address) as thief:
                heads = thief.session._heads if silent == "party 1" else one.server.site.heads
                heads.letter = lambda *args, **kwargs: {}  # type: ignore[method-assign]
                assert thief.session.finish() == {"numbers": 0}
    assert warnings_of(one_site.home) == warnings_of(two.home) == []


@contextlib.contextmanager
def syslog() -> Iterator[tuple[str, list[str]]]:
    """A syslog over UDP: its address, and the lines that it gets."""
    lines: list[str] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(0.1)
        stop = threading.Event()

        def listen() -> None:
            while not stop.is_set():
                with contextlib.suppress(TimeoutError):
                    lines.append(server.recv(65536).decode())

        thread = threading.Thread(target=listen)
        thread.start()
        try:
            yield f"127.0.0.1:{server.getsockname()[1]}", lines
        finally:
            stop.set()
            thread.join()


def verify(home: Path, against: Path | None = None) -> int:
    """The exit code of `ppir ledger --verify`."""
    more = ["--against", str(against)] if against is not None else []
    try:
        main(["ledger", "--verify", "--home", str(home), "--json", *more])
    except SystemExit as end:
        return int(end.code or 0)
    return 0
