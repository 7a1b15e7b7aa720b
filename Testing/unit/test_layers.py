"""The layout of the code: imports go one way, no circle, no private name across modules."""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from PPIRLogic.registration.catalogue import PROTOCOLS, TWO_SIDED

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "PPIRLogic"
GROUND = (
    "errors", "version", "arguments", "arrays", "compiled", "cubic_bspline", "registry", "files", "progress", "images",
    "transforms", "dicom", "network", "disclosure", "secure", "points", "local_processes",
)  # fmt: skip
METHODS = {"registration": (), "proxy": (), "primis": (), "cohort": ("registration",)}  # and what each stands on
FACES = ("report", "serving", "cli", "__main__")
Graph = dict[str, set[tuple[str, str]]]  # what every module imports: (module, name)
OLD_NAMES = "former_paths"  # loads what it is asked for, by name


def name_of(path: Path, root: Path = ROOT) -> str:
    """The module of a file."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path, known: set[str], package: str = PACKAGE) -> Iterator[tuple[str, str]]:
    """(module, name) of every import from the package, wherever in the file it stands."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == package:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield (inner, "") if inner in known else (node.module, alias.name)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names if alias.name.split(".")[0] == package)


def graph_of(root: Path, package: str = PACKAGE) -> Graph:
    files = {name_of(p, root): p for p in sorted((root / package).rglob("*.py"))}
    return {module: set(imports_of(path, set(files), package)) for module, path in files.items()}


def room_of(module: str) -> str:
    """The first folder or file below the package."""
    return module.split(".")[1] if "." in module else "__init__"


def permitted(importer: str, imported: str) -> bool:
    """Whether a module of one room may import from another."""
    if importer == imported or imported == "":
        return True
    if importer == "__init__":  # the public interface knows all but the command
        return imported not in ("cli", "__main__")
    if imported == OLD_NAMES:  # former names of what became a folder
        return importer in ("images", "registration", "transforms")
    if importer in GROUND:
        return imported in GROUND and GROUND.index(imported) < GROUND.index(importer)
    if importer in METHODS:
        return imported in GROUND or imported in METHODS[importer]
    if importer in FACES:
        below = FACES[: FACES.index(importer)]
        return imported in GROUND or imported in METHODS or imported in below or imported == "__init__"
    return False


def upward(graph: Graph) -> list[str]:
    return sorted(
        f"{module} imports {target}"
        for module, targets in graph.items()
        for target, _ in targets
        if not permitted(room_of(module), room_of(target)) and module != f"{PACKAGE}.{OLD_NAMES}"
    )


def circle(graph: Graph) -> list[str]:
    """The modules of a circle of imports; empty if there is none."""
    try:
        graphlib.TopologicalSorter({m: {t for t, _ in targets} - {m} for m, targets in graph.items()}).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def private(graph: Graph) -> list[str]:
    return sorted(
        f"{module} imports {name} of {target}"
        for module, targets in graph.items()
        for target, name in targets
        if name.startswith("_") and not name.startswith("__")
    )


@pytest.fixture(scope="module")
def graph() -> Graph:
    return graph_of(ROOT)


def test_every_room_has_its_place(graph: Graph) -> None:
    rooms = {room_of(module) for module in graph} - {"__init__", OLD_NAMES}
    assert rooms <= {*GROUND, *METHODS, *FACES}


def test_imports_go_one_way(graph: Graph) -> None:
    assert upward(graph) == []


def test_there_is_no_circle(graph: Graph) -> None:
    assert circle(graph) == []


def test_no_private_name_crosses_modules(graph: Graph) -> None:
    assert private(graph) == []


def test_two_classes_never_share_a_name() -> None:
    homes: dict[str, list[str]] = {}
    for path in (ROOT / PACKAGE).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                homes.setdefault(node.name, []).append(path.relative_to(ROOT).as_posix())
    assert {name: files for name, files in homes.items() if len(files) > 1} == {} and len(homes) > 300


def test_the_engine_knows_nothing_of_slicer() -> None:
    for path in (ROOT / PACKAGE).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {n.split(".")[0] for n in names} & {"slicer", "qt", "ctk", "vtk", "PPIRLib"}, path


def test_the_unprotected_protocol_and_the_primitive_know_nothing_of_encryption(graph: Graph) -> None:
    for module in ("clear", "product", "layout", "exact_range", "integer_sums", "protocol"):
        targets = {target for target, _ in graph[f"{PACKAGE}.secure.{module}"]}
        assert not [t for t in targets if t.startswith(f"{PACKAGE}.secure.fhe")], module


def test_receipts_are_made_where_numbers_are_counted(graph: Graph) -> None:
    minting = {module for module, targets in graph.items() if any(name == "MINT" for _, name in targets)}
    assert minting == {f"{PACKAGE}.disclosure.accounts"}


def test_every_package_says_what_it_is() -> None:
    for path in (ROOT / PACKAGE).rglob("*.py"):
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({"secure/a.py": "from PPIRLogic.registration.b import x", "registration/b.py": ""}, upward),
        ({"proxy/a.py": "def f():\n    from PPIRLogic.registration import b", "registration/b.py": ""}, upward),
        ({"registration/a.py": "from PPIRLogic.report.b import x", "report/b.py": ""}, upward),
        ({"secure/a.py": "import PPIRLogic.secure.b", "secure/b.py": "from PPIRLogic.secure import a"}, circle),
        ({"secure/a.py": "from PPIRLogic.images.b import _x", "images/b.py": ""}, private),
    ],
)
def test_the_checks_find_what_they_are_for(files: dict[str, str], found: object, tmp_path: Path) -> None:
    for name, text in files.items():
        path = tmp_path / PACKAGE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    graph = graph_of(tmp_path)
    for check in (upward, circle, private):
        assert bool(check(graph)) == (check is found), check


OF_THEIR_OWN = ("registration/catalogue.py", "registration/symmetric/", "secure/", "cli/demo.py")


def lists_of_protocols(text: str) -> list[int]:
    """Lines that compare with a protocol's name, or list such names."""
    names, found = {*PROTOCOLS.builtin, *TWO_SIDED.builtin}, []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.Compare, ast.Tuple, ast.List, ast.Set, ast.Dict, ast.MatchValue)):
            inner = [n.value for n in ast.iter_child_nodes(node) if isinstance(n, ast.Constant)]
            found += [node.lineno] if names & set(inner) else []
    return found


def test_no_other_file_lists_protocols() -> None:
    """What a protocol can do is declared with it; nobody else asks for its name."""
    assert lists_of_protocols('if protocol == "mpc": pass') and lists_of_protocols('ABLE = ("fhe", "mpc")')
    for path in (ROOT / PACKAGE).rglob("*.py"):
        if not path.relative_to(ROOT / PACKAGE).as_posix().startswith(OF_THEIR_OWN):
            assert lists_of_protocols(path.read_text(encoding="utf-8")) == [], path
