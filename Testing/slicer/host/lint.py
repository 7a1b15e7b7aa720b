"""What PySide6 would accept in a module's source but Slicer's PythonQt would not."""

from __future__ import annotations

import ast
import enum
from collections.abc import Iterator
from pathlib import Path

from .pythonqt import qt

_FOREIGN = ("PySide2", "PySide6", "PyQt5", "PyQt6", "qtpy", "shiboken6")


def check_folder(folder: Path) -> None:
    """Raises for what is refused in the modules of a folder and in their packages (tests apart)."""
    files = [p for p in folder.rglob("*.py") if "Testing" not in p.relative_to(folder).parts]
    problems = [f"{path}:{line}: {text}" for path in files for line, text in _refused(path)]
    if problems:
        raise RuntimeError("Slicer would refuse:\n" + "\n".join(problems))


def _refused(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            for name in names:
                if name.split(".")[0] in _FOREIGN:
                    yield node.lineno, f"import of {name}: Slicer has qt"
        elif isinstance(node, ast.Attribute) and (name := _scoped_enum(node)):
            yield node.lineno, f"{name}: PythonQt has the values of an enumeration in the class itself"


def _scoped_enum(node: ast.Attribute) -> str | None:
    """The dotted name if this is qt.<class>.<enumeration>.<value>."""
    parts: list[str] = []
    current: ast.expr = node
    while isinstance(current, ast.Attribute):
        parts.insert(0, current.attr)
        current = current.value
    if not isinstance(current, ast.Name) or current.id != "qt" or len(parts) != 3:
        return None
    kind = getattr(getattr(qt, parts[0], None), parts[1], None)
    return f"qt.{'.'.join(parts)}" if isinstance(kind, enum.EnumMeta) else None
