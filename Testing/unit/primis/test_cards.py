"""A site's card: what it says, that it is signed, and whose cards grants are made for."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from primis_support import two_homes

from PPIRLogic.errors import InputError, TrustError
from PPIRLogic.network.identity import load_or_create_identity
from PPIRLogic.network.names import DEALER
from PPIRLogic.network.trust import TrustStore
from PPIRLogic.primis import cards
from PPIRLogic.primis.cards import MAX_CARD, own_card, read_card, trusted_card
from PPIRLogic.primis.keys import load_keys, renew_keys
from PPIRLogic.primis.signing import point_of


def test_a_card_says_whose_it_is_and_holds_no_secret(tmp_path: Path) -> None:
    identity = load_or_create_identity(tmp_path, "Clinique Élan")
    data = own_card(tmp_path, days=30)
    card, ring = read_card(data), load_keys(tmp_path)
    assert (card.name, card.fingerprint) == ("Clinique Élan", identity.fingerprint)
    assert card.expires - card.issued == 30 * 86_400 and abs(card.issued - time.time()) < 60
    assert card.point == point_of(ring.private_keys()[0].public_key())
    assert not any(secret in data for secret in (*ring.masters, *ring.encryption))
    assert card.point not in identity.certificate_file.read_bytes(), "it is not the TLS key"


def test_the_longest_name_fits(tmp_path: Path) -> None:
    load_or_create_identity(tmp_path, "é" * 32)
    data = own_card(tmp_path)
    assert len(data) <= MAX_CARD and read_card(data).name == "é" * 32


def test_any_change_of_a_card_is_found(tmp_path: Path) -> None:
    data = own_card(tmp_path)
    for at in range(len(data)):
        with pytest.raises(InputError):
            read_card(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
        with pytest.raises(InputError):
            read_card(data[:at])
    with pytest.raises(InputError, match="signature"):
        read_card(data + b"\0")


def test_a_card_holds_from_its_day_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, now = own_card(tmp_path, days=2), time.time()
    for days, words in ((3, "expired on"), (-2, "still to come")):
        monkeypatch.setattr(cards.time, "time", lambda days=days: now + days * 86_400)
        with pytest.raises(InputError, match=words):
            read_card(data)
    monkeypatch.setattr(cards.time, "time", lambda: now - 3600)  # the other clock is a little ahead
    assert read_card(data).name


@pytest.mark.parametrize("days", [0, -1, 3651, 1.5, True, "9"])
def test_a_number_of_days_that_is_none_is_refused(tmp_path: Path, days: object) -> None:
    with pytest.raises(InputError, match="whole number from 1 to 3650"):
        own_card(tmp_path, days=days)  # type: ignore[arg-type]


def test_only_the_card_of_a_trusted_peer_is_taken(tmp_path: Path) -> None:
    owner, recipient = two_homes(tmp_path)
    data = own_card(recipient)
    assert trusted_card(data, owner).name == "Hospital B"
    store, fingerprint = TrustStore(owner), read_card(data).fingerprint
    store.add(fingerprint, "Hospital B", DEALER)
    with pytest.raises(TrustError, match="trusted as a dealer"):
        trusted_card(data, owner)
    store.remove(fingerprint)
    with pytest.raises(TrustError, match=f"ppir trust add {fingerprint}"):
        trusted_card(data, owner)


def test_a_peer_is_called_what_it_is_called_here(tmp_path: Path) -> None:
    owner, recipient = two_homes(tmp_path)
    card = own_card(recipient)
    TrustStore(owner).add(read_card(card).fingerprint, "the other site")
    assert trusted_card(card, owner).name == "the other site"


def test_new_keys_make_another_card(tmp_path: Path) -> None:
    former = read_card(own_card(tmp_path))
    renew_keys(tmp_path)
    now = read_card(own_card(tmp_path))
    assert now.fingerprint == former.fingerprint and now.point != former.point and now.key_id != former.key_id
