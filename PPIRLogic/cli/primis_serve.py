"""The work of the commands that share sealed images: `ppir primis serve`, `catalogue`, `ask`."""

from __future__ import annotations

import itertools
import json
import queue
import sys
import threading
from collections.abc import Callable
from typing import Any

from PPIRLogic.cli.common import (
    home_of,
    note_nobody_trusted,
    own_address,
    peer_address,
    peer_fingerprint,
    service_cancel,
    watch_parent,
)
from PPIRLogic.cli.output import Arguments, note, print_line, say, show_event
from PPIRLogic.errors import InputError
from PPIRLogic.files import shown_path
from PPIRLogic.network.trust import TrustStore
from PPIRLogic.primis.levels import LEVELS, NOBODY
from PPIRLogic.primis.messages import Ask, SealedOffer

PATIENCE = 600.0  # seconds for a parent to answer a question


# ---------------------------------------------------------------------------------------------------- serve


def run_serve(a: Arguments) -> None:
    from PPIRLogic.primis.party2 import share

    if a.max_sessions < 1:
        raise InputError("--max-sessions must be at least 1.")
    person = Person(a) if a.ask else None
    files = _shared_files(a, person)
    note_nobody_trusted(a)
    cancel = service_cancel(a, person.hear) if person is not None else service_cancel(a)
    share(
        files, own_address(a), home=home_of(a), max_sessions=a.max_sessions, on_event=lambda e: show_event(a, e),
        cancel=cancel,
    )  # fmt: skip


def _shared_files(a: Arguments, person: Person | None) -> list[Any]:
    from PPIRLogic.primis.policy import SharingPolicy
    from PPIRLogic.primis.shared_files import SharedFile

    if len(a.name) not in (0, len(a.files)) or len(a.level) not in (0, 1, len(a.files)):
        raise InputError("Give --name once for every file or not at all, --level once, or once for every file.")
    levels = a.level if len(a.level) == len(a.files) else (a.level or [LEVELS[0]]) * len(a.files)
    allowed = [_allowed(a, text) for text in a.allow]
    own = {peer: level for peer, level in allowed if level}
    out = []
    for number, (path, level) in enumerate(zip(a.files, levels, strict=True)):
        policy = SharingPolicy(
            level, own, frozenset(peer for peer, _ in allowed), a.grants, a.days, person.ask if person else None
        )
        name = a.name[number] if a.name else f"image-{number + 1}"
        if not a.name:
            note(a, f"'{shown_path(path)}' is offered to peers as '{name}' (--name gives it another name).")
        out.append(SharedFile(name, path, policy))
    return out


def _allowed(a: Arguments, text: str) -> tuple[str, str]:
    """Fingerprint and level ('' for none of its own) of one --allow."""
    for peer in TrustStore(home_of(a)).peers():
        if text == peer.name:
            return peer.fingerprint, ""
    name, found, level = text.rpartition("=")
    if not found:
        name, level = text, ""
    if found and level not in (*LEVELS, NOBODY):
        raise InputError(f"--allow {text}: {level!r} is no level; known: {', '.join((*LEVELS, NOBODY))}.")
    return peer_fingerprint(a, name), level


class Person:
    """Who is asked before a grant: the person at the terminal, or, for programs, at the other end of standard input.

    A program reads {"event": "question", "number": 3, …} and writes a line 'yes 3' or 'no 3'. No answer means no.
    """

    def __init__(self, a: Arguments) -> None:
        self._a, self._one_by_one = a, threading.Lock()
        self._numbers = itertools.count(1)
        self._answers: dict[int, queue.Queue[bool]] = {}
        self._rest = b""

    def ask(self, who: str, question: Ask) -> bool:
        """Yes or no to one question."""
        if self._a.with_parent:
            return self._ask_parent(who, question)
        with self._one_by_one:
            print(
                f"\n{who} asks for '{question.name}' up to the level '{question.level}'.\nPurpose: {question.purpose}\n"
                "What is granted cannot be taken back from one who has opened it.",
                file=sys.stderr, flush=True,
            )  # fmt: skip
            try:
                print("Give this grant? [y/N] ", end="", file=sys.stderr, flush=True)
                return input().strip().lower() in ("y", "yes")
            except EOFError:
                return False

    def _ask_parent(self, who: str, question: Ask) -> bool:
        number, answers = next(self._numbers), queue.Queue[bool](1)
        self._answers[number] = answers
        try:
            fields = {"image": question.name, "level": question.level, "purpose": question.purpose}
            show_event(self._a, {"event": "question", "number": number, "who": who, **fields})
            return answers.get(timeout=PATIENCE)
        except queue.Empty:
            return False
        finally:
            self._answers.pop(number, None)
            show_event(self._a, {"event": "question over", "number": number})

    def hear(self, data: bytes) -> bool:
        """What a parent wrote; whether its last line was an answer."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        answered = False
        for line in lines:
            word, _, number = line.strip().partition(b" ")
            answered = word in (b"yes", b"no") and number.isdigit()
            if answered and (waiting := self._answers.get(int(number))) is not None:
                waiting.put(word == b"yes")
        return answered and not self._rest


# -------------------------------------------------------------------------------------------- catalogue, ask


def run_catalogue(a: Arguments) -> None:
    from PPIRLogic.primis.party1 import SharingClient

    if a.with_parent:
        watch_parent(a.scratch)
    with SharingClient(peer_address(a), home=home_of(a)) as client:
        offers = client.catalogue()
    for offer in offers:
        say(a, "sealed image", "\n".join(_rows(offer)), **{**offer.to_dict(), "digest": offer.digest.hex()})
    if not offers:
        say(a, "nothing", "The peer shows no sealed image to this site.")


def _rows(offer: SealedOffer) -> list[str]:
    """An image of a catalogue, for a person."""
    shape = " × ".join(map(str, offer.shape[::-1]))
    codes = ", ".join(f"{level} {size}" for level, size in zip(LEVELS, offer.codes, strict=False))
    may = f"grants up to '{offer.level}', {offer.left} left" if offer.level != NOBODY else "no grants"
    asked = ", each decided by a person" if offer.asks and offer.level != NOBODY else ""
    return [f"{offer.name}", f"  {shape} pixels, {offer.dtype}, {offer.size} bytes; {may}{asked}", f"  codes: {codes}"]


def run_ask(a: Arguments) -> None:
    from PPIRLogic.cli.common import Interruptible
    from PPIRLogic.primis.party1 import ask

    with Interruptible(a) as run:
        got = ask(
            a.name, peer_address(a), a.level, a.purpose, a.output, home=home_of(a), check=run.token.check,
            tell=_teller(a),
        )  # fmt: skip
    text = f"sealed image  {got.file}\ngrant         {got.grant}  (up to '{got.level}')"
    say(a, "granted", text, file=str(got.file), grant=str(got.grant), level=got.level)


def _teller(a: Arguments) -> Callable[[str, int, int], None]:
    words = {
        "waiting": "waiting for the other site …", "reconnecting": "the line was lost; calling again …",
        "asking": "asking for a grant; a person may have to decide …",
    }  # fmt: skip

    def tell(stage: str, done: int, total: int) -> None:
        if a.json:
            print_line(json.dumps({"event": "progress", "stage": stage, "done": done, "total": total}))
        elif stage in words:
            note(a, words[stage])

    return tell
