"""The pages keep their word: tests that they name exist, links resolve, lines fit, terms are said once."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from PPIRLogic.disclosure.accounts import Budget
from PPIRLogic.network.identity import VALID_DAYS
from PPIRLogic.registration.party2.unfinished_sessions import MAX_UNFINISHED_OF_PEER
from PPIRLogic.registration.request import LOST_ANSWERS
from PPIRLogic.registration.sampling import MIN_POOL, pool_size

ROOT = Path(__file__).resolve().parents[2]
AT_THE_ROOT = ("README.md", "SECURITY.md", "CHANGELOG.md", "CONTRIBUTING.md", "Benchmarks/README.md")
PAGES = [*(ROOT / name for name in AT_THE_ROOT), *sorted((ROOT / "Docs").rglob("*.md"))]
MAX_LINE = 200
FORMER = ("peer/", "runs/", "server.py", "warp.py", "images.py", "outlet", "fhe_knots", "KnotMap", "LastingSession")


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@cache
def functions(file: Path) -> frozenset[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return frozenset(n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef))


@cache
def files_of_tests() -> dict[str, list[Path]]:
    """All test files by their name."""
    found: dict[str, list[Path]] = {}
    for file in sorted((ROOT / "Testing").rglob("test_*.py")):
        found.setdefault(file.name, []).append(file)
    return found


def where(function: str) -> str:
    """Where a test of this name is now, for the message."""
    files = [name_of(f) for group in files_of_tests().values() for f in group if function in functions(f)]
    return f"; there is one in {', '.join(files)} (python {name_of(Path(__file__))} mends it)" if files else ""


def missing_tests(text: str) -> list[str]:
    """Tests that are named in a text and are not there.

    `Testing/folder/test_x.py`, `test_x.py`, each perhaps with `::test_y`; `…::test_y` is of the file named before.
    """
    problems: list[str] = []
    files: list[Path] = []
    for folder, name, function in re.findall(r"`(?:(Testing/[\w/]*?)?(test_\w+)(?:\.py)?|…)(?:::(test_\w+))?`", text):
        if name:
            files = files_of_tests().get(f"{name}.py", [])
            files = [f for f in files if not folder or name_of(f) == f"{folder}{name}.py"]
            if not files:
                problems.append(f"{folder}{name}.py is not there{where(function) if function else ''}")
                continue
        if function and files and not any(function in functions(f) for f in files):
            problems.append(f"{name_of(files[0])} has no {function}{where(function)}")
    return problems


def mended(text: str) -> str:
    """The same text, with tests that moved named where they are now, if there is one of that name."""

    def place(match: re.Match[str]) -> str:
        old, function = match.groups()
        found = [f for group in files_of_tests().values() for f in group if function in functions(f)]
        there = (ROOT / old).exists() and function in functions(ROOT / old)
        return match.group() if there or len(found) != 1 else f"`{name_of(found[0])}::{function}`"

    return re.sub(r"`(Testing/[\w/]+\.py)::(test_\w+)`", place, text)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_test_that_a_page_names_exists(page: Path) -> None:
    assert missing_tests(page.read_text(encoding="utf-8")) == []


def test_a_test_that_is_not_there_is_noticed() -> None:
    here = "`Testing/unit/test_docs.py::test_a_test_that_is_not_there_is_noticed`"
    assert missing_tests(f"{here}, `test_docs.py`, `test_docs`, `…::test_a_test_that_is_not_there_is_noticed`") == []
    assert (
        len(missing_tests(f"`test_docs_2.py`, {here[:-1]}_2`, `…::test_nothing`, `Testing/system/test_docs.py`")) == 4
    )


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_resolves(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?://|mailto:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{name_of(page)}: {target}"
        if anchor:
            heads = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in heads}, target


def test_every_page_is_in_the_index() -> None:
    listed = set()
    for index in (ROOT / "Docs" / "index.md", ROOT / "Docs" / "decisions" / "index.md"):
        for block in re.findall(r"```\{toctree\}(.*?)```", index.read_text(encoding="utf-8"), re.DOTALL):
            names = [line.strip() for line in block.splitlines() if line.strip() and not line.startswith(":")]
            listed |= {(index.parent / f"{name}.md").resolve() for name in names}
    assert listed | {ROOT / "Docs" / "index.md"} == {p for p in PAGES if (ROOT / "Docs") in p.parents}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_lines_fit(page: Path) -> None:
    lines = page.read_text(encoding="utf-8").splitlines()
    long = [i for i, line in enumerate(lines, 1) if len(line) > MAX_LINE and not line.startswith("|")]
    assert not long, f"{name_of(page)}: lines {long} are over {MAX_LINE} characters"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_nothing_is_called_by_a_former_name(page: Path) -> None:
    if page.name == "0001-the-house.md":  # it tells of them
        return
    text = page.read_text(encoding="utf-8")
    assert not [name for name in FORMER if re.search(rf"(?<![\w/]){re.escape(name)}", text)]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_file_of_the_package_that_a_page_names_exists(page: Path) -> None:
    top = "cli|disclosure|images|network|points|registration|report|secure|transforms"
    for path in re.findall(rf"`((?:PPIRLogic/)?(?:{top})/[\w/]+\.py)`", page.read_text(encoding="utf-8")):
        assert (ROOT / "PPIRLogic" / path.removeprefix("PPIRLogic/")).exists(), f"{name_of(page)}: {path}"


def test_every_page_that_the_code_names_exists() -> None:
    code = [
        f for folder in ("PPIRLogic", "PPIRExtension", "Testing", "Benchmarks") for f in (ROOT / folder).rglob("*.py")
    ]
    named = {
        (page, name_of(f)) for f in code for page in re.findall(r"Docs/[\w/-]+\.md", f.read_text(encoding="utf-8"))
    }
    assert named and not [(page, file) for page, file in named if not (ROOT / page).exists()]


def test_every_term_of_the_glossary_is_there_once_and_in_order() -> None:
    text = (ROOT / "Docs" / "glossary.md").read_text(encoding="utf-8")
    terms = [t.lower() for t in re.findall(r"^- \*\*(.+?)\*\*: ", text, re.MULTILINE)]
    assert len(terms) > 40 and terms == sorted(set(terms))


def sections_with_bounds(text: str) -> list[str]:
    """Paragraphs with a probability, a table together with the paragraph before it, that name no test."""
    text = re.sub(r"\n\n(?=\|)", "\n", text)
    return [p for p in re.split(r"\n\n", text) if re.search(r"2⁻\d*[⁰¹²³⁴-⁹]", p) and "test_" not in p]


@pytest.mark.parametrize(
    "page", [p for p in PAGES if p.name == "SECURITY.md" or p.parent.name == "privacy"], ids=name_of
)
def test_every_probability_names_the_test_that_shows_it(page: Path) -> None:
    text = page.read_text(encoding="utf-8").partition("\n## What was compared")[0]
    assert sections_with_bounds(text) == []


def test_a_probability_without_a_test_is_noticed() -> None:
    assert sections_with_bounds("It is 2⁻³⁹.\n\nIt is 2⁻²¹ (`test_docs.py`).\n\n| a |\n| 2⁻⁴ |") == ["It is 2⁻³⁹."]


def test_limits_that_pages_quote_are_those_of_the_code() -> None:
    """Of each limit the code's value stands beside these words, on every page that has them."""
    budget = Budget()
    quoted = {
        r"\| `ppir serve --budget-percent` \|": f"| {budget.percent_per_level:g} %",
        r"\| `--budget-bits` \|": f"| {budget.bits_percent_per_level:g} % of 12 bits",
        r"\| `--budget-session` \|": f"| {budget.numbers_per_session:_} |".replace("_", " "),
        r"\| `--budget-image` \|": f"| {budget.numbers_per_image:_} |".replace("_", " "),
        r"\| `--budget-histograms` \|": f"| {budget.histograms_per_level} |",
        r"\| `--budget-subject` \|": f"| {budget.times_per_subject:g} times",
        r"unfinished sessions are kept at most": f"{MAX_UNFINISHED_OF_PEER} unfinished",
        r"answer more, \w+ times at most": f"{['', 'one', 'two', 'three', 'four', 'five'][LOST_ANSWERS]} times",
        r"Certificates made by the program last": f"last {VALID_DAYS} days",
        r"\*Certificates\* last": f"last {VALID_DAYS} days",
        r"The\s+pool\s+has\s+32 768": f"{pool_size(3, False):_} voxels in 3D ({pool_size(3, True):_}".replace("_", " "),
        r"samples are refused": f"fewer than {MIN_POOL} samples",
    }
    pages = [p.read_text(encoding="utf-8") for p in PAGES if "reference" not in p.parts]  # made by the code
    for words, value in quoted.items():
        found = [
            " ".join(t[max(0, m.start() - 160) : m.end() + 80].split()) for t in pages for m in re.finditer(words, t)
        ]
        assert found and all(value in f for f in found), (words, value, found)


def test_the_reference_is_what_the_code_makes() -> None:
    script = ROOT / "Docs" / "make_reference.py"
    out = subprocess.run([sys.executable, str(script), "--check"], capture_output=True, text=True, check=False)
    assert out.returncode == 0, f"{out.stdout}{out.stderr}: run python Docs/make_reference.py"


def test_the_release_is_the_same_everywhere() -> None:
    from PPIRLogic.version import __version__

    assert f"version: {__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f'version = "{__version__}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f"## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


if __name__ == "__main__":  # after tests were moved
    for moved in PAGES:
        moved.write_text(mended(moved.read_text(encoding="utf-8")), encoding="utf-8")
