"""What cannot work is refused early, in words that say what, where and what to do; nothing half-done is left."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from system_support import (
    OPEN,
    Owner,
    Phantom,
    Program,
    account_numbers,
    ball,
    call,
    events_of,
    grid,
    here,
    last_words,
    motion_of,
    owner,
    plain_grid,
    ppir,
    save,
    save_mask,
    shared,
    two_sites,
    wait_until,
)

from PPIRLogic.disclosure.accounts import Budget
from PPIRLogic.disclosure.ledger import SessionLedger
from PPIRLogic.errors import (
    BudgetError,
    FixedPointError,
    InputError,
    OverlapError,
    PolicyError,
    PPIRError,
    RefusedError,
    VersionError,
)
from PPIRLogic.images.volume import Volume
from PPIRLogic.local_processes import Site, make_sites
from PPIRLogic.network.channel import Listener
from PPIRLogic.network.identity import load_or_create_identity
from PPIRLogic.network.messages import PROTOCOL_VERSION
from PPIRLogic.network.names import DEALER
from PPIRLogic.network.trust import TrustStore
from PPIRLogic.registration.losses import LOSSES
from PPIRLogic.registration.parameters import Parameters
from PPIRLogic.registration.party1 import session as session_module
from PPIRLogic.registration.party1.register import register
from PPIRLogic.registration.party1.session import ClientSession
from PPIRLogic.registration.party2.server import RegistrationMethod
from PPIRLogic.registration.request import Peer, Request
from PPIRLogic.registration.terms import VALUE
from PPIRLogic.secure.exact_range import check_range
from PPIRLogic.secure.fhe.parameters import PLAIN_MODULUS
from PPIRLogic.secure.product import Columns, Term
from PPIRLogic.transforms import parameter_count

LISTEN = ("--listen", "127.0.0.1:0")
GRID = {d: plain_grid(d) for d in (2, 3)}
PHANTOM = {d: Phantom.make(GRID[d]) for d in (2, 3)}
FIXED = {d: PHANTOM[d].on(GRID[d], name="fixed") for d in (2, 3)}
MOVING = {d: PHANTOM[d].on(GRID[d], motion_of("rigid", GRID[d]), "moving") for d in (2, 3)}
RIGID = Parameters(transform="rigid", levels=(2, 1), initial="centres", skip_check=True)


@pytest.fixture
def sites(tmp_path: Path) -> tuple[Site, Site]:
    return two_sites(tmp_path)


@pytest.fixture
def served(sites: tuple[Site, Site]) -> Iterator[Owner]:
    with owner(sites[1], shared(FIXED[2])) as one:
        yield one


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    folder = tmp_path / "outputs"
    folder.mkdir()
    return folder


def refused(done: subprocess.CompletedProcess[str], *words: str, code: int = 2) -> None:
    """The command failed with this code, and said all these words once, on standard error or as a JSON error."""
    text = done.stderr
    if "--json" in done.args:
        assert done.stderr == ""
        errors = [e for e in events_of(done) if e["event"] == "error"]
        assert len(errors) == 1
        text = errors[0]["text"]
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    assert "nternal error" not in text and "Traceback" not in text
    missing = [w for w in words if w not in text]
    assert not missing, (missing, text)


# ---------------------------------------------------------------------------------------------- bad images


def bad_images(folder: Path) -> dict[str, tuple[Path, tuple[str, ...]]]:
    rng = np.random.default_rng(1)
    folder.mkdir(exist_ok=True)

    def written(image: sitk.Image, name: str) -> Path:
        sitk.WriteImage(image, str(folder / name))
        return folder / name

    (folder / "empty.nrrd").touch()
    (folder / "junk.nrrd").write_bytes(b"NRRD0004\ntype: float\n" + rng.bytes(300))
    whole = save(MOVING[3], folder / "whole.mha").read_bytes()
    (folder / "cut.mha").write_bytes(whole[: len(whole) // 2])
    (folder / "folder").mkdir()
    four = sitk.GetImageFromArray(rng.random((3, 8, 8, 8)).astype(np.float32), isVector=False)
    colour = sitk.GetImageFromArray(rng.integers(0, 255, (20, 20, 3)).astype(np.uint8), isVector=True)
    holes = MOVING[2].array.copy()
    holes[4:6, 7] = np.nan
    return {
        "missing": (folder / "missing.nrrd", ("missing.nrrd", "does not exist")),
        "empty": (folder / "empty.nrrd", ("empty.nrrd", "empty file")),
        "junk": (folder / "junk.nrrd", ("junk.nrrd", "damaged", "Export it again")),
        "cut short": (folder / "cut.mha", ("cut.mha", "cut short")),
        "no series": (folder / "folder", ("folder", "DICOM")),
        "4D": (written(four, "four.nrrd"), ("four.nrrd", "4D", "Only 2D and 3D")),
        "colour": (written(colour, "rgb.png"), ("rgb.png", "3 channels", "grey")),
        "NaN": (save(Volume(holes, GRID[2], "x"), folder / "nan.nrrd"), ("nan.nrrd", "2 voxels", "NaN", "Replace")),
        "one voxel": (
            written(sitk.GetImageFromArray(rng.random((8, 1, 30)).astype(np.float32)), "thin.nrrd"),
            ("thin.nrrd", "axis of one voxel", "30×1×8"),
        ),
        "constant": (
            written(sitk.GetImageFromArray(np.full((40, 40), 3.0, np.float32)), "constant.nrrd"),
            ("constant.nrrd", "constant"),
        ),
    }


BAD = ("missing", "empty", "junk", "cut short", "no series", "4D", "colour", "NaN", "one voxel", "constant")


@pytest.mark.parametrize("what", BAD)
def test_a_bad_image_is_refused_on_either_side(what: str, tmp_path: Path, outputs: Path) -> None:
    path, words = bad_images(tmp_path / "bad")[what]
    a, b = two_sites(tmp_path)
    # Nobody listens at the peer's address: the image is looked at first.
    done = here(a.home, "register", path, "--peer", "127.0.0.1:1", "--output", outputs / "T.h5", "--json")
    refused(done, "moving image", *words)
    refused(here(b.home, "serve", path, "--listen", "127.0.0.1:0"), "fixed image", *words)
    assert list(outputs.iterdir()) == []


def test_a_bad_image_through_real_processes(tmp_path: Path, outputs: Path) -> None:
    bad = bad_images(tmp_path / "bad")
    good = save(MOVING[2], tmp_path / "good.nrrd")
    for name in ("empty", "NaN"):
        path, words = bad[name]
        done = ppir(
            tmp_path / "home", "simulate", "--fixed", path, "--moving", good, "--output", outputs / "T.h5",
            "--report", outputs / "R.json",
        )  # fmt: skip
        refused(done, *words)
        assert done.stdout == ""
    assert list(outputs.iterdir()) == []


def test_two_and_three_dimensions_do_not_fit(served: Owner, sites: tuple[Site, Site], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"fixed image is 2D.*moving image 3D.*same dimension"):
        register(MOVING[3], Peer(served.address), home=sites[0].home)
    assert served.told("session") == [], "this is known before a session is opened"


def test_images_that_do_not_overlap_are_told_by_how_much(sites: tuple[Site, Site]) -> None:
    far = replace(FIXED[2], geometry=grid(GRID[2].size, GRID[2].spacing, (84.0, 5.0)))
    with owner(sites[1], shared(far)) as one:
        with pytest.raises(OverlapError, match=r"Only [0-4]\.\d %.*5 %.*--initial centres"):
            register(MOVING[2], Peer(one.address), home=sites[0].home, parameters=replace(RIGID, initial="identity"))
        assert account_numbers(one.home) == 0
        p = replace(RIGID, initial="centres")
        assert register(MOVING[2], Peer(one.address), home=sites[0].home, parameters=p).complete


def test_a_mask_on_another_grid_or_empty(served: Owner, sites: tuple[Site, Site], tmp_path: Path) -> None:
    moving = save(MOVING[2], tmp_path / "moving.nrrd")
    words = ("register", moving, "--peer", served.address, "--output", tmp_path / "T.h5", "--mask")
    other = save_mask(ball(GRID[3]), GRID[3], tmp_path / "mask3.nrrd")
    refused(here(sites[0].home, *words, other), "mask3.nrrd", "not on the grid", "Resample")
    empty = save_mask(np.zeros(GRID[2].array_shape, bool), GRID[2], tmp_path / "none.nrrd")
    refused(here(sites[0].home, *words, empty), "none.nrrd", "empty")
    assert not (tmp_path / "T.h5").exists()


@pytest.mark.parametrize("use", ["disclosed", "private", "fill"])
def test_a_fixed_mask_where_the_moving_image_is_not(use: str, sites: tuple[Site, Site]) -> None:
    """The grids overlap, but nothing of the masked region does: an error in words, or for 'fill' whatever comes out."""
    left = np.zeros(GRID[2].array_shape, bool)
    left[20:60, 4:14] = True
    away = Volume(MOVING[2].array, grid(GRID[2].size, GRID[2].spacing, (20.0, 5.0)), "moving")
    policy = {"masks": frozenset({"none", "fill", "private", "disclosed"})}
    with owner(sites[1], shared(FIXED[2], mask=left, budget=replace(OPEN, percent_per_level=1e6), **policy)) as one:
        p = replace(RIGID, fixed_mask=use, initial="identity")
        try:
            result = register(away, Peer(one.address), home=sites[0].home, parameters=p)
        except PPIRError as error:
            assert "overlap" in str(error) or "inside" in str(error)
        else:
            assert use == "fill" or result.error is not None
            assert np.isfinite(result.transform.GetParameters()).all()


# ------------------------------------------------------------------------------------- outputs and options


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--output", "T.xyz"), ("T.xyz", "must end in one of", ".h5", ".tfm")),
        (("--output", "T.h5", "--warped", "W.doc"), ("W.doc", "must end in one of", ".nrrd")),
        (("--output", "T.h5", "--report", "R.html"), ("R.html", ".json")),
        (("--output", "none/T.h5"), ("none/T.h5", "folder", "does not exist")),
        (("--output", "T.h5", "--report", "file/R.json"), ("file/R.json", "folder")),
        (("--output", "folder.h5"), ("folder.h5", "is a folder")),
    ],
)
def test_an_output_that_cannot_be_written_is_refused_before_the_run(
    options: tuple[str, ...], words: tuple[str, ...], tmp_path: Path, outputs: Path
) -> None:
    a, _ = two_sites(tmp_path)
    (outputs / "file").touch()
    (outputs / "folder.h5").mkdir()
    moving = save(MOVING[2], tmp_path / "moving.nrrd")
    given = [o if o.startswith("--") else outputs / o for o in options]
    refused(here(a.home, "register", moving, "--peer", "127.0.0.1:1", *given), *words, code=3)
    refused(here(a.home, "simulate", "--fixed", moving, "--moving", moving, *given, "--json"), *words, code=3)
    assert {p.name for p in outputs.iterdir()} == {"file", "folder.h5"}


def test_a_folder_without_write_permission(tmp_path: Path, outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moving = save(MOVING[2], tmp_path / "moving.nrrd")
    outputs.chmod(0o500)
    if os.geteuid() == 0:  # root may write anywhere; it is answered here what everybody else is answered
        real = os.access
        monkeypatch.setattr(os, "access", lambda p, mode, **o: Path(p) != outputs and real(p, mode, **o))
    done = here(tmp_path / "home", "register", moving, "--peer", "127.0.0.1:1", "--output", outputs / "T.h5")
    outputs.chmod(0o700)
    refused(done, "T.h5", str(outputs), "cannot be written", code=3)
    assert list(outputs.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--sampling", "urs"), ("--percent",)),
        (("--sampling", "urs", "--percent", "0"), ("percentage", "from 0.001 to 100")),
        (("--sampling", "gms", "--percent", "nan"), ("percentage", "from 0.001 to 100")),
        (("--levels", "a,b"), ("--levels", "4,2,1")),
        (("--levels", "3"), ("Levels 3", "16, 8, 4, 2, 1")),
        (("--levels", "1,2"), ("coarse to fine",)),
        (("--levels", "0"), ("evels", "16, 8, 4, 2, 1")),
        (("--evaluations", "0"), ("evaluations", "from 1 to 10000")),
        (("--evaluations", "100000"), ("evaluations", "10000")),
        (("--threads", "0"), ("threads", "at least 1")),
        (("--step-tolerance", "nan"), ("tolerance",)),
        (("--loss-tolerance", "nan"), ("tolerance",)),
        (("--step-tolerance", "-1"), ("tolerance",)),
        (("--seed", "-1"), ("seed",)),
        (("--seed", str(10**30)), ("seed",)),
        (("--initial", "missing.tfm"), ("missing.tfm", "does not exist")),
        (("--dealer-fingerprint", "abc"), ("fingerprint",)),
    ],
)
def test_a_bad_option_is_an_input_error(
    options: tuple[str, ...], words: tuple[str, ...], served: Owner, sites: tuple[Site, Site], tmp_path: Path
) -> None:
    moving = save(MOVING[2], tmp_path / "moving.nrrd")
    done = here(
        sites[0].home, "register", moving, "--peer", served.address, "--output", tmp_path / "T.h5", *options, "--json"
    )
    assert done.returncode in (2, 10), done.stdout
    refused(done, *words, code=done.returncode)
    assert not (tmp_path / "T.h5").exists()


@pytest.mark.parametrize(
    ("options", "words", "code"),
    [
        (("--name", "a", "--name", "b"), ("--name", "every image"), 2),
        (("--protocols", "fhe,telepathy"), ("telepathy", "fhe, mpc, clear"), 2),
        (("--losses", "xy"), ("xy", "ssd"), 2),
        (("--masks", "secret"), ("secret", "fill"), 2),
        (("--allow", "Nobody"), ("Nobody", "trust"), 7),
        (("--budget-percent", "-1"), ("budget",), 2),
        (("--budget-percent", "nan"), ("budget",), 2),
        (("--budget-bits", "inf"), ("budget",), 2),
        (("--max-sessions", "0"), ("max-sessions", "1"), 2),
        (("--max-sessions", "-1"), ("max-sessions", "1"), 2),
        (("--threads", "0"), ("threads", "1"), 2),
        (("--listen", "not an address"), ("not an address",), 2),
        (("--dealer-fingerprint", "abc"), ("fingerprint",), 2),
    ],
)
def test_a_bad_option_of_serve(
    options: tuple[str, ...], words: tuple[str, ...], code: int, sites: tuple[Site, Site], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Should serve start all the same, it ends at once, and returns 0."""
    monkeypatch.setattr("PPIRLogic.serving.run_until", lambda server, cancel: server.stop())
    fixed = save(FIXED[2], tmp_path / "fixed.nrrd")
    refused(
        here(sites[1].home, "serve", fixed, *(() if "--listen" in options else LISTEN), *options), *words, code=code
    )


def test_serve_with_good_options_would_start(
    sites: tuple[Site, Site], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the test before this one would show of an option that is not refused."""
    monkeypatch.setattr("PPIRLogic.serving.run_until", lambda server, cancel: server.stop())
    fixed = save(FIXED[2], tmp_path / "fixed.nrrd")
    assert here(sites[1].home, "serve", fixed, *LISTEN, "--threads", "1").returncode == 0


def test_a_port_in_use(sites: tuple[Site, Site], tmp_path: Path) -> None:
    fixed = save(FIXED[2], tmp_path / "fixed.nrrd")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for words in (("serve", fixed), ("dealer",)):
            done = here(sites[1].home, *words, "--listen", address)
            assert done.returncode != 0
            refused(done, address, "in use", "another port", code=done.returncode)


# ------------------------------------------------------------------------------------------ range and version


class Loud:
    """Columns of a magnitude that no sum can hold."""

    columns = 1
    groups = 1

    def prepare(self, workers: int) -> None:
        pass

    def block(self, group: int, worker: int, out: Columns) -> None:
        out[:] = 2**30

    def finish(self) -> None:
        pass

    def absolute_sums(self) -> Any:
        return np.array([2**30 * 4096], np.int64)

    def norms(self) -> Any:
        return np.array([2.0**30 * 64])

    def column_scales(self) -> Any:
        return np.ones(1)


def test_the_range_check_names_sum_and_way_out() -> None:
    check_range(PLAIN_MODULUS // 2 - 1, 1.0, 1)
    with pytest.raises(FixedPointError, match=r"Nothing was sent.*fewer samples"):
        check_range(PLAIN_MODULUS // 2 + 1, 1.0, 1)
    with pytest.raises(FixedPointError, match="Nothing was sent"):
        check_range(1, 1e18, 1)


def test_an_overflow_is_noticed_before_anything_is_sent(served: Owner, sites: tuple[Site, Site]) -> None:
    identity, trust = load_or_create_identity(sites[0].home), TrustStore(sites[0].home)
    with ClientSession(served.address, identity, trust, lambda: None, 1, SessionLedger(None, {})) as session:
        session.open(Request("fixed", "fhe", "translation", "ssd", (1,)))
        session.open_level(session.levels[0], LOSSES["ssd"], None)
        sent: list[str] = []
        send = session.channel.send

        def recorded(kind: str, data: Any = None, payload: Any = b"") -> None:
            sent.append(kind)
            send(kind, data, payload)

        session.channel.send = recorded  # type: ignore[method-assign]
        with pytest.raises(FixedPointError, match="Nothing was sent"):
            session.evaluate(session.levels[0], Loud(), VALUE, [Term(0, "J", "gradient")])
        assert sent == []
        assert session.finish() == {"numbers": 0}
    assert served.told("evaluation") == [] and account_numbers(served.home) == 0


def test_another_version_is_named_on_both_sides(served: Owner, sites: tuple[Site, Site]) -> None:
    request = Request("fixed", "fhe", "rigid", "ncc", (1,)).to_dict()
    with call(sites[0], served.address) as channel:
        channel.send("open", {**request, "version": 41, "nonce": bytes(32)})
        error = last_words(channel)
    assert isinstance(error, VersionError)
    assert f"version {PROTOCOL_VERSION}" in str(error) and "version 41" in str(error)
    assert str(error).endswith("Update PPIRExtension at the site that serves (party 2).")
    assert wait_until(lambda: any("VersionError" in e["reason"] for e in served.told("session ended")))


def test_a_peer_of_an_older_build_is_the_one_to_update(
    served: Owner, sites: tuple[Site, Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first builds said no version with their offers, and knew fewer fields."""
    monkeypatch.setattr(RegistrationMethod, "offers", lambda *_: {"version": 1, "images": [{"name": "fixed"}]})
    with pytest.raises(VersionError, match=r"Update PPIRExtension at the site that serves \(party 2\)\."):
        register(MOVING[2], served.address, home=sites[0].home)


# -------------------------------------------------------------------------------------------- peer and policy


def test_a_site_that_is_not_trusted(tmp_path: Path) -> None:
    sites = make_sites(tmp_path, ("A", "B"))
    TrustStore(sites["A"].home).remove("B")
    moving = save(MOVING[2], tmp_path / "moving.nrrd")
    with owner(sites["B"], shared(FIXED[2])) as one:
        words = ("register", moving, "--peer", one.address, "--output", tmp_path / "T.h5")
        refused(here(sites["A"].home, *words), sites["B"].fingerprint, "ppir trust add", one.address, code=7)
        TrustStore(sites["A"].home).add(sites["B"].fingerprint, "B")
        TrustStore(sites["B"].home).remove("A")
        refused(here(sites["A"].home, *words), sites["A"].fingerprint, "ppir trust add", code=7)
        assert one.told("session") == []
    assert not (tmp_path / "T.h5").exists()


def test_a_peer_that_never_answers(sites: tuple[Site, Site], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It listens, shakes hands, keeps its heart beating, and says nothing."""
    monkeypatch.setattr(session_module, "ANSWER_TIMEOUT", 1.0)
    moving = save(MOVING[2], tmp_path / "moving.nrrd")
    identity, trust = load_or_create_identity(sites[1].home), TrustStore(sites[1].home)
    held: list[Any] = []
    with Listener("127.0.0.1:0", identity, trust) as listener:
        thread = threading.Thread(target=lambda: held.append(listener.accept(30)))
        thread.start()
        done = here(
            sites[0].home, "register", moving, "--peer", listener.address, "--output", tmp_path / "T.h5", "--json"
        )
        thread.join()
        held[0].close()
    refused(done, "B", "sent nothing for", code=8)
    assert not (tmp_path / "T.h5").exists()


POLICIES: dict[str, tuple[dict[str, Any], dict[str, Any], tuple[str, ...]]] = {
    "protocol clear": ({"protocols": {"fhe"}}, {"protocol": "clear"}, ("protocol 'clear'", "permitted: fhe")),
    "loss": ({"losses": {"ncc"}}, {"loss": "ssd"}, ("loss 'ssd'", "permitted: ncc")),
    "transform": ({"transforms": {"rigid"}}, {"transform": "affine"}, ("transform 'affine'", "permitted: rigid")),
    "mask use": ({"masks": {"none"}}, {"fixed_mask": "disclosed"}, ("fixed mask 'disclosed'", "permitted: none")),
    "no mask": ({}, {"fixed_mask": "fill"}, ("without a mask", "'fill'")),
    "levels": ({}, {"levels": (8, 5)}, ("8,5", "16, 8, 4, 2, 1")),
    "mpc without a dealer there": (
        {"protocols": {"fhe", "mpc"}}, {"protocol": "mpc"}, ("dealer", "--dealer", "fhe"),
    ),
    "sampling": (
        {"protocols": {"fhe", "mpc"}},
        {"protocol": "mpc", "sampling": "gms", "percent": 30.0, "disclose_sampling": True},
        ("gms", "--allow-disclosed-sampling", "urs"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", POLICIES)
def test_the_policy_refuses_by_name_and_says_what_is_permitted(what: str, sites: tuple[Site, Site]) -> None:
    rules, wish, words = POLICIES[what]
    rules = {k: frozenset(v) for k, v in rules.items()}
    peer_dealer = "127.0.0.1:1" if wish.get("protocol") == "mpc" else ""
    TrustStore(sites[0].home).add("D" * 32, "dealer", DEALER)
    mask = ball(FIXED[2].geometry) if what == "mask use" else None
    with owner(sites[1], shared(FIXED[2], mask=mask, **rules)) as one:
        with pytest.raises(PPIRError) as caught:
            register(
                MOVING[2], Peer(one.address, "", peer_dealer), home=sites[0].home, parameters=replace(RIGID, **wish)
            )
        assert isinstance(caught.value, (PolicyError, InputError))
        assert all(w in str(caught.value) for w in words), str(caught.value)
        assert one.told("session") == [] and account_numbers(one.home) == 0
        assert register(MOVING[2], one.address, home=sites[0].home, parameters=RIGID).complete, "it serves on"


def test_a_declined_session_and_an_accepted_one(sites: tuple[Site, Site]) -> None:
    asked: list[tuple[Any, ...]] = []
    answers = [False, True]

    def ask(*question: Any) -> bool:
        asked.append(question)
        return answers[len(asked) - 1]

    with owner(sites[1], shared(FIXED[2], ask=ask)) as one:
        with pytest.raises(PPIRError, match="declined"):
            register(MOVING[2], one.address, home=sites[0].home, parameters=RIGID)
        assert account_numbers(one.home) == 0
        assert register(MOVING[2], one.address, home=sites[0].home, parameters=RIGID).complete
    name, request, grants = asked[0]
    assert name == f"'A' (fingerprint {sites[0].fingerprint})" and request.transform == "rigid"
    assert [g.factor for g in grants if not g.purpose] == [2, 1] and all(g.numbers_per_evaluation > 0 for g in grants)


# ------------------------------------------------------------------------------------------------------ budget


def numbers_each(address: str, site: Site, p: Parameters = RIGID) -> int:
    """Numbers per evaluation, as party 2 grants them."""
    identity, trust = load_or_create_identity(site.home), TrustStore(site.home)
    with ClientSession(address, identity, trust, lambda: None, 1, SessionLedger(None, {})) as session:
        session.open(Request("fixed", p.protocol, p.transform, p.loss, p.levels or (1,)))
        return session.grants[0].numbers_per_evaluation


def test_a_budget_that_is_too_small_is_refused_with_numbers(sites: tuple[Site, Site]) -> None:
    with owner(sites[1], shared(FIXED[2], budget=replace(OPEN, percent_per_level=0.3))) as one:
        each = len(LOSSES["ncc"].terms(parameter_count("rigid", 2)))
        with pytest.raises(BudgetError) as caught:
            register(MOVING[2], one.address, home=sites[0].home, parameters=RIGID)
        text = str(caught.value)
        for words in ("shrink factor 2", f"{each} needed per evaluation", "numbers left", "at least 3", "0.3 %"):
            assert words in text, text
        assert "--budget-percent" in text
        assert account_numbers(one.home) == 0
    with owner(sites[1], shared(FIXED[2], budget=replace(OPEN, percent_per_level=0.5))) as one:
        with pytest.raises(BudgetError, match="Levels 1 would fit"):
            register(MOVING[2], one.address, home=sites[0].home, parameters=RIGID)
        result = register(MOVING[2], one.address, home=sites[0].home, parameters=replace(RIGID, levels=(1,)))
        assert result.complete, "what was said to fit does fit"


@pytest.mark.parametrize("limit", ["numbers_per_session", "numbers_per_image"])
def test_a_total_budget_is_shared_out_over_the_levels_before_the_run(limit: str, sites: tuple[Site, Site]) -> None:
    """An honest run is never cut off: its levels get what is left, or it is refused at the start."""
    p = Parameters(transform="rigid", levels=(4, 2, 1), step_tolerance=1e-9, loss_tolerance=0.0)
    for total in (27, 60, 100):
        with owner(sites[1], shared(FIXED[2], name=f"fixed{total}", budget=replace(OPEN, **{limit: total}))) as one:
            before = account_numbers(one.home)
            try:
                result = register(MOVING[2], one.address, home=sites[0].home, parameters=p)
            except BudgetError as error:
                assert "does not allow this run" in str(error), error
            else:
                assert result.complete, (total, result.stop_reason, str(result.error))
            assert account_numbers(one.home) - before <= total


@pytest.fixture
def greedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that ignores what it was granted."""
    opened = ClientSession.open

    def open_(self: ClientSession, *arguments: Any) -> None:
        opened(self, *arguments)
        self.grants = [replace(g, evaluations=10_000) for g in self.grants]

    monkeypatch.setattr(ClientSession, "open", open_)


ENDLESS = Parameters(
    transform="affine", levels=(1,), step_tolerance=1e-9, loss_tolerance=0.0, evaluations=10_000, initial="centres",
    skip_check=True,
)  # fmt: skip


@pytest.mark.parametrize(
    ("budget", "permitted"),
    [
        (replace(OPEN, numbers_per_session=100), 100),
        (replace(OPEN, numbers_per_image=77), 77),
        (replace(OPEN, percent_per_level=100 * 90.5 / 7680), 90),
        (replace(OPEN, bits_percent_per_level=100 * 64.5 * 46 / (12 * 7680)), 64),
    ],
)
@pytest.mark.usefixtures("greedy")
def test_a_client_that_ignores_its_grant_gets_what_is_permitted_and_no_more(
    budget: Budget, permitted: int, sites: tuple[Site, Site]
) -> None:
    with owner(sites[1], shared(FIXED[2], budget=budget)) as one:
        each = numbers_each(one.address, sites[0], ENDLESS)
        voxels = 7680 if budget.percent_per_level == 100 and budget.bits_percent_per_level == 600 else None
        result = register(MOVING[2], one.address, home=sites[0].home, parameters=ENDLESS)
        assert not result.complete and isinstance(result.error, BudgetError), result.stop_reason
        assert "used up" in str(result.error) and f"{each} numbers" in str(result.error)
        if voxels is None:  # the border margin takes some voxels off the level
            samples = result.levels[0].samples
            permitted = permitted * samples // 7680
        assert account_numbers(one.home) == permitted // each * each == result.numbers > 0
        ended = one.told("session ended")
        assert len(ended) >= 1 and "BudgetError" in ended[-1]["reason"]
        assert np.isfinite(result.transform.GetParameters()).all(), "what was found so far is kept"


def test_a_budget_holds_over_sessions_and_restarts(sites: tuple[Site, Site]) -> None:
    """The same home, the same image (under another name, too): what was spent stays spent."""
    p = replace(RIGID, levels=(1,))
    left = []
    for name in ("fixed", "fixed", "again"):
        with owner(sites[1], shared(FIXED[2], name=name, budget=replace(OPEN, numbers_per_image=120))) as one:
            for _ in range(10):
                try:
                    result = register(MOVING[2], one.address, home=sites[0].home, parameters=p)
                except BudgetError as error:
                    assert "numbers left" in str(error)
                    break
                left.append(result.numbers)
            else:
                pytest.fail("the budget never ran out")
            assert sum(left) == account_numbers(one.home) <= 120
    assert len(left) >= 2, "the budget allowed more than one session"


def test_budgets_of_two_peers_are_separate(tmp_path: Path) -> None:
    sites = make_sites(tmp_path, ("A", "B", "C"))
    p = replace(RIGID, levels=(1,))
    with owner(sites["B"], shared(FIXED[2], budget=replace(OPEN, numbers_per_image=60))) as one:
        register(MOVING[2], one.address, home=sites["A"].home, parameters=p)
        with pytest.raises(BudgetError):
            for _ in range(10):
                register(MOVING[2], one.address, home=sites["A"].home, parameters=p)
        assert register(MOVING[2], one.address, home=sites["C"].home, parameters=p).complete


# ------------------------------------------------------------------------------------------------------- dealer


def test_no_dealer_was_named(served: Owner, sites: tuple[Site, Site]) -> None:
    with pytest.raises(PPIRError, match=r"dealer.*--dealer HOST:PORT.*fhe"):
        register(MOVING[2], served.address, home=sites[0].home, parameters=replace(RIGID, protocol="mpc"))


def test_a_dealer_that_is_not_there(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    sites = make_sites(tmp_path, ("A", "B", "dealer"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"  # nobody listens once this is closed
    image = replace(shared(FIXED[2], protocols=frozenset({"mpc"})), dealer=address)
    with owner(sites["B"], image) as one:
        with pytest.raises(PPIRError, match=f"dealer at {address}.*cannot be"):
            register(
                MOVING[2], Peer(one.address, "", address), home=sites["A"].home,
                parameters=replace(RIGID, protocol="mpc"),
            )  # fmt: skip
        assert wait_until(lambda: any("dealer" in e["reason"] for e in one.told("session ended")))
        assert account_numbers(one.home) == 0


@pytest.mark.parametrize("wrong", ["here", "there", "both"])
def test_a_dealer_with_a_wrong_fingerprint(wrong: str, tmp_path: Path) -> None:
    """A dealer that is trusted, but is not the one that was named."""
    pytest.importorskip("torch")
    sites = make_sites(tmp_path, ("A", "B", "C", "dealer"))
    right, other = sites["dealer"].fingerprint, sites["C"].fingerprint
    for site in (sites["A"], sites["B"]):
        TrustStore(site.home).add(other, "another dealer", DEALER)
    mine, theirs = (other if wrong in (w, "both") else right for w in ("here", "there"))
    with Program(sites["dealer"].home, "dealer", "--listen", "127.0.0.1:0") as dealer:
        address = dealer.wait_for("listening")["address"]
        image = replace(shared(FIXED[2], protocols=frozenset({"mpc"})), dealer=address, dealer_fingerprint=theirs)
        with owner(sites["B"], image) as one:
            with pytest.raises(PPIRError) as caught:
                register(
                    MOVING[2], Peer(one.address, "", address, mine), home=sites["A"].home,
                    parameters=replace(RIGID, protocol="mpc"),
                )  # fmt: skip
            text = str(caught.value)
            assert "dealer" in text and other in text and (right in text or wrong == "both"), text
            assert account_numbers(one.home) == 0
        assert dealer.running


# ---------------------------------------------------------------------------------------------------- full disks


def limit_files(process: subprocess.Popen[str], size: int) -> None:
    """From now on no file of this process grows beyond `size` bytes: a disk that is full."""
    _, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, hard))


@pytest.fixture
def served_by_process(sites: tuple[Site, Site], tmp_path: Path) -> Iterator[Callable[[], tuple[Program, str]]]:
    programs: list[Program] = []

    def start() -> tuple[Program, str]:
        fixed = save(FIXED[3], tmp_path / "fixed.nrrd")
        programs.append(
            Program(sites[1].home, "serve", fixed, "--listen", "127.0.0.1:0", "--budget-percent", 100,
                    "--budget-bits", 600, "--budget-session", 10**9, "--budget-image", 10**9)
        )  # fmt: skip
        return programs[-1], programs[-1].wait_for("listening")["address"]

    yield start
    for program in programs:
        program.__exit__()


def test_a_full_disk_at_the_owners_side_before_the_session(
    served_by_process: Callable[[], tuple[Program, str]], sites: tuple[Site, Site]
) -> None:
    server, address = served_by_process()
    limit_files(server.process, 0)
    with pytest.raises(RefusedError, match=r"The peer says: .*ledger.*could not be written"):
        register(MOVING[3], address, home=sites[0].home, parameters=RIGID)
    assert account_numbers(sites[1].home) == 0, "nothing was disclosed that is not on record"
    assert server.running
    limit_files(server.process, 2**40)
    assert register(MOVING[3], address, home=sites[0].home, parameters=RIGID).complete


def test_a_full_disk_at_the_owners_side_during_the_session(
    served_by_process: Callable[[], tuple[Program, str]], sites: tuple[Site, Site]
) -> None:
    server, address = served_by_process()
    seen: list[int] = []

    def progress(step: Any) -> None:
        if step.stage == "evaluation":
            seen.append(step.numbers)
            if len(seen) == 2:
                limit_files(server.process, 10)

    p = Parameters(transform="affine", step_tolerance=1e-9, loss_tolerance=0.0, levels=(1,))
    result = register(MOVING[3], address, home=sites[0].home, parameters=p, progress=progress)
    assert not result.complete
    assert "could not be written" in str(result.error) and "on record" in str(result.error), str(result.error)
    assert account_numbers(sites[1].home) == result.numbers == seen[1], "nothing left that is not on record"
    assert result.levels[0].transforms, "the best transform so far is kept"
    assert server.running
    limit_files(server.process, 2**40)
    assert register(MOVING[3], address, home=sites[0].home, parameters=RIGID).complete


@pytest.fixture
def not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs started from here write nothing for coverage: it would complain of the full disk in their place."""
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)


def test_a_full_disk_at_the_callers_side(
    served: Owner, sites: tuple[Site, Site], tmp_path: Path, not_measured: None
) -> None:
    moving = save(MOVING[2], tmp_path / "moving.nrrd")
    done = ppir(
        sites[0].home, "register", moving, "--peer", served.address, "--output", tmp_path / "T.h5",
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY)),
    )  # fmt: skip
    refused(done, "ledger", "could not be written", code=3)
    assert not (tmp_path / "T.h5").exists()
    assert account_numbers(served.home) == 0


def test_a_disk_that_is_full_when_the_results_are_written(
    sites: tuple[Site, Site], tmp_path: Path, outputs: Path, not_measured: None
) -> None:
    """The ledger and the transform fit within the limit, the warped image does not."""
    moving = save(MOVING[3], tmp_path / "moving.nrrd")
    with owner(sites[1], shared(FIXED[3])) as one:
        done = ppir(
            sites[0].home, "register", moving, "--peer", one.address, "--output", outputs / "T.tfm",
            "--warped", outputs / "W.nrrd", "--transform", "rigid", "--levels", "2",
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, resource.RLIM_INFINITY)),
        )  # fmt: skip
    refused(done, "W.nrrd", code=3)
    assert [p.name for p in outputs.iterdir()] == ["T.tfm"], "no torn image, and what could be written is kept"
