"""The key of a site's deformations: kept for its owner, known by an id, never lost in passing."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from PPIRLogic.errors import IdentityError, InputError
from PPIRLogic.proxy.keys import KEY_BYTES, ProxyKey, key_file, load_key, load_or_make_key, make_key


def test_a_key_is_made_once_and_read_again(tmp_path: Path) -> None:
    key = load_or_make_key(tmp_path)
    assert load_or_make_key(tmp_path) == key == load_key(key_file(tmp_path)) and len(key.secret) == KEY_BYTES
    assert make_key(tmp_path / "other" / "key").secret != key.secret
    if os.name == "posix":
        assert stat.S_IMODE(key_file(tmp_path).stat().st_mode) == 0o600


def test_a_key_is_replaced_only_by_name_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "key"
    first = make_key(path)
    with pytest.raises(InputError, match="another proxy"):
        make_key(path)
    second = make_key(path, new=True)
    assert load_key(path) == second != first and load_key(tmp_path / "key.old") == first


def test_nothing_of_a_key_is_shown() -> None:
    key = ProxyKey(bytes(range(32)))
    assert key.secret.hex() not in repr(key) + str(key) and key.id not in key.secret.hex()


def test_digests_are_of_the_key_and_of_every_part() -> None:
    key, other = ProxyKey(bytes(32)), ProxyKey(bytes([1]) * 32)
    found = {key.digest(b"ab", b"c"), key.digest(b"a", b"bc"), key.digest(b"abc"), other.digest(b"abc")}
    assert len(found) == 4 and key.digest(b"abc") == ProxyKey(bytes(32)).digest(b"abc")


@pytest.mark.parametrize(
    "data", [b"", b"PPIR proxy key 1\n", b"PPIR proxy key 1\n" + b"0" * 62 + b"\n", b"PPIR proxy key 2\n" + b"0" * 64,
             b"PPIR proxy key 1\n" + b"G" * 64 + b"\n", bytes(2000)], ids=range(6),
)  # fmt: skip
def test_a_damaged_key(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(data)
    path.chmod(0o600)
    with pytest.raises(IdentityError, match="is damaged"):
        load_key(path)


def test_a_lost_key_says_what_can_still_be_done(tmp_path: Path) -> None:
    with pytest.raises(IdentityError, match="segmented again under a new one"):
        load_key(tmp_path / "key")


@pytest.mark.skipif(os.name != "posix", reason="permissions of others")
def test_a_key_that_others_can_read_is_not_used(tmp_path: Path) -> None:
    make_key(tmp_path / "key")
    (tmp_path / "key").chmod(0o640)
    with pytest.raises(IdentityError, match="chmod 600"):
        load_key(tmp_path / "key")
