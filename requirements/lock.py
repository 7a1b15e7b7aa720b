"""Writes requirements/NAME.txt for every requirements/NAME.in: versions, and the hashes of the wheels one may install.

    python requirements/lock.py                  new .in lines; everything else stays at its version
    python requirements/lock.py numpy scipy      these move to their newest versions
    python requirements/lock.py --all            everything does

uv finds the versions, one for all systems and Pythons. A wheel's hash is written where the wheel fits a supported
system and Python; what has no wheel there is said. Nothing is built from source: sources get no hash. Macs with an
Intel processor are not supported: cryptography, numba and tenseal have no wheels for them.
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
ORDER = ("base", "dev", "docs", "bench", "lock")  # dev keeps to the versions of base
OLDEST = {"docs": "3.11.5"}  # the theme needs it; the documentation is built in one place
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
    """Write requirements/NAME.txt."""
    written = HERE / f"{name}.txt"
    pins = re.findall(r"^([\w.-]+)==(\S+)", written.read_text(encoding="utf-8"), re.M) if written.is_file() else []
    kept = [] if everything else [f"{n}=={v}\n" for n, v in pins if canonicalize_name(n) not in moving]
    lines = [f"# Made from {name}.in by requirements/lock.py.\n"]
    gaps: dict[str, list[str]] = {}
    for package in resolved(name, "".join(kept)):
        wheels = list(fitting(package, gaps))
        marker = f" ; {package['marker']}" if "marker" in package else ""
        lines.append(f"{package['name']}=={package['version']}{marker}")
        lines += [f" \\\n    --hash=sha256:{digest}" for digest in sorted(wheels)] + ["\n"]
    lines[1:1] = [f"# No wheel: {where}, Python {', '.join(pythons)}\n" for where, pythons in sorted(gaps.items())]
    written.write_text("".join(lines), encoding="utf-8")
    print(f"{written.name}: {sum('==' in line for line in lines)} packages", *gaps, sep="; no wheel for ")


def resolved(name: str, kept: str) -> list[dict[str, Any]]:
    """All packages with all their files, for every system, as uv finds them."""
    command = [
        sys.executable, "-m", "uv", "pip", "compile", f"{name}.in", "--constraint", "-", "--universal",
        "--python-version", OLDEST.get(name, "3.11"), "--fork-strategy", "fewest", "--format", "pylock.toml", "--quiet",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=HERE, input=kept, stdout=subprocess.PIPE, text=True, check=True)
    return list(tomllib.loads(done.stdout)["packages"])


def fitting(package: dict[str, Any], gaps: dict[str, list[str]]) -> Iterator[str]:
    """Hashes of the wheels that fit; into `gaps` goes where none does, though the package is needed there."""
    wheels = {}
    for wheel in package.get("wheels", []):
        file = wheel.get("name") or wheel["url"].rsplit("/", 1)[1]
        wheels[wheel["hashes"]["sha256"]] = parse_wheel_filename(file)[3]
    used = set()
    for system, (platform, machine, os_name, system_name, tags) in SYSTEMS.items():
        for python in PYTHONS:
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
