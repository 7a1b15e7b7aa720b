"""Asks a database of known weaknesses for all that a release needs: every list of requirements that has hashes.

Exit code 0: none is known. 1: some are, and are listed. 2: no database could be asked, so nothing is known.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
LISTS = ("base.txt", "mpc.txt", "mpc-cuda.txt", "crypten.txt", "dev.txt", "docs.txt", "supply.txt", "lock.txt")


def main() -> int:
    known, asked = [], 0
    for name in LISTS:
        packages = answer(name)
        if packages is None:
            return 2
        asked += len(packages)
        known += [(name, p["name"], p["version"], v["id"], v["fix_versions"]) for p in packages for v in p["vulns"]]
    for name, package, version, weakness, fixed in known:
        print(f"{name}: {package} {version}: {weakness}, mended in {', '.join(fixed) or 'no version'}")
    print(f"{asked} packages asked for, {len(known)} known weaknesses.")
    return 1 if known else 0


def answer(name: str) -> list[dict[str, Any]] | None:
    """The packages of a list with what is known of each; None, and why on the terminal, if nobody could be asked."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", name, "--require-hashes", "--disable-pip"]
    command += ["--format", "json", "--progress-spinner", "off"]
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=False)
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        return no_database(name, (done.stderr.strip().splitlines() or ["nothing was said"])[-1])
    found, skipped = [p for p in packages if "vulns" in p], [p for p in packages if "skip_reason" in p]
    if not found:
        return no_database(name, skipped[0]["skip_reason"] if skipped else "the list is empty")
    if skipped:
        print(f"{name}: nothing is known of {', '.join(p['name'] for p in skipped)}: the database does not have them.")
    return found


def no_database(name: str, why: str) -> None:
    print(f"No database of weaknesses could be asked for {name}, so nothing is known of it. pip-audit: {why}")
    print("Run it again where the registry and its list of weaknesses can be reached.")


if __name__ == "__main__":
    sys.exit(main())
