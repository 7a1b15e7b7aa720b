"""The curious key holder (party 2) and the curious evaluator (party 1) of the encrypted product.

Every attack is run on a variant without the protection, where it must succeed, and on what we send. Parties that
deviate are in test_verified.py and, for products voxel by voxel, in test_slots.py.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from algebra import backward, correlation, forward, negacyclic, power, undo
from numpy.typing import NDArray
from recording import Record
from scipy import stats
from unprotected import with_floods, with_pads_alone

from PPIRLogic.disclosure.accounts import UNLIMITED, Budget, ImageAccount
from PPIRLogic.errors import BudgetError
from PPIRLogic.registration.session import entries_of
from PPIRLogic.secure.fhe import bfv, ring
from PPIRLogic.secure.fhe.bfv import C1_BYTES, CHUNK_BYTES, GROUP, answer_bytes
from PPIRLogic.secure.fhe.evaluator import Accumulator, Evaluator, Operand
from PPIRLogic.secure.fhe.key_holder import KeyHolder
from PPIRLogic.secure.fhe.parameters import KEPT, PLAIN_MODULUS, PRIMES, Q_KEPT, Q
from PPIRLogic.secure.fhe.protocol import BITS
from PPIRLogic.secure.fhe.ring import DEGREE, crt
from PPIRLogic.secure.layout import LANES
from PPIRLogic.secure.product import Term

SEED = bytes(range(32))
ANSWER_BYTES = answer_bytes()
CHANCE = 6 / np.sqrt(DEGREE)  # six standard errors of the correlation of unrelated vectors
Array = NDArray[Any]


def secret_column(seed: int = 0, rows: int = 1) -> NDArray[np.int32]:
    return np.random.default_rng(seed).integers(-32767, 32768, (rows, DEGREE)).astype(np.int32)


def image(seed: int = 1) -> NDArray[np.int32]:
    return np.random.default_rng(seed).integers(-2048, 2049, DEGREE).astype(np.int32)


class Run:
    """One chunk of a fixed image, encrypted, and party 1's accumulated products with its columns."""

    def __init__(self, columns: NDArray[np.int32], values: NDArray[np.int32]) -> None:
        self.holder, self.columns, self.values = KeyHolder(SEED), columns, values
        self.evaluator = Evaluator(SEED, self.holder.public_key().tobytes())
        self.operand = Operand(1)
        self.operand.fill(SEED, "J", 0, 0, self.holder.encrypt(values, "J", 0).tobytes())

    def totals(self) -> NDArray[np.uint64]:
        accumulator, block = Accumulator(len(self.columns)), np.zeros((len(self.columns), GROUP), np.int32)
        block[:, :DEGREE] = self.columns
        for k in range(len(self.columns)):
            accumulator.add(block, [k], self.operand.data[0], [k])
        return accumulator.total


def divided(c1: Array) -> Array:
    """c1 / a modulo the first prime, for the public polynomial a of the chunk; S comes out in reversed order."""
    prime = PRIMES[0]
    a = bfv.uniform_polynomial(SEED, "J", 0)[0].astype(np.uint64)
    return backward(c1 * power(a, prime - 2, prime) % np.uint64(prime), prime)[::-1]


def all_coefficients(lanes: Array, lane: int) -> list[int]:
    """(primes, n, lanes) residues of coefficients to integers modulo Q."""
    total = sum(lanes[i, :, lane].astype(object) * ((Q // p) * pow(Q // p, -1, p)) for i, p in enumerate(PRIMES))
    return [int(v) % Q for v in total]


# --------------------------------------------------------------------------- 1. S from the second polynomial


def test_s_cannot_be_divided_out_of_c1(record: Record) -> None:
    run = Run(secret_column(), image())
    totals = run.totals()
    bare = divided(totals[0, 1, 0])  # c1 = Σ S·a as the product leaves it
    assert np.array_equal(bare, run.columns[0])
    blinded = run.evaluator._rerandomised(totals)[1, 0, :, 0]  # more than what travels: before the modulus switch
    assert abs(correlation(divided(forward(blinded, PRIMES[0])), run.columns[0])) < CHANCE
    answer, _ = run.evaluator.blind(totals)
    travels = ring.unpack30(answer[:C1_BYTES]).reshape(KEPT, DEGREE)[0].astype(np.uint64)
    lifted = travels * np.uint64(PRIMES[3] % PRIMES[0]) % np.uint64(PRIMES[0])
    ours = correlation(divided(forward(lifted, PRIMES[0])), run.columns[0])
    assert abs(ours) < CHANCE
    record(
        "S from the second polynomial of an answer (curious party 2)",
        "no fresh encryption of zero: S exactly",
        f"correlation {ours:+.3f} (chance {CHANCE:.3f})",
    )


def test_c1_of_an_answer_is_uniform_and_new_every_time() -> None:
    run = Run(secret_column(), image())
    answers = [run.evaluator.blind(run.totals())[0] for _ in range(2)]
    c1 = [ring.unpack30(a[:C1_BYTES]).reshape(KEPT, DEGREE) for a in answers]
    for part in range(KEPT):
        assert stats.kstest(c1[0][part] / PRIMES[part], "uniform").pvalue > 1e-6
        assert abs(correlation(c1[0][part], c1[1][part])) < CHANCE
    assert answers[0][C1_BYTES:] != answers[1][C1_BYTES:]


# ------------------------------------------------------------------------------------- 2. S from the noise


def noise_of(phases: list[int], plain: Array) -> Array:
    """Phase less Q/t times the plain value, centred; the pad drops out with the plain value."""
    out = []
    for value, m in zip(phases, plain, strict=True):
        error = (value * PLAIN_MODULUS - Q * int(m)) % (Q * PLAIN_MODULUS)
        out.append((error - Q * PLAIN_MODULUS if error > Q * PLAIN_MODULUS // 2 else error) / PLAIN_MODULUS)
    return np.array(out, float)


def phases_of(c0: Array, c1: Array, secret: Array) -> list[int]:
    """Of one polynomial pair in the transform domain, (primes, n) each."""
    p = np.array(PRIMES, np.uint64)[:, None]
    total = (c0.astype(np.uint64) + c1.astype(np.uint64) % p * secret) % p
    lanes = np.stack([backward(total[i], prime) % prime for i, prime in enumerate(PRIMES)])
    return all_coefficients(lanes[..., None], 0)


def known_errors(run: Run) -> Array:
    """What the key holder knows of its own encryption: e, with the rounding of the scaled values."""
    data = run.operand.data[0].reshape(2, len(PRIMES), DEGREE, LANES)[..., 0]
    return noise_of(phases_of(data[0], data[1], run.holder._secret), run.values)


def test_s_cannot_be_divided_out_of_the_noise(record: Record) -> None:
    """Returning all of c0, padded modulo t, shows S·e in every coefficient; ours shows one, under a full pad."""
    run = Run(secret_column(), image())
    lanes = run.evaluator._rerandomised(run.totals())  # c1 is masked, nothing else is done
    product = np.rint(undo(negacyclic(run.columns[0][::-1].astype(float)) * negacyclic(run.values.astype(float))))
    c0, c1 = (np.stack([forward(lanes[k, i, :, 0], p) for i, p in enumerate(PRIMES)]) for k in range(2))
    noise = noise_of(phases_of(c0, c1, run.holder._secret), product)
    recovered = undo(negacyclic(noise) / negacyclic(known_errors(run)))[::-1]
    bare = correlation(recovered, run.columns[0])
    assert bare > 0.99
    record(
        "S from the noise of all coefficients (curious party 2)",
        f"whole c0 returned, padded: correlation {bare:.4f}",
        "one coefficient of 8192 travels",
    )
    answer, _ = run.evaluator.blind(run.totals())
    assert len(answer) == ANSWER_BYTES == 3 * DEGREE * 15 // 4 + 12  # c1, and 12 bytes of c0


def beside_the_number(run: Run, answers: bytes) -> list[float]:
    """What the key holder sees of each phase beside the padded number, in steps Q'/t, centred."""
    out = []
    turned = run.holder._ternary[::-1].astype(np.int64)
    for k in range(len(answers) // ANSWER_BYTES):
        part = answers[k * ANSWER_BYTES : (k + 1) * ANSWER_BYTES]
        kept = ring.unpack30(part[:C1_BYTES]).reshape(KEPT, DEGREE).astype(np.int64)
        dots = [int(c @ turned) % p for c, p in zip(kept, PRIMES[:KEPT], strict=True)]
        phase = (int.from_bytes(part[C1_BYTES:], "little") + crt(dots, PRIMES[:KEPT])) % Q_KEPT
        below = phase * PLAIN_MODULUS % Q_KEPT
        out.append((below if 2 * below < Q_KEPT else below - Q_KEPT) / Q_KEPT)
    return out


def test_the_noise_of_the_one_coefficient_is_not_to_be_seen(record: Record) -> None:
    """Over many answers the key holder compares the error it sees with the S·e it would see of a guessed S."""
    count, bare, ours, predicted = 240, [], [], []
    run = Run(secret_column(0, 8), image())
    errors = known_errors(run)
    for start in range(0, count, 8):
        run.columns = secret_column(100 + start, 8) << 14  # so that S·e is more than the rounding of the switch
        predicted += (run.columns.astype(float) @ errors).tolist()
        totals = run.totals()
        with with_pads_alone():
            bare += beside_the_number(run, run.evaluator.blind(totals)[0])
        ours += beside_the_number(run, run.evaluator.blind(totals)[0])
    record(
        "S·e from the noise of the returned coefficients, 240 answers (curious party 2)",
        f"pad modulo t alone: correlation {correlation(bare, predicted):.4f}",
        f"correlation {correlation(ours, predicted):+.3f} (chance {6 / np.sqrt(count):.3f})",
    )
    assert correlation(bare, predicted) > 0.95
    assert abs(correlation(ours, predicted)) < 6 / np.sqrt(count)
    assert stats.kstest(np.array(ours) + 0.5, "uniform").pvalue > 1e-6


# ----------------------------------------------------------------------- 3. a public key that does not mask


def test_a_key_holder_cannot_choose_polynomials_that_do_not_mask(record: Record) -> None:
    """With pk1 = 0 and a c1 of its choice (both taken from the wire) party 2 reads S off the answer."""
    run = Run(secret_column(), image())
    scale = PRIMES[3]  # what the modulus switch divides by
    for i, prime in enumerate(PRIMES):  # the chosen c1: a constant that survives the modulus switch
        ring_constant = np.zeros(GROUP, np.uint32)
        ring_constant[::LANES] = scale % prime
        run.operand.data[0, 1, i] = ring_constant
    seeded = run.evaluator._public[1].copy()
    run.evaluator._public[1] = 0
    answer, _ = run.evaluator.blind(run.totals())

    def read(answer: bytes) -> Array:
        """The small polynomial that party 2 hopes to see; a residue modulo p0 alone is enough for 16 bits."""
        values = ring.unpack30(answer[:C1_BYTES]).reshape(KEPT, DEGREE)[0].astype(np.int64)
        return np.where(values > PRIMES[0] // 2, values - PRIMES[0], values)[::-1]

    assert np.array_equal(read(answer), run.columns[0])
    run.evaluator._public[1] = seeded  # ours, against the same chosen c1
    answer, _ = run.evaluator.blind(run.totals())
    ours = correlation(read(answer), run.columns[0])
    assert abs(ours) < CHANCE
    record(
        "a public key with pk1 = 0 (malicious party 2)",
        "key taken from the wire: S exactly",
        f"polynomials from the joint seed: correlation {ours:+.3f} (chance {CHANCE:.3f})",
    )
    assert stats.kstest(read(answer)[::-1] % PRIMES[0] / PRIMES[0], "uniform").pvalue > 1e-6


@pytest.mark.parametrize("fill", [0, 1, 0x55])
def test_nothing_from_the_wire_reaches_the_masking_polynomials(fill: int) -> None:
    sent = bytes([fill]) * CHUNK_BYTES
    evaluator, operand = Evaluator(SEED, sent), Operand(1)
    operand.fill(SEED, "J", 5, 0, sent)
    assert np.array_equal(evaluator._public[1], bfv.uniform_polynomial(SEED, "public"))
    c1 = operand.data[0, 1].reshape(len(PRIMES), DEGREE, LANES)[..., 0]
    assert np.array_equal(c1, bfv.uniform_polynomial(SEED, "J", 5))
    for i, prime in enumerate(PRIMES):
        assert stats.kstest(evaluator._public[1, i] / prime, "uniform").pvalue > 1e-6


def test_either_party_alone_changes_the_masking_polynomials() -> None:
    ours = [bfv.joint_seed(b"s" * 32, 0, bytes([k]) * 32, b"chosen by party 2".ljust(32)) for k in range(3)]
    drawn = [bfv.uniform_polynomial(seed, "public")[0].astype(float) for seed in ours]
    assert max(abs(correlation(drawn[i], drawn[j])) for i in range(3) for j in range(i)) < CHANCE


# ------------------------------------------------------------------- 4. more than one voxel in a number


def packed_columns(first: int, count: int, voxels: int) -> NDArray[np.int32]:
    """Columns of a curious party 1: each opens three voxels at once, as digits to the base 4097."""
    columns = np.zeros((count, voxels), np.int32)
    for k in range(count):
        at = first + 3 * k
        columns[k, at : at + 3] = (1, 4097, 4097**2)
    return columns


def unpacked(value: int) -> list[int]:
    value += 2048 * (1 + 4097 + 4097**2)
    return [value % 4097 - 2048, value // 4097 % 4097 - 2048, value // 4097**2 - 2048]


def test_one_number_can_carry_three_voxels_so_bits_are_counted(
    exchange: Callable[..., Any], tmp_path: Path, record: Record
) -> None:
    fixed = np.random.default_rng(3).integers(-2048, 2049, 6000).astype(np.int32)
    terms = [Term(k, "J", "gradient") for k in range(8)]
    opened = exchange("fhe", {"J": fixed})

    def steal(account: ImageAccount) -> int:
        """Voxels read exactly before the budget ends it."""
        read = 0
        for evaluation in range(100):
            name = f"request {evaluation}"
            try:
                account.spend(entries_of(terms, BITS, 1, evaluation, name), "s", fixed.size, 8 * evaluation)
            except BudgetError:
                return read
            values = opened.evaluate(packed_columns(read, 8, fixed.size), terms, evaluation)
            found = [v for value in values for v in unpacked(value)]
            assert found == fixed[read : read + 24].tolist()
            read += 24
        raise AssertionError("never refused")

    by_numbers = steal(ImageAccount(tmp_path / "a", Budget(5.0, 100.0, UNLIMITED, UNLIMITED)))
    by_bits = steal(ImageAccount(tmp_path / "b", Budget(100.0, 5.0, UNLIMITED, UNLIMITED)))
    by_default = steal(ImageAccount(tmp_path / "c", Budget(numbers_per_session=UNLIMITED, numbers_per_image=UNLIMITED)))
    record(
        "S that packs three voxels into a number (party 1 within its budget)",
        f"a budget of 5 % in numbers alone: {100 * by_numbers / fixed.size:.1f} % of the voxels, exactly",
        f"5 % in bits as well: {100 * by_bits / fixed.size:.1f} % (known limit: what is counted is what is read)",
    )
    assert by_numbers == 888 > 0.14 * fixed.size  # 5 % of the numbers, nearly 15 % of the voxels
    assert by_bits == 216 <= 0.05 * fixed.size  # 5 % of the bits
    assert by_default == by_numbers  # 20 % of the bits are hardly less than 5 % of the numbers, of 46 bits each


# ------------------------------------------------------------------------- 5. a lost answer as an oracle


def test_another_request_for_the_same_evaluation_is_a_new_count(
    exchange: Callable[..., Any], tmp_path: Path, record: Record
) -> None:
    """Party 1 claims that its answer was lost, and sends another S under the same number."""
    fixed = image()[:500]
    opened = exchange("fhe", {"J": fixed})
    terms, digests = [Term(0, "J", "gradient")], []
    receive = opened._side.receive
    opened._side.receive = lambda header, terms: digests.append(receive(header, terms)) or digests[-1]
    stolen = [opened.evaluate(np.eye(1, 500, k, dtype=np.int32), terms, 0)[0] for k in range(6)]
    assert stolen == fixed[:6].tolist()  # the same evaluation every time: what must be counted
    assert len(set(digests)) == 6

    def numbers(name: Callable[[bytes], str]) -> int:
        account = ImageAccount(tmp_path / name(b"x").replace("/", ""), Budget(100, 100, UNLIMITED, UNLIMITED))
        for digest in [*digests, digests[0], digests[3]]:
            account.spend(entries_of(terms, BITS, 1, 0, name(digest)), "s", 500, 0)
        return account.total

    record(
        "a 'lost' answer asked again with another S (party 1)",
        "counted by evaluation: six numbers for the price of one",
        "counted by content: six for six, identical repeats free",
    )
    assert numbers(lambda digest: "evaluation 0") == 1  # keyed by number: six values for the price of one
    assert numbers(lambda digest: digest.hex()) == 6  # keyed by content: each once, repeats free


# ---------------------------------------------------------------------------- 6. phases that were moved on purpose


def seen_beside(error: int, kind: Callable[[], Any]) -> tuple[list[float], list[int]]:
    """What party 2 sees beside 160 numbers if it adds error·X^5 to its ciphertext, and S_5 of each."""
    run = Run(secret_column(0, 8), np.zeros(DEGREE, np.int32))
    bump = np.zeros(DEGREE, np.int64)
    for i, prime in enumerate(PRIMES):
        bump[5] = error % prime
        lane = run.operand.data[0, 0, i].reshape(DEGREE, LANES)[:, 0]
        lane[:] = (lane + forward(bump, prime)) % prime
    seen: list[float] = []
    hidden: list[int] = []
    for start in range(20):
        run.columns = secret_column(start, 8)
        with kind():
            seen += beside_the_number(run, run.evaluator.blind(run.totals())[0])
        hidden += run.columns[:, 5].tolist()
    return seen, hidden


def test_a_moved_phase_shows_through_a_flood_and_not_through_a_full_pad(record: Record) -> None:
    """Party 2 adds 2^57·X^5 to its own ciphertext: S_5·2^57 then reaches as far as a flood of ±2^72.

    What it sees at the edge of the flood or beyond has the sign of S_5 in 99 of 100 cases. Under a pad uniform modulo
    Q' the whole phase is uniform.
    """
    seen, hidden = seen_beside(2**57, with_floods)
    assert correlation(seen, hidden) > 0.4  # 0.7 expected
    beyond = np.abs(seen) * 4 > 0.9  # in units of the flood, which covers ±¼ of a step
    assert np.count_nonzero(beyond) > 15  # 48 expected
    assert np.mean(np.sign(np.array(seen)[beyond]) == np.sign(np.array(hidden)[beyond])) > 0.8
    ours, same = seen_beside(2**57, nullcontext)
    chance = 6 / np.sqrt(len(ours))
    assert abs(correlation(ours, same)) < chance
    assert stats.kstest(np.array(ours) + 0.5, "uniform").pvalue > 1e-6
    record(
        "a multiple of X^5 added to the fixed image's ciphertext (malicious party 2)",
        f"a flood of half a step: correlation with S_5 {correlation(seen, hidden):.2f}",
        f"full pad: correlation {correlation(ours, same):+.2f} (chance {chance:.2f})",
    )
