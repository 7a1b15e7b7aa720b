"""From one hospital's DICOM series to DICOM results, over a real connection: what is told of the other's frame."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_support import FRAME, ROOT_UID, source_to_registered, write_series
from system_support import Program, events_of, here, ledger_rows, rows_of, session_files

from PPIRLogic import read_transform, read_volume
from PPIRLogic.disclosure.ledger import SessionLedger
from PPIRLogic.network.identity import load_or_create_identity
from PPIRLogic.network.trust import TrustStore
from PPIRLogic.registration.party1.session import ClientSession
from PPIRLogic.registration.request import Request

FIXED_FRAME = f"{ROOT_UID}.99"
SHAPE = (20, 24, 28)


def sites(folder: Path) -> tuple[Path, Path]:
    """A, who calls, and B: each trusts the other."""
    a, b = folder / "A", folder / "B"
    prints = [json.loads(here(h, "identity", "--json").stdout)["fingerprint"] for h in (a, b)]
    assert here(b, "trust", "add", prints[0], "--name", "A").returncode == 0
    assert here(a, "trust", "add", prints[1], "--name", "B").returncode == 0
    return a, b


@pytest.mark.parametrize("disclosed", [True, False], ids=["disclosed", "not disclosed"])
def test_the_objects_name_the_frames_that_may_be_named(tmp_path: Path, disclosed: bool) -> None:
    moving = write_series(tmp_path / "moving", shape=SHAPE)
    fixed = write_series(tmp_path / "fixed", frame=FIXED_FRAME, shape=SHAPE)
    a, b = sites(tmp_path)
    options = ["--disclose-frame"] if disclosed else []
    with Program(
        b, "serve", fixed, "--listen", "127.0.0.1:0", "--budget-percent", 50, "--budget-bits", 300, *options
    ) as server:
        address = server.wait_for("listening")["address"]
        words = ("--peer", address, "--transform", "rigid", "--levels", "2", "--initial", "identity", "--json")
        done = here(a, "register", moving, *words, "--output", tmp_path / "T.tfm", "--dicom", tmp_path / "out")
    assert done.returncode in (0, 13), done.stderr
    result: dict[str, Any] = next(e for e in events_of(done) if e["event"] == "result")
    assert result["dicom"] == str(tmp_path / "out")
    found = pydicom.dcmread(tmp_path / "out" / "registration.dcm")
    named = {str(i.FrameOfReferenceUID) for i in found.RegistrationSequence}
    assert FRAME in named and (FIXED_FRAME in named) is disclosed
    point = (1.0, 2.0, 20.0)
    moved = read_transform(tmp_path / "T.tfm").TransformPoint(point)
    assert np.allclose(source_to_registered(found, FRAME, moved), point, atol=1e-5)
    assert read_volume(tmp_path / "out" / "warped").geometry.matches(read_volume(fixed).geometry)

    ledgers = [session_files(home)[0] for home in (a, b)]
    assert ledger_rows(ledgers[0]) == ledger_rows(ledgers[1])
    told = [row for row in rows_of(ledgers[1])[1:] if row["kind"] == "frame of reference"]
    assert [(row["numbers"], row["bits"]) for row in told] == ([(1, 8 * len(FIXED_FRAME))] if disclosed else [])
    if not disclosed:
        for file in [p for p in tmp_path.rglob("*") if p.is_file() and "fixed" not in p.parts and "B" not in p.parts]:
            assert FIXED_FRAME.encode() not in file.read_bytes(), file


def test_a_series_that_cannot_be_named_is_refused_before_anybody_is_called(tmp_path: Path) -> None:
    series = write_series(tmp_path / "moving", frame="")
    words = ("register", series, "--peer", "127.0.0.1:1", "--output", tmp_path / "T.h5", "--dicom", tmp_path / "out")
    done = here(tmp_path / "A", *words)
    assert done.returncode == 2 and "frame of reference" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_frame_is_on_record_though_no_number_follows(tmp_path: Path) -> None:
    fixed = write_series(tmp_path / "fixed", frame=FIXED_FRAME, shape=SHAPE)
    a, b = sites(tmp_path)
    with Program(b, "serve", fixed, "--listen", "127.0.0.1:0", "--disclose-frame") as server:
        address, identity = server.wait_for("listening")["address"], load_or_create_identity(a)
        with ClientSession(address, identity, TrustStore(a), lambda: None, 1, SessionLedger(None, {})) as session:
            session.open(Request(session.offers()[0].name, "fhe", "translation", "ssd", (1,)))
            assert session.frame == FIXED_FRAME
    (ledger,) = session_files(b)
    assert [row["kind"] for row in rows_of(ledger)[1:]][:2] == ["geometry", "frame of reference"]
