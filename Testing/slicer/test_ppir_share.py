"""The Share panel in the test host: trust, a real sharing process, and that no process is left behind."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import ppir_support as support
import pytest
import SimpleITK as sitk
from ppir_panels import NAME
from ppir_panels import SharePanel as Panel
from ppir_support import FIXED

from PPIRLogic.network.trust import TrustStore


@pytest.fixture
def sites(tmp_path: Path) -> Iterator[support.Sites]:
    own = support.Sites(tmp_path)
    yield own
    own.stop()


@pytest.fixture
def panel(slicer_host: ModuleType, sites: support.Sites, monkeypatch: pytest.MonkeyPatch) -> Panel:
    monkeypatch.setenv("PPIR_HOME", str(sites.a.home))
    return Panel(slicer_host)


def ask(host: ModuleType, sites: support.Sites, *arguments: str) -> list[dict[str, Any]]:
    """What a command of hospital B says, while the panel goes on."""
    command = [sys.executable, "-m", "PPIRLogic", *arguments, "--json", "--home", str(sites.b.home)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert host.process_events(until=lambda: process.poll() is not None, timeout=60)
    out, err = process.communicate()
    assert process.returncode == 0, out + err
    return [json.loads(line) for line in out.splitlines()]


def test_own_fingerprint(panel: Panel, sites: support.Sites) -> None:
    panel.ui.showIdentityButton.click()
    assert panel.ui.fingerprintLabel.text == sites.a.fingerprint and not panel.failed


def test_peers_are_added_and_removed(panel: Panel, sites: support.Sites) -> None:
    table, known = panel.ui.peersTable, sites.b.fingerprint
    assert table.rowCount == 2 and panel.cell(table, 0, 1) == known and panel.cell(table, 1, 0) == "Dealer (dealer)"
    panel.ui.removePeerButton.click()
    assert panel.failed and "Select a peer" in panel.status
    table.setCurrentCell(0, 0)
    panel.ui.removePeerButton.click()
    assert table.rowCount == 1 and "No longer trusted" in panel.status
    panel.add_peer("Hospital B", known.lower().replace("-", " "))
    assert (panel.cell(table, 1, 0), panel.cell(table, 1, 1)) == ("Hospital B", known)
    assert panel.status == "Trusted." and panel.ui.fingerprintLineEdit.text == panel.ui.peerNameLineEdit.text == ""


def test_a_dealer_is_trusted_as_one(panel: Panel, sites: support.Sites) -> None:
    table, known = panel.ui.peersTable, sites.dealer.fingerprint
    panel.add_peer("", known)  # a slip: as a hospital
    assert panel.cell(table, 1, 0) == "Dealer" and not TrustStore(sites.a.home).is_trusted(known, "dealer")
    panel.ui.fingerprintLineEdit.text = known
    panel.ui.addDealerButton.click()
    assert panel.cell(table, 1, 0) == "Dealer (dealer)" and TrustStore(sites.a.home).is_trusted(known, "dealer")


def test_the_same_peer_twice(panel: Panel, sites: support.Sites) -> None:
    table, known = panel.ui.peersTable, sites.b.fingerprint
    rows = table.rowCount
    panel.add_peer("Hospital B", known)
    assert panel.failed and "'Hospital B' is already trusted" in panel.status and table.rowCount == rows
    panel.add_peer("", known)
    assert panel.failed and "already trusted" in panel.status
    panel.add_peer("Dealer", known)  # another peer's name
    assert panel.failed and "already called 'Dealer'" in panel.status and table.rowCount == rows
    panel.add_peer("Clinic B", known)
    assert panel.status == "Already trusted as 'Hospital B'; now called 'Clinic B'." and table.rowCount == rows


def test_my_own_fingerprint_is_no_peer(panel: Panel, sites: support.Sites) -> None:
    panel.add_peer("Me", sites.a.fingerprint)
    assert panel.failed and "my own fingerprint" in panel.status and panel.ui.peersTable.rowCount == 2
    panel.picture("share_error")


def test_what_peers_may_run(panel: Panel, sites: support.Sites) -> None:
    panel.node.shareTransforms, panel.node.shareLosses, panel.node.sharePeer = "rigid, affine", "ncc", "Hospital B"
    offer = next(e for e in ask(panel.host, sites, "check", panel.share()) if e["event"] == "image")
    assert (offer["transforms"], offer["losses"], offer["protocols"]) == (
        ["affine", "rigid"],
        ["ncc"],
        ["fhe"],
    )
    assert offer["budget"]["numbers_per_image"] == 200_000
    panel.ui.shareButton.click()
    panel.node.sharePeer, panel.node.budgetSession, panel.node.budgetPercent = "", 50_000, 400.0
    offer = next(e for e in ask(panel.host, sites, "check", panel.share()) if e["event"] == "image")
    assert (offer["budget"]["percent_per_level"], offer["budget"]["numbers_per_image"]) == (400.0, 500_000)
    panel.ui.shareButton.click()
    panel.node.sharePeer = "Dealer"
    assert not [e for e in ask(panel.host, sites, "check", panel.share()) if e["event"] == "image"]


@pytest.mark.parametrize(
    ("parameter", "value", "words"),
    [
        ("shareLosses", "nmi", "unknown nmi"),
        ("shareTransforms", "rigid, spin", "unknown spin"),
        ("sharePeer", "Nobody", "no trusted peer has this name"),
        ("shareAddress", "nowhere", "nowhere"),
    ],
)
def test_limits_that_make_no_sense(panel: Panel, parameter: str, value: str, words: str) -> None:
    panel.node.sharedVolume = support.add_volume(FIXED, "F")
    panel.node.shareAddress = "127.0.0.1:0"
    setattr(panel.node, parameter, value)
    panel.ui.shareButton.click()
    assert panel.host.process_events(until=lambda: not panel.panel.sharing)
    assert panel.failed and words in panel.status and panel.ui.shareButton.text == "Start sharing"


@pytest.mark.parametrize("wrong", ["", "ABCD", "0" * 32, "A" * 33, "ÄÖÜ"])
def test_malformed_fingerprints(panel: Panel, wrong: str) -> None:
    panel.add_peer("X", wrong)
    assert panel.failed and "not a fingerprint" in panel.status and panel.ui.fingerprintLineEdit.text == wrong
    assert panel.ui.peersTable.rowCount == 2


def test_what_is_missing_is_named(panel: Panel) -> None:
    assert "Select the volume" in panel.status and not panel.ui.shareButton.enabled
    panel.node.sharedVolume = support.add_volume(FIXED, "F")
    panel.node.sharedName = " "
    assert "name" in panel.status and not panel.ui.shareButton.enabled
    panel.node.sharedName, panel.node.shareMpc = "atlas", True
    assert "dealer" in panel.status and not panel.ui.shareButton.enabled
    panel.node.shareMpc = False
    assert panel.status == "" and panel.ui.shareButton.enabled


def test_a_session_shows_up(panel: Panel, sites: support.Sites, tmp_path: Path) -> None:
    address = panel.share()
    image = next(e for e in ask(panel.host, sites, "check", address) if e["event"] == "image")
    assert image["name"] == "atlas" and image["protocols"] == ["fhe"] and not image["has_mask"]
    assert image["budget"]["percent_per_level"] == 5 and image["budget"]["numbers_per_session"] == 20000
    moving = tmp_path / "moving.mha"
    sitk.WriteImage(support.moved(FIXED), str(moving))
    result = ask(
        panel.host, sites, "register", str(moving), "--peer", address, "--transform", "rigid", "--initial", "identity",
        "--output", str(tmp_path / "T.h5"),
    )[-1]  # fmt: skip
    table = panel.ui.sessionsTable
    assert panel.host.process_events(until=lambda: panel.cell(table, 0, 3) == "finished", timeout=5)
    assert table.rowCount == 1 and panel.cell(table, 0, 1) == "Hospital B"
    assert panel.cell(table, 0, 2) == "rigid, ncc, fhe" and panel.cell(table, 0, 4) == f"{result['numbers']:,}"
    log = panel.ui.shareLogTextEdit.plainText
    assert "session of" in log and "rigid, ncc, fhe" in log
    left = next(e for e in ask(panel.host, sites, "check", address) if e["event"] == "image")
    assert left["numbers_opened"] == result["numbers"] > 0
    panel.ui.ledgerButton.click()
    shown = [line for line in panel.ui.shareLogTextEdit.plainText.splitlines() if "has learned" in line]
    assert shown and all("Hospital B has learned" in line and "of 'atlas' at shrink factor" in line for line in shown)
    assert sum(int(line.split("learned ")[1].split(" ")[0].replace(",", "")) for line in shown) == result["numbers"]
    panel.picture("share_session")
    panel.ui.shareButton.click()
    assert panel.status == "Not sharing." and not panel.failed and not support.children("PPIRLogic", " serve ")


def test_mask_is_shared(panel: Panel, sites: support.Sites) -> None:
    inside = sitk.Cast(FIXED > 50, sitk.sitkFloat32)
    panel.node.sharedMask = support.add_volume(inside, "M", "vtkMRMLLabelMapVolumeNode")
    address = panel.share()
    assert next(e for e in ask(panel.host, sites, "check", address) if e["event"] == "image")["has_mask"]


def test_port_in_use(panel: Panel) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        panel.node.sharedVolume = support.add_volume(FIXED, "F")
        panel.node.shareAddress = f"127.0.0.1:{taken.getsockname()[1]}"
        panel.ui.shareButton.click()
        assert panel.host.process_events(until=lambda: not panel.panel.sharing)
    assert panel.failed and "in use" in panel.status and panel.ui.shareButton.text == "Start sharing"


def test_volumes_that_cannot_be_shared(panel: Panel) -> None:
    moved = panel.node.sharedVolume = support.add_volume(FIXED, "F")
    moved.SetAndObserveTransformNodeID(support.add("vtkMRMLLinearTransformNode", "L").GetID())
    panel.ui.shareButton.click()
    assert panel.failed and "Harden" in panel.status and not panel.panel.sharing


@pytest.mark.parametrize("how", ["scene", "reload", "close"])
def test_sharing_ends_with_scene_and_module(panel: Panel, how: str) -> None:
    panel.share()
    assert len(support.children("PPIRLogic", " serve ")) == 1
    if how == "scene":
        panel.host.clear_scene()
        assert panel.ui.shareButton.text == "Start sharing" and "Select the volume" in panel.status
    elif how == "reload":
        panel.host.reload_module(NAME)
    else:
        panel.host.close_widget(NAME)
    assert not support.children("PPIRLogic", " serve ")
