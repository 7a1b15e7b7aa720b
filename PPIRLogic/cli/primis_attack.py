"""The work of `ppir primis attack`: what an attacker gets from the public side of one's own images."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PPIRLogic.cli.common import Interruptible
from PPIRLogic.cli.output import Arguments, say
from PPIRLogic.errors import OutputError
from PPIRLogic.files import shown_path, write_atomically

if TYPE_CHECKING:
    from PPIRLogic.primis.attacks.battery import Finding

TABLE, RESULTS, STRIP = "attacks.md", "attacks.json", "attacks.png"
_ROOM = 2**16  # bytes
HEAD = """| attack | codes with decoys (`ambiguated`) | sealed | at chance |
|---|---|---|---|
"""


def run_attack(a: Arguments) -> None:
    _make_folder(a)
    from PPIRLogic.primis.attacks.battery import QUICK, Effort, attack
    from PPIRLogic.primis.study import read_study

    study = read_study(a.data, size=a.size, most=a.images)
    patients = len(set(study.patients))
    say(a, "data", f"{len(study)} images of {patients} patients", images=len(study), patients=patients)
    effort = replace(QUICK if a.quick else Effort(), changes=a.changes, seed=a.seed)
    with Interruptible() as run:
        findings, pictures = attack(
            study, effort=effort, progress=lambda *step: _show_step(a, *step),
            found=lambda finding: _show(a, finding), cancel=run.token,
        )  # fmt: skip
        if a.output is not None:
            _write(a, findings, pictures)
    beyond = [f.attack for f in findings if f.holds is False]
    text = "Sealed files gave nothing beyond chance." if not beyond else f"Beyond chance on sealed files: {beyond}"
    say(a, "done", text, beyond_chance=beyond)


def _make_folder(a: Arguments) -> None:
    """Before anything long begins."""
    if a.output is not None:
        try:
            a.output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"The folder '{shown_path(a.output)}' cannot be made: {error.strerror}. Give another --output."
            ) from None


def _show_step(a: Arguments, stage: str, done: int, of: int) -> None:
    if a.json:
        say(a, "progress", "", stage=stage, done=done, of=of)
    elif sys.stderr.isatty() or done == of:
        print(
            f"\r{stage.replace('_', ' ')} {done}/{of}    ", end="" if done < of else "\n", file=sys.stderr, flush=True
        )


def _show(a: Arguments, finding: Finding) -> None:
    verdict = {True: "at chance", False: "BEYOND CHANCE", None: ""}[finding.holds]
    text = f"\n{finding.attack}\n  with decoys  {finding.ambiguated}\n  sealed       {finding.sealed}  {verdict}"
    say(a, "attack", text.rstrip(), **asdict(finding))


def table(findings: list[Finding]) -> str:
    """One row an attack, in Markdown."""
    words = {True: "yes", False: "**no**", None: "–"}
    return HEAD + "".join(f"| {f.attack} | {f.ambiguated} | {f.sealed} | {words[f.holds]} |\n" for f in findings)


def _write(a: Arguments, findings: list[Finding], pictures: dict[str, Any]) -> None:
    from PPIRLogic.primis.attacks.strip import write_strip

    folder: Path = a.output
    texts = {
        TABLE: "# Attacks on sealed images, and on codes with decoys\n\n" + table(findings),
        RESULTS: json.dumps([asdict(f) for f in findings], indent=1, ensure_ascii=False) + "\n",
    }
    for name, text in texts.items():
        _write_whole(folder / name, text)
    write_strip(pictures, folder / STRIP)
    text = (
        f"written  {shown_path(folder)}: {TABLE}, {RESULTS}, {STRIP} (which shows an image: keep it as you keep those)"
    )
    say(a, "written", text, output=shown_path(folder))


def _write_whole(path: Path, text: str) -> None:
    """A text file, whole or not at all; OutputError if it cannot be written."""

    def write(part: str) -> None:
        Path(part).write_bytes(text.encode())

    write_atomically(path, path.suffix, write, _ROOM)
