"""Registrations through a relay, with real processes: a direct run's result, also where the relay is lost."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from relay_support import free_port, listening_ports, pair_of_files, relayed_sites, serving
from system_support import Program, ppir, wait_until

from PPIRLogic.local_processes import Site

pytestmark = pytest.mark.long
QUICK = ("--transform", "rigid", "--loss", "ssd", "--levels", "2,1", "--evaluations", "6", "--threads", "1")


@dataclass
class Trial:
    """Sites, images, and what a run without a relay gave, by protocol."""

    sites: dict[str, Site]
    fixed: Path
    moving: Path
    folder: Path
    direct: dict[str, bytes]

    def afresh(self, folder: Path) -> dict[str, Site]:
        """The sites before any run: what an owner has left changes what a run may ask."""
        for name in self.sites:
            shutil.copytree(self.sites[name].home, folder / name)
        return {name: Site(folder / name, site.fingerprint) for name, site in self.sites.items()}

    def words(self, protocol: str, output: Path, *more: object) -> tuple[object, ...]:
        return ("register", self.moving, *QUICK, "--protocol", protocol, "--output", output, *more)


def relay_at(port: int, site: Site, *more: object) -> Program:
    return Program(site.home, "relay", "--listen", f"127.0.0.1:{port}", *more)


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Trial:
    folder = tmp_path_factory.mktemp("relay")
    one = Trial(relayed_sites(folder / "sites"), *pair_of_files(folder), folder, {})
    sites = one.afresh(folder / "direct")
    with serving(sites["B"], one.fixed, "", "--listen", "127.0.0.1:0") as party2:
        address = party2.wait_for("listening")["address"]
        for protocol in ("clear", "fhe"):  # clear is not counted
            output = folder / f"direct-{protocol}.tfm"
            done = ppir(sites["A"].home, *one.words(protocol, output, "--peer", address))
            assert done.returncode == 0, done.stderr
            one.direct[protocol] = output.read_bytes()
    return one


@pytest.mark.parametrize("protocol", ["clear", "fhe"])
def test_the_same_transform_as_without_a_relay(protocol: str, trial: Trial, tmp_path: Path) -> None:
    """Byte for byte the same file; party 2 listens on no port; the relay's log has who met whom and nothing else."""
    sites = trial.afresh(tmp_path)
    with relay_at(0, sites["R"], "--allow", "A", "--allow", sites["B"].fingerprint) as relay:
        address = relay.wait_for("listening")["address"]
        with serving(sites["B"], trial.fixed, address) as party2:
            assert party2.wait_for("listening")["address"] == f"{sites['B'].fingerprint}@{address}"
            if sys.platform == "linux":
                assert listening_ports(party2.process.pid) == []
            checked = ppir(sites["A"].home, "check", "B", "--relay", address)
            assert checked.returncode == 0 and "'atlas'" in checked.stdout, checked.stderr
            output = tmp_path / "T.tfm"
            done = ppir(sites["A"].home, *trial.words(protocol, output, "--peer", "B", "--relay", address))
            assert done.returncode == 0, done.stderr
        assert output.read_bytes() == trial.direct[protocol]
        relay.wait_for("line ended", lambda e: e.get("bytes_of_caller", 0) > 2000)
        assert {e["event"] for e in relay.seen} <= {"listening", "room opened", "joined", "line ended", "room closed"}
    verified = ppir(sites["R"].home, "ledger", "--verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr


def test_a_relay_that_is_killed_and_started_again(trial: Trial, tmp_path: Path) -> None:
    """In the middle of a run, with -9: party 2 returns to its room, and the run ends with the undisturbed result."""
    sites, port = trial.afresh(tmp_path), free_port()
    address = f"127.0.0.1:{port}"
    first = relay_at(port, sites["R"])
    first.wait_for("listening")
    with serving(sites["B"], trial.fixed, address) as party2:
        party2.wait_for("listening")
        output = tmp_path / "T.tfm"
        words = trial.words("fhe", output, "--peer", "B", "--relay", address)
        with Program(sites["A"].home, *words) as run:
            run.wait_for("progress", lambda e: e["stage"] == "evaluation")
            first.__exit__()  # kills it
            run.wait_for("progress", lambda e: e["stage"] == "reconnecting")
            with relay_at(port, sites["R"]) as second:
                second.wait_for("listening")
                result = run.wait_for("result")
                assert run.ends() == 0
        assert result["reconnections"] >= 1
        assert output.read_bytes() == trial.direct["fhe"]
        assert wait_until(lambda: any("waiting at the relay" in e.get("text", "") for e in _events(party2)))


def _events(program: Program) -> list[dict[str, object]]:
    while not program.events.empty():
        program.seen.append(program.events.get())
    return program.seen


def test_two_closed_firewalls(trial: Trial, tmp_path: Path) -> None:
    """Three networks; whatever would open a connection to either site is dropped on the way. Only the relay helps."""
    from netlab import Line, network, problem

    if why := problem():
        pytest.skip(why)
    sites = trial.afresh(tmp_path)
    with (
        network(Line(rtt=2), closed=(0, 1)) as net,
        Program(sites["R"].home, "relay", "--listen", f"{net.address(2)}:443", within=net.within(2)) as relay,
    ):
        address = relay.wait_for("listening")["address"]
        listen = ("--listen", f"{net.address(1)}:7443")
        with serving(sites["B"], trial.fixed, "", *listen, within=net.within(1)) as plain:
            direct = plain.wait_for("listening")["address"]
            with Program(sites["A"].home, "check", direct, within=net.within(0)) as refused:
                assert refused.ends(30.0) != 0
                assert "does not answer within" in refused.event("error")["text"]
        with serving(sites["B"], trial.fixed, address, within=net.within(1)) as party2:
            party2.wait_for("listening")
            output = tmp_path / "T.tfm"
            words = trial.words("fhe", output, "--peer", "B", "--relay", address)
            with Program(sites["A"].home, *words, within=net.within(0)) as run:
                run.wait_for("result")
                assert run.ends() == 0
    assert output.read_bytes() == trial.direct["fhe"]
