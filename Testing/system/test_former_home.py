"""A home that release 0.1 wrote is read as it is: identity, trust, accounts, and the key that recognises images."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from system_support import ppir

from PPIRLogic.disclosure.accounts import Budget
from PPIRLogic.errors import BudgetError
from PPIRLogic.images.reading import read_volume
from PPIRLogic.local_processes import start
from PPIRLogic.network.identity import load_or_create_identity
from PPIRLogic.registration.parameters import Parameters
from PPIRLogic.registration.party1.register import register
from PPIRLogic.registration.party2.fixed_image import FixedImage
from PPIRLogic.registration.party2.policy import Policy
from PPIRLogic.registration.party2.site import ServingSite, Shared

WRITTEN = Path(__file__).parent / "home_0_1"  # by release 0.1; its keys belong to nobody
SAMPLES = Path(__file__).resolve().parents[2] / "PPIRExtension" / "Resources" / "SampleData"
OWN, PEER = "EN5A-OMDA-J7QM-IVRC-VWFR-BEH3-GTHE-KY3M", "TOUS-6VMD-W7AM-EDGC-LLS3-NKHU-MJMB-IGTU"
ON_RECORD = {4: 128, 2: 16}  # numbers by shrink factor


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A copy with the permissions that a version control system does not keep."""
    copy = tmp_path / "home"
    shutil.copytree(WRITTEN, copy)
    for path in copy.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
    return copy


def rows(home: Path, *command: str) -> list[dict[str, object]]:
    done = ppir(home, *command, "--home", home, "--json")
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_commands_read_it(home: Path) -> None:
    (identity,) = rows(home, "identity")
    assert identity["fingerprint"] == OWN and identity["name"] == "Hospital B"
    (peer,) = rows(home, "trust")
    assert (peer["fingerprint"], peer["name"]) == (PEER, "Hospital A")
    found = {row["level"]: row["numbers"] for row in rows(home, "ledger")}
    assert found == ON_RECORD
    assert rows(home, "ledger", "--verify")[0]["event"] == "not told", "nothing is adopted by looking"


def test_its_image_is_recognised_and_its_account_goes_on(home: Path) -> None:
    """The account of release 0.1 counts against the same image and peer today."""
    image = FixedImage("renamed", read_volume(SAMPLES / "PPIRBrainFixed.nrrd", role="fixed"))
    identity = load_or_create_identity(home)
    site = ServingSite(identity, home, [Shared(image, Policy())], 1, lambda event: None, False)
    try:
        account = site.accounts.account(PEER, site.image_id("renamed"), Budget())
        assert {level: account.opened(level) for level in ON_RECORD} == ON_RECORD
    finally:
        site.close()


def test_the_two_sites_of_then_work_together_now(home: Path) -> None:
    peer_home = home / "peer"
    listen = ("serve", SAMPLES / "PPIRBrainFixed.nrrd", "--name", "atlas", "--listen", "127.0.0.1:0")
    moving = read_volume(SAMPLES / "PPIRBrainMoving.nrrd", role="moving")
    parameters = Parameters(transform="translation", loss="ssd", levels=(4,), evaluations=3, threads=1)
    server = start("party 2", home, *map(str, listen))
    try:
        address = server.wait_for("listening")["address"]
        result = register(moving, address, parameters=parameters, home=peer_home)
        assert result.complete and result.numbers == result.peer_numbers > 0
        now = {row["level"]: row["numbers"] for row in rows(home, "ledger")}
        assert now == {**ON_RECORD, 4: ON_RECORD[4] + result.numbers}
        adopted = [row for row in rows(home, "ledger", "--verify") if row["event"] == "adopted"]
        assert [row["lines"] for row in adopted] == [36], "what release 0.1 wrote"
    finally:
        server.stop()
    spent = (*listen, "--budget-percent", "0.1")
    server = start("party 2", home, *map(str, spent))
    try:
        address = server.wait_for("listening")["address"]
        with pytest.raises(BudgetError, match="disclosure budget"):
            register(moving, address, parameters=parameters, home=peer_home)
    finally:
        server.stop()
