"""The weights that are shipped: small, whole, those of the manifest, and known by their digest."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from sample_data_support import ROOT

from PPIRLogic.errors import InputError
from PPIRLogic.primis import model as module
from PPIRLogic.primis.codec import decode, encode
from PPIRLogic.primis.model import FILTER, MANIFEST, SAME_TABLES, TABLES, Model, known, shipped, start

FOLDER = ROOT / "PPIRLogic" / "primis" / "weights"


def test_the_shipped_weights_are_those_of_the_manifest_and_small() -> None:
    manifest = json.loads((FOLDER / MANIFEST).read_text(encoding="utf-8"))
    assert set(manifest["sha256"]) == {TABLES, FILTER}
    for name, digest in manifest["sha256"].items():
        assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == digest
    assert manifest["model"] == shipped().digest and known(manifest["model"]) is shipped()
    assert sum((FOLDER / name).stat().st_size for name in (TABLES, FILTER)) <= 2_000_000
    assert manifest["model"] in (ROOT / "Docs" / "reference" / "primis_model.md").read_text(encoding="utf-8")


def test_former_files_open_as_long_as_the_tables_are_the_same() -> None:
    """SAME_TABLES is of these tables: with others, a file that names it would not come back bit for bit."""
    former = "c1ff7bd6055b7f2d3b246794b7231f5203f2fc76b7f5c64108651cfc44af9f2c"
    assert hashlib.sha256((FOLDER / TABLES).read_bytes()).hexdigest() == former
    image = (np.indices((40, 50)).sum(0) * 2).astype(np.uint8)
    coded = encode(image)
    for digest in SAME_TABLES:
        assert digest != coded.model and (decode(coded.codes, coded.shape, coded.dtype, digest) == image).all()


def test_a_changed_file_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / "weights"
    folder.mkdir()
    for name in (TABLES, FILTER, MANIFEST):
        (folder / name).write_bytes((FOLDER / name).read_bytes())
    changed = bytearray((folder / FILTER).read_bytes())
    changed[-1] ^= 1
    (folder / FILTER).write_bytes(bytes(changed))
    monkeypatch.setattr(module.resources, "files", lambda package: tmp_path)
    with pytest.raises(InputError, match="was changed"):
        shipped.__wrapped__()


def test_a_model_is_the_same_after_it_was_written() -> None:
    again = Model.of(start().tables, b"filter")
    assert again.tables == Model.of(again.tables, b"").tables
    assert again.digest != Model.of(again.tables, b"other").digest
    assert np.array_equal(again.residual.tables.frequencies, start().residual.tables.frequencies)


def test_no_symbol_is_impossible() -> None:
    model = shipped()
    planes = [level.tables for level in (*model.fine_levels, *model.means_levels)]
    assert all(t.frequencies.min() >= 1 for t in (*planes, model.tops, model.residual.tables))
