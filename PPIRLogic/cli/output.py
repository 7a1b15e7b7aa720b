"""What a command says: whole lines for a person, or JSON for a program, to a terminal that may lack letters."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import sys
import threading
import warnings
from typing import Any

from PPIRLogic.errors import OutputError
from PPIRLogic.registration.catalogue import warn_of_former, wire_name

Arguments = argparse.Namespace
_PRINTING = threading.Lock()
_not_said = ""  # why standard output took no more


def say(a: Arguments, event: str, text: str, **details: Any) -> None:
    """One line for a person, or one JSON object for a program."""
    print_line(json.dumps({"event": event, **details}) if a.json else text)


def print_line(text: str) -> None:
    """One whole line, also when several threads have something to say. A standard output that takes no more (a full
    disk, a pipe that was closed) is said once and left: the run and its files are worth more. See `check_said`."""
    global _not_said
    with _PRINTING:
        try:
            sys.stdout.write(text + "\n")
            sys.stdout.flush()
        except OSError as error:
            _not_said = "" if isinstance(error, BrokenPipeError) else str(error.strerror)
            full, sys.stdout = sys.stdout, open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - for good
            with contextlib.suppress(OSError, ValueError):
                os.dup2(sys.stdout.fileno(), full.fileno())  # what still waits to be written is no error at the end
            print(f"note: standard output cannot be written ({error.strerror}).", file=sys.stderr, flush=True)


def check_said() -> None:
    """OutputError if standard output was full; who closed a pipe has what he wanted."""
    if _not_said:
        raise OutputError(f"Not all could be written to standard output ({_not_said}). Files are written as usual.")


def note(a: Arguments, text: str) -> None:
    if not a.json:
        print(f"note: {text}", file=sys.stderr, flush=True)


def show_event(a: Arguments, event: dict[str, Any]) -> None:
    details = "  ".join(f"{k}={v}" for k, v in event.items() if k not in ("time", "event"))
    print_line(json.dumps(event) if a.json else f"{event['event']}  {details}")


class Patient:
    """A text stream that takes what it can. Words for a person are not worth the exit code of a run."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()


def show_what_can_be_shown() -> None:
    """Where a terminal or file cannot hold a letter, another is shown in its place, and a standard error that is closed
    or full is left: no output is worth a failure."""
    global _not_said
    _not_said = ""
    nowhere = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - as long as the process
    sys.stdout, sys.stderr = sys.stdout or nowhere, sys.stderr or nowhere
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    if not isinstance(sys.stderr, Patient):
        sys.stderr = Patient(sys.stderr)  # type: ignore[assignment]


def current_name(protocol: str) -> str:
    """The name on the wire of a protocol that a person named; a former name is taken, with a note."""

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        warn_of_former(protocol)
    for warning in told:
        print(f"note: {warning.message}", file=sys.stderr, flush=True)
    return wire_name(protocol)
