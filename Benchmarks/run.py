"""Measure the figures and write them: python -m Benchmarks.run [--only a,b,…] [--quick] [--write-docs]."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from Benchmarks import accuracy, cost, deformable, every, mutual_information, others
from Benchmarks.rows import Figure, Options, Row, attempt, reached_text, surroundings, write_figure, write_json

FIGURES: dict[str, Figure] = {
    "a": accuracy.same_path,
    "b": accuracy.against_floats,
    "c": cost.demo_seconds,
    "d": accuracy.known_slices,
    "e": cost.volumes,
    "f": accuracy.lungs,
    "g": cost.product,
    "h": cost.wire_bytes,
    "i": others.beside_others,
    "j": deformable.lungs,
    "k": deformable.bent_brain,
    "l": deformable.flowing_lungs,
    "m": deformable.flowing_brain,
    "n": every.every,
    "o": deformable.symmetric_lungs,
    "mi": mutual_information.mutual_information,
}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m Benchmarks.run", description=__doc__)
    parser.add_argument("--only", default=",".join(FIGURES), help="figures, such as a,c,h (default: all)")
    parser.add_argument("--output", type=Path, default=Path("bench-output"), help="folder for benchmarks.json")
    parser.add_argument("--quick", action="store_true", help="smaller and fewer runs; not the figures themselves")
    parser.add_argument(
        "--write-docs", action="store_true", help="also the figures' sections of Docs/results/benchmarks.md"
    )
    parser.add_argument("--peer-python", default=sys.executable, help="Python that has the other programs of figure i")
    found = parser.parse_args()
    if unknown := set(found.only.split(",")) - set(FIGURES):
        parser.error(f"unknown figures: {', '.join(sorted(unknown))}; known: {', '.join(FIGURES)}")
    return found


def main() -> None:
    a = _arguments()
    a.output.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="ppir-bench-") as folder:
        options = Options(Path(folder), a.quick, a.peer_python)
        for name in sorted(a.only.split(",")):
            title, where = FIGURES[name].__doc__ or name, surroundings(a.quick)
            print(title, flush=True)
            found = attempt(name, f"figure {name}", _shown, FIGURES[name], options)
            rows += found
            write_json(rows, where, a.output / "benchmarks.json")
            if a.write_docs:
                write_figure(name, title, found, where)
    missed = [r for r in rows if r.reached is False]
    print(f"{len(rows)} rows, {len(missed)} not reached; {a.output / 'benchmarks.json'}")


def _shown(figure: Figure, options: Options) -> Iterator[Row]:
    """The rows of a figure, each printed as soon as it is there."""

    for row in figure(options):
        print(f"   {reached_text(row):3s}  {row.what}: {row.value}  ({row.must})", flush=True)
        yield row


if __name__ == "__main__":
    main()
