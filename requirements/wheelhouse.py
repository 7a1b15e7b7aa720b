"""Fills dist/wheelhouse/slicer-X.Y/SYSTEM with the wheels that the module installs, for computers without a network.

    python requirements/wheelhouse.py                          every version of Slicer, every system
    python requirements/wheelhouse.py --slicer 5.12 --system "Windows amd64"

The versions are those of PPIRExtension/Resources/Constraints. A wheel whose hash is in another list (base.txt, …) must
have that hash. At the end pip itself is asked whether the folder is enough; nothing is installed. torch and CrypTen,
which only the protocol mpc needs, are left out: torch alone is hundreds of megabytes, and comes with Slicer's
extension PyTorch.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from packaging.utils import canonicalize_name, parse_wheel_filename

sys.path.insert(0, str(Path(__file__).resolve().parent))
from lock import HERE, SLICER, SYSTEMS, pinned

PYTHON = "3.12"  # of Slicer 5.10 and 5.12
NOTE = """The Python packages that the module PPIR of 3D Slicer {slicer} installs on {system}.

Copy this folder to the computer. In Slicer: module Privacy-Preserving Image Registration, tab Register, button
"Install from folder…". What Slicer brings itself stays as it is. Licences are in each wheel.
"""


def versions() -> list[str]:
    """Of Slicer, those with a list of packages."""
    return sorted(file.stem.removeprefix("slicer-") for file in SLICER.glob("slicer-*.txt"))


def wanted(slicer: str) -> list[str]:
    """What the module asks pip for, as its list names it."""
    lines = (HERE / f"slicer-{slicer}.in").read_text(encoding="utf-8").splitlines()
    return [line.split("==")[0] for line in lines if line and not line.startswith("#")]


def options(system: str) -> list[str]:
    """pip's, for the wheels of another system."""
    platforms = [option for tag in SYSTEMS[system][4] for option in ("--platform", tag)]
    return ["--only-binary", ":all:", "--python-version", PYTHON, "--implementation", "cp", *platforms]


def pip(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", *arguments, "--quiet", "--disable-pip-version-check"], check=True)


def fill(folder: Path, slicer: str, system: str) -> None:
    """Download into `folder` and check it. What lies there already is not fetched again."""
    folder.mkdir(parents=True, exist_ok=True)
    pins = SLICER / f"slicer-{slicer}.txt"
    pip("download", "--no-deps", "--dest", str(folder), "--find-links", str(folder), "-r", str(pins), *options(system))
    if wrong := list(of_other_hash(folder.glob("*.whl"))):
        raise SystemExit(
            f"{folder}: not the wheels of the project's lists: {', '.join(wrong)}. Remove them, and ask why."
        )
    enough(folder, slicer, system)
    (folder / "README.txt").write_text(NOTE.format(slicer=slicer, system=system), encoding="utf-8")
    size = sum(file.stat().st_size for file in folder.glob("*.whl"))
    print(f"{folder}: {len(list(folder.glob('*.whl')))} wheels, {size / 1e6:.0f} MB; enough for Slicer {slicer}")


def of_other_hash(wheels: Iterable[Path]) -> Iterable[str]:
    """The wheels of a version that a list with hashes names, and with none of its hashes."""
    texts = [file.read_text(encoding="utf-8") for file in HERE.glob("*.txt")]
    known = {d for text in texts for d in re.findall(r"--hash=sha256:([0-9a-f]{64})", text)}
    listed = {(n, v) for file in HERE.glob("*.txt") for n, v in pinned(file).items()}
    for wheel in wheels:
        name, version = parse_wheel_filename(wheel.name)[:2]
        with wheel.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if (canonicalize_name(name), str(version)) in listed and digest not in known:
            yield wheel.name


def enough(folder: Path, slicer: str, system: str) -> None:
    """Have pip resolve, without an index, what the module asks for; CalledProcessError if something is missing."""
    with tempfile.TemporaryDirectory() as nowhere:
        pip(
            "install", "--dry-run", "--ignore-installed", "--target", nowhere,
            "--no-index", "--find-links", str(folder), "-c", str(SLICER / f"slicer-{slicer}.txt"),
            *options(system), *wanted(slicer),
        )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slicer", choices=versions(), help="(every one)")
    parser.add_argument("--system", choices=list(SYSTEMS), help="(every one)")
    parser.add_argument("--output", type=Path, default=HERE.parent / "dist" / "wheelhouse")
    asked = parser.parse_args()
    failed = []
    for slicer in [asked.slicer] if asked.slicer else versions():
        for system in [asked.system] if asked.system else SYSTEMS:
            try:
                fill(asked.output / f"slicer-{slicer}" / system.lower().replace(" ", "-"), slicer, system)
            except subprocess.CalledProcessError:
                failed.append(f"Slicer {slicer} on {system}")
    if failed:
        raise SystemExit(f"Not filled, see above: {', '.join(failed)}")


if __name__ == "__main__":
    main()
