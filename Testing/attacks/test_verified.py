"""Parties that deviate, against `fhe_verified`: what is held, what is not, and that `fhe` does not hold it.

The tests named '…_is_a_known_limit' show what is given up; Docs/privacy/fhe_verified.md says the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from parties import Parties
from recording import Record

from PPIRLogic.disclosure.failed_checks import MAX_FAILURES, FailedChecks
from PPIRLogic.errors import PolicyError, ProtocolError, VerificationError
from PPIRLogic.secure.fhe import bfv, evaluator, key_holder, ring
from PPIRLogic.secure.fhe import verified as fhe_verified
from PPIRLogic.secure.fhe.bfv import ANSWER_BYTES
from PPIRLogic.secure.fhe.evaluator import Evaluator
from PPIRLogic.secure.fhe.parameters import PLAIN_MODULUS, PRIMES, Q_KEPT, Q
from PPIRLogic.secure.fhe.ring import DEGREE
from PPIRLogic.secure.fhe.verified import PAD, VerifiedFixed
from PPIRLogic.secure.product import Columns, Term

Array = NDArray[Any]
DIGITS = 29  # coefficients of the key in one crafted answer


def image(seed: int = 1) -> Columns:
    return np.random.default_rng(seed).integers(-2048, 2049, DEGREE).astype(np.int32)


def columns(seed: int = 0, rows: int = 1) -> Columns:
    return np.random.default_rng(seed).integers(-2000, 2001, (rows, DEGREE)).astype(np.int32)


def scaled(value: int) -> int:
    """The coefficient that stands for a plain value, modulo the two kept primes."""
    return (2 * Q_KEPT * value + PLAIN_MODULUS) // (2 * PLAIN_MODULUS) % Q_KEPT


def crafted(first: int, constant: int = 0) -> bytes:
    """A ciphertext of no product: key coefficients first … first + 28 as digits to the base 3, plus a constant."""
    c1 = np.zeros((2, DEGREE), np.uint32)
    for j in range(min(DIGITS, DEGREE - first)):
        value = scaled(3**j)
        c1[:, DEGREE - 1 - first - j] = value % PRIMES[0], value % PRIMES[1]
    return ring.pack30(c1).tobytes() + scaled(constant).to_bytes(8, "little")


def shifted(answer: bytes, by: int) -> bytes:
    """An answer with a plain constant added to its number."""
    value = (int.from_bytes(answer[-8:], "little") + scaled(by)) % Q_KEPT
    return answer[:-8] + value.to_bytes(8, "little")


def parts(request: bytes) -> list[bytes]:
    return [request[k : k + ANSWER_BYTES] for k in range(0, len(request), ANSWER_BYTES)]


# ------------------------------------------------------------------------------------ decryption as an oracle


def read_key(parties: Parties, second: Callable[[bytes], list[bytes]]) -> Array:
    """The key's coefficients that crafted requests yield; `second` makes what goes beside each crafted ciphertext."""
    pads = [int(v) for v in np.random.default_rng(0).integers(PLAIN_MODULUS, size=-(-DEGREE // DIGITS))]
    requests = [crafted(k * DIGITS, pad) for k, pad in enumerate(pads)]
    sent = b"".join(part for r in requests for part in [r, *second(r)])
    opened = Evaluator.unblind(np.array(parties.opened(sent, len(requests)), np.uint64), pads)
    digits = [v + (3**DIGITS - 1) // 2 for v in opened]
    return np.array([v // 3**j % 3 - 1 for v in digits for j in range(DIGITS)][:DEGREE])


def test_crafted_answers_give_the_key_under_fhe_and_nothing_here(record: Record) -> None:
    plain = Parties("fhe", image()).open()
    assert plain.two._keys is not None
    secret = plain.two._keys._ternary.copy()
    assert np.array_equal(read_key(plain, lambda r: []), secret)
    honest = columns()
    refused = 0
    companions: list[Callable[[bytes], list[bytes]]] = [
        lambda r: [r],
        lambda r: [crafted(0, 7)],
        lambda r: [bytes(ANSWER_BYTES)],
        lambda r: [parts(Parties("fhe_verified", image()).open().request(honest)[0])[1]],
    ]
    for second in companions[:3]:
        ours = Parties("fhe_verified", image()).open()
        with pytest.raises(VerificationError):
            read_key(ours, second)
        refused += 1
        with pytest.raises(VerificationError):  # nor later: key and factor are gone
            ours.opened(ours.request(honest)[0], 1)
        assert ours.two._keys is None and cast_fixed(ours)._factor == 0
    record(
        "decryption oracle (malicious party 1)",
        f"fhe: all {DEGREE} coefficients of the key from {-(-DEGREE // DIGITS)} numbers",
        f"fhe_verified: {refused} of {refused} strategies refused, no number released, key destroyed",
    )


def cast_fixed(parties: Parties) -> VerifiedFixed:
    assert isinstance(parties.two, VerifiedFixed)
    return parties.two


def test_one_forged_number_keeps_all_others_back() -> None:
    parties = Parties("fhe_verified", image()).open()
    request, _ = parties.request(columns(0, 6))
    forged = parts(request)
    forged[8] = crafted(0)
    with pytest.raises(VerificationError) as told:
        parties.opened(b"".join(forged), 6)
    assert str(told.value) == str(VerificationError()) and "4" not in str(told.value)  # not even which


# ------------------------------------------------------------------------------------------------- forgeries


def forged_by(shift: int, tries: int, rng: np.random.Generator) -> int:
    """How often a constant added to the first of two answers alone is accepted, a fresh level each time."""
    accepted = 0
    for _ in range(tries):
        parties = Parties("fhe_verified", image()).open()
        first, second = parts(parties.request(columns())[0])
        try:
            parties.opened(shifted(first, shift) + second, 1)
            accepted += 1
        except VerificationError:
            pass
    return accepted


def test_half_the_modulus_is_forged_if_it_is_even_and_never_with_the_prime(
    monkeypatch: pytest.MonkeyPatch, record: Record
) -> None:
    tries, rng = 24, np.random.default_rng(0)
    ours = forged_by(PLAIN_MODULUS // 2, tries, rng) + forged_by(PLAIN_MODULUS // 2 + 1, tries, rng)
    assert ours == 0
    even = 2**46
    for module in (bfv, key_holder, evaluator, fhe_verified):
        monkeypatch.setattr(module, "PLAIN_MODULUS", even, raising=False)
    monkeypatch.setattr(evaluator, "FLOOD", Q // (4 * even))
    monkeypatch.setitem(globals(), "PLAIN_MODULUS", even)
    accepted = forged_by(even // 2, tries, rng)  # whenever α is even
    assert 3 <= accepted <= 21
    record(
        "forgery by t/2", f"t = 2^46: accepted {accepted} of {tries}", f"t = 2^46 − 21, prime: {ours} of {2 * tries}"
    )


def test_answers_of_another_level_are_refused(record: Record) -> None:
    """Under fhe an answer to another level is opened (to noise); here it ends the level."""
    one, two = Parties("fhe", image(), 0).open(), Parties("fhe", image(), 1).open()
    assert len(two.opened(one.request(columns())[0], 1)) == 1
    first, second = Parties("fhe_verified", image(), 0).open(), Parties("fhe_verified", image(), 1).open()
    request, _ = first.request(columns())
    assert len(first.opened(request, 1)) == 1
    refused = 0
    with pytest.raises(VerificationError):
        second.opened(request, 1)
    refused += 1
    mixed = Parties("fhe_verified", image(), 0).open()  # the same level of another session: another key, another α
    with pytest.raises(VerificationError):
        mixed.opened(parts(mixed.request(columns())[0])[0] + parts(request)[1], 1)
    refused += 1
    record("level and session mixing", "fhe: opened without a word", f"fhe_verified: {refused} of 2 refused")


# ------------------------------------------------------------------------------------------ selective failure


def guess(parties: Parties, voxel: int, value: int) -> bool:
    """A request that passes its check if and only if J[voxel] = value; True if it passed."""
    probe = parties.totals(np.eye(1, DEGREE, voxel, dtype=np.int32))[:, :2]  # an encryption of J[voxel]
    total = parties.totals(columns())
    total[:, 2:] = (total[:, 2:] + probe) % np.array(PRIMES, np.uint64)[:, None]
    first, second = parts(parties.one._blind(total, 1)[0])
    try:
        parties.opened(first + shifted(second, -value), 1)
    except VerificationError:
        return False
    return True


def test_selective_failure_is_a_known_limit_that_three_failures_end(tmp_path: Any, record: Record) -> None:
    """A guess that is right passes and teaches what was guessed; one that is wrong ends the level and is on record."""
    values = image()
    assert guess(Parties("fhe_verified", values).open(), 5, int(values[5]))
    assert not guess(Parties("fhe_verified", values).open(), 5, int(values[5]) + 1)
    failures, learned, tried = FailedChecks(tmp_path), 0, 0
    rng = np.random.default_rng(9)
    for voxel in range(DEGREE):  # 12-bit voxels, guessed
        try:
            failures.check("peer")
        except PolicyError:
            break
        tried += 1
        if guess(Parties("fhe_verified", values).open(), voxel, int(rng.integers(-2048, 2049))):
            learned += 1
        else:
            failures.record("peer", "session")
    assert failures.count("peer") == MAX_FAILURES and tried <= MAX_FAILURES + 1 and learned <= 1
    record(
        "selective failure (guess a voxel)",
        "failures not recorded: a right guess passes, a wrong one costs a session, for ever",
        f"fhe_verified: blocked after {tried} guesses of 12 bits, {learned} right",
    )


# --------------------------------------------------------------------- what party 1 gives for it: a malicious party 2


def read_by_another_factor(voxel: int) -> tuple[int, int]:
    """Party 2 encrypts αJ + 1 at one voxel; what it reads of S there, and the truth."""
    parties, hidden = Parties("fhe_verified", image()), columns()
    two = cast_fixed(parties)
    honest, seen = two._values, []

    def dishonest(values: Columns, copy: int) -> NDArray[np.int64]:
        out = honest(values, copy)
        if copy and len(values) == DEGREE:
            out[voxel] += 1
        return out

    two._values = dishonest  # type: ignore[method-assign]
    parties.open()
    request, _ = parties.request(hidden)
    assert two._keys is not None
    first, second = (int(v) for v in two._keys.open(request, 2))
    seen = Evaluator.unblind(np.array([(second - two._factor * first) % PLAIN_MODULUS], np.uint64), [0])
    return seen[0], int(hidden[0, voxel])


def test_a_malicious_party_2_that_reads_one_number_of_s_per_answer_is_a_known_limit(record: Record) -> None:
    """And party 1 does not notice: party 2 answers as if nothing had happened."""
    read = [read_by_another_factor(voxel) for voxel in (3, 77, 8000)]
    assert all(seen == true for seen, true in read)
    record(
        "K ≠ αJ (malicious party 2)",
        "fhe: about one bit of S per number",
        "fhe_verified: one number of S per number (known limit)",
    )


def test_a_party_2_without_pads_reads_more_but_cannot_answer(exchange: Callable[..., Any]) -> None:
    """It encrypts zeros where the pad's digits belong, sees S·J, and has to guess what party 1 expects."""
    values, hidden = image(), columns()
    original = fhe_verified.pad_values
    fhe_verified.pad_values = lambda: original() * 0  # type: ignore[assignment]
    try:
        opened = exchange("fhe_verified", {"J": values})
        seen: list[int] = []
        read = opened._side._opened
        opened._side._opened = lambda: seen.extend(int(v) for v in read()) or np.array(seen, np.uint64)
        with pytest.raises(ProtocolError, match="larger than any image"):
            opened.evaluate(hidden, [Term(0, "J", "gradient")])
    finally:
        fhe_verified.pad_values = original  # type: ignore[assignment]
    assert Evaluator.unblind(np.array(seen, np.uint64), [0]) == [int(hidden[0].astype(np.int64) @ values)]


# ----------------------------------------------------------------------------------- the curious party 2, as in fhe


def test_pads_make_what_party_2_opens_uniform_and_new(record: Record) -> None:
    """Both numbers of an answer: uniform modulo t over many evaluations of one S, and never the product itself."""
    parties, hidden = Parties("fhe_verified", image()).open(), columns(0, 8)
    assert parties.two._keys is not None
    seen = np.array([parties.two._keys.open(parties.request(hidden)[0], 16) for _ in range(60)]).reshape(-1, 2)
    exact = hidden.astype(np.int64) @ parties.values.astype(np.int64)
    for part in range(2):
        bins = np.histogram(seen[:, part].astype(float), 8, (0, PLAIN_MODULUS))[0]
        assert ((bins - 60) ** 2 / 60).sum() < 35  # chi-squared, 7 degrees of freedom, p = 1e-5
    assert not set(seen[:, 0].tolist()) & {int(v) % PLAIN_MODULUS for v in exact}
    assert PAD in parties.one._operands
