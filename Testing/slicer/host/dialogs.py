"""Dialogs never wait for a user: they are recorded, and answered with what a test set beforehand."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from PySide6 import QtWidgets

from .pythonqt import qt

_DEFAULTS: dict[str, Any] = {"confirm": True, "file": "", "text": "", "dialog": qt.QDialog.Rejected}


@dataclass(frozen=True)
class Dialog:
    """A dialog that the module asked for. Kinds: error, warning, info, confirm, delay, message, question, file, text,
    dialog (a QDialog that was executed)."""

    kind: str
    text: str
    title: str = ""
    detail: str = ""
    options: dict[str, Any] = field(default_factory=dict)


class Dialogs:
    """What was shown, and the answers to come."""

    def __init__(self) -> None:
        self.shown: list[Dialog] = []
        self._answers: dict[str, deque[Any]] = defaultdict(deque)

    def clear(self) -> None:
        self.shown.clear()
        self._answers.clear()

    def answer(self, kind: str, *answers: Any) -> None:
        """Sets the next answers to dialogs of a kind.

        confirm: bool; file and text: str ("" is cancel); question (a QMessageBox): a standard button or a button's
        text; dialog: a result code, or a function of the shown dialog that may return one.
        """
        self._answers[kind].extend(answers)

    def of_kind(self, kind: str) -> list[Dialog]:
        return [d for d in self.shown if d.kind == kind]

    def show(self, kind: str, text: Any, title: Any = "", detail: str = "", **options: Any) -> Any:
        """Records a dialog and returns the answer to it."""
        self.shown.append(Dialog(kind, str(text), str(title or ""), detail, options))
        if self._answers[kind]:
            return self._answers[kind].popleft()
        return _DEFAULTS.get(kind)


dialogs = Dialogs()


def _execute(dialog: Any, *_: Any) -> int:
    """QDialog.exec: shows the dialog, lets the answer act on it, and returns its result."""
    answer = dialogs.show("dialog", dialog.windowTitle, type(dialog).__name__)
    dialog.show()
    QtWidgets.QApplication.processEvents()
    result = answer(dialog) if callable(answer) else answer
    if dialog.isVisible():
        dialog.done(int(qt.QDialog.Rejected if result is None else result))
    return int(dialog.result())


def _execute_message(box: Any, *_: Any) -> int:
    """QMessageBox.exec: presses the answered button; without an answer the default, OK or the first button."""
    detail = box.detailedText or box.informativeText
    answer = dialogs.show("question", box.text, box.windowTitle, detail)
    if isinstance(answer, str):
        button = next(b for b in box.buttons() if b.text.replace("&", "") == answer)
    elif answer is not None:
        button = box.button(answer)
    else:
        button = box.defaultButton() or box.button(qt.QMessageBox.Ok) or next(iter(box.buttons()), None)
    box.show()
    QtWidgets.QApplication.processEvents()
    if button is None:
        box.done(0)
    else:
        button.click()
    return int(box.result())


def _static_message(kind: str) -> Callable[..., Any]:
    def show(parent: Any, title: str, text: str, buttons: Any = qt.QMessageBox.Ok, default: Any = None) -> Any:
        answer = dialogs.show("question", text, title, icon=kind)
        if answer is None:
            answer = default or (qt.QMessageBox.Ok if buttons & qt.QMessageBox.Ok else qt.QMessageBox.Yes)
        return answer

    return show


def _static_file(kind: str) -> Callable[..., Any]:
    """PythonQt returns the path alone (a list for several files), not PySide6's pair with the filter."""

    def show(parent: Any = None, title: str = "", directory: str = "", name_filter: str = "", *_: Any) -> Any:
        answer = dialogs.show("file", directory, title, operation=kind, filter=name_filter)
        return ([answer] if answer else []) if kind == "getOpenFileNames" and isinstance(answer, str) else answer

    return show


def _static_text(parent: Any, title: str, label: str, *_: Any) -> Any:
    """PythonQt returns the text alone, not PySide6's pair with "ok"."""
    return dialogs.show("text", label, title)


def install() -> None:
    """Replaces what would block: exec of dialogs and menus, and the static convenience functions."""
    for name in ("exec", "exec_"):
        setattr(QtWidgets.QDialog, name, _execute)
        setattr(QtWidgets.QMessageBox, name, _execute_message)
        for cls in (QtWidgets.QFileDialog, QtWidgets.QInputDialog, QtWidgets.QProgressDialog):
            setattr(cls, name, _execute)
        setattr(QtWidgets.QMenu, name, lambda *_: None)
    for kind in ("information", "warning", "critical", "question", "about"):
        setattr(QtWidgets.QMessageBox, kind, staticmethod(_static_message(kind)))
    for kind in ("getOpenFileName", "getOpenFileNames", "getSaveFileName", "getExistingDirectory"):
        setattr(QtWidgets.QFileDialog, kind, staticmethod(_static_file(kind)))
    for kind in ("getText", "getItem", "getInt", "getDouble", "getMultiLineText"):
        setattr(QtWidgets.QInputDialog, kind, staticmethod(_static_text))


install()
