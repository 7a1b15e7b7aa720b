"""A `ppir` command in the background: one JSON object per line out, cancelled through its standard input.

The process is a child under Slicer's Python. It ends when its standard input does, and if that came without a word it
also removes the folder of the run (--scratch), so nothing is left behind if Slicer ends, however it ends. Secrets are
in the site's own folder, never in the arguments.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from PPIRLib import engine

Event = dict[str, Any]
CANCEL_SECONDS = (3.0, 2.0)  # patience after asking, then after terminate, before the next rung


class Runner(Protocol):
    """What runs a process: QProcess in Slicer, a stand-in in tests."""

    def start(self, program: str, arguments: list[str], environment: dict[str, str]) -> None: ...
    def say(self, line: str) -> None: ...
    def ask_to_end(self) -> None: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...
    def running(self) -> bool: ...
    def wait(self, seconds: float) -> bool: ...


class QProcessRunner:
    """A QProcess; calls `on_output(bytes)` and `on_finished(exit code)` from the event loop."""

    def __init__(self, on_output: Callable[[bytes], None], on_finished: Callable[[int], None]) -> None:
        import qt

        self._process = qt.QProcess()
        self._on_output, self._on_finished = on_output, on_finished
        self._process.connect("readyReadStandardOutput()", self._read)
        self._process.connect("finished(int,QProcess::ExitStatus)", self._finished)
        self._process.connect("errorOccurred(QProcess::ProcessError)", self._failed)
        self._ended = False

    def start(self, program: str, arguments: list[str], environment: dict[str, str]) -> None:
        import qt

        variables = qt.QProcessEnvironment.systemEnvironment()
        for name, value in environment.items():
            variables.insert(name, value)
        self._process.setProcessEnvironment(variables)
        self._process.setStandardErrorFile(qt.QProcess.nullDevice())
        self._process.start(program, arguments)

    def _read(self) -> None:
        self._on_output(bytes(self._process.readAllStandardOutput().data()))

    def _finished(self, code: int, status: Any = None) -> None:
        if not self._ended:
            self._ended = True
            self._read()
            self._on_finished(code)

    def _failed(self, error: Any) -> None:
        if not self.running():
            self._finished(-1)

    def say(self, line: str) -> None:
        self._process.write(line.encode() + b"\n")

    def ask_to_end(self) -> None:
        self._process.write(b"cancel\n")  # without a word the process takes this one for killed
        self._process.closeWriteChannel()

    def terminate(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()

    def running(self) -> bool:
        import qt

        return bool(self._process.state() != qt.QProcess.NotRunning)

    def wait(self, seconds: float) -> bool:
        return bool(self._process.waitForFinished(int(1000 * seconds)))


# without -P (new in 3.11) a module of the current folder, such as random.py, would be run instead of Python's own
_ISOLATED = ("-P",) if sys.version_info >= (3, 11) else ()


class Job:
    """One `ppir` command. `on_event` gets every JSON line; `on_finished` the exit code, once."""

    def __init__(
        self,
        arguments: list[str],
        on_event: Callable[[Event], None],
        on_finished: Callable[[int], None],
        *,
        home: Path | None = None,
        runner: Callable[[Callable[[bytes], None], Callable[[int], None]], Runner] = QProcessRunner,
    ) -> None:
        self._arguments = ["-u", *_ISOLATED, "-m", engine.ENGINE, *arguments, "--json", "--with-parent"]
        self._on_event, self._on_finished = on_event, on_finished
        self._home = home
        self._rest = b""
        self.exit_code: int | None = None
        self.cancelled = False
        self.runner = runner(self._output, self._end)

    def start(self) -> None:
        given = [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if os.path.isabs(p)]
        environment = {"PYTHONPATH": os.pathsep.join([str(engine.folder()), *given])}
        if self._home is not None:
            environment["PPIR_HOME"] = str(self._home)
        self.runner.start(python_program(), self._arguments, environment)

    @property
    def running(self) -> bool:
        return self.exit_code is None and self.runner.running()

    def say(self, line: str) -> None:
        """A line for the process, on its standard input."""
        self.runner.say(line)

    def cancel(self) -> None:
        """Ask the process to end; it tells the peer and keeps its best transform. Returns at once."""
        self.cancelled = True
        self.runner.ask_to_end()

    def stop(self) -> None:
        """End the process now: ask, wait, terminate, wait, kill."""
        if not self.running:
            return
        self.cancel()
        if self.runner.wait(CANCEL_SECONDS[0]):
            return
        self.runner.terminate()
        if not self.runner.wait(CANCEL_SECONDS[1]):
            self.runner.kill()
            self.runner.wait(CANCEL_SECONDS[1])

    def _output(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            try:
                event = json.loads(line)
            except ValueError:
                continue  # a library printed something of its own
            if isinstance(event, dict):
                self._on_event(event)

    def _end(self, code: int) -> None:
        self.exit_code = code
        self._on_finished(code)


def python_program() -> str:
    """Slicer's Python launcher, or this interpreter where there is none (tests)."""
    return shutil.which("PythonSlicer") or sys.executable
