"""Parties that deviate, against `fhe`: what is held, what is not, and that the unprotected variant does not hold it.

The tests named '…_is_a_known_limit' show what is given up; Docs/privacy/verified.md says the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from parties import Parties
from recording import Record
from unprotected import crafted, scaled

from PPIRLogic.disclosure.failed_checks import MAX_FAILURES, FailedChecks
from PPIRLogic.errors import PolicyError, PPIRError, VerificationError
from PPIRLogic.secure.fhe import bfv, evaluator, key_holder, protocol
from PPIRLogic.secure.fhe.bfv import answer_bytes, floor_modulo_t
from PPIRLogic.secure.fhe.parameters import KEPT, PLAIN_MODULUS, PRIMES, Q_KEPT
from PPIRLogic.secure.fhe.protocol import PAD
from PPIRLogic.secure.fhe.ring import DEGREE, crt, pack30, unpack30
from PPIRLogic.secure.product import Columns, Term

Array = NDArray[Any]
DIGITS = 28  # coefficients of the key in one crafted answer
ANSWER = answer_bytes(1, 2)


def image(seed: int = 1) -> Columns:
    return np.random.default_rng(seed).integers(-2048, 2049, DEGREE).astype(np.int32)


def columns(seed: int = 0, rows: int = 1) -> Columns:
    return np.random.default_rng(seed).integers(-2000, 2001, (rows, DEGREE)).astype(np.int32)


def moved(answer: bytes, first: int, second: int = 0) -> bytes:
    """An answer with plain constants added to its two numbers."""
    b = [int.from_bytes(answer[-24:-12], "little"), int.from_bytes(answer[-12:], "little")]
    sums = [(v + scaled(by)) % Q_KEPT for v, by in zip(b, (first, second), strict=True)]
    return answer[:-24] + b"".join(v.to_bytes(12, "little") for v in sums)


def uniform_numbers(count: int) -> Array:
    return np.random.default_rng(5).integers(0, PLAIN_MODULUS, count).astype(np.uint64)


# ------------------------------------------------------------------------------------ decryption as an oracle


def test_crafted_answers_give_the_key_without_the_test_and_nothing_here(record: Record) -> None:
    """A party 1 that deviates: within an everyday budget the key, and with it the image, if party 2 just opened."""
    parties = Parties(image()).open()
    secret = parties.two._keys[0]._ternary.copy()
    pads = [int(v) for v in uniform_numbers(-(-DEGREE // DIGITS))]
    sent = b"".join(crafted(k * DIGITS, pad, DIGITS, 2) for k, pad in enumerate(pads))
    opened = parties.seen(sent, len(pads))[:, 0]  # what a party 2 without the test would answer
    half = PLAIN_MODULUS // 2
    found = [(int(v) - pad + half) % PLAIN_MODULUS - half for v, pad in zip(opened, pads, strict=True)]
    digits = [v + (3**DIGITS - 1) // 2 for v in found]
    guess = np.array([v // 3**j % 3 - 1 for v in digits for j in range(DIGITS)][:DEGREE])
    assert np.array_equal(guess, secret)
    refused = 0
    for shown in (uniform_numbers(len(pads)), np.zeros(len(pads), np.uint64), np.array(pads, np.uint64)):
        ours = Parties(image()).open()
        with pytest.raises(VerificationError):
            ours.released(sent, len(pads), shown)
        refused += 1
        honest, _, right = ours.request(columns())
        with pytest.raises(VerificationError):  # nor later: keys and factor are gone
            ours.released(honest, 1, right)
        assert ours.two._keys == () and ours.two._factor == 0
    record(
        "decryption oracle (malicious party 1)",
        f"opened without the test: all {DEGREE} coefficients of the key from {len(pads)} numbers",
        f"fhe: {refused} of {refused} strategies refused, no number released, keys destroyed",
    )


def test_one_forged_number_keeps_all_others_back() -> None:
    parties = Parties(image()).open()
    request, _, secret = parties.request(columns(0, 6))
    forged = request[: 4 * ANSWER] + crafted(0, 0, DIGITS, 2) + request[5 * ANSWER :]
    with pytest.raises(VerificationError) as told:
        parties.released(forged, 6, secret)
    assert str(told.value) == str(VerificationError()) and "4" not in str(told.value)  # not even which


# ------------------------------------------------------------------------------------------------- forgeries


def forged_by(first: int, second: int, tries: int) -> int:
    """How often constants added to the two numbers of an answer are accepted, a fresh level each time."""
    accepted = 0
    for _ in range(tries):
        parties = Parties(image()).open()
        request, _, secret = parties.request(columns())
        try:
            parties.released(moved(request, first, second), 1, secret)
            accepted += 1
        except VerificationError:
            pass
    return accepted


def test_half_the_modulus_is_forged_if_it_is_even_and_never_with_the_prime(
    monkeypatch: pytest.MonkeyPatch, record: Record
) -> None:
    tries, half = 16, PLAIN_MODULUS // 2
    ours = forged_by(half, 0, tries) + forged_by(half + 1, 0, tries) + forged_by(half, half * 3, tries)
    assert ours == 0
    even = 2**46
    for module in (bfv, key_holder, evaluator, protocol):
        monkeypatch.setattr(module, "PLAIN_MODULUS", even, raising=False)
    monkeypatch.setattr("unprotected.PLAIN_MODULUS", even)
    accepted = forged_by(even // 2, 0, 24)  # whenever α is even
    assert 3 <= accepted <= 21
    record("forgery by t/2", f"t = 2^46: accepted {accepted} of 24", f"t = 2^46 − 21, prime: {ours} of {3 * tries}")


def test_answers_of_another_level_are_refused(record: Record) -> None:
    """Without the test an answer to another level is opened (to noise); here it ends the level."""
    one, two = Parties(image(), 0).open(), Parties(image(), 1).open()
    request, _, secret = one.request(columns())
    assert two.seen(request, 1).shape == (1, 2)
    assert len(one.released(request, 1, secret)) == 1
    with pytest.raises(VerificationError):
        two.released(request, 1, secret)
    mixed = Parties(image(), 0).open()  # the same level of another session: other keys, another α
    own, _, right = mixed.request(columns())
    with pytest.raises(VerificationError):
        mixed.released(own[:-12] + request[-12:], 1, right)
    record("level and session mixing", "no test: opened without a word", "fhe: 2 of 2 refused")


# ------------------------------------------------------------------------------------------ selective failure


def guess(parties: Parties, at: int, first: int, second: int) -> bool:
    """A request that passes its test if and only if these are coefficient `at` of both keys; True if it passed."""
    request, _, secret = parties.request(columns())
    c1 = unpack30(request[:-24]).reshape(KEPT, DEGREE).astype(np.int64)
    c1[:, DEGREE - 1 - at] += [scaled(1) % p for p in PRIMES[:KEPT]]
    c1 %= np.array(PRIMES[:KEPT])[:, None]
    bent = moved(ring_pack(c1) + request[-24:], -first, -second)
    try:
        parties.released(bent, 1, secret)
    except VerificationError:
        return False
    return True


def ring_pack(c1: Array) -> bytes:
    return bytes(pack30(c1.astype(np.uint32)).tobytes())


def test_selective_failure_is_a_known_limit_that_three_failures_end(tmp_path: Any, record: Record) -> None:
    """A guess that is right passes and teaches what was guessed; one that is wrong ends the level and is on record."""
    right = Parties(image()).open()
    keys = [[int(v) for v in k._ternary[:40]] for k in right.two._keys]
    assert all(guess(right, i, keys[0][i], keys[1][i]) for i in range(3))
    assert not guess(right, 3, keys[0][3] + 1, keys[1][3])
    failures, learned, tried = FailedChecks(tmp_path), 0, 0
    rng = np.random.default_rng(9)
    for at in range(DEGREE):  # one coefficient of both keys, guessed: 1 in 9
        try:
            failures.check("peer")
        except PolicyError:
            break
        tried += 1
        ours = Parties(image()).open()
        ours.two.test_through(lambda: failures.test("peer", "session"))
        learned += guess(ours, at, *(int(v) for v in rng.integers(-1, 2, 2)))
    assert failures.count("peer") == MAX_FAILURES and tried - learned == MAX_FAILURES
    record(
        "selective failure (guess a coefficient of both keys)",
        "failures not recorded: a right guess passes, a wrong one costs a session, for ever",
        f"fhe: blocked after {tried} guesses, {learned} right (known limit)",
    )


def test_a_pad_on_the_edge_of_a_step_tells_one_bit_of_noise_at_a_risk_of_one_half_is_a_known_limit(
    record: Record,
) -> None:
    """Party 1 chooses R₁ so that x is one less if the noise is negative, and shows r₂ as if it were not."""
    parties, tries, passed = Parties(image()).open(), 40, 0
    for _ in range(tries):
        parties = parties if parties.two._keys else Parties(image()).open()
        exact = int(columns()[0].astype(np.int64) @ parties.values.astype(np.int64)) % PLAIN_MODULUS
        request, (pad,), secret = parties.request(columns())
        step = -(-Q_KEPT * (floor_modulo_t(pad) + exact) // PLAIN_MODULUS) - Q_KEPT * exact // PLAIN_MODULUS
        b = (int.from_bytes(request[-24:-12], "little") + step - pad) % Q_KEPT
        try:
            parties.released(request[:-24] + b.to_bytes(12, "little") + request[-12:], 1, secret)
            passed += 1
        except VerificationError:
            pass
    assert 6 <= passed <= 34
    record(
        "a pad on the edge of a step (malicious party 1)",
        "no record of failures: one bit of noise per answer, for ever",
        f"fhe: one bit of noise at a risk of one half ({passed} of {tries} passed), three failures (known limit)",
    )


# ------------------------------------------------------------------------------------- a malicious party 2


def test_k_other_than_alpha_j_reads_s_only_if_r2_is_known(exchange: Callable[..., Any], record: Record) -> None:
    """Party 2 encrypts αJ + D, D one voxel: y − α·x = r₂ + S_D. What it sees is uniform, and party 1 notices."""
    at, hidden, read, seen = 77, columns(0, 8), 0, []
    for _ in range(12):
        parties = Parties(image())
        _encrypt_besides(parties, at)
        parties.open()
        request, _, secret = parties.request(hidden)
        opened = parties.seen(request, 8).astype(object)
        gap = [(int(y) - parties.two._factor * int(x)) % PLAIN_MODULUS for x, y in opened]
        former = [(g - int(r)) % PLAIN_MODULUS for g, r in zip(gap, secret, strict=True)]  # the former form showed r₂
        read += [f - PLAIN_MODULUS if f > PLAIN_MODULUS // 2 else f for f in former] == hidden[:, at].tolist()
        seen += gap
    assert read == 12
    bins = np.histogram(np.array(seen, float), 8, (0, PLAIN_MODULUS))[0]
    assert ((bins - 12) ** 2 / 12).sum() < 35  # chi-squared, 7 degrees of freedom, p = 1e-5
    opened_level = exchange("fhe", {"J": image()})
    opened_level._side._factor += 1  # what it opens no longer fits what it sent
    with pytest.raises(PPIRError):
        opened_level.evaluate(hidden, [Term(0, "J", "gradient")])
    record(
        "K ≠ αJ (malicious party 2)",
        "r₂ shown, as up to version 2: 96 of 96 numbers of S exactly",
        "fhe: y − αx uniform; one guess of it per test, and party 1 notices a wrong one",
    )


def _encrypt_besides(parties: Parties, voxel: int) -> None:
    """Party 2 encrypts αJ + 1 at one voxel of its second copy."""
    two = parties.two
    honest = two._send_operand

    def dishonest(name: str, values: Array, multiplied: Array) -> None:
        if name == PAD:
            return honest(name, values, multiplied)
        spoiled = multiplied.astype(np.int64).copy()
        spoiled[voxel] = (int(spoiled[voxel]) + pow(two._factor, -1, PLAIN_MODULUS)) % PLAIN_MODULUS
        return honest(name, values, spoiled)

    two._send_operand = dishonest  # type: ignore[method-assign]


def phases(parties: Parties, request: bytes, count: int) -> Array:
    """All that party 2 sees beside c1: the phase of every coefficient, as a fraction of Q', (count, 2)."""
    out = []
    for k in range(count):
        part = request[k * ANSWER : (k + 1) * ANSWER]
        c1 = unpack30(part[:-24]).reshape(KEPT, DEGREE).astype(np.int64)
        row = []
        for i, holder in enumerate(parties.two._keys):
            dots = [int(c @ holder._ternary[::-1].astype(np.int64)) % p for c, p in zip(c1, PRIMES[:KEPT], strict=True)]
            b = int.from_bytes(part[len(part) - 24 + 12 * i :][:12], "little")
            row.append((b + crt(dots, PRIMES[:KEPT])) % Q_KEPT / Q_KEPT)
        out.append(row)
    return np.array(out)


def test_spoiled_pads_read_s_from_padded_digits_and_nothing_here(record: Record) -> None:
    """Party 2 encrypts one voxel in both copies and zeros where the pads' digits belong, and has the same S sent again
    and again, as if the connection were lost. Up to version 2 the digits were the only pad of a number.
    """
    values = np.zeros(DEGREE, np.int32)
    values[777] = 1
    parties, hidden = Parties(values), columns(0, 8)
    honest = parties.two._send_operand
    parties.two._send_operand = lambda name, v, m: honest(name, v, 0 * m if name == PAD else m)  # type: ignore[method-assign]
    parties.open()
    totals, true = parties.totals(hidden), hidden[:, 777].astype(np.int64)
    assert parties.one._evaluator is not None
    middle = [Q_KEPT // (2 * PLAIN_MODULUS)] * 16
    former = parties.seen(parties.one._evaluator.hide(totals, middle), 8)[:, 0].astype(np.int64)
    assert np.array_equal(np.where(former > PLAIN_MODULUS // 2, former - PLAIN_MODULUS, former), true)
    requests = 50
    seen = np.concatenate([phases(parties, parties.request(hidden)[0], 8) for _ in range(requests)])
    opened = np.concatenate([parties.seen(parties.request(hidden)[0], 8)[:, 0] for _ in range(requests)])
    for part in range(2):
        bins = np.histogram(seen[:, part], 16, (0, 1))[0]
        assert ((bins - 25) ** 2 / 25).sum() < 52  # chi-squared, 15 degrees of freedom, p = 5e-6
        assert abs(np.exp(2j * np.pi * seen[:, part]).mean()) * np.sqrt(len(seen)) < 3.7
    right = int(np.sum(opened == np.tile(true % PLAIN_MODULUS, requests).astype(np.uint64)))
    assert right == 0
    record(
        "spoiled pads, the same S sent 50 times (malicious party 2 that drops the line)",
        "pads by digits alone, as up to version 2: 8 of 8 values of S from one request",
        f"fhe: {right} of {len(opened)}; phases uniform",
    )


def test_pads_make_what_party_2_opens_uniform_and_new() -> None:
    """Both numbers of an answer: uniform modulo t over many evaluations of one S, and never the product itself."""
    parties, hidden = Parties(image()).open(), columns(0, 8)
    seen = np.concatenate([parties.seen(parties.request(hidden)[0], 8) for _ in range(60)])
    exact = hidden.astype(np.int64) @ parties.values.astype(np.int64)
    for part in range(2):
        bins = np.histogram(seen[:, part].astype(float), 8, (0, PLAIN_MODULUS))[0]
        assert ((bins - 60) ** 2 / 60).sum() < 35  # chi-squared, 7 degrees of freedom, p = 1e-5
    assert not set(seen[:, 0].tolist()) & {int(v) % PLAIN_MODULUS for v in exact}


def test_honest_numbers_pass_their_test_and_are_exact() -> None:
    parties, exact = Parties(image()).open(), columns(0, 8).astype(np.int64) @ image().astype(np.int64)
    assert all(parties.product(columns(0, 8)) == exact.tolist() for _ in range(6))
