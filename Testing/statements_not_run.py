"""How many statements the tests did not run, per package, from the data of `coverage`: the end of `make test`."""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

from coverage import Coverage
from coverage.exceptions import NoSource

ROOT = Path(__file__).resolve().parents[1]
DEPTH = 3  # PPIRLogic/registration/losses is a row, what lies deeper counts in it


def main() -> None:
    coverage = Coverage(config_file=str(ROOT / "pyproject.toml"))
    coverage.load()
    rows: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for top in ("PPIRLogic", "PPIRExtension"):
        for path in sorted((ROOT / top).rglob("*.py")):
            try:
                _, statements, _, missing, _ = coverage.analysis2(str(path))
            except NoSource as error:
                sys.exit(str(error))
            folder = path.relative_to(ROOT).parent.parts[:DEPTH]
            for key in ("/".join(folder), top + ", all"):
                rows[key][0] += len(statements)
                rows[key][1] += len(missing)
    width = max(map(len, rows))
    print("Statements that the tests did not run (functions that numba compiles are not measured):")
    print(f"{'package':{width}}  statements  not run  run")
    for name, (statements, missing) in sorted(rows.items(), key=lambda row: ("all" in row[0], row[0])):
        share = 100 * (statements - missing) / max(1, statements)
        print(f"{name:{width}}  {statements:10}  {missing:7}  {share:.0f} %")


if __name__ == "__main__":
    main()
