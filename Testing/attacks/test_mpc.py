"""The curious parties and the curious dealer of the secret-shared product, and what its masks are made of."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from algebra import correlation
from numpy.typing import NDArray
from recording import Record

from PPIRLogic.errors import ProtocolError
from PPIRLogic.network.channel import Message
from PPIRLogic.network.messages import PROTOCOL_VERSION
from PPIRLogic.registration.dealer import joining
from PPIRLogic.secure.mpc.one_time_masks import mask_of_columns, mask_of_operand
from PPIRLogic.secure.prg import Stream
from PPIRLogic.secure.product import Term

TERMS = [Term(0, "J", "gradient"), Term(1, "J", "value"), Term(1, "J2", "overlap")]
SAMPLES = 4000


@pytest.fixture
def crypten() -> None:
    """Installations on Python versions without torch come without mpc."""
    pytest.importorskip("torch")


def columns(seed: int) -> NDArray[np.int32]:
    return np.random.default_rng(seed).integers(-32767, 32768, (2, SAMPLES)).astype(np.int32)


def operands(seed: int) -> dict[str, NDArray[np.int32]]:
    j = np.random.default_rng(seed).integers(-2047, 2048, SAMPLES).astype(np.int32)
    j[0] = 2048  # the largest value is public
    return {"J": j, "J2": j * j}


def masked_blocks(opened: Any) -> list[NDArray[np.int64]]:
    """E = S − a of every evaluation, as party 2 receives it."""
    sent = [m for _, receiver, m in opened.sent if receiver == "party 2" and m.kind == "request"]
    return [np.frombuffer(m.payload, "<i8").reshape(2, SAMPLES) for m in sent]


# ------------------------------------------------------------------------------------- masks used twice


def test_a_mask_used_twice_shows_the_difference_of_two_columns() -> None:
    mask = mask_of_columns(b"K" * 32, 0, 7, 0, 2, SAMPLES)
    first, second = columns(1) - mask, columns(2) - mask
    assert np.array_equal(second - first, columns(2).astype(np.int64) - columns(1))


def test_two_evaluations_share_no_mask_and_one_cannot_be_repeated(
    exchange: Callable[..., Any], crypten: None, record: Record
) -> None:
    opened = exchange("mpc", operands(0))
    opened.evaluate(columns(1), TERMS, 0)
    opened.evaluate(columns(2), TERMS, 1)
    first, second = masked_blocks(opened)
    hidden = columns(2).astype(np.int64) - columns(1)
    assert abs(correlation(second - first, hidden)) < 6 / np.sqrt(hidden.size)
    assert abs(correlation(first, columns(1))) < 6 / np.sqrt(hidden.size)
    record(
        "a mask used twice, on a resume or a replay (curious party 2)",
        "E₂ − E₁ = S₂ − S₁ exactly",
        f"correlation {correlation(second - first, hidden):+.3f} (chance {6 / np.sqrt(hidden.size):.3f}); none twice",
    )
    with pytest.raises(ProtocolError, match="never used twice"):
        opened.evaluate(columns(3), TERMS, 1)
    assert len(masked_blocks(opened)) == 2


def test_masked_operands_show_nothing_of_the_image(exchange: Callable[..., Any], crypten: None, record: Record) -> None:
    """Nor of each other: J and J² have masks of their own."""
    values = operands(5)
    opened = exchange("mpc", values)
    opened.evaluate(columns(1), TERMS, 0)
    sent = [m for _, receiver, m in opened.sent if receiver == "party 1" and m.kind == "data"]
    j, j2 = (np.frombuffer(m.payload, "<i8") for m in sent)
    limit = 6 / np.sqrt(SAMPLES)
    assert abs(correlation(j, values["J"])) < limit and abs(correlation(j2, values["J2"])) < limit
    assert abs(correlation(j2 - j, values["J2"] - values["J"])) < limit
    record(
        "F = V − b of two operands (curious party 1)",
        "one mask for both: J² − J exactly",
        f"correlations {correlation(j, values['J']):+.3f}, {correlation(j2 - j, values['J2'] - values['J']):+.3f}"
        f" (chance {limit:.3f})",
    )
    shared = mask_of_operand(b"K" * 32, 0, "J", 0, SAMPLES)  # the variant with one mask for both
    assert correlation((values["J2"] - shared) - (values["J"] - shared), values["J2"] - values["J"]) > 0.999


# ------------------------------------------------------------------------------------- the dealer's view


def dealers_view(opened: Any) -> list[tuple[str, str, dict[str, Any], bytes]]:
    return sorted(((s, m.kind, m.data, m.payload) for s, receiver, m in opened.sent if receiver == "dealer"), key=repr)


def test_the_dealer_gets_sizes_and_nothing_that_depends_on_an_image(
    exchange: Callable[..., Any], crypten: None, record: Record
) -> None:
    views = []
    for seed in (1, 2):  # other images, other columns
        opened = exchange("mpc", operands(seed))
        for evaluation in range(2):
            opened.evaluate(columns(seed * 10 + evaluation), TERMS, evaluation)
        views.append(dealers_view(opened))
    assert views[0] == views[1]
    expected = {"level": 0, "samples": SAMPLES, "columns": 2, "outputs": 1, "terms": [[0, "J"], [1, "J"], [1, "J2"]]}
    assert [v[:2] for v in views[0]] == [("party 1", "order")] * 2  # party 2 says nothing
    assert [v[2] for v in views[0]] == [{**expected, "evaluation": e} for e in (0, 1)]
    assert all(v[3] == b"" for v in views[0])
    record(
        "the dealer's view of two pairs of images",
        "a dealer on the path, with F and E: both images exactly",
        "byte for byte the same: sizes, evaluations, names of the operands",
    )


def test_a_dealer_that_saw_masked_data_would_have_everything(exchange: Callable[..., Any], crypten: None) -> None:
    """Why it is not on the path: its keys open what the parties send each other."""
    values = operands(3)
    opened = exchange("mpc", values)
    opened.evaluate(columns(4), TERMS, 0)
    keys = opened._product.link.dealer_key, opened._side.link.dealer_key
    masked = next(m for _, receiver, m in opened.sent if receiver == "party 1" and m.kind == "data")
    fixed = np.frombuffer(masked.payload, "<i8") + mask_of_operand(keys[1], 0, "J", 0, SAMPLES)
    assert np.array_equal(fixed, values["J"])
    own = masked_blocks(opened)[0] + mask_of_columns(keys[0], 0, 0, 0, 2, SAMPLES)
    assert np.array_equal(own, columns(4))


def test_joining_the_dealer_tells_it_who_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[tuple[str, dict[str, Any], bytes]] = []
    channel = SimpleNamespace(send=lambda kind, data, payload=b"": said.append((kind, data, payload)), close=list)
    joined = Message("joined", {"key": b"k" * 32, "version": PROTOCOL_VERSION})
    monkeypatch.setattr(joining, "wait_for_message", lambda *args: joined)
    monkeypatch.setattr(joining, "connect", lambda *args, **options: channel)
    nobody = cast(Any, SimpleNamespace(fingerprint="own"))
    key = joining.join_dealer("host:1", nobody, nobody, b"s" * 32, 2, "their fingerprint", "dealer", lambda: None)[1]
    assert key == b"k" * 32
    told = {"session": b"s" * 32, "role": 2, "other": "their fingerprint", "version": PROTOCOL_VERSION}
    assert said == [("join", told, b"")]


# ---------------------------------------------------------------------------- what the masks are drawn from


def untempered(words: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """The state words behind outputs of the Mersenne Twister."""

    def undo_left(y: NDArray[np.uint32], shift: int, mask: int) -> NDArray[np.uint32]:
        out = y.copy()
        for _ in range(32 // shift + 1):
            out = y ^ ((out << np.uint32(shift)) & np.uint32(mask))
        return out

    def undo_right(y: NDArray[np.uint32], shift: int) -> NDArray[np.uint32]:
        out = y.copy()
        for _ in range(32 // shift + 1):
            out = y ^ (out >> np.uint32(shift))
        return out

    y = undo_left(undo_right(words, 18), 15, 0xEFC60000)
    return undo_right(undo_left(y, 7, 0x9D2C5680), 11)


def predicted(words: NDArray[np.uint32], count: int) -> NDArray[np.uint32]:
    """What follows 624 outputs, if they are a Mersenne Twister's."""
    clone = np.random.MT19937()
    clone.state = {"bit_generator": "MT19937", "state": {"key": untempered(words[:624]), "pos": 624}}
    return clone.random_raw(count).astype(np.uint32)


def test_the_next_masks_can_be_predicted_from_a_mersenne_twister_but_not_from_ours(record: Record) -> None:
    twister = np.random.MT19937(int.from_bytes(hashlib.sha256(b"unknown").digest(), "big"))
    seen = twister.random_raw(624 + 1000).astype(np.uint32)
    assert np.array_equal(predicted(seen, 1000), seen[624:])
    ours = Stream(b"unknown".ljust(32), "a", 0, 0, 0).words(624 + 1000).astype(np.uint32)
    guess = predicted(ours, 1000)
    record(
        "the next masks from 624 words of earlier ones",
        "Mersenne Twister, as CrypTen ships it: 1000 of 1000 predicted",
        f"AES-256-CTR: {np.count_nonzero(guess == ours[624:])} of 1000",
    )
    assert np.count_nonzero(guess == ours[624:]) <= 1  # 1000 chances of 2^-32
    assert abs(correlation(guess, ours[624:])) < 6 / np.sqrt(1000)


def test_torch_draws_from_such_a_twister() -> None:
    """Why CrypTen's own generator is not used."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(99)
    drawn = torch.empty(312 + 500, dtype=torch.int64).random_(-(2**63), None).numpy()  # two words each
    words = drawn.view(np.uint64)[:, None] >> np.array([32, 0], np.uint64)
    seen = words.reshape(-1).astype(np.uint32)
    assert np.array_equal(predicted(seen, 1000), seen[624:])
