"""The .ppis file: what it holds, and that nothing but the file that was sealed opens."""

from __future__ import annotations

import secrets
import struct
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from primis_support import MODEL, PAYLOADS, sealed_payloads

from PPIRLogic.errors import InputError
from PPIRLogic.primis.keys import LevelKey, new_image_id, top_key
from PPIRLogic.primis.levels import LEVELS
from PPIRLogic.primis.sealed_file import (
    MAX_HEADER,
    OVERHEAD,
    Header,
    SealedFile,
    key_fits,
    open_codes,
    parse_file,
    parse_header,
    read_file,
    read_header,
    seal_codes,
)

KEY = top_key(bytes(range(32)), bytes(range(16)))


def rebuilt(sealed: SealedFile, **changes: object) -> SealedFile:
    """The file with another header, written out as a forger would."""
    header = replace(sealed.header, **changes)  # type: ignore[arg-type]
    return SealedFile(replace(header, raw=header.pack()), sealed.codes)


@settings(max_examples=60, deadline=None)
@given(
    payloads=st.lists(st.binary(max_size=300), min_size=1, max_size=5), pad=st.booleans(),
    shape=st.one_of(st.tuples(*[st.integers(2, 4096)] * 2), st.tuples(*[st.integers(2, 500)] * 3)),
    dtype=st.sampled_from(["uint8", "uint16", "int16"]),
)  # fmt: skip
def test_what_is_sealed_opens_to_the_same(payloads: list[bytes], pad: bool, shape: tuple[int, ...], dtype: str) -> None:
    key = top_key(secrets.token_bytes(32), new_image_id())
    sealed = parse_file(seal_codes(payloads, key, MODEL, shape, dtype, pad=pad and len(shape) == 2).to_bytes())
    header = sealed.header
    assert (header.shape, header.dtype, header.model, header.image_id) == (shape, dtype, MODEL, key.image_id)
    for level in range(1, len(payloads) + 1):
        assert open_codes(sealed, key.down_to(level)) == payloads[:level]


def test_a_file_is_written_as_its_page_says() -> None:
    sealed, key = sealed_payloads(key=KEY)
    data = sealed.to_bytes()
    assert data[:8] == b"PPIS\r\n\x1a\n" and struct.unpack(">H", data[8:10]) == (1,)
    assert data[10:26] == key.image_id and data[26:58].hex() == MODEL
    assert tuple(data[58:61]) == (1, 2, 5) and struct.unpack(">2I", data[61:69]) == (32, 48)
    lengths = [struct.unpack_from(">I", data, 69 + 32 * n)[0] for n in range(5)]
    assert lengths == [len(p) + 1 + 16 for p in PAYLOADS]
    assert len(data) == 69 + 5 * 32 + sum(lengths)


def test_the_overhead_is_at_most_64_bytes_a_code() -> None:
    sealed, _ = sealed_payloads()
    data = sealed.to_bytes()
    assert OVERHEAD == 49 and len(data) - sum(map(len, PAYLOADS)) <= 5 * 64


def test_the_header_holds_nothing_of_the_payloads() -> None:
    key, other = KEY, [bytes([9]) * len(p) for p in PAYLOADS]
    one, two = (sealed_payloads(payloads, key)[0].header for payloads in (PAYLOADS, other))
    plain = [replace(h, codes=tuple(replace(c, nonce=bytes(12)) for c in h.codes)).pack() for h in (one, two)]
    assert plain[0] == plain[1]


def test_no_nonce_is_used_twice_over_many_seals() -> None:
    """Under one key, too: 2000 seals of one image id."""
    seen = {code.nonce for _ in range(2000) for code in sealed_payloads([b"a", b"b"], KEY)[0].header.codes}
    assert len(seen) == 4000


def test_a_key_opens_its_level_and_those_below_alone() -> None:
    sealed, key = sealed_payloads()
    for level in range(1, 5):
        own = key.down_to(level)
        assert open_codes(sealed, own) == PAYLOADS[:level]
        for above in range(level + 1, 6):
            with pytest.raises(ValueError, match="does not open"):
                own.down_to(above)
            with pytest.raises(InputError, match="this key does not open its code"):
                open_codes(sealed, LevelKey(own.secret, above, own.image_id))


# ------------------------------------------------------------------------------------------------- changed on purpose


def test_swapped_codes_are_named() -> None:
    sealed, key = sealed_payloads([b"same length!"] * 5)
    codes = (sealed.codes[0], sealed.codes[3], sealed.codes[2], sealed.codes[1], sealed.codes[4])
    with pytest.raises(InputError, match=r"codes 2 \(segmentation\) and 4 \(texture\) are swapped"):
        open_codes(SealedFile(sealed.header, codes), key)


def test_codes_swapped_with_their_lines_of_the_table_do_not_open() -> None:
    sealed, key = sealed_payloads()
    order = [0, 2, 1, 3, 4]
    forged = SealedFile(sealed.header, tuple(sealed.codes[i] for i in order))
    forged = rebuilt(forged, codes=tuple(sealed.header.codes[i] for i in order))
    with pytest.raises(InputError, match="its header, or its code 1"):
        open_codes(forged, key)


def test_a_code_of_another_file_of_the_same_image_key_does_not_open() -> None:
    one, key = sealed_payloads()
    two, _ = sealed_payloads([p[::-1] for p in PAYLOADS], key)
    mixed = SealedFile(one.header, (*one.codes[:2], two.codes[2], *one.codes[3:]))
    with pytest.raises(InputError, match=r"code 3 \(classification\) is not the one that was sealed there"):
        open_codes(mixed, key)
    with pytest.raises(InputError, match="its header, or its code 1"):
        open_codes(SealedFile(two.header, one.codes), key)


def test_fewer_codes_than_were_sealed_do_not_open() -> None:
    sealed, key = sealed_payloads()
    fewer = rebuilt(SealedFile(sealed.header, sealed.codes[:3]), codes=sealed.header.codes[:3])
    with pytest.raises(InputError, match="its header, or its code 1"):
        open_codes(parse_file(fewer.to_bytes()), key.down_to(3))


@pytest.mark.parametrize(
    "changes", [{"model": "00" * 32}, {"shape": (48, 32)}, {"dtype": "int16"}, {"image_id": bytes(16)}],
    ids=lambda c: next(iter(c)),
)  # fmt: skip
def test_every_field_of_the_header_is_bound_to_the_codes(changes: dict[str, object]) -> None:
    sealed, key = sealed_payloads()
    with pytest.raises(InputError, match="header"):
        open_codes(parse_file(rebuilt(sealed, **changes).to_bytes()), key)


def test_a_cut_file_and_a_longer_one_are_refused_without_a_key() -> None:
    data = sealed_payloads()[0].to_bytes()
    for end in range(len(data)):
        with pytest.raises(InputError, match=r"cut short|no \.ppis file"):
            parse_file(data[:end])
    with pytest.raises(InputError, match="behind its end"):
        parse_file(data + b"\0")


def test_an_end_that_is_missing_is_said() -> None:
    """Which only an owner can have made."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    sealed, key = sealed_payloads([b"abc"])
    entry, bound = sealed.header.codes[0], sealed.header.raw + b"\1"
    code = AESGCM(key.down_to(1).sealing).encrypt(entry.nonce, b"abc\0", bound)
    with pytest.raises(InputError, match="made wrongly"):
        open_codes(SealedFile(sealed.header, (code,)), key.down_to(1))


def tampered(draw: secrets.SystemRandom, data: bytes, other: bytes) -> bytes:
    """The file, changed in one of many ways."""
    changed = bytearray(data)
    kind = draw.randrange(7)
    at = draw.randrange(len(data))
    if kind == 0:
        changed[at] ^= 1 << draw.randrange(8)
    elif kind == 1:
        for _ in range(draw.randrange(1, 9)):
            changed[draw.randrange(len(data))] ^= draw.randrange(1, 256)
    elif kind == 2:
        return bytes(changed[:at])
    elif kind == 3:
        return bytes(changed[:at]) + draw.randbytes(draw.randrange(1, 40)) + bytes(changed[at:])
    elif kind == 4:  # a stretch of another file
        length = draw.randrange(1, 200)
        changed[at : at + length] = other[at : at + length]
    elif kind == 5:  # two stretches change places
        length, second = draw.randrange(1, 60), draw.randrange(len(data))
        one, two = bytes(changed[at : at + length]), bytes(changed[second : second + length])
        changed[at : at + len(two)], changed[second : second + len(one)] = two, one
    else:  # a field of the header
        offset, size = draw.choice([(8, 2), (10, 16), (26, 32), (58, 1), (59, 1), (60, 1), (61, 4), (65, 4), (69, 4)])
        changed[offset : offset + size] = draw.choice([bytes(size), b"\xff" * size, draw.randbytes(size)])
    return bytes(changed)


def refuse_all(count: int) -> tuple[int, int]:
    """How many of `count` changed files are refused, each opened with the right key; of these, by authentication."""
    draw, refused, authenticated = secrets.SystemRandom(), 0, 0
    key = top_key(secrets.token_bytes(32), new_image_id())
    data = sealed_payloads([b"one length"] * 5, key)[0].to_bytes()
    other = sealed_payloads([b"one length"] * 5, key)[0].to_bytes()
    while refused < count:
        changed = tampered(draw, data, other)
        if changed == data:
            continue
        with pytest.raises(InputError) as caught:
            open_codes(parse_file(changed), key)
        refused += 1
        authenticated += "was changed" in str(caught.value) or "does not open" in str(caught.value)
    return refused, authenticated


def test_tampered_files_are_refused() -> None:
    refused, authenticated = refuse_all(2000)
    assert refused == 2000 and authenticated > 700


@pytest.mark.long
def test_a_hundred_thousand_tampered_files_are_refused() -> None:
    refused, authenticated = refuse_all(100_000)
    assert refused == 100_000 and authenticated > 40_000


# ------------------------------------------------------------------------------------------------------ hostile headers


def hostile(**fields: int) -> bytes:
    """A header alone, with these numbers in it."""
    f = {"version": 1, "kind": 1, "axes": 2, "count": 1, "y": 8, "x": 8, "z": 8, "length": 100, **fields}
    head = struct.pack(
        ">8sH16s32sBBB", b"PPIS\r\n\x1a\n", f["version"], bytes(16), bytes(32), f["kind"], f["axes"], f["count"]
    )
    sides = [f["z"], f["y"], f["x"]][-2 if f["axes"] == 2 else -3 :]
    return (
        head
        + struct.pack(f">{len(sides)}I", *sides)
        + struct.pack(">I28s", f["length"], bytes(28)) * min(f["count"], 5)
    )


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"version": 2}, "has version 2"), ({"kind": 0}, "damaged"), ({"kind": 9}, "damaged"), ({"axes": 4}, "damaged"),
        ({"axes": 1}, "damaged"), ({"count": 0}, "damaged"), ({"count": 255}, "damaged"), ({"y": 0}, "a size outside"),
        ({"x": 2**32 - 1}, "a size outside"), ({"axes": 3, "x": 4096, "y": 4096, "z": 4096}, "a size outside"),
        ({"length": 16}, "without content"), ({"length": 2**32 - 1}, "cut short"),
        ({"count": 5, "length": 2**31}, "cut short"),
    ],
)  # fmt: skip
def test_a_header_with_impossible_numbers_is_refused(fields: dict[str, int], words: str) -> None:
    with pytest.raises(InputError, match=words):
        parse_file(hostile(**fields) + bytes(84))


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.binary(max_size=400), st.binary(max_size=300).map(lambda b: b"PPIS\r\n\x1a\n\0\1" + b)))
def test_no_bytes_bring_another_error(data: bytes) -> None:
    try:
        header = parse_header(data[:MAX_HEADER], len(data))
    except InputError:
        return
    assert header.size == len(data)


def test_a_header_is_read_without_the_codes(tmp_path: Path) -> None:
    sealed, _ = sealed_payloads()
    path = tmp_path / "image.ppis"
    path.write_bytes(sealed.to_bytes())
    assert read_header(path) == read_file(path).header == sealed.header
    assert read_header(path).to_dict() == {
        "version": 1, "image": sealed.header.image_id.hex(), "model": MODEL, "shape": [32, 48], "dtype": "uint8",
        "codes": [{"level": n, "bytes": len(c)} for n, c in zip(LEVELS, sealed.codes, strict=True)],
        "bytes": path.stat().st_size,
    }  # fmt: skip


def test_a_path_that_is_no_file_is_said(tmp_path: Path) -> None:
    for path, words in ((tmp_path / "none.ppis", "does not exist"), (tmp_path, "cannot be read")):
        with pytest.raises(InputError, match=words):
            read_header(path)
    huge = tmp_path / "huge.ppis"
    with huge.open("wb") as file:
        file.truncate(2**31)
    with pytest.raises(InputError, match="longer than"):
        read_file(huge)


def test_a_key_fits_its_own_image_and_level_alone() -> None:
    sealed, key = sealed_payloads()
    _, other = sealed_payloads()
    assert key_fits(sealed.header, key) and key_fits(sealed.header, key.down_to(1))
    assert not key_fits(sealed.header, other)
    assert not key_fits(sealed.header, replace(other, image_id=key.image_id))
    assert not key_fits(sealed.header, replace(key.down_to(2), level=3))
    assert isinstance(sealed.header, Header)
