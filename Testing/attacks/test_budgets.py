"""A budget belongs to the subject: peers that pool what they learned, and copies of an image, get no more of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from recording import Record
from system_support import Owner, Phantom, grid, owner, save, shared, two_sites
from thief import WANTED, Thief, quantised, right

from PPIRLogic.disclosure.accounts import Budget
from PPIRLogic.disclosure.subjects import Subjects
from PPIRLogic.errors import BudgetError, PPIRError
from PPIRLogic.images.geometry import Geometry
from PPIRLogic.images.reading import read_volume
from PPIRLogic.images.volume import Volume
from PPIRLogic.local_processes import Site, make_sites
from PPIRLogic.network.trust import TrustStore
from PPIRLogic.registration.party2.fixed_image import FixedImage

GRID = grid((48, 48), (1.0, 1.0), (0.0, 0.0))
FIXED = Phantom.make(GRID).on(GRID)
HIDDEN = quantised(FixedImage("fixed", FIXED))
PEERS = tuple("CDEF")
BUDGET = Budget()  # as it is by default
WITHOUT = replace(BUDGET, times_per_subject=10**6)


def pooled(sites: dict[str, Site], one: Owner) -> int:
    """Voxels that these peers read exactly, each one those that the others have not."""
    found: dict[int, int] = {}
    for name in PEERS:
        try:
            with Thief(sites[name], one.address) as thief:
                found |= thief.read(v for v in range(len(HIDDEN)) if v not in found)
        except BudgetError:
            continue
    return right(found, HIDDEN)


def test_peers_that_pool_what_they_learn(tmp_path: Path, record: Record) -> None:
    sites = make_sites(tmp_path, ("B", "X", *PEERS))
    with owner(sites["X"], shared(FIXED, budget=WITHOUT)) as one:
        alone = pooled(sites, one)
    with owner(sites["B"], shared(FIXED, budget=BUDGET)) as one:
        together = pooled(sites, one)
        with pytest.raises(BudgetError, match="all peers together"):
            Thief(sites["X"], one.address)
    most = BUDGET.times_per_subject * 0.05 * 3 * len(HIDDEN)
    assert alone >= 0.44 * len(HIDDEN) > 1.4 * most and together <= most
    record(
        f"{len(PEERS)} peers, each within its budget, pool what they read (three voxels to a number)",
        f"{alone} of {len(HIDDEN)} voxels exactly",
        f"{together} of {len(HIDDEN)}: one total per subject over all peers, twice a peer's by default",
    )


def copies(folder: Path) -> dict[str, Volume]:
    """The same scan as it comes back: in other formats, scaled, moved by a hair, one voxel changed."""
    whole = Volume(np.rint(FIXED.array), GRID, "x")
    found = {"first": whole}
    for ending in ("nrrd", "nii.gz", "mha"):
        found[ending] = read_volume(save(whole, folder / f"copy.{ending}"), role="fixed")
    sitk.WriteImage(sitk.Cast(whole.to_sitk(), sitk.sitkInt16), str(folder / "short.nii"))
    found["int16"] = read_volume(folder / "short.nii", role="fixed")
    found["scaled"] = Volume(whole.array * np.float32(1.0001), GRID, "x")
    found["other units"] = Volume(whole.array * np.float32(0.5) - 7, GRID, "x")
    moved = Geometry(GRID.size, GRID.spacing, tuple(o + 1e-9 for o in GRID.origin), GRID.direction)
    found["moved by 1e-9 mm"] = Volume(whole.array, moved, "x")
    changed = whole.array.copy()
    changed[5, 5] += 1
    found["one voxel"] = Volume(changed, GRID, "x")
    return found


def read_over_copies(site: Site, two: Site, volumes: dict[str, Volume]) -> tuple[int, list[str]]:
    """Voxels that one peer reads, copy after copy; and what the owner was told of them."""
    found: dict[int, int] = {}
    told: list[str] = []
    for name, volume in volumes.items():
        with owner(two, shared(volume, name=name, budget=WITHOUT)) as one:
            told += [str(e["copy_of"]) for e in one.told("image recognised")]
            try:
                with Thief(site, one.address, replace(WANTED, image=name)) as thief:
                    found |= thief.read(v for v in range(len(HIDDEN)) if v not in found)
            except BudgetError:
                continue
    return len(found), told


def test_a_copy_of_an_image_has_no_budget_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record: Record
) -> None:
    volumes = copies(tmp_path)
    one_site, two = two_sites(tmp_path / "ours")
    ours, told = read_over_copies(one_site, two, volumes)
    with monkeypatch.context() as patch:
        patch.setattr(Subjects, "declare", lambda *args: [])
        patch.setattr(Subjects, "images_of", lambda self, image: (image,))
        unprotected, _ = read_over_copies(*two_sites(tmp_path / "unprotected"), volumes)
    each = int(0.05 * len(HIDDEN))
    assert ours <= 3 * each < 0.16 * len(HIDDEN) and unprotected > 4 * ours
    assert len(told) == 4, told  # what was saved in another format is the same to the last bit
    record(
        f"one image under {len(volumes)} guises: other formats, scaled, moved by 1e-9 mm, one voxel changed",
        f"{unprotected} of {len(HIDDEN)} voxels exactly",
        f"{ours}, as with one; its owner is told",
    )


def test_what_an_owner_calls_one_subject_has_one_budget(tmp_path: Path) -> None:
    one_site, two = two_sites(tmp_path)
    other = Volume(np.random.default_rng(2).normal(size=FIXED.array.shape), GRID, "y")
    images = [
        replace(shared(v, name=n, budget=BUDGET), subject="Miller") for n, v in (("fixed", FIXED), ("second", other))
    ]
    with owner(two, *images) as one:
        with Thief(one_site, one.address) as thief:
            assert len(thief.read(range(len(HIDDEN)))) > 100
        with pytest.raises(PPIRError, match="budget does not allow"):
            one_site_asks(one_site, one, "second")


def one_site_asks(site: Site, one: Owner, image: str) -> None:
    request = replace(WANTED, image=image)
    Thief(site, one.address, request).close()


def test_what_all_of_an_authority_learn_is_one_peers_budget(tmp_path: Path) -> None:
    """Keys of one authority are as many as it likes to make: they share what one may learn."""
    from test_tls import authority, certificate_for  # the certificates of the tests of TLS

    _, two = two_sites(tmp_path)
    issuer = authority(tmp_path / "ca.pem")
    TrustStore(two.home).add_authority(tmp_path / "ca.pem", "Hospital group")
    found: dict[int, int] = {}
    with owner(two, shared(FIXED, budget=WITHOUT)) as one:
        for n in range(3):
            member = member_of(tmp_path / f"pc{n}", issuer, certificate_for, two)
            try:
                with Thief(member, one.address) as thief:
                    found |= thief.read(v for v in range(len(HIDDEN)) if v not in found)
            except BudgetError as error:
                assert "does not allow" in str(error)
    assert 0 < right(found, HIDDEN) <= 3 * int(0.05 * len(HIDDEN))


def member_of(home: Path, issuer: object, certificate_for: object, two: Site) -> Site:
    """A site whose certificate comes from an authority."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding
    from cryptography.x509.oid import NameOID

    from PPIRLogic.network.identity import load_or_create_identity, load_private_key

    identity = load_or_create_identity(home, home.name)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Hospital A")])
    public = load_private_key(identity.key_file).public_key()
    made = certificate_for(public, name, issuer[0], issuer[1], -1, 30, False, "x")  # type: ignore[operator, index]
    identity.certificate_file.write_bytes(made.public_bytes(Encoding.PEM))
    TrustStore(home).add(two.fingerprint, "B")
    return Site(home, identity.fingerprint)
