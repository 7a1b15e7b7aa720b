"""Files that are written whole, and what a kill may leave of them."""

from __future__ import annotations

import os
import time
from pathlib import Path

from PPIRLogic.files import remove_left_over, write_private_file


def test_what_a_kill_left_is_removed_later_and_nothing_else(tmp_path: Path) -> None:
    write_private_file(tmp_path / "kept.json", b"{}")
    old, new = tmp_path / "tests" / ".a.json.0123.tmp", tmp_path / "tests" / ".b.json.4567.tmp"
    old.parent.mkdir()
    for path in (old, new):
        path.write_bytes(b"")
    os.utime(old, (time.time() - 7200, time.time() - 7200))
    remove_left_over(tmp_path)
    assert not old.exists() and new.exists() and (tmp_path / "kept.json").exists()
