"""What is packaged: the lists of CMake, the extension's descriptions, and what the module imports."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from ppir_support import EXTENSION, ROOT

ALLOWED = {"slicer", "vtk", "qt", "ctk", "SimpleITK", "numpy", "scipy", "PPIRLib", *sys.stdlib_module_names}
MODULE_FILES = sorted(EXTENSION.rglob("*.py"))
CMAKE = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")


def s4ext() -> dict[str, str]:
    lines = (ROOT / "PPIRExtension.s4ext").read_text(encoding="utf-8").splitlines()
    return dict(line.partition(" ")[::2] for line in lines if line.strip() and not line.startswith("#"))


def catalogue() -> dict[str, object]:
    return dict(json.loads((ROOT / "PPIRExtension.json").read_text(encoding="utf-8")))


def cmake(name: str) -> str:
    found = re.search(rf'set\({name}\s+"([^"]*)"\)', CMAKE)
    assert found, name
    return found[1]


def listed(folder: Path) -> set[str]:
    """File names that a CMakeLists.txt names, with the module's name filled in."""
    text = (folder / "CMakeLists.txt").read_text(encoding="utf-8")
    text = re.sub(r"#.*", "", text).replace("${MODULE_NAME}", folder.name if folder != EXTENSION else "PPIR")
    return set(re.findall(r"^\s+([\w./-]+\.\w+)\s*$", text, re.MULTILINE))


def files(folder: Path, base: Path) -> set[str]:
    found = (p for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    return {p.relative_to(base).as_posix() for p in found if p.name != "CMakeLists.txt"}


def test_every_file_is_packaged() -> None:
    assert listed(EXTENSION) == files(EXTENSION, EXTENSION)
    assert listed(ROOT / "PPIRLogic") == files(ROOT / "PPIRLogic", ROOT)


def test_names_and_descriptions_agree() -> None:
    name = re.search(r"project\((\w+)\)", CMAKE)
    assert name and name[1] == "PPIRExtension" and not name[1].startswith("Slicer")
    assert {p.stem for p in ROOT.glob("*.s4ext")} == {name[1]} and (ROOT / f"{name[1]}.json").is_file()
    old, new = s4ext(), catalogue()
    assert old["category"] == new["category"] == "Registration"
    assert old["scmurl"] == new["scm_url"] and old["scmrevision"] == new["scm_revision"]
    assert old["homepage"] == cmake("EXTENSION_HOMEPAGE") and old["description"] == cmake("EXTENSION_DESCRIPTION")
    assert old["iconurl"] == cmake("EXTENSION_ICONURL") and old["screenshoturls"] == cmake("EXTENSION_SCREENSHOTURLS")
    assert old["depends"] == cmake("EXTENSION_DEPENDS") == "NA" and new["build_dependencies"] == []
    assert old["build_subdirectory"] == new["build_subdirectory"] == "." and new["tier"] in (1, 3, 5)
    assert str(new["$schema"]).startswith("https://raw.githubusercontent.com/Slicer/Slicer/main/Schemas/")
    for url in (old["iconurl"], *old["screenshoturls"].split()):
        assert url.startswith("https://") and url.endswith((".png", ".jpg", ".jpeg", ".svg"))
    assert (ROOT / "Resources" / Path(old["iconurl"]).name).is_file()


def test_subdirectories_exist() -> None:
    folders = re.findall(r"add_subdirectory\((\w+)\)", CMAKE)
    assert folders == ["PPIRLogic", "PPIRExtension"]
    assert all((ROOT / f / "CMakeLists.txt").is_file() for f in folders)


def test_licence_and_size() -> None:
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if tracked.returncode != 0:
        pytest.skip("not a git checkout")
    sizes = [(ROOT / n).stat().st_size for n in tracked.stdout.split("\0") if n and (ROOT / n).is_file()]
    assert sum(sizes) < 60e6


def imports_at_file_scope(path: Path) -> set[str]:
    """Top-level packages imported when the file is, type checking aside."""
    found: set[str] = set()

    def visit(body: list[ast.stmt]) -> None:
        for statement in body:
            if isinstance(statement, ast.Import):
                found.update(a.name.split(".")[0] for a in statement.names)
            elif isinstance(statement, ast.ImportFrom):
                found.add((statement.module or "").split(".")[0] if not statement.level else "PPIRLib")
            elif isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):
                continue
            elif isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.dump(statement.test):
                visit(statement.orelse)
            else:
                for part in ("body", "orelse", "finalbody"):
                    visit(getattr(statement, part, []))
                for handler in getattr(statement, "handlers", []):
                    visit(handler.body)

    visit(ast.parse(path.read_text(encoding="utf-8")).body)
    return found


@pytest.mark.parametrize("path", MODULE_FILES, ids=lambda p: p.name)
def test_nothing_foreign_is_imported_at_file_scope(path: Path) -> None:
    assert imports_at_file_scope(path) <= ALLOWED | ({"PPIRLogic"} if path.name == "choices.py" else set())


def test_the_table_of_options_needs_nothing_that_slicer_lacks() -> None:
    """The panels draw their choices from it before a package is installed."""
    code = "import sys; from PPIRLogic.registration.options import OPTIONS; [o.help for o in OPTIONS.values()]"
    code += "; print({m.split('.')[0] for m in sys.modules} & {'numba', 'msgpack', 'OpenSSL', 'tenseal', 'torch'})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_only_the_module_lies_in_the_module_folder() -> None:
    assert [p.name for p in EXTENSION.glob("*.py")] == ["PPIR.py"]


CODE = """
import sys
sys.path[:] = [p for p in sys.path if "__editable__" not in p and p not in ("", {root!r})]
sys.meta_path[:] = [f for f in sys.meta_path if "editable" not in repr(f).lower()]
sys.path.insert(0, {extension!r})
from PPIRLib import engine
try:
    import PPIRLogic
except ImportError:
    engine.add_to_path()
    engine.add_to_path()
    import PPIRLogic
    assert sys.path.count({root!r}) == 1
    print(PPIRLogic.__file__)
"""


def test_engine_is_found_from_the_module_folder_alone() -> None:
    code = CODE.format(root=str(ROOT), extension=str(EXTENSION))
    done = subprocess.run([sys.executable, "-c", code], cwd=EXTENSION, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(ROOT / "PPIRLogic" / "__init__.py")


def test_a_missing_engine_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXTENSION))
    from PPIRLib import engine

    monkeypatch.setattr(engine, "_MODULE_FOLDER", tmp_path / "lib")
    with pytest.raises(engine.Declined, match="Install PPIRExtension again"):
        engine.folder()


def test_pinned_packages_agree_with_the_project() -> None:
    """What the module installs is what the engine declares."""
    sys.path.insert(0, str(EXTENSION))
    try:
        from PPIRLib import engine
    finally:
        sys.path.remove(str(EXTENSION))
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    declared = set(re.findall(r'"([A-Za-z][\w-]*[><=]=[\w.]+)"', text))
    assert set(engine._FHE | engine._MPC | engine._PRIMIS) <= declared
    needed = set(re.findall(r'"([A-Za-z][^"]*)"', text.split("dependencies = [")[1].split("]")[0]))
    assert needed - set(engine._FHE) <= {"numpy>=1.26", "SimpleITK>=2.3"}  # Slicer's own


@pytest.mark.parametrize("version", ["5.10", "5.12", "6.0"])
def test_what_the_application_brings_stays_as_it_is(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """pip keeps to what is installed, then to the list of this Slicer, if there is one."""
    import slicer

    monkeypatch.syspath_prepend(str(EXTENSION))
    from PPIRLib import engine

    major, minor = map(int, version.split("."))
    monkeypatch.setattr(slicer, "app", SimpleNamespace(majorVersion=major, minorVersion=minor), raising=False)
    found = {
        "cryptography": "1.2.3",
        "typing_extensions": "1.2.3+here",
        "no part of it": "1",
        "numpy": "not known",
        "": "",
    }
    there = [SimpleNamespace(metadata={"Name": name}, version=v) for name, v in found.items()]
    monkeypatch.setattr(engine.importlib.metadata, "distributions", lambda: there)
    lines = engine.constraints().splitlines()
    assert lines[:2] == ["cryptography==1.2.3", "typing-extensions==1.2.3+here"] and "not known" not in str(lines)
    names = [line.split("==")[0] for line in lines]
    assert len(set(names)) == len(names) and ("tenseal" in names) == (version != "6.0")


@pytest.mark.parametrize("version", ["5.10", "5.12"])
def test_the_module_gets_what_the_engine_is_tested_with(version: str) -> None:
    """The list of a Slicer has the versions of requirements/, but for cryptography, which is Slicer's, and its like."""
    listed = versions(EXTENSION / "Resources" / "Constraints" / f"slicer-{version}.txt")
    tested = {
        n: v for part in ("base", "mpc", "primis") for n, v in versions(ROOT / f"requirements/{part}.txt").items()
    }
    other = {name for name in listed if listed[name] != tested[name]}
    assert other <= {"cryptography", "cffi", "pycparser", "pyopenssl"} and "cryptography" in other
    from PPIRLib import engine

    wanted = {re.split("[<>=]", package)[0].lower() for package in engine._FHE | engine._MPC | engine._PRIMIS}
    assert wanted <= set(listed)


@pytest.mark.parametrize("version", ["5.10", "5.12"])
def test_the_list_of_a_slicer_is_whole(version: str) -> None:
    """Every name of its .in is in it, and so is all that these packages, as installed here, need."""
    listed = set(versions(EXTENSION / "Resources" / "Constraints" / f"slicer-{version}.txt"))
    asked = (ROOT / "requirements" / f"slicer-{version}.in").read_text(encoding="utf-8").splitlines()
    assert {re.split("[<>=]", line)[0].lower() for line in asked if line and line[0] != "#"} <= listed
    there = {"python_version": "3.12", "python_full_version": "3.12.0", "extra": ""}
    for name in sorted(listed):
        try:
            needed = [Requirement(text) for text in importlib.metadata.requires(name) or ()]
        except importlib.metadata.PackageNotFoundError:  # of another system
            continue
        missing = {canonicalize_name(r.name) for r in needed if not r.marker or r.marker.evaluate(there)} - listed
        assert not missing, f"{name} needs {missing}: run `make lock`"


def versions(file: Path) -> dict[str, str]:
    return dict(re.findall(r"^([\w.-]+)==([^\s;]+)", file.read_text(encoding="utf-8"), re.MULTILINE))


def test_every_node_selector_gets_the_scene() -> None:
    """Without the connection Slicer shows an empty, grey selector."""
    ui = ElementTree.parse(EXTENSION / "Resources" / "UI" / "PPIR.ui").getroot()  # noqa: S314 (our own file)
    selectors = {w.get("name") for w in ui.iter("widget") if w.get("class") == "qMRMLNodeComboBox"}
    connected = {c.findtext("receiver") for c in ui.iter("connection")}
    assert len(selectors) >= 9 and selectors == connected
