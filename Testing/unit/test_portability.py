"""What Windows or macOS lack is used with a way out, and text files say how they are encoded: read from the code."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted([*ROOT.glob("PPIRLogic/**/*.py"), *ROOT.glob("PPIRExtension/**/*.py")])
POSIX_MODULES = {"fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog", "posix", "msvcrt", "winreg"}
TOPS = ("/proc", "/dev", "/sys", "/tmp")
POSIX_NAMES = {
    "os": {"fork", "geteuid", "getuid", "sysconf", "mkfifo", "fchmod", "fchown", "chown", "memfd_create", "setsid",
           "killpg", "nice", "uname", "getloadavg", "sched_getaffinity", "wait3", "wait4"},
    "signal": {"SIGHUP", "SIGKILL", "SIGUSR1", "SIGUSR2", "SIGPIPE", "SIGALRM", "setitimer", "alarm", "pause"},
    "socket": {"AF_UNIX", "SO_REUSEPORT"},
}  # fmt: skip


WORDS = "|".join(
    [*POSIX_MODULES, *(name for names in POSIX_NAMES.values() for name in names), *(f"{t}/" for t in TOPS)]
)


def nodes_of(source: str, words: str) -> list[ast.AST]:
    """Everything in a text, where one of these words is in it: most have none, and need not be taken apart."""
    return list(ast.walk(ast.parse(source))) if re.search(words, source) else []


def guarded(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> bool:
    """Inside a try with a handler, a condition, or a suppress: there is a way out where the name is missing."""
    while (above := parents.get(node)) is not None:
        node = above
        if isinstance(node, (ast.If, ast.IfExp)) or (isinstance(node, ast.Try) and node.handlers):
            return True
        if isinstance(node, ast.With) and any("suppress" in ast.dump(item) for item in node.items):
            return True
    return False


def names_in(node: ast.AST) -> list[str]:
    """What a node itself uses of what exists on some systems only."""
    if isinstance(node, ast.Import):
        return [a.name for a in node.names if a.name in POSIX_MODULES]
    if isinstance(node, ast.ImportFrom) and node.module in POSIX_MODULES:
        return [str(node.module)]
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return [node.attr] if node.attr in POSIX_NAMES.get(node.value.id, ()) else []
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value] if node.value.startswith(tuple(f"{top}/" for top in TOPS)) else []
    return []


def lacking_elsewhere(source: str) -> list[str]:
    """Uses, with their lines, of what exists on some systems only and has no way out."""
    nodes = nodes_of(source, WORDS)
    uses = [(getattr(node, "lineno", 0), name, node) for node in nodes for name in names_in(node)]
    parents = {child: node for node in nodes for child in ast.iter_child_nodes(node)} if uses else {}
    left = [(line, name) for line, name, node in uses if not guarded(node, parents)]
    return [f"line {line}: {name}" for line, name in sorted(left)]


def unsaid_encodings(source: str) -> list[str]:
    """Text files that are opened in the encoding of the machine, which is not the same on every system."""
    found = []
    for node in nodes_of(source, r"open\(|read_text|write_text"):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        words = {k.arg for k in node.keywords}
        second = node.args[1] if len(node.args) > 1 else None
        mode = str(second.value) if isinstance(second, ast.Constant) else ""
        text = name in ("read_text", "write_text") or (name == "open" and isinstance(node.func, ast.Name))
        if (
            text
            and "encoding" not in words
            and "b" not in mode
            and not any(isinstance(a, ast.Starred) for a in node.args)
        ):
            found.append(f"line {node.lineno}: {name}")
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_nothing_rests_on_one_system(file: Path) -> None:
    source = file.read_text(encoding="utf-8")
    assert lacking_elsewhere(source) == []
    assert unsaid_encodings(source) == []


def test_the_search_finds_what_it_looks_for() -> None:
    assert lacking_elsewhere("import fcntl\nimport os\nos.fork()\nopen('/proc/self/maps')") == [
        "line 1: fcntl", "line 3: fork", "line 4: /proc/self/maps",
    ]  # fmt: skip
    assert lacking_elsewhere("try:\n    import fcntl\nexcept ImportError:\n    fcntl = None") == []
    assert unsaid_encodings("open('a')\nopen('a', 'rb')\np.write_text('x')\np.read_text(encoding='utf-8')") == [
        "line 1: open", "line 3: write_text",
    ]  # fmt: skip
