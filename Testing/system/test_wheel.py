"""What one installs: the wheel holds the package and nothing else, and works in an environment that has only it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "PPIRLogic" / "sample_data"
MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as `make wheel` does, from a copy of what it is built from; compiled files lie about in it."""
    source = tmp_path_factory.mktemp("source")
    shutil.copytree(ROOT / "PPIRLogic", source / "PPIRLogic")
    (source / "PPIRLogic" / "__pycache__").mkdir(exist_ok=True)
    (source / "PPIRLogic" / "__pycache__" / "left.cpython-311.pyc").write_bytes(b"left")
    shutil.copytree(ROOT / "Testing" / "unit", source / "Testing" / "unit")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(source / "dist"), str(source), cwd=source)
    assert len(list((source / "dist").glob("*.tar.gz"))) == 1
    (built,) = (source / "dist").glob("*.whl")
    return built


def run(*command: str, cwd: Path) -> str:
    """What a command prints, run far from the sources; the test fails with it where the command does."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE")}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    package = {p.relative_to(ROOT).as_posix() for p in (ROOT / "PPIRLogic").rglob("*") if p.is_file()}
    package = {p for p in package if "__pycache__" not in p and not p.endswith("CMakeLists.txt")}
    assert {n for n in names if ".dist-info/" not in n} == package
    assert any(n.endswith(".dist-info/licenses/LICENSE") for n in names)
    assert {"PPIRLogic/py.typed", "PPIRLogic/report_schema.json"} <= names
    assert {f"PPIRLogic/sample_data/licenses/{n}_Apache-2.0.txt" for n in ("ITK", "elastix")} <= names
    assert wheel.stat().st_size < 12 * MEGABYTE
    assert sum(p.stat().st_size for p in DATA.rglob("*") if p.is_file()) <= 8 * MEGABYTE


def test_the_wheel_says_what_it_needs(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
    text = archive.read(name).decode("utf-8")
    assert set(re.findall(r"^Requires-Python: (.*)$", text, re.MULTILINE)) == {"<3.14,>=3.11"}
    assert {"fhe", "mpc"} <= set(re.findall(r"^Provides-Extra: (.*)$", text, re.MULTILINE))
    assert re.search(r"^Requires-Dist: tenseal==0\.3\.18; extra == \"fhe\"$", text, re.MULTILINE)


def test_the_lists_of_packages_are_of_one_mind() -> None:
    """What the project declares is pinned, and with hashes, once: no package has two versions in one environment."""
    base, dev = (pins(f"{name}.txt") for name in ("base", "dev"))
    assert {n: dev[n] for n in base.keys() & dev.keys()} == {n: base[n] for n in base.keys() & dev.keys()}
    declared = (ROOT / "pyproject.toml").read_text(encoding="utf-8").split("dependencies = [")[1].split("]")[0]
    assert {plain(n) for n in re.findall(r'"([\w-]+)>=', declared)} | {"tenseal"} <= base.keys()
    for name in ("base", "dev", "bench", "lock", "mpc", "primis", "train"):
        text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
        blocks = re.findall(r"^[\w.-]+==[^\n]*((?:\n    [^\n]*)*)", text, re.MULTILINE)
        assert len(blocks) == len(pins(f"{name}.txt")) > 1 and all("--hash=sha256:" in block for block in blocks)
        wanted = (ROOT / "requirements" / f"{name}.in").read_text(encoding="utf-8")
        assert {plain(n) for n in re.findall(r"^([A-Za-z][\w-]*)", wanted, re.MULTILINE)} <= pins(f"{name}.txt").keys()


def pins(name: str) -> dict[str, str]:
    text = (ROOT / "requirements" / name).read_text(encoding="utf-8")
    return {plain(package): version for package, version in re.findall(r"^([\w.-]+)==([^\s;]+)", text, re.MULTILINE)}


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.long
@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_an_empty_environment_and_the_wheel_are_enough(wheel: Path, version: str, tmp_path: Path) -> None:
    """`ppir` and its demonstration, with fhe; the leg for which packages are missing is named."""
    run(interpreter(version), "-m", "venv", "installed", cwd=tmp_path)
    programs = tmp_path / "installed" / ("Scripts" if os.name == "nt" else "bin")
    pinned = tmp_path / "versions.txt"  # those that were tested; hashes would be asked of the wheel, too
    pinned.write_text("".join(f"{n}=={v}\n" for n, v in pins("base.txt").items()), encoding="utf-8")
    pip = str(programs / "python"), "-m", "pip", "install", "--quiet", "--constraint", str(pinned)
    run(*pip, f"{wheel}[fhe]", cwd=tmp_path)

    ppir = str(programs / "ppir")
    assert "0.1" in run(ppir, "--version", cwd=tmp_path)
    said = run(ppir, "demo", "--quick", "--output", "out", cwd=tmp_path)
    assert "mpc is left out" in said and "torch and crypten" in said and "pip install --no-deps crypten" in said
    for protocol in ("clear", "fhe"):
        assert (tmp_path / "out" / f"brain2d_{protocol}.h5").stat().st_size > 0
        assert (tmp_path / "out" / f"brain2d_{protocol}.html").stat().st_size > 0
    assert not list((tmp_path / "out").glob("*_mpc.*"))
    where = run(str(programs / "python"), "-c", "import PPIRLogic; print(PPIRLogic.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(tmp_path / "installed")


def interpreter(version: str) -> str:
    """A Python of this version; without one the test is skipped, and says so."""
    name = f"python{version}"
    own = [str(p) for p in sorted((Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/{name}"))]
    for candidate in (sys.executable, name, *own):
        code = "import sys; print('%d.%d' % sys.version_info[:2])"
        try:
            found = subprocess.run([candidate, "-c", code], capture_output=True, text=True, check=False)
        except OSError:
            continue
        if found.stdout.strip() == version:
            return candidate
    pytest.skip(f"Python {version} is not on this machine")
