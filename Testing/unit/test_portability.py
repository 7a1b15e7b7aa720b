"""What Windows or macOS lack is used with a way out, and text files say how they are encoded: read from the code."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted([*ROOT.glob("PPIRLogic/**/*.py"), *ROOT.glob("PPIRExtension/**/*.py")])
POSIX_MODULES = {"fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog", "posix", "msvcrt", "winreg"}
POSIX_NAMES = {
    "os": {"fork", "geteuid", "getuid", "sysconf", "mkfifo", "fchmod", "fchown", "chown", "memfd_create", "setsid",
           "killpg", "nice", "uname", "getloadavg", "sched_getaffinity", "wait3", "wait4"},
    "signal": {"SIGHUP", "SIGKILL", "SIGUSR1", "SIGUSR2", "SIGPIPE", "SIGALRM", "setitimer", "alarm", "pause"},
    "socket": {"AF_UNIX", "SO_REUSEPORT"},
}  # fmt: skip


def guarded(parents: list[ast.AST]) -> bool:
    """Inside a try with a handler, a condition, or a suppress: there is a way out where the name is missing."""
    for node in parents:
        if isinstance(node, (ast.If, ast.IfExp)) or (isinstance(node, ast.Try) and node.handlers):
            return True
        if isinstance(node, ast.With) and any("suppress" in ast.dump(item) for item in node.items):
            return True
    return False


def walk(node: ast.AST, parents: list[ast.AST]) -> Iterator[tuple[ast.AST, list[ast.AST]]]:
    yield node, parents
    for child in ast.iter_child_nodes(node):
        yield from walk(child, [*parents, node])


def lacking_elsewhere(source: str) -> list[str]:
    """Uses, with their lines, of what exists on some systems only and has no way out."""
    found = []
    for node, parents in walk(ast.parse(source), []):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [a.name for a in node.names if a.name in POSIX_MODULES]
        elif isinstance(node, ast.ImportFrom) and node.module in POSIX_MODULES:
            names = [str(node.module)]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            names = [node.attr] if node.attr in POSIX_NAMES.get(node.value.id, ()) else []
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names = [node.value] if node.value.startswith(("/proc/", "/dev/", "/sys/", "/tmp/")) else []
        found += [f"line {getattr(node, 'lineno', 0)}: {name}" for name in names if not guarded(parents)]
    return found


def unsaid_encodings(source: str) -> list[str]:
    """Text files that are opened in the encoding of the machine, which is not the same on every system."""
    found = []
    for node in ast.walk(ast.parse(source)):
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
