"""Children: how one ended is said."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from PPIRLogic.errors import PeerError
from PPIRLogic.local_processes import start


@pytest.mark.skipif(os.name != "posix", reason="signals as on POSIX")
def test_a_child_that_is_killed_for_memory_says_so_in_its_parent(tmp_path: Path) -> None:
    child = start("dealer", tmp_path, "dealer", "--listen", "127.0.0.1:0")
    child.wait_for("listening")
    os.kill(child.process.pid, signal.SIGKILL)
    with pytest.raises(PeerError, match="'dealer' ended: it was ended by SIGKILL, as the system does when memory"):
        child.wait_for("never")
    child.stop()


def test_a_child_that_refuses_says_why(tmp_path: Path) -> None:
    child = start("party 2", tmp_path, "serve", str(tmp_path / "nowhere.nrrd"))
    with pytest.raises(PeerError, match=r"nowhere\.nrrd"):
        child.wait_for("listening")
    child.stop()
