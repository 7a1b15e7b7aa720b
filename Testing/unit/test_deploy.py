"""The folder deploy: the units are understood by systemd, the container's files name what is there and drop what they
need not have."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from sample_data_support import ROOT

from PPIRLogic.errors import InputError, RecordError

DEPLOY = ROOT / "deploy"
UNITS = ("ppir.service", "ppir-health.service", "ppir-health.timer")
PROGRAM = "/opt/ppir/bin/ppir"
WORST_EXPOSURE = 2.0  # of 10, as systemd-analyze counts
has_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


@pytest.fixture
def units(tmp_path: Path) -> list[Path]:
    """The units, with a program that is on this machine."""
    for name in UNITS:
        text = (DEPLOY / name).read_text(encoding="utf-8").replace(PROGRAM, sys.executable)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return [tmp_path / name for name in UNITS]


@has_systemd
def test_systemd_understands_the_units(units: list[Path]) -> None:
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *map(str, units)], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


@has_systemd
@pytest.mark.parametrize("name", [u for u in UNITS if u.endswith(".service")])
def test_the_services_are_hardened(units: list[Path], name: str) -> None:
    file = next(u for u in units if u.name == name)
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", str(file)], capture_output=True, text=True, timeout=60
    )
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert found and float(found[1]) <= WORST_EXPOSURE


def test_a_service_that_a_person_must_look_at_is_not_started_again() -> None:
    text = (DEPLOY / "ppir.service").read_text(encoding="utf-8")
    codes = f"RestartPreventExitStatus={InputError.exit_code} {RecordError.exit_code}\n"
    assert codes in text and "Restart=on-failure" in text and "LimitCORE=0" in text


def test_the_container_copies_what_is_there_and_has_no_rights() -> None:
    text = (DEPLOY / "Containerfile").read_text(encoding="utf-8")
    assert (ROOT / "requirements" / "base.txt").is_file() and "COPY requirements/base.txt" in text
    assert "--require-hashes" in text and "USER 10001" in text and '"--health"]' in text
    (service,) = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))["services"].values()
    assert service["read_only"] and service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"] and service["ulimits"] == {"core": 0}
    assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
    assert "./site.toml:/etc/ppir/site.toml:ro" in service["volumes"] and (DEPLOY / "site.toml").is_file()
    writable = [v.partition(":")[2] for v in service["volumes"] if not v.endswith(":ro")]
    assert set(writable) == set(re.findall(r'"(/var/[a-z/]+)"', re.search(r"VOLUME.*", text)[0]))  # type: ignore[index]
