"""How background processes end: asked, told, killed, or because the application was killed. Nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import ppir_support as support
import pytest

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="POSIX only")
LARGE = support.phantom((96, 88, 80))  # a run on it lasts


@pytest.fixture
def sites(tmp_path: Path) -> Iterator[support.Sites]:
    own = support.Sites(tmp_path)
    yield own
    own.stop()


HEAD = """
import sys
sys.path[:0] = [{tests!r}]
import host
host.load_module({module!r})
import ppir_support as support
from PPIRLib.run import RegisterRun, ShareRun
from PPIRLib.settings import Settings, ShareSettings
large = support.phantom((96, 88, 80))
"""
SHARE = """
run = ShareRun(support.add_volume(large, "F"), ShareSettings(address="127.0.0.1:0"), on_event=print)
"""
REGISTER = """
run = RegisterRun(support.add_volume(support.moved(large), "M"), Settings({address!r}), on_progress=print)
"""
WAIT = """
run.start()
host.process_events(until=lambda: False, timeout=120)
"""
SIMULATE = """
import sys
from PPIRLogic.images.volume import Volume
from PPIRLogic.registration.simulate import simulate
sys.path[:0] = [{tests!r}]
import ppir_support as support
large = support.phantom((96, 88, 80))
simulate(Volume.from_sitk(large), Volume.from_sitk(support.moved(large)), progress=lambda p: print(p.stage, flush=True))
"""


class Application:
    """A process that stands for Slicer: it runs some code with a temporary folder of its own, until it is killed."""

    def __init__(self, code: str, home: Path, folder: Path, **values: str) -> None:
        self.temporary = folder / "temporary"
        self.temporary.mkdir()
        source = textwrap.dedent(code).format(tests=str(Path(__file__).parent), module=str(support.MODULE), **values)
        environment = {**os.environ, "PPIR_HOME": str(home), "PYTHONUNBUFFERED": "1", "TMPDIR": str(self.temporary)}
        self.process = subprocess.Popen(
            [sys.executable, "-c", source],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )

    def wait_for(self, word: str) -> None:
        assert self.process.stdout is not None
        assert any(word in line for line in iter(self.process.stdout.readline, "")), f"never said {word}"

    def workers(self) -> list[int]:
        return [p for p in support.descendants(self.process.pid) if "PPIRLogic" in support.command_line(p)]

    def images(self) -> list[Path]:
        """Files in its folders that hold an image or a key; the host's own folder, which is empty, does not count."""
        return [p for p in self.temporary.rglob("*") if p.is_file() and "slicer-host-" not in str(p)]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.mark.parametrize(
    "what", ["register", *(pytest.param(w, marks=pytest.mark.long) for w in ("share", "simulate"))]
)
def test_nothing_outlives_a_killed_application(sites: support.Sites, tmp_path: Path, what: str) -> None:
    values = {"address": sites.serve(LARGE)} if what == "register" else {}
    code = {"share": HEAD + SHARE + WAIT, "register": HEAD + REGISTER + WAIT, "simulate": SIMULATE}[what]
    application = Application(code, sites.a.home, tmp_path, **values)
    try:
        application.wait_for("listening" if what == "share" else "evaluation")
        sites.freeze()
        workers = application.workers()
        assert len(workers) == 1 and application.images()
    finally:
        application.kill()
    assert support.wait_until(lambda: not any("PPIRLogic" in support.command_line(p) for p in workers), 20)
    assert support.wait_until(lambda: not application.images()), application.images()
    assert [p.name for p in application.temporary.iterdir() if not p.name.startswith("slicer-host-")] == []


STUBBORN = """
import json, pathlib, signal, sys, time
def told(*_):
    pathlib.Path({mark!r}).write_text("told")
    if {gives_in}:
        sys.exit(3)
signal.signal(signal.SIGTERM, told)
print(json.dumps({{"event": "listening"}}), flush=True)
while True:
    time.sleep(0.02)
"""


@pytest.mark.parametrize("gives_in", [True, False], ids=["terminate", "kill"])
def test_rungs_of_the_ladder(
    slicer_host: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gives_in: bool
) -> None:
    """A process that does not hear is terminated; one that does not obey is killed."""
    slicer_host.load_module(support.MODULE)
    from PPIRLib import engine, job

    mark = tmp_path / "mark"
    (tmp_path / "stubborn.py").write_text(STUBBORN.format(mark=str(mark), gives_in=gives_in), encoding="utf-8")
    monkeypatch.setattr(engine, "ENGINE", "stubborn")
    monkeypatch.setattr(engine, "folder", lambda: tmp_path)
    monkeypatch.setattr(job, "CANCEL_SECONDS", (0.3, 0.5))
    seen: list[Any] = []
    codes: list[int] = []
    stubborn = job.Job([], seen.append, codes.append)
    stubborn.start()
    assert slicer_host.process_events(until=lambda: bool(seen))
    assert support.children("stubborn")
    stubborn.stop()
    assert not support.children("stubborn") and not stubborn.running and stubborn.cancelled
    assert mark.read_text() == "told"
    assert len(codes) == 1 and stubborn.exit_code == codes[0] and (codes[0] == 3) is gives_in


def test_a_program_that_cannot_be_started_is_said(
    slicer_host: ModuleType, sites: support.Sites, monkeypatch: pytest.MonkeyPatch
) -> None:
    slicer_host.load_module(support.MODULE)
    from PPIRLib import job

    monkeypatch.setattr(job, "python_program", lambda: str(sites.folder / "no-such-python"))
    with pytest.raises(RuntimeError, match="ended unexpectedly"):
        logic().register(support.add_volume(support.MOVING, "M"), "127.0.0.1:1")


def test_a_worker_that_is_killed_is_said(
    slicer_host: ModuleType, sites: support.Sites, monkeypatch: pytest.MonkeyPatch
) -> None:
    slicer_host.load_module(support.MODULE)
    address, seen = sites.serve(LARGE), []
    run = logic().register(
        support.add_volume(support.moved(LARGE), "M"), address, home=sites.a.home, waitForCompletion=False,
        onProgress=seen.append,
    )  # fmt: skip
    wait = slicer_host.process_events
    assert wait(until=lambda: any(e.get("stage") == "level" for e in seen))
    sites.freeze()
    (worker,) = (p for p in support.children("PPIRLogic") if " register " in support.command_line(p))
    os.kill(worker, signal.SIGKILL)
    assert wait(until=lambda: run.job.exit_code is not None)
    assert "ended unexpectedly" in run.outcome.error and not run.outcome.transform_id and not run.folder.exists()


def logic() -> Any:
    return sys.modules["PPIR"].PPIRLogic()
