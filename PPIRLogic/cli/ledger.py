"""The command `ppir ledger`: what is on record, whether it is whole, and what its owner may do with it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PPIRLogic.cli.common import home_of
from PPIRLogic.cli.output import Arguments, print_line, say
from PPIRLogic.disclosure.accounts import Accounts
from PPIRLogic.disclosure.chain import Chain
from PPIRLogic.disclosure.chain_check import Report, names_of
from PPIRLogic.disclosure.heads import Heads, SignedHead, contradiction, heads_in
from PPIRLogic.disclosure.record_file import FolderLock
from PPIRLogic.errors import InputError, RecordError
from PPIRLogic.network.identity import clean_text, load_or_create_identity, normalise_fingerprint
from PPIRLogic.network.trust import TrustStore
from PPIRLogic.primis.cards import DAY, day_of
from PPIRLogic.primis.grant_records import GrantRecords
from PPIRLogic.proxy.sent_records import SentRecords

MAX_SHOWN = 20  # faults
_MAX_BYTES = 64 * 2**20  # of a file of heads


def run_ledger(a: Arguments) -> None:
    chain = Chain(home_of(a))
    runs: dict[str, Callable[[Arguments, Chain], None]] = {
        "verify": _verify, "heads": _heads, "rotate_key": _rotate, "reset": _reset, "accept": _accept,
    }  # fmt: skip
    chosen = [run for name, run in runs.items() if getattr(a, name) not in (None, False)]
    if a.against is not None and chosen not in ([], [_verify]):
        raise InputError("--against goes with --verify alone.")
    run = _verify if a.against is not None else [*chosen, _show][0]
    run(a, chain)


def _show(a: Arguments, chain: Chain) -> None:
    rows = Accounts(chain.home / "ledger" / "accounts", chain).rows()
    granted = GrantRecords(chain.home, chain).rows()
    sent = SentRecords(chain.home, chain).rows()
    if not rows and not granted and not sent and not a.json:
        print_line("Nothing has been disclosed.")
    for r in rows:
        image = f"'{r['name']}' ({r['image'][:12]}…)" if r["name"] else r["image"]
        text = f"{r['peer']}  image {image}  shrink factor {r['level']}: {r['numbers']} numbers, {r['bits']} bits"
        say(a, "account", text, **r)
    for g in granted:
        how_many = f"{g['grants']} grant{'s' * (g['grants'] != 1)}"
        lines = [
            f"{g['peer']}  sealed image {g['image']}  {g['level']}: {g['bits']} bits, in {how_many}",
            *map(_given, g["given"]),
        ]
        say(a, "granted", "\n".join(lines), **g)
    for s in sent:
        text = f"{s['peer']}  {s['proxies']} proxies, whole images: {s['bits']} bits, sent {s['times']} times"
        say(a, "sent", text, **s)


def _given(one: dict[str, Any]) -> str:
    """A grant on record, for a person."""
    days = round((one["expires"] - one["time"]) / DAY)
    until = f"{days} day{'s' * (days != 1)}, until {day_of(one['expires'])}"
    return f"    {day_of(one['time'])}  {one['level']}, for {clean_text(one['purpose'])!r}; {until}"


def _verify(a: Arguments, chain: Chain) -> None:
    """Say what is whole and what could not be told; RecordError that names the first fault."""
    heads = _own_heads(a, chain.home) if a.against is not None else []
    report = chain.verify()
    for fault in report.faults[:MAX_SHOWN]:
        say(a, "fault", f"fault: {fault}", file=fault.file, line=fault.line, what=fault.what)
    problems = [text for head in heads if (text := contradiction(chain, head))]
    for text in problems[:MAX_SHOWN]:
        say(a, "fault", f"fault: {text}", file=str(a.against), line=0, what=text)
    if not report.files and (files := names_of(chain.home)):
        text = (
            f"{len(files)} files are of a former release and not adopted yet: nothing tells whether they were changed"
        )
        say(a, "not told", text, files=len(files))
    _say_what_was_told(a, report, heads)
    if report.faults or problems:
        first = str(report.faults[0]) if report.faults else problems[0]
        raise RecordError(f"The records of this site are not whole. {first}")


def _say_what_was_told(a: Arguments, report: Report, heads: list[SignedHead]) -> None:
    whole = len(report.files) - len({fault.file for fault in report.faults})
    text = f"{whole} of {len(report.files)} files are whole ({report.lines} lines); the last is record {report.number}"
    say(a, "verified", text, whole=whole, files=len(report.files), lines=report.lines, number=report.number)
    if report.adopted:
        text = f"{report.adopted} lines are as they were when they were adopted, or the key was rotated (audit log)"
        say(a, "adopted", text, lines=report.adopted)
    for name in report.open_ends:
        say(a, "not sealed", f"{name} is not sealed: whether lines are missing at its end cannot be told", file=name)
    if not heads:
        text = "Not told: whether the whole folder was put back to an earlier state (--against a head held elsewhere)."
        say(a, "not told", text)
    else:
        newest = max(heads, key=lambda head: head.number)
        text = f"compared with {len(heads)} heads of this site, the newest with {newest.number} records"
        say(a, "compared", text, heads=len(heads), number=newest.number)


def _own_heads(a: Arguments, home: Path) -> list[SignedHead]:
    """The heads in a file that this site signed."""
    try:
        if a.against.stat().st_size > _MAX_BYTES:
            raise InputError(f"{a.against} is too large for a file of heads: cut out the lines with this site's heads.")
        lines = a.against.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise InputError(f"The file of heads {a.against} cannot be read: {error.strerror}.") from None
    own = load_or_create_identity(home).fingerprint
    found = {(h.number, h.mac): h for h in heads_in(lines) if h.site == own and h.genuine}
    if not found:
        raise InputError(f"{a.against} holds no head that this site ({own}) signed.")
    return list(found.values())


def _heads(a: Arguments, chain: Chain) -> None:
    heads = Heads(chain, load_or_create_identity(chain.home))
    for head in [heads.own(), *heads.all_held().values()]:
        say(a, "head", head.to_text(), head=head.to_json())


@contextmanager
def _alone(home: Path) -> Any:
    """No service runs meanwhile: it would count against what is being changed."""
    lock = FolderLock(home / "ledger")
    try:
        yield
    finally:
        lock.release()


def _rotate(a: Arguments, chain: Chain) -> None:
    with _alone(chain.home):
        chain.rotate_key()
    say(a, "rotated", "All records are authenticated under a new key. Images are recognised as before.")


def _reset(a: Arguments, chain: Chain) -> None:
    accounts = Accounts(chain.home / "ledger" / "accounts", chain)
    wanted_peer, _, wanted_image = a.reset.rpartition("/")
    known = {peer.name: peer.fingerprint for peer in TrustStore(chain.home).peers()}
    peer = normalise_fingerprint(known.get(wanted_peer, wanted_peer)).replace("-", "")
    images = {r["image"] for r in accounts.rows() if r["peer"] == peer and wanted_image in (r["name"], r["image"])}
    if len(images) != 1:
        what = "more than one image" if images else "no image"
        raise InputError(f"--reset {a.reset}: {what} of that name is on record for this peer. See `ppir ledger`.")
    (image,) = images
    what = f"the budget of {wanted_peer} for {wanted_image} ({image[:12]}…) begins anew; what it learned it still knows"
    _confirm(a, what)
    with _alone(chain.home):
        numbers, bits = accounts.reset(peer, image)
        chain.log("budget reset", peer=peer, image=image, numbers=numbers, bits=bits)
    text = f"reset: {numbers} numbers ({bits} bits) of {wanted_image} count no more against {wanted_peer}"
    say(a, "reset", text, peer=peer, image=image, numbers=numbers, bits=bits)


def _accept(a: Arguments, chain: Chain) -> None:
    _confirm(a, "what the records say now counts, and what is missing is forgotten")
    with _alone(chain.home):
        faults = chain.accept()
    for fault in faults[:MAX_SHOWN]:
        say(a, "accepted", f"accepted: {fault}", file=fault.file, line=fault.line, what=fault.what)
    if not faults:
        say(a, "accepted", "The records are whole; nothing was accepted.")


def _confirm(a: Arguments, what: str) -> None:
    if not a.yes:
        raise InputError(f"This cannot be taken back: {what}. It is put on record. Add --yes to do it.")
