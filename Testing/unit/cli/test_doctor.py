"""`ppir doctor`: each finding says what is wrong and what to do, and none says anything private."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from PPIRLogic.cli import doctor
from PPIRLogic.cli.doctor import CheckedItem, findings
from PPIRLogic.cli.main import main
from PPIRLogic.network.identity import load_or_create_identity
from PPIRLogic.network.trust import TrustStore
from PPIRLogic.registry import Registry


def by_name(home: Path) -> dict[str, CheckedItem]:
    return {finding.name: finding for finding in findings(home, round_trip=False)}


def test_a_site_in_order_has_nothing_to_mend_and_shows_nothing_private(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "dr-jones"
    mine = load_or_create_identity(home, "Hospital of Dr Jones")
    TrustStore(home).add("A" * len(mine.fingerprint.replace("-", "")), "Dr Smith")
    main(["doctor", "--home", str(home), "--no-round-trip", "--json"])
    said = capsys.readouterr().out
    rows = [json.loads(line) for line in said.splitlines()]
    assert all(row["ok"] for row in rows) and {"ppir", "machine", "numpy", "clock", "port"} <= {r["name"] for r in rows}
    assert "trusted peers: 1" in said
    for private in ("jones", "Jones", "Smith", mine.fingerprint, mine.fingerprint[:9]):
        assert private not in said


def test_what_is_wrong_is_said_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    identity = load_or_create_identity(home, "B")
    home.chmod(0o777)
    soon = SimpleNamespace(not_after=datetime.now(UTC) + timedelta(days=3), name=identity.name)
    monkeypatch.setattr(doctor, "load_or_create_identity", lambda _: soon)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
    version = importlib.metadata.version

    def without_scipy(name: str) -> str:
        if name == "scipy":
            raise importlib.metadata.PackageNotFoundError
        return version(name)

    monkeypatch.setattr(importlib.metadata, "version", without_scipy)
    found = by_name(home)
    assert "chmod 700" in found["folder"].advice and "777" in found["folder"].text
    assert "--renew" in found["certificate"].advice and "TMPDIR" in found["disk"].advice
    assert found["scipy"].advice and found["numpy"].ok


def test_plugins_are_loaded_and_those_that_are_passed_over_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [
        importlib.metadata.EntryPoint("mine", "PPIRLogic.registration.losses.ssd:SSD", "a.group"),
        importlib.metadata.EntryPoint("Not Usable", "nowhere:X", "a.group"),
        importlib.metadata.EntryPoint("ssd", "nowhere:X", "a.group"),
        importlib.metadata.EntryPoint("broken", "nowhere:X", "a.group"),
    ]
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: entries)
    kinds: Registry[object] = Registry("a.group", {"ssd": "PPIRLogic.registration.losses.ssd:SSD"}, "builtins:object")
    said = {finding.text: finding.advice for finding in doctor._plugins(kinds)}
    assert len(said) == 4 and "'broken' cannot be used" in said
    assert any("'Not Usable' is passed over: its name must have" in text for text in said)
    assert any("'ssd' is passed over: its name is taken" in text for text in said)
    assert any("is no" in advice for text, advice in said.items() if "'mine'" in text), "it calls itself ssd"


def test_a_folder_that_cannot_be_made_is_a_problem() -> None:
    finding = by_name(Path("/proc/no/such"))["folder"]
    assert "--home" in finding.advice and "/proc" not in finding.text


def test_a_damaged_key_is_reported_in_the_words_of_its_error(tmp_path: Path) -> None:
    load_or_create_identity(tmp_path, "B")
    (tmp_path / "identity" / "key.pem").write_text("nonsense")
    finding = by_name(tmp_path)["certificate"]
    assert finding.text == "IdentityError" and "key.pem" in finding.advice


def test_a_port_in_use_is_said() -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("", doctor.DEFAULT_PORT))
        taken.listen()
        assert "taken" in doctor._port().text


def test_the_round_trip_registers_exactly_and_a_wrong_result_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    finding = doctor._round_trip("fhe")
    assert finding.ok and "mm from the truth" in finding.text
    monkeypatch.setattr(doctor, "_registration_error", lambda _: 0.5)
    assert "report" in doctor._round_trip("fhe").advice


def test_a_protocol_whose_packages_are_missing_is_left_out_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "lacking", lambda _: ["torch"])
    finding = doctor._round_trip("mpc")
    assert finding.ok and "left out without torch" in finding.text and "pip install" in finding.text


def test_problems_end_with_an_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--home", "/proc/no/such", "--no-round-trip"])
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert "PROBLEM  folder" in out and "1 thing to mend" in err
