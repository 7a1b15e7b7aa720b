"""The changes are changes, of every kind, and a file that was not changed opens."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import numpy as np
import pytest

from PPIRLogic.errors import InputError
from PPIRLogic.primis.attacks import tampering
from PPIRLogic.primis.attacks.public_views import new_key
from PPIRLogic.primis.sealed_file import open_codes, parse_file, seal_codes

PAYLOADS = [bytes([k]) * (50 + k) for k in range(5)]
KEY, OTHER_KEY = new_key(), new_key()
FILE, OTHER = (seal_codes(PAYLOADS, k, "00" * 32, (40, 40), "uint8") for k in (KEY, OTHER_KEY))


def test_every_change_changes_the_file_and_is_refused() -> None:
    assert open_codes(parse_file(FILE.to_bytes()), KEY) == PAYLOADS
    kinds = Counter()
    for kind, data in islice(tampering.tampered(FILE, OTHER, np.random.default_rng(0)), 700):
        kinds[kind] += 1
        assert data != FILE.to_bytes()
        with pytest.raises(InputError, match="sealed file"):
            open_codes(parse_file(data), KEY)
    assert set(kinds) == set(tampering.KINDS) and min(kinds.values()) == 100


def test_the_count_notices_a_file_that_opens(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sum(tampering.opened_anyway(FILE, OTHER, KEY, 70)[1].values()) == 0
    monkeypatch.setattr(tampering, "open_codes", lambda file, key: [])
    tried, opened = tampering.opened_anyway(FILE, OTHER, KEY, 70)
    assert sum(tried.values()) == 70 and opened["bit flipped"] > 0


def test_a_nonce_used_twice_gives_the_other_away() -> None:
    secret = [b"known to everybody, this one", b"and this one is a secret one"]
    bad = tampering.with_one_nonce(secret)
    assert tampering.read_by_xor(secret[0], bad[0], bad[1]) == secret[1]
    ours = [FILE.codes[0], OTHER.codes[0]]
    right = tampering.share_right(tampering.read_by_xor(PAYLOADS[0], ours[0], ours[1]), PAYLOADS[0])
    assert right < 0.15
