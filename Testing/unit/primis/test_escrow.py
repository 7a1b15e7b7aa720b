"""The escrow: what opens it, and what it brings back."""

from __future__ import annotations

from pathlib import Path

import pytest
from primis_support import two_homes

from PPIRLogic.disclosure.chain import Chain
from PPIRLogic.errors import InputError
from PPIRLogic.primis import escrow
from PPIRLogic.primis.cards import own_card, read_card
from PPIRLogic.primis.escrow import MAX_ESCROW, needs_passphrase, restore_escrow, write_escrow
from PPIRLogic.primis.keys import GRANTS_ON_RECORD, load_keys, load_or_make_keys, renew_keys

WORDS = "six random words in a row"
REAL = dict(escrow.COST)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(escrow, "COST", {**REAL, "n": 2**10})


def test_a_guess_costs_128_mib(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 128 * REAL["n"] * REAL["r"] == 128 * 2**20 and REAL["p"] == 1


def test_a_passphrase_brings_all_keys_into_a_new_home(tmp_path: Path) -> None:
    load_or_make_keys(tmp_path / "a")
    ring = renew_keys(tmp_path / "a")
    data = write_escrow(tmp_path / "a", passphrase=WORDS)
    assert needs_passphrase(data) and len(data) < MAX_ESCROW
    assert not any(key.hex().encode() in data or key in data for key in (*ring.masters, *ring.encryption))
    restored = restore_escrow(data, tmp_path / "b", passphrase=WORDS)
    assert restored == ring == load_keys(tmp_path / "b")


def test_keys_that_are_there_stay_in_use(tmp_path: Path) -> None:
    one, two = load_or_make_keys(tmp_path / "a"), load_or_make_keys(tmp_path / "b")
    restored = restore_escrow(write_escrow(tmp_path / "a", passphrase=WORDS), tmp_path / "b", passphrase=WORDS)
    assert restored.masters == (*two.masters, *one.masters)


def test_a_card_s_holder_opens_it_and_nobody_else(tmp_path: Path) -> None:
    owner, archive = two_homes(tmp_path)
    data = write_escrow(owner, card=read_card(own_card(archive)))
    assert not needs_passphrase(data)
    with pytest.raises(InputError, match="a card whose key is not in this home"):
        restore_escrow(data, tmp_path / "third")
    assert load_keys(owner).masters[0] in restore_escrow(data, archive).masters


def test_an_escrow_is_on_record_before_it_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PPIRLogic.errors import OutputError
    from PPIRLogic.primis.grant_records import GrantRecords

    write_escrow(tmp_path, passphrase=WORDS)
    assert "primis escrow" in (tmp_path / GRANTS_ON_RECORD).read_text() and not Chain(tmp_path).verify().faults

    def full(self: object, recipient: str) -> None:
        raise OutputError("the disk is full")

    monkeypatch.setattr(GrantRecords, "escrowed", full)
    with pytest.raises(OutputError):
        write_escrow(tmp_path, passphrase=WORDS)


def test_bad_passphrases_and_changed_files_are_refused(tmp_path: Path) -> None:
    load_or_make_keys(tmp_path / "a")
    with pytest.raises(InputError, match="at least 12"):
        write_escrow(tmp_path / "a", passphrase="short")
    with pytest.raises(InputError, match="one of the two"):
        write_escrow(tmp_path / "a")
    data = write_escrow(tmp_path / "a", passphrase=WORDS)
    changed = data[:-1] + bytes([data[-1] ^ 1])
    for given, words in ((data, WORDS + "!"), (changed, WORDS)):
        with pytest.raises(InputError, match="not the one of this escrow file"):
            restore_escrow(given, tmp_path / "b", passphrase=words)
    with pytest.raises(InputError, match="Give it"):
        restore_escrow(data, tmp_path / "b")
    for given in (b"", b"PPIE", data[:20], b"x" + data[1:], data[:5] + b"\x09" + data[6:]):
        with pytest.raises(InputError, match="no escrow file"):
            restore_escrow(given, tmp_path / "b", passphrase=WORDS)
    with pytest.raises(InputError, match="has version 9"):
        restore_escrow(data[:4] + b"\x09" + data[5:], tmp_path / "b", passphrase=WORDS)
    assert not (tmp_path / "b" / "primis").exists()
