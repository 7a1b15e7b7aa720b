"""Public names under the paths of release 0.1: they work, they warn once, and hide nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest
from sample_data_support import ROOT

from PPIRLogic.former_paths import FORMER

PATHS = [(module, name) for module, names in FORMER.items() for name in names]


def run(code: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: an import changes what a later one finds."""
    return subprocess.run([sys.executable, "-W", "always", "-c", code], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize("module", [m for m, names in FORMER.items() if names])
def test_a_former_path_gives_the_name_of_today_and_warns_once(module: str) -> None:
    names = FORMER[module]
    code = f"from {module} import {', '.join(names)}\nimport PPIRLogic, inspect\n"
    for name in names:
        code += f"assert {name} is PPIRLogic.{name} or {name!r} == 'simulate', {name!r}\n"
        code += f"assert inspect.isfunction({name}) or inspect.isclass({name}), {name!r}\n"
    done = run(code)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("DeprecationWarning") == len(names), done.stderr


def test_importing_the_former_module_does_not_break_the_function() -> None:
    done = run("import PPIRLogic.simulate\nPPIRLogic.simulate('no such file', 'nor this one')")
    assert "InputError" in done.stderr and "RecursionError" not in done.stderr


def test_other_names_are_not_there() -> None:
    for code in ("from PPIRLogic.images import nothing", "from PPIRLogic.policy import nothing", "import PPIRLogic.no"):
        assert "Error" in run(code).stderr.splitlines()[-1]


def test_everything_of_a_former_module_is_what_it_had() -> None:
    done = run("from PPIRLogic.policy import *\nprint(Policy.__module__)")
    assert done.stdout.strip() == "PPIRLogic.registration.party2.policy"
