"""What `make` installs: all has hashes, lists agree, the SBOM names all, an audit that asked nobody is no good news."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sample_data_support import ROOT

FOLDER = ROOT / "requirements"
LISTS = sorted(FOLDER.glob("*.txt"))
RELEASED = ("base", "mpc", "mpc-cuda", "crypten", "primis", "dicom")


def entries(file: Path) -> list[tuple[str, str, list[str]]]:
    """Name, version and hashes of every package of a list."""
    text = re.sub(r"^#.*\n", "", file.read_text(encoding="utf-8"), flags=re.MULTILINE).replace("\\\n", " ")
    out = []
    for line in text.splitlines():
        found = re.match(r"([\w.-]+)==([^\s;]+)( ; .*?)?((?:\s+--hash=sha256:[0-9a-f]{64})*)\s*$", line)
        assert found, f"{file.name}: {line[:80]}"
        out.append((found[1], found[2], re.findall(r"sha256:(\w+)", found[4])))
    return out


@pytest.mark.parametrize("file", LISTS, ids=lambda f: f.name)
def test_every_package_has_a_version_and_hashes(file: Path) -> None:
    found = entries(file)
    assert found and not [name for name, _, hashes in found if not hashes]


def wheelhouse() -> Any:
    spec = spec_from_file_location("wheelhouse", FOLDER / "wheelhouse.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_wheel_of_another_hash_is_found(tmp_path: Path) -> None:
    """Of a version that a list names; of another version there is nothing to compare with."""
    ((name, version, _), *_rest) = entries(FOLDER / "base.txt")
    files = [tmp_path / f"{n}-py3-none-any.whl" for n in (f"{name.replace('-', '_')}-{version}", "other-1.0")]
    for file in files:
        file.write_bytes(b"not what was hashed")
    assert list(wheelhouse().of_other_hash(files)) == [files[0].name]


def test_a_folder_that_lacks_a_package_is_not_enough(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        wheelhouse().enough(tmp_path, "5.12", "Windows amd64")
    assert "cryptography" in capfd.readouterr().err


def test_what_make_installs_is_what_was_hashed() -> None:
    """No list is installed but with --require-hashes; the package itself is, and brings nothing along."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    installs = re.findall(r"\$\((?:PIP|HASHED)\).*", text.split("\n.PHONY")[1])
    lists = [line for line in installs if "-r " in line]
    assert len(lists) >= 8 and all(line.startswith("$(HASHED)") for line in lists)
    assert all("--editable ." in line and "--no-deps" in line for line in installs if line not in lists)
    assert "HASHED := $(PIP) --require-hashes" in text
    named = {n for line in lists for n in re.findall(r"requirements/([\w.-]+)\.txt", line)}
    assert named == {file.stem for file in LISTS}


def test_the_lists_agree() -> None:
    """What is installed side by side has one version; what was asked for is in its list."""
    for beside in (("base", "dev", "mpc", "mpc-cuda", "crypten", "primis", "dicom", "train"), ("base", "docs")):
        pins = {(name, version) for other in beside for name, version, _ in entries(FOLDER / f"{other}.txt")}
        assert len(pins) == len({name for name, _ in pins}), beside
    for wanted in FOLDER.glob("*.in"):
        if wanted.stem.startswith("slicer"):  # Testing/slicer/test_ppir_packaging.py looks at those
            continue
        lines = [n for n in wanted.read_text(encoding="utf-8").splitlines() if n and n[0] not in "#-"]
        names = {plain(re.split("[<>=]", line)[0]) for line in lines}
        assert names <= {plain(name) for name, _, _ in entries(FOLDER / f"{wanted.stem}.txt")}, wanted.name


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.long
def test_the_sbom_names_what_is_installed(tmp_path: Path) -> None:
    file = tmp_path / "sbom.json"
    subprocess.run(["make", "--silent", "sbom", f"SBOM={file}"], cwd=ROOT, check=True, timeout=500)
    sbom = json.loads(file.read_text(encoding="utf-8"))
    named = {(plain(part["name"]), part["version"]) for part in sbom["components"]}
    assert sbom["metadata"]["component"]["name"] == "ppir"
    for name in RELEASED:
        assert {(plain(n), v) for n, v, _ in entries(FOLDER / f"{name}.txt")} <= named, name
    here = {plain(d.metadata["Name"]): d.version.split("+")[0] for d in importlib.metadata.distributions()}
    of_release = {name for name, _ in named} & set(here)
    assert {"numpy", "tenseal"} < of_release and {(name, here[name]) for name in of_release} <= named


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ('{"dependencies": [{"name": "numpy", "version": "2", "vulns": []}]}', 0),
        ('{"dependencies": [{"name": "numpy", "version": "2", "vulns": [{"id": "X-1", "fix_versions": []}]}]}', 1),
        ('{"dependencies": [{"name": "numpy", "skip_reason": "not found"}]}', 2),
        ("", 2),
    ],
    ids=["none", "some", "a registry without a database", "no network"],
)
def test_an_audit_that_could_ask_nobody_fails(
    said: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*_: Any, **__: Any) -> SimpleNamespace:
        return SimpleNamespace(stdout=said, stderr="ConnectionError: no route")

    spec = spec_from_file_location("audit", FOLDER / "audit.py")
    assert spec and spec.loader
    audit = module_from_spec(spec)
    spec.loader.exec_module(audit)
    monkeypatch.setattr(audit.subprocess, "run", run)
    assert audit.main() == code
    text = capsys.readouterr().out
    assert ("No database" in text) == (code == 2) and ("X-1" in text) == (code == 1)
    assert all((FOLDER / name).is_file() for name in audit.LISTS) and sys.modules.get("audit") is None
