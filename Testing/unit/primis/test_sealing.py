"""Seal, open, grant, seal anew, with the codec: what comes back at which level, and what is refused by which words."""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from primis_support import picture, two_homes

from PPIRLogic.disclosure.chain import Chain
from PPIRLogic.errors import Cancelled, InputError, OutputError, TrustError
from PPIRLogic.images.geometry import Geometry
from PPIRLogic.images.volume import Volume
from PPIRLogic.network.trust import TrustStore
from PPIRLogic.primis import unsealed, whole_files
from PPIRLogic.primis.cards import own_card, read_card
from PPIRLogic.primis.grant_records import GrantRecords
from PPIRLogic.primis.keys import GRANTS_ON_RECORD, load_keys, renew_keys, top_key
from PPIRLogic.primis.levels import LEVELS
from PPIRLogic.primis.sealed_file import SealedFile, open_codes, read_file, seal_codes
from PPIRLogic.primis.sealing import grant, has_key, image_key, inspect, reseal, seal, unseal
from PPIRLogic.primis.unsealed import NOT_FOR_DIAGNOSIS
from PPIRLogic.progress import CancelToken

GRID = Geometry((56, 40), (0.5, 0.25), (-3.0, 7.0), (0, 1, -1, 0))


class Sites:
    """An owner with a sealed image, and a recipient."""

    def __init__(self, folder: Path) -> None:
        self.folder, (self.owner, self.recipient) = folder, two_homes(folder)
        self.pixels, self.file = picture("uint16"), folder / "image.ppis"
        self.sealed = seal(Volume(self.pixels, GRID), self.file, home=self.owner)
        self.card = own_card(self.recipient)

    def granted(self, level: str, file: Path | None = None) -> bytes:
        return grant(file or self.file, self.card, level, home=self.owner, purpose="lung study")


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Sites:
    return Sites(tmp_path_factory.mktemp("sealing"))


def test_the_owner_opens_all_bit_for_bit(sites: Sites) -> None:
    found = unseal(sites.file, home=sites.owner)
    assert found.exact and found.level == "exact" and found.note == ""
    assert found.pixels.dtype == "uint16" and np.array_equal(found.pixels, sites.pixels)
    assert found.geometry == GRID and found.volume.name == "exact"


@pytest.mark.parametrize("level", LEVELS)
def test_a_recipient_opens_what_he_was_granted_and_no_more(sites: Sites, level: str) -> None:
    given = sites.granted(level)
    found = unseal(sites.file, home=sites.recipient, grant=given)
    assert found.level == level and found.exact == (level == "exact") and found.geometry == GRID
    assert found.note == ("" if found.exact else NOT_FOR_DIAGNOSIS)
    assert np.array_equal(found.pixels, unseal(sites.file, home=sites.owner, level=level).pixels)
    for above in LEVELS[LEVELS.index(level) + 1 :]:
        with pytest.raises(InputError, match=f"opens it up to {level}, not up to {above}"):
            unseal(sites.file, home=sites.recipient, grant=given, level=above)


def test_without_a_key_nothing_opens(sites: Sites) -> None:
    with pytest.raises(InputError, match="was not sealed by this site"):
        unseal(sites.file, home=sites.recipient)
    assert has_key(sites.file, sites.owner) and not has_key(sites.file, sites.recipient)
    for key in (bytes(32), os.urandom(32)):
        with pytest.raises(InputError, match="of another image, or of none"):
            unseal(sites.file, home=sites.recipient, key=key)
    for key in (b"", bytes(31), "key"):
        with pytest.raises(InputError, match="32 bytes"):
            unseal(sites.file, home=sites.recipient, key=key)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="not both"):
        unseal(sites.file, home=sites.recipient, key=bytes(32), grant=b"")


def test_a_key_of_32_bytes_opens_its_level(sites: Sites) -> None:
    for level in LEVELS:
        key = image_key(sites.file, level, home=sites.owner)
        assert len(key) == 32
        assert unseal(sites.file, home=sites.recipient, key=key).level == level
    whole = load_keys(sites.owner).image_keys(sites.sealed.header.image_id)[0]
    assert unseal(sites.file, home=sites.recipient, key=whole).exact
    with pytest.raises(InputError, match="was not sealed by this site"):
        image_key(sites.file, home=sites.recipient)


def test_a_key_that_is_taken_out_is_on_record_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sealed = seal(np.arange(1200, dtype=np.uint16).reshape(30, 40), tmp_path / "a.ppis", home=tmp_path)
    image_key(sealed, 2, home=tmp_path)
    record = json.loads((tmp_path / "ledger" / "primis.jsonl").read_text().splitlines()[-1])
    assert (record["event"], record["level"]) == ("primis key", "segmentation")
    assert record["image"] == sealed.header.image_id.hex() and record["bits"] == [sealed.header.bits(n) for n in (1, 2)]

    def full(*a: object, **b: object) -> None:
        raise OutputError("the disk is full")

    monkeypatch.setattr(GrantRecords, "taken", full)
    with pytest.raises(OutputError):
        image_key(sealed, 2, home=tmp_path)


def test_a_file_is_a_path_bytes_or_what_was_read(sites: Sites) -> None:
    for given in (sites.file, str(sites.file), sites.file.read_bytes(), read_file(sites.file)):
        assert unseal(given, home=sites.owner, level=1).level == "overview"
        assert inspect(given).image_id == sites.sealed.header.image_id


def test_a_grant_is_a_path_or_bytes(sites: Sites, tmp_path: Path) -> None:
    (tmp_path / "a.ppig").write_bytes(sites.granted("overview"))
    assert unseal(sites.file, home=sites.recipient, grant=tmp_path / "a.ppig").level == "overview"
    (tmp_path / "long.ppig").write_bytes(bytes(5000))
    with pytest.raises(InputError, match="more than 400 bytes"):
        unseal(sites.file, home=sites.recipient, grant=tmp_path / "long.ppig")
    with pytest.raises(InputError, match="cannot be read"):
        unseal(sites.file, home=sites.recipient, grant=tmp_path / "none.ppig")


def test_what_anybody_reads_says_nothing_of_place_or_content(sites: Sites, tmp_path: Path) -> None:
    other = seal(picture("uint16")[::-1].copy(), tmp_path / "other.ppis", home=sites.owner)
    one, two = (h.to_dict() for h in (inspect(sites.file), other.header))
    assert one.pop("image") != two.pop("image")
    assert one == two, "another picture, without a place: the same lengths"


# ----------------------------------------------------------------------------------------------------------- the record


def test_a_grant_is_on_record_with_its_bits_before_it_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sites = Sites(tmp_path)
    sites.granted("segmentation")
    header, peer = sites.sealed.header, read_card(sites.card).fingerprint
    rows = GrantRecords(sites.owner).rows()
    assert [one["purpose"] for row in rows for one in row.pop("given")] == ["lung study"]
    assert rows == [
        {"peer": peer.replace("-", ""), "image": header.image_id.hex(), "level": "segmentation",
         "bits": header.bits(1) + header.bits(2), "grants": 1},
    ]  # fmt: skip
    assert header.bits(1) == 8 * (header.codes[0].length - 16)
    assert not Chain(sites.owner).verify().faults

    def full(self: object, *a: object, **k: object) -> None:
        raise OutputError("the disk is full")

    monkeypatch.setattr(GrantRecords, "granted", full)
    with pytest.raises(OutputError):
        sites.granted("segmentation")


def test_a_grant_that_is_refused_is_not_on_record(tmp_path: Path) -> None:
    sites = Sites(tmp_path)
    stranger = own_card(tmp_path / "stranger")
    lone = seal(picture(), tmp_path / "two.ppis", home=sites.owner, levels="segmentation")
    refused = [
        (sites.file, stranger, "overview", {}, TrustError), (sites.file, b"", "overview", {}, InputError),
        (sites.file, sites.card, "all", {}, InputError), (lone, sites.card, "texture", {}, InputError),
        (sites.file, sites.card, "overview", {"purpose": ""}, InputError),
        (sites.file, sites.card, "overview", {"days": 0}, InputError),
    ]  # fmt: skip
    for file, card, level, changes, kind in refused:
        with pytest.raises(kind):
            grant(file, card, level, home=sites.owner, **{"purpose": "study", **changes})
    with pytest.raises(InputError, match="was not sealed by this site"):
        grant(sites.file, sites.card, "overview", home=sites.recipient, purpose="study")
    assert not (sites.owner / GRANTS_ON_RECORD).exists() and not (sites.recipient / GRANTS_ON_RECORD).exists()


def test_a_changed_table_of_codes_does_not_go_on_record(tmp_path: Path) -> None:
    """Whoever can write the share could else make a grant look smaller in its owner's ledger than it is."""
    sites = Sites(tmp_path)
    data = bytearray(sites.file.read_bytes())
    for at, change in ((69 + 32, 20), (69 + 64, -20)):  # bytes of code 2 are said to be of code 3
        data[at : at + 4] = (int.from_bytes(data[at : at + 4], "big") - change).to_bytes(4, "big")
    sites.file.write_bytes(data)
    assert inspect(sites.file).bits(2) == sites.sealed.header.bits(2) - 160
    with pytest.raises(InputError, match="was changed"):
        sites.granted("segmentation")
    assert not (sites.owner / GRANTS_ON_RECORD).exists()


def test_a_peer_that_is_removed_gets_no_grant(tmp_path: Path) -> None:
    sites = Sites(tmp_path)
    TrustStore(sites.owner).remove("Hospital B")
    with pytest.raises(TrustError, match="not trusted here"):
        sites.granted("overview")


# --------------------------------------------------------------------------------------------------------- sealing anew


def test_former_grants_open_nothing_of_a_file_that_was_sealed_anew(sites: Sites, tmp_path: Path) -> None:
    given, key = sites.granted("exact"), image_key(sites.file, home=sites.owner)
    new = tmp_path / "new.ppis"
    reseal(sites.file, new, home=sites.owner)
    with pytest.raises(InputError, match="for another image"):
        unseal(new, home=sites.recipient, grant=given)
    with pytest.raises(InputError, match="of another image"):
        unseal(new, home=sites.recipient, key=key)
    mixed = SealedFile(read_file(new).header, read_file(sites.file).codes)
    with pytest.raises(InputError, match="was changed"):
        unseal(mixed, home=sites.owner)
    again = unseal(new, home=sites.owner)
    assert again.exact and np.array_equal(again.pixels, sites.pixels) and again.geometry == GRID
    assert unseal(sites.file, home=sites.recipient, grant=given).exact, "who kept the old file keeps what he has"
    assert unseal(new, home=sites.recipient, grant=sites.granted("overview", new)).level == "overview"


def test_sealing_anew_may_leave_levels_out_and_takes_the_place_of_the_old(tmp_path: Path) -> None:
    sites = Sites(tmp_path)
    with pytest.raises(InputError, match="exists"):
        reseal(sites.file, sites.file, home=sites.owner)
    reseal(sites.file, sites.file, home=sites.owner, level="texture", overwrite=True)
    assert inspect(sites.file).levels == LEVELS[:4] and unseal(sites.file, home=sites.owner).level == "texture"
    with pytest.raises(InputError, match="exact is not there"):
        unseal(sites.file, home=sites.owner, level="exact")
    with pytest.raises(InputError, match="was not sealed by this site"):
        reseal(sites.file, tmp_path / "b.ppis", home=sites.recipient)


def test_files_under_a_former_master_open_after_new_keys(tmp_path: Path) -> None:
    sites = Sites(tmp_path)
    renew_keys(sites.owner)
    assert unseal(sites.file, home=sites.owner).exact
    new = tmp_path / "new.ppis"
    reseal(sites.file, new, home=sites.owner)
    assert load_keys(sites.owner).image_keys(inspect(new).image_id)[0] != b"" and unseal(new, home=sites.owner).exact


# -------------------------------------------------------------------------------------------------------------- files


def test_nothing_is_written_where_sealing_fails(tmp_path: Path) -> None:
    home, target = tmp_path / "home", tmp_path / "out"
    target.mkdir()
    refused = [
        ({"image": picture().astype(float)}, InputError), ({"output": target / "a.png"}, OutputError),
        ({"output": tmp_path / "no" / "a.ppis"}, OutputError), ({"levels": 9}, InputError),
        ({"pad": "yes"}, InputError), ({"quality": "high"}, InputError), ({"quality": 1000.0}, InputError),
        ({"keep_tags": ["Modality"]}, InputError), ({"note": 3}, InputError),
    ]  # fmt: skip
    for changes, kind in refused:
        with pytest.raises(kind):
            seal(**{"image": picture(), "output": target / "a.ppis", "home": home, **changes})  # type: ignore[arg-type]
    assert list(target.iterdir()) == []
    token = CancelToken()
    token.cancel()
    with pytest.raises(Cancelled):
        seal(picture(), target / "a.ppis", home=home, cancel=token)
    assert list(target.iterdir()) == []


def test_a_file_that_exists_is_left_unless_it_may_be_replaced(tmp_path: Path) -> None:
    target = tmp_path / "a.ppis"
    target.write_bytes(b"mine")
    with pytest.raises(InputError, match="exists"):
        seal(picture(), target, home=tmp_path / "home")
    assert target.read_bytes() == b"mine"
    seal(picture(), target, home=tmp_path / "home", overwrite=True)
    assert unseal(target, home=tmp_path / "home").exact


def test_a_full_disk_leaves_the_former_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "a.ppis"
    seal(picture(), target, home=tmp_path / "home")
    former = target.read_bytes()

    def full(file: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(whole_files.os, "fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        whole_files.write_whole(target, b"new")
    assert target.read_bytes() == former and [p.name for p in tmp_path.glob("*.part*")] == []


def test_an_opened_image_says_its_level_beside_it_and_inside(sites: Sites, tmp_path: Path) -> None:
    for level, note in (("overview", NOT_FOR_DIAGNOSIS), ("exact", "")):
        path = tmp_path / f"{level}.nrrd"
        beside = unseal(sites.file, home=sites.owner, level=level).write(path)
        said = json.loads(beside.read_text())
        assert beside.name == f"{level}.nrrd.json"
        assert (said["level"], said["exact"], said["note"]) == (level, level == "exact", note)
        image = sitk.ReadImage(str(path))
        assert image.GetPixelID() == sitk.sitkUInt16 and Geometry.from_sitk(image) == GRID
        assert (image.GetMetaData("primis_level"), image.GetMetaData("primis_note")) == (level, note or "exact")
    assert np.array_equal(sitk.GetArrayFromImage(image), sites.pixels)
    assert "not for diagnosis" in unseal(sites.file, home=sites.owner, level=1).volume.name


@pytest.mark.parametrize(("first", "then"), [(1, 5), (5, 1), (1, 2)])
def test_a_kill_between_two_files_leaves_no_lossy_image_that_is_called_exact(
    first: int, then: int, sites: Sites, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the file beside it says, at the moment the image is replaced."""
    path, said = tmp_path / "a.nrrd", []
    beside = unseal(sites.file, home=sites.owner, level=first).write(path)
    write = unsealed.write_volume

    def watched(*given: Any) -> None:
        said.append(json.loads(beside.read_text())["exact"])
        write(*given)

    monkeypatch.setattr(unsealed, "write_volume", watched)
    unseal(sites.file, home=sites.owner, level=then).write(path, overwrite=True)
    assert said == [False] and json.loads(beside.read_text())["exact"] == (then == 5)


def test_what_was_there_stays_where_writing_fails(
    sites: Sites, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.nrrd"
    beside = unseal(sites.file, home=sites.owner, level=1).write(path)
    former = path.read_bytes(), beside.read_bytes()

    def full(*a: object) -> None:
        raise OutputError("the disk is full")

    monkeypatch.setattr(unsealed, "write_volume", full)
    with pytest.raises(OutputError):
        unseal(sites.file, home=sites.owner).write(path, overwrite=True)
    assert (path.read_bytes(), beside.read_bytes()) == former


@pytest.mark.parametrize("shape", [(2, 2), (2, 5), (2, 3, 4), (301, 2), (2, 8, 9)])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16"])
def test_tiny_images_come_back_exactly(tmp_path: Path, shape: tuple[int, ...], dtype: str) -> None:
    limits = np.iinfo(dtype)
    values = np.random.default_rng(1).integers(limits.min, limits.max, shape, endpoint=True).astype(dtype)
    sealed = seal(values, tmp_path / "a.ppis", home=tmp_path / "home")
    assert np.array_equal(unseal(sealed, home=tmp_path / "home").pixels, values)


@pytest.mark.parametrize("ending", [".png", ".nii.gz", ".mha", ".tif"])
def test_an_exact_image_is_written_exactly(sites: Sites, tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"image{ending}"
    unseal(sites.file, home=sites.owner).write(path)
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(path))), sites.pixels)


def test_an_image_that_cannot_be_written_leaves_nothing(sites: Sites, tmp_path: Path) -> None:
    volume = seal(picture("int16", (2, 24, 24)), tmp_path / "v.ppis", home=sites.owner)
    found = unseal(volume, home=sites.owner)
    folder = tmp_path / "out"
    folder.mkdir()
    with pytest.raises(OutputError, match="2D images only"):
        found.write(folder / "v.png")
    with pytest.raises(OutputError, match="must end in one of"):
        found.write(folder / "v.jpg")
    with pytest.raises(OutputError, match="does not exist"):
        found.write(tmp_path / "no" / "v.nrrd")
    (folder / "v.nrrd.json").write_text("mine")
    with pytest.raises(InputError, match="exists"):
        found.write(folder / "v.nrrd")
    assert [p.name for p in folder.iterdir()] == ["v.nrrd.json"]
    found.write(folder / "v.nrrd", overwrite=True)
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "v.nrrd"))), found.pixels)


def test_rounded_images_have_no_exact_level(tmp_path: Path) -> None:
    values = picture("uint16").astype(np.float32) + np.float32(0.25)
    told: list[str] = []
    sealed = seal(Volume(values, GRID), tmp_path / "a.ppis", home=tmp_path / "home", rounded=True, note=told.append)
    assert sealed.header.levels == LEVELS[:4] and any("no exact level" in text for text in told)
    assert not unseal(sealed, home=tmp_path / "home").exact


def test_an_unknown_model_is_said(sites: Sites) -> None:
    header = sites.sealed.header
    key = top_key(load_keys(sites.owner).image_keys(header.image_id)[0], header.image_id)
    other = seal_codes(open_codes(sites.sealed, key), key, "00" * 32, header.shape, header.dtype)
    with pytest.raises(InputError, match="model"):
        unseal(other, home=sites.owner)


@pytest.mark.parametrize("count", [40, pytest.param(2000, marks=pytest.mark.long)])
def test_whatever_an_owner_seals_opens_or_is_refused(tmp_path: Path, count: int) -> None:
    """Codes that are authentic and wrong: changed, cut, of another size or type, or noise."""
    home, draw = tmp_path / "home", random.Random(7)
    header = seal(picture("uint8", (24, 20)), tmp_path / "a.ppis", home=home).header
    key = top_key(load_keys(home).image_keys(header.image_id)[0], header.image_id)
    payloads = open_codes(read_file(tmp_path / "a.ppis"), key)
    ends = Counter[str]()
    for _ in range(count):
        changed, at = list(payloads), draw.randrange(5)
        code = bytearray(changed[at])
        for _ in range(draw.randrange(1, 4)):
            code[draw.randrange(len(code))] ^= draw.randrange(1, 256)
        changed[at] = draw.choice(
            [bytes(code), bytes(code[: draw.randrange(len(code))]), draw.randbytes(len(code)), b""]
        )
        shape = draw.choice([header.shape, header.shape, (9, 11), (3, 24, 20)])
        forged = seal_codes(changed, key, header.model, shape, draw.choice(["uint8", "uint8", "int16"]))
        try:
            ends[unseal(forged, home=home).level] += 1
        except InputError as error:
            ends[type(error).__name__] += 1
    assert set(ends) <= {"exact", "InputError"} and ends["InputError"] > count // 4


def test_no_message_and_no_record_holds_a_key(sites: Sites) -> None:
    ring, key = load_keys(sites.owner), image_key(sites.file, home=sites.owner)
    sites.granted("exact")
    texts = [path.read_bytes() for path in sites.owner.rglob("*.jsonl")]
    texts += [repr(sites.sealed).encode(), repr(unseal(sites.file, home=sites.owner)).encode()]
    for secret in (*ring.masters, *ring.encryption, key):
        assert not any(secret in text or secret.hex().encode() in text for text in texts)


def test_no_home_and_no_public_file_holds_pixels_or_the_place(tmp_path: Path) -> None:
    """Searched for 8 pixels of any row, as 8 and 16 bits of either order, and for the origin."""
    sites = Sites(tmp_path)
    given = sites.granted("exact")
    unseal(sites.file, home=sites.recipient, grant=given)
    (tmp_path / "b.ppig").write_bytes(given)
    rows = [sites.pixels[y, x : x + 8] for y in range(0, 40, 3) for x in range(0, 48, 8)]
    wanted = [np.asarray(row, kind).tobytes() for row in rows for kind in ("<u2", ">u2")]
    wanted += [np.asarray(GRID.origin, kind).tobytes() for kind in ("<f8", ">f8")]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 8
    for path in files:
        data = path.read_bytes()
        assert not [one for one in wanted if one in data], path
