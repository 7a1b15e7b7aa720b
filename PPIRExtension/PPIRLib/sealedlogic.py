"""Sealed images for the console and other modules: a part of the module's logic."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import slicer


class SealedLogic:
    """Seal, open and grant. Each waits for its end and raises RuntimeError with the reason if it failed."""

    def sealVolume(self, volume: Any, path: str, *, home: Path | None = None, onProgress: Any = None) -> dict[str, Any]:
        """Seal a volume into a file (.ppis) that may lie anywhere; returns its public header."""
        from PPIRLib.sealing import seal_run

        return dict(wait(seal_run(volume, str(path), **options_of(home, onProgress))).last("sealed"))

    def unsealVolume(
        self,
        path: str,
        *,
        grant: str = "",
        level: str = "",
        outputVolume: Any = None,
        home: Path | None = None,
        onProgress: Any = None,
    ) -> Any:
        """Open a sealed file as far as a grant, or this site's own key, goes, or up to `level`; returns the volume.

        The node's name and its attribute PPIR.PrimisLevel say the level; all but 'exact' are not for diagnosis.
        """
        from PPIRLib.sealing import open_run

        run = open_run(str(path), str(grant or ""), level, into=outputVolume, **options_of(home, onProgress))
        return slicer.mrmlScene.GetNodeByID(wait(run).volume_id)

    def grantSealed(
        self, path: str, card: str, output: str, *, level: str, purpose: str, days: int = 90, home: Path | None = None
    ) -> str:
        """Write a grant of a sealed file for the site of a card (both files); returns its path."""
        from PPIRLib.sealing import grant_run

        run = grant_run(str(path), str(card), level, purpose, str(output), days, **options_of(home, None))
        return str(wait(run).last("granted")["output"])


def options_of(home: Path | None, progress: Any, method: str = "primis") -> dict[str, Any]:
    """What every run gets, once the method's packages are there."""
    from PPIRLib import engine

    engine.ensure(method)
    return {"home": home, "on_progress": progress or (lambda event: None)}


def wait(run: Any) -> Any:
    """Run to the end, keeping the application alive; works without a main window."""
    run.start()
    while not run.ended:
        slicer.app.processEvents()
        run.job.runner.wait(0.05)
    if run.outcome.error:
        raise RuntimeError(run.outcome.error)
    return run.outcome
