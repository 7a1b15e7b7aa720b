"""Odd names, outputs and places are refused before anything is sent, or work; nothing is left behind."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from system_support import Phantom, here, plain_grid, ppir, save

from PPIRLogic.cli.common import Interruptible
from PPIRLogic.errors import InputError
from PPIRLogic.images.volume import Volume
from PPIRLogic.local_processes import start
from PPIRLogic.network.channel.addresses import parse_address

GRID = plain_grid(3)


@pytest.fixture
def moving(tmp_path: Path) -> Path:
    return save(Phantom.make(GRID).on(GRID), tmp_path / "moving.nrrd")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--output", "T.tfm", "--inverse", "T.tfm"), ("--inverse", "--output, too")),
        (("--output", "T.tfm", "--report", "R.json", "--warped", "../moving.nrrd"), ("--warped", "the input")),
        (("--output", "T.tfm", "--warped", "W.png"), ("W.png", "2D images only")),
        (("--output", "~/T.tfm"), ("home folder",)),
        (("--output", "x" * 300 + ".tfm"), ("255 bytes",)),
        (("--output", os.fsdecode(b"d\xe4.tfm")), ("not UTF-8",)),
    ],
)
def test_an_output_that_cannot_be(
    options: tuple[str, ...], words: tuple[str, ...], moving: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    monkeypatch.chdir(folder)
    done = here(tmp_path / "home", "register", moving, "--peer", "127.0.0.1:1", "--reconnect", "0", *options)
    assert done.returncode == 3, done.stderr
    assert not [w for w in words if w not in done.stderr], done.stderr
    assert list(folder.iterdir()) == []


def test_a_png_of_fractions_is_refused_before_the_run(tmp_path: Path) -> None:
    flat_grid = plain_grid(2)
    values = np.random.default_rng(4).random(flat_grid.array_shape)
    flat = save(Volume(values, flat_grid), tmp_path / "flat.nrrd")
    words = ("register", flat, "--peer", "127.0.0.1:1", "--reconnect", "0", "--output", tmp_path / "T.tfm")
    done = here(tmp_path / "home", *words, "--warped", tmp_path / "W.png")
    assert done.returncode == 3 and "would be rounded" in done.stderr, done.stderr
    assert not (tmp_path / "W.png").exists()


@pytest.mark.parametrize("name", ["x" * 300 + ".nrrd", os.fsdecode(b"b\xe4.nrrd"), "~/image.nrrd"])
def test_an_input_that_cannot_be_opened(name: str, tmp_path: Path) -> None:
    for words in (("register", name), ("register-points", name)):
        done = here(tmp_path / "home", *words, "--peer", "127.0.0.1:1", "--output", tmp_path / "T.tfm")
        assert done.returncode == 2, done.stderr


@pytest.mark.parametrize("address", ["7443", "127.1", "1.2.3", "7443:80"])
def test_a_number_is_not_a_host(address: str) -> None:
    with pytest.raises(InputError, match="host:port"):
        parse_address(address)
    assert parse_address("127.0.0.1:80") == ("127.0.0.1", 80)


def test_a_child_runs_nothing_of_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "random.py").write_text("open('ran', 'w')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["", "."]))
    child = start("site", tmp_path / "home", "ledger")
    while child.next()["event"] != "ended":
        pass
    child.stop()
    assert sys.version_info < (3, 11) or not (tmp_path / "ran").exists()


def test_the_last_words_of_a_child_are_told(tmp_path: Path) -> None:
    child = start("site", tmp_path / "home", "no-such-command")
    assert "no-such-command" in child.next()["text"]
    child.stop()


def test_what_cannot_be_shown_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    for command in ("register", "serve", "trust"):
        done = ppir(tmp_path / "home", command, "--help")
        assert done.returncode == 0 and "usage: ppir" in done.stdout


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no hangups here")
def test_a_hangup_ends_a_run_in_order_unless_it_is_passed_over() -> None:
    former = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        with Interruptible() as run, pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGHUP)
        assert run.token.cancelled
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
        with Interruptible() as run:
            signal.raise_signal(signal.SIGHUP)
        assert not run.token.cancelled
    finally:
        signal.signal(signal.SIGHUP, former)


def test_a_png_of_two_dimensions_is_checked_for_its_values(tmp_path: Path) -> None:
    flat = plain_grid(2)
    values = np.linspace(-5, 90, flat.voxels).reshape(flat.array_shape)
    path = save(Volume(values, flat), tmp_path / "m.nrrd")
    done = here(
        tmp_path / "home", "register", path, "--peer", "127.0.0.1:1", "--output", tmp_path / "T.tfm", "--warped",
        tmp_path / "W.png",
    )  # fmt: skip
    assert done.returncode == 3 and "65535" in done.stderr
