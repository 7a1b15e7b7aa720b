"""Identity networks on virtual subjects, in a small form. Only where the extra `train` is installed."""

from __future__ import annotations

from pathlib import Path

import pytest
from proxy_support import write_label_maps

from PPIRLogic.proxy.attacks.identity import LINKED, NAIVE, RETRAINED
from PPIRLogic.proxy.attacks.virtual import virtual_findings
from PPIRLogic.proxy.spectrum import Spectrum

for package in ("torch", "onnx"):
    pytest.importorskip(package)


@pytest.mark.long
def test_a_network_finds_subjects_that_it_never_saw(tmp_path: Path) -> None:
    """A short training beats guessing by far without a deformation; every attack reports at its strength."""
    spectra = [("plain", Spectrum.plain())]
    found = list(virtual_findings(write_label_maps(tmp_path, 4), spectra, (0.0, 12.0), steps=12, persons=10, own=24))
    assert [(f.attack, f.strength_mm) for f in found] == [
        (RETRAINED, 0.0), (NAIVE, 12.0), (RETRAINED, 12.0), (LINKED, 12.0)
    ]  # fmt: skip
    clear = found[0]
    assert clear.area > 0.7 and clear.persons == 10
    assert all(f.area < clear.area for f in found[1:])
