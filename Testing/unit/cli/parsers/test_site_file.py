"""A file of options: what it may say, what it must not, and that what is typed beats it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
from sample_data_support import ROOT

from PPIRLogic.cli.main import build_parser, parse
from PPIRLogic.cli.parsers.site_file import command_parser, keys_of, read_site_file
from PPIRLogic.errors import InputError


def serve() -> Any:
    return command_parser(build_parser("serve"), "serve")


def file(folder: Path, text: str) -> Path:
    path = folder / "site.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_file_says_what_the_command_line_would(tmp_path: Path) -> None:
    """Every value of another type than text, lists, names with commas, and paths below the file's folder."""
    path = file(
        tmp_path,
        'images = ["a.nrrd", "/data/b.nrrd"]\nname = ["one", "two"]\nprotocols = ["fhe"]\nbudget-percent = 3\n'
        'queue = 2\nask = true\nlisten = "127.0.0.1:1"\nhome = "site"\nallow-disclosed-sampling = false\n',
    )
    a = parse(["serve", "--config", str(path)])
    assert a.fixed == [tmp_path / "a.nrrd", Path("/data/b.nrrd")] and a.name == ["one", "two"]
    assert a.protocols == {"fhe"} and a.budget[0] == 3.0 and isinstance(a.budget_percent, float)
    assert (a.queue, a.ask, a.listen, a.home) == (2, True, "127.0.0.1:1", tmp_path / "site")
    typed = parse(
        ["serve", str(tmp_path / "a.nrrd"), "/data/b.nrrd", "--name", "one", "--name", "two", "--protocols", "fhe",
         "--budget-percent", "3", "--queue", "2", "--ask", "--listen", "127.0.0.1:1", "--home", str(tmp_path / "site")]
    )  # fmt: skip
    assert {**vars(a), "config": None} == vars(typed)


def test_what_is_typed_beats_the_file(tmp_path: Path) -> None:
    """Also a list, which is not added to, and a value that is the default."""
    path = file(
        tmp_path, 'images = ["a.nrrd"]\nname = ["file"]\nqueue = 2\nbudget-percent = 50.0\nallow = ["x", "y"]\n'
    )
    a = parse(["serve", "typed.nrrd", "--config", str(path), "--name", "typed", "--budget-percent", "5"])
    assert a.fixed == [Path("typed.nrrd")] and a.name == ["typed"]
    assert a.budget[0] == 5.0, "as typed, though it is also what is set without a file"
    assert a.queue == 2 and a.allow == ["x", "y"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("budget_percent = 3", "unknown key 'budget_percent'. Did you mean 'budget-percent'?"),
        ("nothing = 1", "unknown key 'nothing'. Known are home, json, images"),
        ("with-parent = true", "unknown key 'with-parent'"),
        ("fixed-pools = 3", "unknown key 'fixed-pools'"),
        ("config = 'other.toml'", "unknown key 'config'"),
        ("health = true", "unknown key 'health'"),
        ("queue = 2.5", "'queue' must be a whole number, not a number"),
        ("queue = true", "'queue' must be a whole number, not true or false"),
        ("budget-percent = '3'", "'budget-percent' must be a number, not a text"),
        ("ask = 'no'", "'ask' must be true or false, not a text"),
        ("ask = 0", "'ask' must be true or false, not a whole number"),
        ("disclose-frame = 1", "'disclose-frame' must be true or false"),
        ("allow = 'Hospital A'", "'allow' must be a list of texts, not a text"),
        ("protocols = 'fhe'", "'protocols' must be a list of texts"),
        ("name = ['a', 1]", "'name' must be a list of texts"),
        ("name = ['']", "'name' must be a list of texts"),
        ("listen = 7443", "'listen' must be a text, not a whole number"),
        ("listen = 2026-01-01", "'listen' must be a text, not a date or time"),
        ("[budget]\npercent = 3", "unknown key 'budget'"),
        ("[name]\na = 3", "'name' must be a list of texts, not a table"),
        ("queue = ", "is not TOML"),
        ("queue = 1\nqueue = 2", "is not TOML"),
    ],
)
def test_what_it_must_not_say_is_refused_by_name(tmp_path: Path, line: str, words: str) -> None:
    with pytest.raises(InputError, match=re.escape(words)):
        read_site_file(file(tmp_path, line), serve())


def test_a_refusal_ends_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Values of the right type are checked as typed ones are."""
    for line, words in (("querl = 1", "unknown key"), ("queue = -1", "--queue at least 0"), ("masks = ['all']", "all")):
        with pytest.raises(SystemExit) as end:
            parse(["serve", "a.nrrd", "--config", str(file(tmp_path, line))])
        assert end.value.code == 2 and words in capsys.readouterr().err


def test_a_file_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_site_file(tmp_path / "nowhere.toml", serve())
    (tmp_path / "latin.toml").write_bytes(b'name = ["M\xfcller"]')
    with pytest.raises(InputError, match="not TOML"):
        read_site_file(tmp_path / "latin.toml", serve())
    with pytest.raises(InputError, match="longer than"):
        read_site_file(file(tmp_path, "#" * (2**20 + 1)), serve())


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")
def test_a_file_that_everybody_can_write_is_refused(tmp_path: Path) -> None:
    path = file(tmp_path, "queue = 1")
    path.chmod(0o646)
    with pytest.raises(InputError, match="chmod o-w"):
        read_site_file(path, serve())


def test_the_example_holds_every_option_as_it_is_without_it(tmp_path: Path) -> None:
    """With all of its lines in force it says what the command does with none of them."""
    text = (ROOT / "deploy" / "site.toml").read_text(encoding="utf-8")
    whole = re.sub(r"^# ([a-z-]+ = )", r"\1", text, flags=re.MULTILINE)
    values = read_site_file(file(tmp_path, whole), serve())
    actions = keys_of(serve())
    assert list(values) == list(actions)
    for key in set(values) - {"images", "name", "home", "threads", "protocols"}:
        assert values[key] == actions[key].default, key
    assert parse(["serve", "--config", str(ROOT / "deploy" / "site.toml")]).name == ["atlas"]
