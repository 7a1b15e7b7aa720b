"""The command `ppir primis demo`: two sites, a real image, every level asked for and opened, each step a process."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from PPIRLogic.cli.common import Arguments, add_command, file_path, print_line
from PPIRLogic.cli.demo import DATA
from PPIRLogic.errors import OutputError, PeerError
from PPIRLogic.files import shown_path
from PPIRLogic.local_processes import Site, make_sites, start
from PPIRLogic.primis.levels import LEVELS

IMAGE = "BrainProtonDensitySliceBSplined10.png"  # in sample_data
_NAME = "slice"


def add_demo(commands: Any) -> None:
    text = (
        "See it work: one site seals an image and shares it, another asks for every level and opens what it is given."
    )
    p = add_command(commands, "demo", _run_demo, text, "ppir primis demo --output primis-demo")
    p.add_argument("image", nargs="?", type=file_path, help="image to seal (a brain MR slice)")
    p.add_argument(
        "--output", type=file_path, metavar="FOLDER", default=Path("primis-demo"), help="for the results (primis-demo)"
    )


def _run_demo(a: Arguments) -> None:
    run_demo(a.image or DATA / IMAGE, a.output)


def run_demo(image: Path, output: Path) -> None:
    """Seal, share, ask, open; pictures and a page into `output`. Errors: OutputError, PeerError (a step failed)."""
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"The folder {shown_path(output)} cannot be made: {error.strerror}.") from None
    with tempfile.TemporaryDirectory(prefix="ppir-") as folder:
        sites = make_sites(Path(folder), ("Hospital A", "Hospital B"))
        _run(sites["Hospital A"], sites["Hospital B"], image, output)


def _run(a: Site, b: Site, image: Path, output: Path) -> None:
    sealed = output / f"{_NAME}.ppis"
    print_line("Hospital B seals the image …")
    _step("sealed", b, "seal", str(image), "--output", str(sealed), "--force")
    policy = ("--name", _NAME, "--level", LEVELS[-1], "--listen", "127.0.0.1:0")
    service = start("hospital B", b.home, "primis", "serve", str(sealed), *policy)
    received = output / "hospital_a"
    try:
        asked = (_NAME, "--peer", service.wait_for("listening")["address"], "--output", str(received))
        for level in LEVELS:
            got = _step("granted", a, "ask", *asked, "--level", level, "--purpose", "demonstration")[0]
            print_line(f"Hospital A asks for '{level}' and is granted it: {Path(got['grant']).stat().st_size} bytes.")
    finally:
        service.stop()
    file, grants = str(received / f"{_NAME}.ppis"), [str(received / f"{_NAME}.{level}.ppig") for level in LEVELS]
    more = (file, "--grant", grants[0], "--level", LEVELS[1], "--output", str(output / "more_than_granted.nrrd"))
    print_line(f"With the grant of '{LEVELS[0]}' it cannot open more: {_step('error', a, 'unseal', *more)[0]['text']}")
    for row in _step("level", a, "show", file, "--grant", grants[-1], "--output", str(output)):
        quality = "exact" if row["exact"] else f"{row['psnr']:.1f} dB"
        print_line(f"  {row['level']:15s} {row['so_far']:8d} bytes  {quality:>8s}  {row['picture']}")
    print_line(f"Pictures and sizes on one page: {(output / 'levels.html').resolve()}")


def _step(expected: str, site: Site, *arguments: str) -> list[dict[str, Any]]:
    """Run one command at a site to its end; its events of the expected name. PeerError, in its words, without one."""
    child, found = start(f"ppir primis {arguments[0]}", site.home, "primis", *arguments), []
    try:
        while (event := child.next())["event"] != "ended":
            if event["event"] == expected:
                found.append(event)
            elif event["event"] == "error":
                raise PeerError(f"The step `{child.name}` failed: {event['text']}")
    finally:
        child.stop()
    if not found:
        raise PeerError(f"The step `{child.name}` did not come to '{expected}': {event['text']}")
    return found
