"""`ppir demo` where packages of a protocol are missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from PPIRLogic.cli import demo


def test_legs_without_their_packages_are_named_and_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the legs that remain only which they are: the demonstration itself runs in test_wheel and `make demo`."""
    run: list[str] = []
    monkeypatch.setattr(demo, "_run", lambda pair, protocol, output: run.append(f"{pair.name} {protocol}"))
    monkeypatch.setattr(demo, "_table", lambda pair, reports, output: ", ".join(reports))
    needs = demo.PROTOCOLS | {"fhe": (("no_such_module",), "pip install it"), "mpc": (("json", "no_other"), "ask")}
    monkeypatch.setattr(demo, "PROTOCOLS", needs)
    assert demo.lacking("clear") == [] and demo.lacking("mpc") == ["no_other"]
    demo.run_demo(tmp_path, quick=True)
    said = capsys.readouterr().out
    assert "fhe is left out: no_such_module not installed here. To see it, too: pip install it" in said
    assert "mpc is left out: no_other" in said
    assert run == ["brain2d clear"]
    assert "brain2d_clear.html" in "".join(said.split())


def test_missing_images_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "DATA", tmp_path / "nowhere")
    with pytest.raises(demo.InputError, match="Install ppir again"):
        demo.run_demo(tmp_path)
