"""Segmentation at a server for the console and other modules: a part of the module's logic."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import slicer


class ProxyLogic:
    """Waits for the end and raises RuntimeError with the reason if it failed."""

    def segmentAtServer(
        self,
        volume: Any,
        peer: str,
        *,
        agreed: bool,
        strength: str = "medium",
        strip: str = "brain",
        mask: Any = None,
        model: str = "",
        home: Path | None = None,
        onProgress: Any = None,
    ) -> Any:
        """Have a volume segmented at a hospital ('host:port') that gets its proxy; returns the segmentation node.

        agreed: a person consents that the proxy is sent; it is not encrypted, see Docs/privacy/proxy.md. strength: low,
        medium, high or a number of mm. strip: 'brain' or 'face'. mask: what is taken instead. model: 'any' takes
        whichever model is there.
        """
        from PPIRLib.proxying import segment_run
        from PPIRLib.sealedlogic import options_of, wait

        if agreed is not True:
            raise RuntimeError("Nothing was sent: somebody has to agree (agreed=True).")
        options = options_of(home, onProgress, "proxy")
        run = segment_run(volume, peer, mask=mask, strength=str(strength), strip=strip, model=model, **options)
        return slicer.mrmlScene.GetNodeByID(wait(run).volume_id)
