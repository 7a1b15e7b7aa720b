"""What all commands share: signals once there is a result, outputs that are closed, names that are empty."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from PPIRLogic.cli import display
from PPIRLogic.cli.common import Interruptible, note_mask, own_address, peer_address
from PPIRLogic.cli.main import build_parser, main, parse
from PPIRLogic.cli.output import print_line
from PPIRLogic.errors import TrustError
from PPIRLogic.network.channel.dialling import proxy_for
from PPIRLogic.network.identity import load_or_create_identity
from PPIRLogic.network.trust import TrustStore
from PPIRLogic.progress import Progress


def test_a_signal_before_the_end_cancels_and_one_after_it_is_passed_over() -> None:
    with Interruptible() as run:
        tell = run.follow(lambda step: None)
        tell(Progress("finished"))
        os.kill(os.getpid(), signal.SIGINT)
        assert not run.token.cancelled
        tell(Progress("connecting"))  # a second session
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
            signal.sigtimedwait([], 1)
        assert run.token.cancelled


@pytest.mark.skipif(sys.platform == "win32", reason="a closed pipe is another error there")
def test_a_pipe_that_is_closed_ends_no_run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as closed:
        monkeypatch.setattr(sys, "stdout", closed)
        print_line("progress")
        print_line("result")
        assert sys.stdout is not closed
        monkeypatch.undo()
    assert "standard output cannot be written" in capfd.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ("register", "", "--peer", "h:1", "--output", "T.h5"),
        ("register", "a.nrrd", "--peer", "h:1", "--output", ""),
        ("serve", ""),
        ("simulate-points", "--fixed", "", "--moving", "a.csv", "--output", "T.h5"),
        ("identity", "--home", ""),
    ],
    ids=lambda words: " ".join(words)[:30],
)
def test_an_empty_name_is_not_the_current_folder(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(words)
    assert ended.value.code == 2
    assert "the name is empty" in capsys.readouterr().err


def test_options_are_not_abbreviated(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["register", "a.nrrd", "--peer", "h:1", "--output", "T.h5", "--transf", "rigid"])
    assert "--transf" in capsys.readouterr().err


def test_a_share_is_checked_where_it_has_no_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = tmp_path / "a.nrrd"
    for percent, code in (("1e-9", 2), ("nan", 2), ("20", 0)):
        words = ["simulate", "--fixed", image, "--moving", image, "--output", tmp_path / "T.h5", "--percent", percent]
        with pytest.raises(SystemExit) as ended:
            main([str(w) for w in words])
        err = capsys.readouterr().err
        assert ended.value.code == 2
        assert ("Unusable" in err) is (code == 2), err
        assert ("--percent has no use here" in err) is (code == 0), err


def test_how_much_a_mask_covers_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    a = parse(["register", "a.nrrd", "--peer", "h:1", "--output", "T.h5"])
    note_mask(a, np.array([True, False, False, False]), "moving")
    note_mask(a, np.ones(4, bool), "fixed")
    first, second = capsys.readouterr().err.splitlines()
    assert "covers 25 %" in first and "leaves nothing out" not in first
    assert "covers 100 %" in second and "leaves nothing out" in second


def test_a_result_is_written_where_the_home_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    result = SimpleNamespace(transform=sitk.TranslationTransform(2, (1.0, 2.0)))
    display._write_safely(result, tmp_path / "T.tfm", tmp_path / "file" / "home")  # type: ignore[arg-type]
    assert sitk.ReadTransform(str(tmp_path / "T.tfm")).TransformPoint((0.0, 0.0)) == (1.0, 2.0)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("trust", "lift", "Bob"), "no trusted peer has this name"),
        (("serve", "a.nrrd", "--budget-percent", "inf"), "--budget-percent inf"),
        (("serve", "a.nrrd", "--budget-subject", "nan"), "--budget-subject nan"),
        (("serve", "a.nrrd", "--protocols", ","), "--protocols: name at least one"),
    ],
)
def test_what_is_wrong_is_named(
    words: tuple[str, ...], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*words, "--home", str(tmp_path)])
    assert ended.value.code == 2 and said in capsys.readouterr().err


def test_a_program_that_does_not_load_says_why(tmp_path: Path) -> None:
    words = [sys.executable, "-P", "-m", "PPIRLogic", "register", "a.nrrd", "--peer", "h:1", "--output", "T.h5"]
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "NUMBA_NUM_THREADS": "0"})
    assert done.returncode == 4 and "NUMBA_NUM_THREADS" in done.stderr and "Traceback" not in done.stderr


# ------------------------------------------------------------------------------------------- relay and proxy


def typed(*words: str) -> Any:
    return build_parser().parse_args([*words])


def test_a_peer_at_a_relay_is_named_as_it_is_trusted(tmp_path: Path) -> None:
    fingerprint = load_or_create_identity(tmp_path / "B", "B").fingerprint
    TrustStore(tmp_path / "A").add(fingerprint, "Hospital B")
    at = ("--home", str(tmp_path / "A"), "--relay", "relay.example:443")
    assert peer_address(typed("check", "Hospital B", *at)) == f"{fingerprint}@relay.example:443"
    assert peer_address(typed("estimate", fingerprint.lower(), *at)) == f"{fingerprint}@relay.example:443"
    assert peer_address(typed("check", "hospital-b.example")) == "hospital-b.example"
    with pytest.raises(TrustError, match=r"--peer hospital-b.example: no trusted peer has this name"):
        peer_address(typed("check", "hospital-b.example", *at))


def test_a_service_waits_at_its_relay_or_listens() -> None:
    for words in (("serve", "x.nrrd"), ("dealer",), ("primis", "serve", "x.ppis"), ("proxy", "serve")):
        assert own_address(typed(*words, "--relay", "relay.example:443")) == "@relay.example:443"
        assert own_address(typed(*words, "--listen", "h:1")) == "h:1"


def test_the_proxy_that_is_typed_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "")
    own_address(typed("dealer"))
    assert proxy_for("hospital-b.example") is None
    own_address(typed("dealer", "--proxy", "proxy.example:3128"))
    assert proxy_for("hospital-b.example") == ("proxy.example", 3128, "")
