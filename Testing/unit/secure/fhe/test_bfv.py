"""The encrypted inner product: exact, sized as its docstring says, and deaf to malformed input."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from PPIRLogic.errors import ProtocolError
from PPIRLogic.secure.fhe import bfv, key_holder, ring
from PPIRLogic.secure.fhe.bfv import C1_BYTES, CHUNK_BYTES, GROUP, answer_bytes, floor_modulo_t
from PPIRLogic.secure.fhe.evaluator import Accumulator, Evaluator, Operand, switch_modulus
from PPIRLogic.secure.fhe.key_holder import KeyHolder, open_answers
from PPIRLogic.secure.fhe.parameters import KEPT, PLAIN_MODULUS, PRIMES, Q_KEPT, SPECIAL_BITS, Q
from PPIRLogic.secure.fhe.ring import DEGREE
from PPIRLogic.secure.layout import LANES

SEED = bytes(range(32))
ANSWER_BYTES = answer_bytes()
Ints = NDArray[np.int32]


class Pair:
    """A key holder and an evaluator that share a seed."""

    def __init__(self, seed: bytes = SEED) -> None:
        self.seed, self.holder = seed, KeyHolder(seed)
        self.evaluator = Evaluator(seed, self.holder.public_key().tobytes())

    def encrypted(self, values: Ints, name: str = "J") -> Operand:
        operand = Operand(-(-values.size // DEGREE))
        for start in range(0, values.size, GROUP):
            packed = self.holder.encrypt(values[start : start + GROUP], name, start // DEGREE).tobytes()
            for k in range(len(packed) // CHUNK_BYTES):
                chunk = start // DEGREE + k
                operand.fill(self.seed, name, chunk, chunk, packed[k * CHUNK_BYTES : (k + 1) * CHUNK_BYTES])
        return operand

    def totals(self, columns: Ints, operand: Operand) -> NDArray[np.uint64]:
        return self.accumulated(columns, operand).total

    def accumulated(self, columns: Ints, operand: Operand) -> Accumulator:
        accumulator = Accumulator(len(columns))
        for group in range(len(operand.data)):
            block = np.zeros((len(columns), GROUP), np.int32)
            part = columns[:, group * GROUP : (group + 1) * GROUP]
            block[:, : part.shape[1]] = part
            every = range(len(columns))
            accumulator.add(block, every, operand.data[group], every)
        return accumulator

    def products(self, columns: Ints, values: Ints) -> list[int]:
        answers, pads = self.evaluator.blind(self.totals(columns, self.encrypted(values)))
        return Evaluator.unblind(self.opened(answers, len(columns)), pads)

    def opened(self, answers: bytes, count: int) -> NDArray[np.uint64]:
        return open_answers([self.holder], answers, count).reshape(-1)

    def phases(self, answers: bytes, count: int) -> list[int]:
        """What the key holder sees of each answer, modulo Q', in Python's integers."""
        out = []
        for k in range(count):
            part = answers[k * ANSWER_BYTES : (k + 1) * ANSWER_BYTES]
            c1 = ring.unpack30(part[:C1_BYTES]).reshape(KEPT, DEGREE).astype(np.int64)
            turned = self.holder._ternary[::-1].astype(np.int64)
            dots = [int(c @ turned) % p for c, p in zip(c1, PRIMES[:KEPT], strict=True)]
            out.append((int.from_bytes(part[C1_BYTES:], "little") + ring.crt(dots, PRIMES[:KEPT])) % Q_KEPT)
        return out


def centred(value: int, modulus: int) -> int:
    value %= modulus
    return value - modulus if value > modulus // 2 else value


def coefficients(transformed: NDArray[Any]) -> list[int]:
    """(primes, n) in the transform domain to n coefficients modulo Q."""
    parts = []
    for i, prime in enumerate(PRIMES):
        x = np.zeros(GROUP, np.uint32)
        x[::LANES] = transformed[i]
        ring.inverse(x, prime)
        factor = (Q // prime) * pow(Q // prime, -1, prime)
        parts.append(x[::LANES].astype(object) * factor)
    return [int(v) % Q for v in sum(parts[1:], parts[0])]


def phase(c0: NDArray[Any], c1: NDArray[Any], secret: NDArray[Any]) -> list[int]:
    """c0 + c1·s, centred modulo Q; all in the transform domain."""
    p = np.array(PRIMES, np.uint64)[:, None]
    total = (c0.astype(np.uint64) + c1.astype(np.uint64) * secret.astype(np.uint64)) % p
    return [centred(v, Q) for v in coefficients(total)]


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    yield Pair()


@settings(max_examples=15, deadline=None)
@given(
    samples=st.sampled_from([1, 2, 63, 8191, 8192, 8193, 3 * 8192, 65535, 65536, 65537]),
    columns=st.integers(1, 4),
    kind=st.sampled_from(["random", "extremes", "same sign", "zero", "one voxel"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_products_are_exact(pair: Pair, samples: int, columns: int, kind: str, seed: int) -> None:
    generator = np.random.default_rng(seed)
    s = generator.integers(-32767, 32768, (columns, samples)).astype(np.int32)
    v = generator.integers(-2048, 2049, samples).astype(np.int32)
    if kind == "extremes":
        s, v = np.where(s > 0, 32767, -32767).astype(np.int32), np.where(v > 0, 2048, -2048).astype(np.int32)
    elif kind == "same sign":
        s[:], v[:] = -32767, 2048
    elif kind == "zero":
        s[0], v[::2] = 0, 0
    elif kind == "one voxel":
        at = int(generator.integers(samples))
        s[:, :at], s[:, at + 1 :] = 0, 0
    assert pair.products(s, v) == (s.astype(np.int64) @ v.astype(np.int64)).tolist()


def test_nine_results_take_two_batches_and_three_groups_are_merged(pair: Pair) -> None:
    generator = np.random.default_rng(3)
    s = generator.integers(-32767, 32768, (9, 2 * GROUP + 5)).astype(np.int32)
    v = generator.integers(-2048, 2049, s.shape[1]).astype(np.int32)
    operand = pair.encrypted(v)
    halves = [np.where(np.arange(s.shape[1]) < GROUP, s, 0), np.where(np.arange(s.shape[1]) < GROUP, 0, s)]
    workers = [pair.accumulated(half.astype(np.int32), operand) for half in halves]
    workers[0].merge(workers[1])
    answers, pads = pair.evaluator.blind(workers[0].total)
    assert len(answers) == 9 * ANSWER_BYTES and len(set(pads)) == 9
    got = Evaluator.unblind(pair.opened(answers, 9), pads)
    assert got == (s.astype(np.int64) @ v.astype(np.int64)).tolist()


@pytest.mark.parametrize("result", [PLAIN_MODULUS // 2, -(PLAIN_MODULUS // 2)])
def test_the_largest_results_do_not_wrap(pair: Pair, result: int) -> None:
    """±(t − 1)/2 as one sum of large integers."""
    base = 2**22
    high, low = divmod(abs(result), base)
    s = np.array([[high, low]], np.int32) * (1 if result > 0 else -1)
    assert pair.products(s, np.array([base, 1], np.int32)) == [result]


def test_the_key_holder_sees_padded_numbers_only(pair: Pair) -> None:
    """The same request made twice opens to unrelated numbers at party 2."""
    s, v = np.ones((8, 100), np.int32), np.ones(100, np.int32)
    totals = pair.totals(s, pair.encrypted(v))
    opened = np.concatenate([pair.opened(pair.evaluator.blind(totals)[0], 8) for _ in range(30)])
    assert len(set(opened.tolist())) == 240
    assert stats.kstest(opened / PLAIN_MODULUS, "uniform").pvalue > 1e-6


def test_seal_decrypts_our_encryption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seal, context = bfv.seal_context()
    kept: list[Any] = []

    class Seal:
        """SEAL, keeping the generator whose secret key the key holder reads."""

        PublicKey = seal.PublicKey

        @staticmethod
        def KeyGenerator(context: Any) -> Any:
            kept.append(seal.KeyGenerator(context))
            return kept[0]

    monkeypatch.setattr(key_holder, "seal_context", lambda: (Seal, context))
    holder = KeyHolder(SEED)
    values = np.random.default_rng(1).integers(-2048, 2049, DEGREE).astype(np.int32)
    values[:3] = [2**23 - 1, -(2**23 - 1), 0]
    c0 = ring.unpack30(holder.encrypt(values, "J", 7).tobytes()).reshape(len(PRIMES), DEGREE)
    words = np.stack([c0, bfv.uniform_polynomial(SEED, "J", 7)]).astype("<u8")

    def head(length: int) -> bytes:
        return struct.pack("<HBBBBHQ", 0xA15E, 16, 4, 3, 0, 0, 16 + length)

    array = struct.pack("<Q", words.size) + words.tobytes()
    body = struct.pack("<4Q", *context.first_parms_id())
    body += struct.pack("<BQQQdQ", 1, 2, DEGREE, len(PRIMES), 1.0, 1) + head(len(array)) + array
    (tmp_path / "stream").write_bytes(head(len(body)) + body)
    ciphertext, plain = seal.Ciphertext(), seal.Plaintext()
    ciphertext.load(context, str(tmp_path / "stream"))
    seal.Evaluator(context).transform_from_ntt_inplace(ciphertext)
    decryptor = seal.Decryptor(context, kept[0].secret_key())
    decryptor.decrypt(ciphertext, plain)
    assert [centred(plain[i], PLAIN_MODULUS) for i in range(DEGREE)] == values.tolist()
    assert decryptor.invariant_noise_budget(ciphertext) >= 66  # 120 − 46 bits, less those of a fresh error


def test_encryption_is_the_scaled_value_and_a_small_error(pair: Pair) -> None:
    values = np.random.default_rng(2).integers(-2048, 2049, DEGREE).astype(np.int32)
    c0 = [ring.unpack30(pair.holder.encrypt(values, "J", 0).tobytes()).reshape(4, DEGREE) for _ in range(2)]
    assert not np.array_equal(*c0)  # a fresh error every time
    for part in c0:
        scaled = [(2 * Q * int(v) + PLAIN_MODULUS) // (2 * PLAIN_MODULUS) for v in values]
        got = phase(part, bfv.uniform_polynomial(SEED, "J", 0), pair.holder._secret)
        errors = np.array([g - w for g, w in zip(got, scaled, strict=True)], float)
        assert np.abs(errors).max() <= 21
        assert abs(errors.std() - 3.24) < 0.16 and abs(errors.mean()) < 0.22  # six standard errors


def test_public_key_is_an_encryption_of_zero_with_a_seeded_second_half(pair: Pair) -> None:
    pk0 = ring.unpack30(pair.holder.public_key().tobytes()).reshape(4, DEGREE)
    errors = np.array(phase(pk0, bfv.uniform_polynomial(SEED, "public"), pair.holder._secret), float)
    assert np.abs(errors).max() <= 21 and abs(errors.std() - 3.24) < 0.16
    assert np.array_equal(pair.evaluator._public[1], bfv.uniform_polynomial(SEED, "public"))


def test_every_key_holder_has_a_key_of_its_own() -> None:
    one, two = KeyHolder(SEED), KeyHolder(SEED)
    assert np.mean(one._ternary == two._ternary) < 0.4


def product_noise(pair: Pair, s: Ints, v: Ints) -> int:
    """The error of the coefficient that carries S·v, before anything is added to hide it."""
    total = pair.totals(s[None], pair.encrypted(v))[0]
    exact = int(s.astype(np.int64) @ v.astype(np.int64))
    value = phase(total[0], total[1], pair.holder._secret)[DEGREE - 1]
    return centred(value - round_div(Q * exact, PLAIN_MODULUS), Q)


def round_div(a: int, b: int) -> int:
    return (2 * a + b) // (2 * b)


def test_noise_of_a_product_stays_below_its_bound_on_a_textured_image(pair: Pair) -> None:
    generator = np.random.default_rng(4)
    for _ in range(3):
        s = generator.integers(-32767, 32768, 30_000).astype(np.int32)
        v = generator.integers(-2048, 2049, 30_000).astype(np.int32)
        assert 0 < abs(product_noise(pair, s, v)) <= 26 * np.linalg.norm(s.astype(float))


def rounding(value: int) -> float:
    """How far round(Q·v/t) lies from Q·v/t, within ±½."""
    return centred(-Q * value, PLAIN_MODULUS) / PLAIN_MODULUS


@pytest.mark.parametrize("sign", [1, -1])
def test_noise_of_a_product_stays_below_its_bound_on_a_flat_image(pair: Pair, sign: int) -> None:
    """Where the image is constant the rounding of Q·v/t adds up; here with the v for which it is largest."""
    worst = max(range(-2048, 2049), key=lambda v: abs(rounding(v)))
    s, v = np.full(GROUP, sign * 32767, np.int32), np.full(GROUP, worst, np.int32)
    norm, absolute_sum = float(np.linalg.norm(s.astype(float))), int(np.abs(s, dtype=np.int64).sum())
    noise = abs(product_noise(pair, s, v))
    assert 26 * norm < noise <= 26 * norm + absolute_sum / 2
    assert abs(noise - abs(rounding(worst)) * absolute_sum) <= 26 * norm  # the rest is S·e


def test_noise_of_a_mask_stays_below_its_bound(pair: Pair) -> None:
    """Zeros outside, ones inside: one rounding, over and over, in part of the image."""
    s = np.random.default_rng(5).integers(0, 32768, GROUP).astype(np.int32)
    v = (np.arange(GROUP) % 1000 < 400).astype(np.int32)
    noise = abs(product_noise(pair, s, v))
    assert noise <= 26 * np.linalg.norm(s.astype(float)) + int(s.sum(dtype=np.int64)) / 2


def test_the_phase_of_an_answer_is_its_pad_and_the_scaled_number_and_a_noise_far_below_a_step(pair: Pair) -> None:
    """The noise, and so the probability that it carries into a number, is what `bfv` says: below 2^-39."""
    generator = np.random.default_rng(6)
    s = generator.integers(-32767, 32768, (8, DEGREE)).astype(np.int32)
    v = generator.integers(-2048, 2049, DEGREE).astype(np.int32)
    exact = s.astype(np.int64) @ v.astype(np.int64)
    totals = pair.totals(s, pair.encrypted(v))
    noise: list[int] = []
    for _ in range(20):
        answers, pads = pair.evaluator.blind(totals)
        for phase_, pad, m in zip(pair.phases(answers, 8), pads, exact, strict=True):
            noise.append(centred(phase_ - pad - round_div(Q_KEPT * int(m), PLAIN_MODULUS), Q_KEPT))
    deviation = math.sqrt(DEGREE / 18)  # of the rounding of c1 times a ternary secret
    assert np.abs(noise).max() < 8 * deviation and np.std(noise) < 1.3 * deviation
    assert np.mean(np.abs(noise)) / (Q_KEPT / PLAIN_MODULUS) < 2.0**-39


def test_a_number_is_off_by_one_exactly_where_its_noise_carries(pair: Pair) -> None:
    """Pads chosen on the edge of a step: then, and only then, the noise shows."""
    s, v = np.ones((8, 100), np.int32), np.ones(100, np.int32)
    totals, right = pair.totals(s, pair.encrypted(v)), 0
    edge = -(-Q_KEPT * 12345 // PLAIN_MODULUS) - Q_KEPT * 100 // PLAIN_MODULUS
    for _ in range(20):
        got = Evaluator.unblind(pair.opened(pair.evaluator.hide(totals, [edge] * 8), 8), [edge] * 8)
        assert set(got) <= {99, 100, 101}
        right += got.count(100)
    assert 20 < right < 140  # about half of 160
    far = edge + Q_KEPT // (2 * PLAIN_MODULUS)
    assert Evaluator.unblind(pair.opened(pair.evaluator.hide(totals, [far] * 8), 8), [far] * 8) == [100] * 8


@settings(max_examples=200)
@given(st.integers(0, Q_KEPT - 1), st.integers(0, Q_KEPT - 1))
def test_floors_differ_by_the_number_and_at_most_one(pad: int, value: int) -> None:
    """⌊t(v + R)/Q'⌋ − ⌊tR/Q'⌋ is ⌊tv/Q'⌋ or one more, modulo t."""
    assert 0 <= floor_modulo_t(pad) < PLAIN_MODULUS
    found = (floor_modulo_t((pad + value) % Q_KEPT) - floor_modulo_t(pad) - floor_modulo_t(value)) % PLAIN_MODULUS
    assert found in (0, 1)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, Q - 1), min_size=1, max_size=8))
def test_the_modulus_switch_is_exact(values: list[int]) -> None:
    """round(c·Q'/Q) against Python's integers; a tie may go either way."""
    residues = np.array([[v % p for v in values] for p in PRIMES], np.uint32)
    got = switch_modulus(residues)
    last = PRIMES[KEPT]
    for j, v in enumerate(values):
        switched = ring.crt([int(r) for r in got[:, j]], PRIMES[:KEPT])
        assert abs(centred(switched * last - v, Q)) <= last // 2


def test_a_pad_makes_what_travels_uniform_whatever_is_under_it(pair: Pair) -> None:
    """The same total, sent 400 times: the coefficient is new and uniform modulo Q'; without a pad it hardly moves."""
    s, v = np.ones((8, 100), np.int32), np.ones(100, np.int32)
    totals = pair.totals(s, pair.encrypted(v))

    def sent(pads: list[int] | None) -> NDArray[np.float64]:
        out = []
        for _ in range(50):
            answers = pair.evaluator.blind(totals)[0] if pads is None else pair.evaluator.hide(totals, pads)
            out += [phase_ / Q_KEPT for phase_ in pair.phases(answers, 8)]
        return np.array(out)

    assert stats.kstest(sent(None), "uniform").pvalue > 1e-6
    assert np.ptp(sent([0] * 8)) < 2.0**-60


def test_plain_modulus_is_the_prime_it_is_said_to_be() -> None:
    assert PLAIN_MODULUS == 2**46 - 21
    assert all(pow(a, PLAIN_MODULUS - 1, PLAIN_MODULUS) == 1 for a in (2, 3, 5, 7, 11, 13))
    assert all(PLAIN_MODULUS % d for d in range(3, 100_000, 2))


def test_the_seed_depends_on_both_parties_the_session_and_the_level() -> None:
    base = bfv.joint_seed(b"s" * 32, 1, b"a" * 32, b"b" * 32)
    others = [
        bfv.joint_seed(b"t" * 32, 1, b"a" * 32, b"b" * 32),
        bfv.joint_seed(b"s" * 32, 2, b"a" * 32, b"b" * 32),
        bfv.joint_seed(b"s" * 32, 1, b"c" * 32, b"b" * 32),
        bfv.joint_seed(b"s" * 32, 1, b"a" * 32, b"c" * 32),
        bfv.joint_seed(b"s" * 32, 1, b"b" * 32, b"a" * 32),
    ]
    assert len({base, *others}) == 6 and len(base) == 32


def test_public_polynomials_differ_by_operand_and_chunk() -> None:
    drawn = [bfv.uniform_polynomial(SEED, *label) for label in (("public",), ("J", 0), ("J", 1), ("J2", 0))]
    assert np.array_equal(drawn[0], bfv.uniform_polynomial(SEED, "public"))
    for i, one in enumerate(drawn):
        assert (one < np.array(PRIMES)[:, None]).all()
        assert all(np.mean(one == two) < 1e-3 for two in drawn[:i])


def residues_with(value: int, prime: int) -> bytes:
    """Packed zero polynomials, with `value` as one residue of this prime."""
    values = np.zeros((len(PRIMES), DEGREE), np.uint32)
    values[prime, 100] = value
    return ring.pack30(values).tobytes()


@pytest.mark.parametrize("index", range(len(PRIMES)))
def test_residues_from_the_peer_lie_below_their_primes(index: int) -> None:
    good, bad = (residues_with(PRIMES[index] + d, index) for d in (-1, 0))
    Evaluator(SEED, good)
    Operand(1).fill(SEED, "J", 0, 0, good)
    with pytest.raises(ProtocolError, match="out of range"):
        Evaluator(SEED, bad)
    with pytest.raises(ProtocolError, match="out of range"):
        Operand(1).fill(SEED, "J", 0, 0, bad)


def test_an_answer_out_of_range_is_refused(pair: Pair) -> None:
    zeros = bytes(C1_BYTES)
    pair.opened(zeros + (Q_KEPT - 1).to_bytes(12, "little"), 1)
    with pytest.raises(ProtocolError, match="out of range"):
        pair.opened(zeros + Q_KEPT.to_bytes(12, "little"), 1)
    values = np.zeros((KEPT, DEGREE), np.uint32)
    values[1, 5] = PRIMES[1]
    with pytest.raises(ProtocolError, match="out of range"):
        pair.opened(ring.pack30(values).tobytes() + bytes(12), 1)


def test_two_secrets_under_one_public_polynomial_open_one_c1() -> None:
    """Each copy opens to its own sum; the public polynomials of the copies are the same."""
    holders = [KeyHolder(SEED), KeyHolder(SEED)]
    evaluator = Evaluator(SEED, *(h.public_key().tobytes() for h in holders))
    draw = np.random.default_rng(8)
    v = draw.integers(-2048, 2049, (2, DEGREE)).astype(np.int32)
    s = draw.integers(-32767, 32768, (3, GROUP)).astype(np.int32)
    s[:, DEGREE:] = 0
    operand, accumulator = Operand(1, 2), Accumulator(3, 2)
    for copy in range(2):
        operand.fill(SEED, "J", 0, 0, holders[copy].encrypt(v[copy], "J", 0).tobytes(), copy)
    accumulator.add(s, [0, 1, 2], operand.data[0], [0, 1, 2])
    answers, pads = evaluator.blind(accumulator.total)
    assert len(answers) == 3 * answer_bytes(1, 2) == 3 * (C1_BYTES + 24)
    got = Evaluator.unblind(open_answers(holders, answers, 3).reshape(-1), pads)
    assert got == (s[:, :DEGREE].astype(np.int64) @ v.T.astype(np.int64)).reshape(-1).tolist()


@pytest.mark.parametrize("slot", [-1, 1, 100])
def test_a_chunk_beyond_its_operand_is_refused(slot: int) -> None:
    with pytest.raises(ProtocolError):
        Operand(1).fill(SEED, "J", 0, slot, bytes(CHUNK_BYTES))


mutations = st.lists(st.tuples(st.integers(0, 2**31), st.integers(0, 255)), max_size=8)
lengths = st.one_of(st.just(0), st.integers(-200, 200), st.sampled_from([-(10**9), 15, -15, 8, -8, 30_720]))


def spoiled(data: bytes, changes: list[tuple[int, int]], extra: int) -> bytes:
    out = bytearray(data)
    for at, value in changes:
        out[at % len(out)] = value
    return bytes(out + bytes(extra)) if extra > 0 else bytes(out[: max(0, len(out) + extra)])


@settings(max_examples=80, deadline=None)
@given(fill=st.sampled_from([0, 0x55, 255]), changes=mutations, extra=lengths, count=st.integers(0, 3))
def test_any_bytes_as_answers_give_numbers_or_a_protocol_error(
    pair: Pair, fill: int, changes: list[tuple[int, int]], extra: int, count: int
) -> None:
    data = spoiled(bytes([fill]) * 2 * ANSWER_BYTES, changes, extra)
    try:
        opened = pair.opened(data, count)
    except ProtocolError:
        return
    assert len(data) == count * ANSWER_BYTES and opened.shape == (count,) and (opened < PLAIN_MODULUS).all()


@settings(max_examples=80, deadline=None)
@given(fill=st.sampled_from([0, 0x55, 255]), changes=mutations, extra=lengths)
def test_any_bytes_as_ciphertext_or_key_are_taken_whole_or_refused(
    fill: int, changes: list[tuple[int, int]], extra: int
) -> None:
    data = spoiled(bytes([fill]) * CHUNK_BYTES, changes, extra)
    operand = Operand(2)
    try:
        operand.fill(SEED, "J", 3, 1, data)
        evaluator = Evaluator(SEED, data)
    except ProtocolError:
        assert not operand.data.any()
        return
    residues = ring.unpack30(data).reshape(len(PRIMES), DEGREE)
    assert np.array_equal(operand.data[0, 0].reshape(4, DEGREE, LANES)[..., 1], residues)
    assert np.array_equal(evaluator._public[0], residues)


def test_the_modulus_is_below_what_the_standard_s_table_allows_for_192_bits() -> None:
    """SECURITY.md: 140 bits of modulus in all; SEAL's copy of the homomorphic encryption standard's table."""
    seal = pytest.importorskip("tenseal.sealapi")
    total = Q.bit_length() + SPECIAL_BITS
    levels = seal.SEC_LEVEL_TYPE
    allowed = [seal.CoeffModulus.MaxBitCount(DEGREE, level) for level in (levels.TC128, levels.TC192, levels.TC256)]
    assert allowed == [218, 152, 118]
    assert Q.bit_length() == 120 and total == 140 < allowed[1]
