"""Grants: for one recipient, one image, one level, until one day; and what a changed one is good for."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from primis_support import two_homes

from PPIRLogic.errors import InputError, TrustError
from PPIRLogic.network.identity import load_or_create_identity
from PPIRLogic.network.names import DEALER
from PPIRLogic.network.trust import TrustStore
from PPIRLogic.primis import grants
from PPIRLogic.primis.cards import own_card, read_card
from PPIRLogic.primis.grants import MAX_GRANT, MAX_PURPOSE, check_purpose, make_grant, open_grant, read_grant
from PPIRLogic.primis.keys import new_image_id, renew_keys, top_key
from PPIRLogic.primis.signing import identity_key, sign

IMAGE = new_image_id()
KEY = top_key(bytes(range(32)), IMAGE)


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return two_homes(tmp_path_factory.mktemp("sites"))


def granted(homes: tuple[Path, Path], level: int = 2, purpose: str = "lung study", days: int = 90) -> bytes:
    return make_grant(KEY.down_to(level), read_card(own_card(homes[1])), homes[0], purpose=purpose, days=days)


def test_a_grant_gives_its_recipient_the_key_of_its_level(homes: tuple[Path, Path]) -> None:
    for level in range(1, 6):
        assert open_grant(granted(homes, level), IMAGE, homes[1]) == KEY.down_to(level)


def test_a_grant_says_who_gave_what_to_whom_and_why(homes: tuple[Path, Path]) -> None:
    owner, recipient = (load_or_create_identity(home).fingerprint for home in homes)
    said = read_grant(granted(homes, 2, days=30)).to_dict()
    issued = said.pop("issued")
    assert abs(issued - time.time()) < 60  # type: ignore[operator]
    assert said == {
        "image": IMAGE.hex(), "level": "segmentation", "issuer": owner, "recipient": recipient,
        "purpose": "lung study", "expires": issued + 30 * 86_400,  # type: ignore[operator]
    }  # fmt: skip


def test_a_grant_has_at_most_400_bytes(homes: tuple[Path, Path]) -> None:
    assert len(granted(homes, 5, "é" * 60)) == 365 <= MAX_GRANT
    assert len(granted(homes, 5, "x")) == 246


def test_a_grant_holds_no_key_in_the_open(homes: tuple[Path, Path]) -> None:
    data = granted(homes, 3)
    assert not any(KEY.down_to(n).secret in data or KEY.down_to(n).sealing in data for n in range(1, 4))


@pytest.mark.parametrize("bad", ["", "  ", "x" * 121, "é" * 61, "two\nlines", "\x1b[2J", None, 7])
def test_a_purpose_is_one_line_of_printable_text(bad: object) -> None:
    with pytest.raises(InputError, match=f"1 to {MAX_PURPOSE} bytes"):
        check_purpose(bad)  # type: ignore[arg-type]


def test_another_recipient_s_grant_opens_nothing(homes: tuple[Path, Path], tmp_path: Path) -> None:
    third = tmp_path / "third"
    TrustStore(third).add(load_or_create_identity(homes[0]).fingerprint, "Hospital A")
    own_card(third)
    with pytest.raises(InputError, match="for another recipient"):
        open_grant(granted(homes), IMAGE, third)


def test_a_grant_of_another_image_opens_nothing(homes: tuple[Path, Path]) -> None:
    with pytest.raises(InputError, match="for another image"):
        open_grant(granted(homes), new_image_id(), homes[1])


def test_an_expired_grant_is_refused(homes: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    data, now = granted(homes, days=5), time.time()
    for days, words in ((6, "expired on"), (-2, "begins on")):
        monkeypatch.setattr(grants.time, "time", lambda days=days: now + days * 86_400)
        with pytest.raises(InputError, match=words):
            open_grant(data, IMAGE, homes[1])


def test_a_grant_of_an_issuer_who_is_not_trusted_is_refused(tmp_path: Path) -> None:
    owner, recipient = two_homes(tmp_path)
    data = granted((owner, recipient))
    store, issuer = TrustStore(recipient), load_or_create_identity(owner).fingerprint
    store.add(issuer, "Hospital A", DEALER)
    with pytest.raises(TrustError, match="not trusted here"):
        open_grant(data, IMAGE, recipient)
    store.remove(issuer)
    with pytest.raises(TrustError, match=f"ppir trust add {issuer}"):
        open_grant(data, IMAGE, recipient)


def test_any_change_of_a_grant_is_found(homes: tuple[Path, Path]) -> None:
    data = granted(homes)
    for at in range(len(data)):
        with pytest.raises(InputError):
            read_grant(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises(InputError):
            read_grant(data[:at])
    for longer in (data + b"\0", data + bytes(200)):
        with pytest.raises(InputError):
            read_grant(longer)


def test_a_recipient_cannot_raise_his_grant(homes: tuple[Path, Path]) -> None:
    """He may sign what he likes as himself: the wrapped key is bound to what stands before it."""
    data = bytearray(granted(homes, 1))
    data[5] = 5
    end = len(data) - 64
    forged = bytes(data[:end]) + sign(identity_key(homes[1]), b"PPIR primis grant", bytes(data[:end]))
    with pytest.raises(InputError, match="signature"):
        open_grant(forged, IMAGE, homes[1])
    own = bytearray(forged)
    own[30:63] = _point(homes[1])  # and calls himself the issuer
    own[end:] = sign(identity_key(homes[1]), b"PPIR primis grant", bytes(own[:end]))
    with pytest.raises(InputError, match="does not open"):
        open_grant(bytes(own), IMAGE, homes[1])


def _point(home: Path) -> bytes:
    from PPIRLogic.primis.signing import point_of

    return point_of(identity_key(home).public_key())


def test_former_grants_open_after_new_keys(tmp_path: Path) -> None:
    owner, recipient = two_homes(tmp_path)
    data = granted((owner, recipient))
    renew_keys(recipient)
    assert open_grant(data, IMAGE, recipient) == KEY.down_to(2)


def test_grants_of_one_key_have_nothing_in_common_but_what_they_say(homes: tuple[Path, Path]) -> None:
    one, two = (read_grant(granted(homes)).wrapped for _ in range(2))
    assert one[:33] != two[:33] and one[33:] != two[33:]
