"""The demonstration through the module's logic: what it leaves, and that it notices a scene that lost something."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
from PySide6 import QtGui

from PPIRLogic.cli.demo import PAIRS


@pytest.mark.long
def test_demo_leaves_a_scene_and_pictures(slicer_host: ModuleType, tmp_path: Path) -> None:
    import demo

    bundle = demo.run(tmp_path, PAIRS[:1])
    slicer_host.clear_scene()
    slicer_host.load_scene(bundle)
    found = demo.contents()
    assert found["parent of brain2d moving"] == "brain2d moving registered"
    assert '"totals"' in found["brain2d moving registration report"]
    picture = QtGui.QImage(str(tmp_path / "brain2d_slicer.png"))
    before, after = (colourful(picture, *half) for half in ((0, 330), (336, 666)))
    assert before > 2 * after > 0  # green and magenta lie apart before, and become grey


def colourful(picture: QtGui.QImage, left: int, right: int) -> float:
    """Mean difference of the green and the red channel, in grey values, below the titles."""
    pixels = [picture.pixelColor(x, y) for x in range(left, right, 3) for y in range(30, picture.height(), 3)]
    return sum(abs(p.green() - p.red()) for p in pixels) / len(pixels)


def test_demo_notices_what_a_bundle_lost(
    slicer_host: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import demo
    import ppir_support as support

    slicer_host.load_module(support.MODULE)
    support.add_volume(support.phantom(), "kept")
    demo.save_and_compare(tmp_path / "whole.mrb")
    support.add_volume(support.phantom(), "lost").SetSaveWithScene(False)
    with pytest.raises(SystemExit, match="lost"):
        demo.save_and_compare(tmp_path / "part.mrb")
