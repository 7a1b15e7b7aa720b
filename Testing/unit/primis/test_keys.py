"""Keys of sealed images: the chain down the levels, and the site's own file of keys."""

from __future__ import annotations

import os
import shutil
import stat
import threading
from pathlib import Path

import pytest

from PPIRLogic.errors import IdentityError, InputError
from PPIRLogic.primis.grant_records import GrantRecords
from PPIRLogic.primis.keys import (
    KeyRing,
    LevelKey,
    change_keys,
    key_file,
    level_number,
    load_keys,
    load_or_make_keys,
    renew_keys,
    top_key,
)

posix = pytest.mark.skipif(os.name != "posix", reason="modes of files are of POSIX")


def test_the_keys_of_all_levels_and_images_differ() -> None:
    tops = [top_key(bytes(32), bytes([n]) * 16) for n in range(3)]
    secrets = {key.down_to(level).secret for key in tops for level in range(1, 6)}
    uses = {use for key in tops for n in range(1, 6) for use in (key.down_to(n).sealing, key.down_to(n).check)}
    assert len(secrets) == 15 and len(uses) == 30 and not secrets & uses


def test_a_key_says_nothing_of_itself() -> None:
    key, ring = top_key(bytes(range(32)), bytes(16)), KeyRing((b"\x11" * 32,), (b"\x22" * 32,))
    for text in (repr(key), repr(ring), f"{key}", f"{ring!s}"):
        assert key.secret.hex() not in text and "1111" not in text and "2222" not in text and "\\x" not in text


@pytest.mark.parametrize("bad", [0, 6, True, "", "all", 2.0, None])
def test_a_level_that_there_is_not_is_refused(bad: object) -> None:
    with pytest.raises(InputError, match="The levels are overview"):
        level_number(bad)  # type: ignore[arg-type]


def test_keys_are_made_once_and_kept(tmp_path: Path) -> None:
    assert load_keys(tmp_path) == KeyRing()
    ring = load_or_make_keys(tmp_path)
    assert load_or_make_keys(tmp_path) == ring == load_keys(tmp_path)
    assert len(ring.masters) == len(ring.encryption) == 1 and ring.masters != ring.encryption
    assert len(ring.private_keys()) == 1


@posix
def test_only_the_owner_reads_the_keys(tmp_path: Path) -> None:
    load_or_make_keys(tmp_path)
    assert stat.S_IMODE(key_file(tmp_path).stat().st_mode) == 0o600
    assert stat.S_IMODE(key_file(tmp_path).parent.stat().st_mode) == 0o700
    key_file(tmp_path).chmod(0o644)
    with pytest.raises(IdentityError, match="chmod 600"):
        load_or_make_keys(tmp_path)


def test_two_that_begin_at_once_have_the_same_keys(tmp_path: Path) -> None:
    rings: list[KeyRing] = []
    threads = [threading.Thread(target=lambda: rings.append(load_or_make_keys(tmp_path))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(rings)) == 1


def test_new_keys_come_first_and_the_former_ones_stay(tmp_path: Path) -> None:
    former, now = load_or_make_keys(tmp_path), renew_keys(tmp_path)
    assert now.masters[1:] == former.masters and now.encryption[1:] == former.encryption
    assert now.image_keys(bytes(16))[1] == former.image_keys(bytes(16))[0]


def test_a_damaged_file_is_said_and_never_replaced(tmp_path: Path) -> None:
    load_or_make_keys(tmp_path)
    whole = key_file(tmp_path).read_bytes()
    for damaged in (b"", whole[:-1], whole + b"master 00\n", whole.replace(b"encryption", b"encription"), b"\xff" * 70):
        key_file(tmp_path).write_bytes(damaged)
        with pytest.raises(IdentityError, match="damaged"):
            load_or_make_keys(tmp_path)
        assert key_file(tmp_path).read_bytes() == damaged
    nothing = b"PPIR primis keys 1\nencryption " + b"00" * 32 + b"\n"
    key_file(tmp_path).write_bytes(nothing)
    with pytest.raises(IdentityError, match="damaged"):
        load_keys(tmp_path)


@pytest.mark.parametrize("how", ["the file", "the folder, after a grant"])
def test_keys_that_are_gone_are_said_and_not_made_anew(how: str, tmp_path: Path) -> None:
    load_or_make_keys(tmp_path)
    if how == "the file":
        key_file(tmp_path).unlink()
    else:
        GrantRecords(tmp_path).granted("ab" * 16, "PEER", [10], purpose="a study", expires=9)
        shutil.rmtree(key_file(tmp_path).parent)
    for _ in range(2):
        with pytest.raises(IdentityError, match=r"are gone.*--restore.*--new-keys"):
            load_or_make_keys(tmp_path)
    assert not key_file(tmp_path).exists()
    assert renew_keys(tmp_path) == load_or_make_keys(tmp_path), "who says so begins anew"


def test_rings_are_joined_without_repeats(tmp_path: Path) -> None:
    one, two = load_or_make_keys(tmp_path / "a"), load_or_make_keys(tmp_path / "b")
    joined = change_keys(tmp_path / "a", lambda now: now.joined(two).joined(two).joined(one))
    assert joined.masters == (*one.masters, *two.masters) and KeyRing.from_bytes(joined.to_bytes()) == joined


def test_no_key_leads_upwards() -> None:
    key = LevelKey(bytes(32), 3, bytes(16))
    for level in (4, 5, 0, -1):
        with pytest.raises(ValueError, match="does not open"):
            key.down_to(level)
