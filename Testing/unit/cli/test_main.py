"""What is loaded before a command begins its work: nothing that is slow to load."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SLOW = {
    "numpy", "numba", "scipy", "SimpleITK", "matplotlib", "rich", "tenseal", "torch", "crypten", "cryptography",
    "OpenSSL", "msgpack",
}  # fmt: skip
WRONG = (  # and what asks for no work
    ["--version"],
    ["--help"],
    ["no-such-command"],
    ["register", "--help"],
    ["register", "a.nrrd", "--peer", "h", "--output", "T.h5", "--no-such-option"],
    ["register", "a.nrrd", "--peer", "h", "--output", "T.h5", "--loss", "no-such-loss"],
    ["register", "a.nrrd", "--peer", "h", "--output", "T.h5", "--evaluations", "0"],
    ["register", "a.nrrd", "--peer", "h", "--output", "T.h5", "--levels", "3,2"],
    ["estimate", "h", "--sampling", "urs"],
    ["simulate", "--fixed", "a.nrrd", "--moving", "b.nrrd", "--output", "T.h5", "--initial", "no such file"],
    ["serve", "--help"],
    ["serve", "a.nrrd", "--losses", "no-such-loss"],
    ["serve", "a.nrrd", "--budget-bits", "nan"],
    ["simulate-points", "--fixed", "a.csv"],
    ["trust", "no-such-action"],
    ["primis", "--help"],
    ["primis", "no-such-command"],
    ["primis", "seal", "a.nrrd"],
    ["primis", "grant", "a.ppis", "--to", "b.ppic", "--level", "no-such-level", "--purpose", "p", "--output", "b.ppig"],
    ["primis", "serve", "a.ppis", "--level", "no-such-level"],
    ["primis", "attack", "--data", "chests", "--size", "1"],
)
PROGRAM = """
import contextlib, io, json, sys
from PPIRLogic.cli import main
loaded = []
for words in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        code = 0
        try:
            main(words)
        except SystemExit as ended:
            code = ended.code
    loaded.append((code, sorted({name.partition(".")[0] for name in sys.modules})))
print(json.dumps(loaded))
"""


def ends(*commands: list[str]) -> list[tuple[int, set[str]]]:
    """The exit codes of commands, one after the other in one process, and the packages that are loaded after each."""
    words = [sys.executable, "-c", PROGRAM, json.dumps(commands)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return [(code, set(loaded)) for code, loaded in json.loads(done.stdout)]


def test_what_is_typed_wrong_loads_nothing_that_is_slow(tmp_path: Path) -> None:
    *wrong, work = ends(*WRONG, ["trust", "list", "--home", str(tmp_path)])
    for words, (code, loaded) in zip(WRONG, wrong, strict=True):
        assert code == (0 if {"--help", "--version"} & set(words) else 2), words
        assert not loaded & SLOW, words
    assert work[0] == 0 and work[1] & SLOW  # so it would be seen
