"""Writes NAME.txt for every requirements/NAME.in: versions, and the hashes of the wheels one may install.

    python requirements/lock.py                  new .in lines; everything else stays at its version
    python requirements/lock.py numpy scipy      these move to their newest versions
    python requirements/lock.py --all            everything does

uv finds the versions, one for all systems and Pythons. A wheel's hash is written where the wheel fits a supported
system and Python; what has no wheel there is said. Nothing is built from source: sources get no hash. Macs with an
Intel processor are not supported: cryptography, numba and tenseal have no wheels for them.

The lists slicer-X.Y.txt are for the module, beside what that version of Slicer brings, and go to its Resources. They
have versions alone: what the application brings has no hash here, and pip asks for all hashes or none.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from packaging.markers import Marker
from packaging.tags import compatible_tags, cpython_tags, mac_platforms
from packaging.utils import canonicalize_name, parse_wheel_filename

HERE = Path(__file__).resolve().parent
ORDER = (
    "base",
    "dev",
    "docs",
    "bench",
    "lock",
    "supply",
    "mpc",
    "crypten",
    "primis",
    "dicom",
    "train",
    "slicer-5.10",
    "slicer-5.12",
)
SLICER = HERE.parent / "PPIRExtension" / "Resources" / "Constraints"
# Slicer's own, and what depends on them: of every other package the module gets the version of base
OF_SLICER = {"cryptography", "cffi", "pycparser", "pyopenssl"}
OF_CUDA = ("nvidia-", "cuda-", "triton")
OLDEST = {"docs": "3.11.5", "slicer-5.10": "3.12", "slicer-5.12": "3.12"}  # the theme needs it; Slicer's own
PYTHONS = ((3, 11), (3, 12), (3, 13))


def linux(machine: str) -> list[str]:
    return [f"manylinux_2_{n}_{machine}" for n in range(39, 4, -1)] + [
        f"manylinux{n}_{machine}" for n in (2014, 2010, 1)
    ]


SYSTEMS = {  # sys_platform, platform_machine, os_name, platform_system, and the platform tags of wheels
    "Linux x86_64": ("linux", "x86_64", "posix", "Linux", linux("x86_64")),
    "Linux aarch64": ("linux", "aarch64", "posix", "Linux", linux("aarch64")),
    "macOS arm64": ("darwin", "arm64", "posix", "Darwin", list(mac_platforms((15, 0), "arm64"))),
    "Windows amd64": ("win32", "AMD64", "nt", "Windows", ["win_amd64"]),
}


def main(arguments: list[str]) -> None:
    for name in ORDER:
        lock(name, {canonicalize_name(a) for a in arguments if a != "--all"}, "--all" in arguments)


def lock(name: str, moving: set[str], everything: bool) -> None:
    """Write NAME.txt; of mpc, what only a build of torch with CUDA needs goes to a list of its own."""
    for_slicer = name.startswith("slicer")
    written = (SLICER if for_slicer else HERE) / f"{name}.txt"
    apart = HERE / f"{name}-cuda.txt"
    pins = pinned(written) | pinned(apart)
    if for_slicer:
        of_base = {n: v for part in ("base", "mpc", "primis") for n, v in pinned(HERE / f"{part}.txt").items()}
        pins |= {n: v for n, v in of_base.items() if n not in OF_SLICER}
    kept = [] if everything and not for_slicer else [f"{n}=={v}\n" for n, v in pins.items() if n not in moving]
    lists: dict[Path, list[str]] = {written: []}
    gaps: dict[str, list[str]] = {}
    for package in resolved(name, "".join(kept)):
        wheels = list(fitting(package, gaps, ((3, 12),) if for_slicer else PYTHONS))
        marker = f" ; {package['marker']}" if "marker" in package else ""
        pin = f"{package['name']}=={package['version']}"
        hashes = [] if for_slicer else sorted(wheels)
        file = apart if package["name"].startswith(OF_CUDA) else written
        lists.setdefault(file, []).append(" \\\n    ".join([pin + marker, *(f"--hash=sha256:{h}" for h in hashes)]))
    lines = [f"# No wheel: {where}, Python {', '.join(pythons)}" for where, pythons in sorted(gaps.items())]
    for file, packages in lists.items():
        text = "\n".join([f"# Made from {name}.in by requirements/lock.py.", *lines, *packages])
        file.write_text(f"{text}\n", encoding="utf-8")
        print(f"{file.name}: {len(packages)} packages", *gaps, sep="; no wheel for ")


def pinned(file: Path) -> dict[str, str]:
    """Versions in a list that was written before."""
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    return {canonicalize_name(n): v for n, v in re.findall(r"^([\w.-]+)==([^\s;]+)", text, re.M)}


def resolved(name: str, kept: str) -> list[dict[str, Any]]:
    """All packages with all their files, for every system, as uv finds them."""
    command = [
        sys.executable, "-m", "uv", "pip", "compile", f"{name}.in", "--constraint", "-", "--universal",
        "--python-version", OLDEST.get(name, "3.11"), "--fork-strategy", "fewest", "--format", "pylock.toml", "--quiet",
        *(["--no-deps"] if name == "crypten" else []),
    ]  # fmt: skip
    done = subprocess.run(command, cwd=HERE, input=kept, stdout=subprocess.PIPE, text=True, check=True)
    return list(tomllib.loads(done.stdout)["packages"])


def fitting(package: dict[str, Any], gaps: dict[str, list[str]], pythons: tuple[tuple[int, int], ...]) -> Iterator[str]:
    """Hashes of the wheels that fit; into `gaps` goes where none does, though the package is needed there."""
    wheels = {}
    for wheel in package.get("wheels", []):
        file = wheel.get("name") or wheel["url"].rsplit("/", 1)[1]
        wheels[wheel["hashes"]["sha256"]] = parse_wheel_filename(file)[3]
    used = set()
    for system, (platform, machine, os_name, system_name, tags) in SYSTEMS.items():
        for python in pythons:
            version = ".".join(map(str, python))
            there = {
                "sys_platform": platform, "platform_machine": machine, "os_name": os_name,
                "platform_system": system_name, "python_version": version, "python_full_version": f"{version}.0",
                "implementation_name": "cpython", "platform_python_implementation": "CPython",
            }  # fmt: skip
            if "marker" in package and not Marker(package["marker"]).evaluate(there):
                continue
            good = {*cpython_tags(python, platforms=tags), *compatible_tags(python, f"cp{python[0]}{python[1]}", tags)}
            found = {digest for digest, own in wheels.items() if not own.isdisjoint(good)}
            used |= found
            if not found:
                gaps.setdefault(f"{package['name']} on {system}", []).append(version)
    yield from used


if __name__ == "__main__":
    main(sys.argv[1:])
