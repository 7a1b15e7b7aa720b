"""The file of a site's two keys: of this release, of a former one, damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from PPIRLogic.disclosure.ledger_key import KEY_BYTES, LedgerKey, read_key
from PPIRLogic.errors import RecordError


def test_it_reads_what_it_writes_and_what_a_former_release_wrote(tmp_path: Path) -> None:
    path, key = tmp_path / "key", LedgerKey.new()
    assert read_key(path) is None
    key.write(path)
    assert read_key(path) == (key, False) and len({key.images, key.chain}) == 2
    path.write_bytes(key.images)
    former = read_key(path)
    assert former is not None and former[1] and former[0].images == key.images
    assert former[0].chain not in (key.images, key.chain) and former == read_key(path)


@pytest.mark.parametrize("cut", [0, 1, 31, 33, 60, -1, -30])
def test_a_damaged_key_is_refused(cut: int, tmp_path: Path) -> None:
    LedgerKey.new().write(tmp_path / "key")
    whole = (tmp_path / "key").read_bytes()
    for content in (whole[:cut], whole[: cut % len(whole)] + b"x" + whole[cut % len(whole) :], b"\xff" * 70):
        (tmp_path / "key").write_bytes(content)
        with pytest.raises(RecordError, match="from a backup"):
            read_key(tmp_path / "key")
    assert len(whole) > 2 * KEY_BYTES
