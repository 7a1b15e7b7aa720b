"""The deformation proxy: Dice by strength, attacks, seconds; to Docs/results/proxy.md.

    python -m Benchmarks.proxy --data FOLDER [--only dice,scans] [--write-docs]

FOLDER holds `synthseg20` (label maps), `ixi7` (real T1 with tissue maps made by a network) and `ljubljana_ms` (real
patients, some with two visits); of these, what is not there is left out. One thread. With --write-docs the measured
rates of recognition are also written into the package, for every consent and report.
"""

from __future__ import annotations

import argparse
import functools
import json
import secrets
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import PPIRLogic.proxy
from Benchmarks.rows import Row, failed, surroundings, table
from Benchmarks.sections import RESULTS, begun, write_section
from PPIRLogic.arrays import AnyArray
from PPIRLogic.cli import proxy_attack
from PPIRLogic.images.reading import read_volume
from PPIRLogic.progress import CancelToken
from PPIRLogic.proxy.attacks.evidence import RecognitionFinding
from PPIRLogic.proxy.attacks.identity import RETRAINED
from PPIRLogic.proxy.attacks.virtual import virtual_findings
from PPIRLogic.proxy.deformation import Deformation
from PPIRLogic.proxy.keys import ProxyKey
from PPIRLogic.proxy.preparation import Prepared, prepare
from PPIRLogic.proxy.segmentation import NAMES, Segmenter
from PPIRLogic.proxy.spectrum import Spectrum
from PPIRLogic.proxy.train_judging import dice

PAGE = RESULTS / "proxy.md"
RATES = Path(PPIRLogic.proxy.__file__).parent / "weights" / "rates.json"
STRENGTHS = (0.0, 4.0, 8.0, 12.0)
MUST = {0.0: 0.88, 8.0: 0.85, 12.0: 0.80}
HEAD = """# Deformation proxy

Written by `make bench-proxy`. A proxy is not encrypted and not anonymous: the rates below say how often it is
recognised. Training had only synthetic scans of label maps. Real images: seven T1 of IXI with tissue maps that a
network made (a silver standard), and MS patients of Ljubljana, four with two visits. Brackets are 95 % intervals over
persons. Published figures: not available to us. (IXI, Imperial College London, CC BY-SA 3.0; DLMUSE maps, CBICA, MIT;
Lesjak et al., University of Ljubljana, CC BY; label maps of SynthSeg, Billot et al., Apache-2.0.)
"""


@dataclass
class Section:
    """What one measurement writes: its title, rows with limits, and lines below them."""

    title: str
    rows: list[Row] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    findings: list[RecognitionFinding] = field(default_factory=list)


@functools.cache
def segmenter() -> Segmenter:
    return Segmenter.shipped()


@functools.cache
def spectra() -> dict[str, Spectrum]:
    return {"learned": Spectrum.shipped(), "plain": Spectrum.plain()}


@functools.cache
def heads(data: Path) -> list[tuple[str, Prepared, AnyArray]]:
    """Name, what is sent of it before it is warped, and the tissue map, of each real head."""
    out = []
    for path in sorted((data / "ixi7").glob("*_T1.nrrd")):
        tissues = read_volume(path.with_name(path.name.replace("_T1", "_tissue"))).array.astype(np.int64)
        out.append((path.name.split("_")[0], prepare(read_volume(path)), tissues))
    return out


def scores(
    head: tuple[str, Prepared, AnyArray], strength: float, spectrum: Spectrum
) -> tuple[list[float], float, float]:
    """Dice of each class on the scan's own grid; the largest inverse error in mm; the smallest Jacobian."""
    _, scan, truth = head
    sent, worst, smallest = scan.array, 0.0, 1.0
    made = None
    if strength:
        key = ProxyKey(secrets.token_bytes(32))
        made = Deformation.make(key, scan.digest(key), scan.mask, scan.spacing, strength, spectrum)
        sent, worst, smallest = made.warp(scan.array), float(made.inverse_error().max()), made.smallest_jacobian()
    shares = segmenter().probabilities(sent, scan.spacing)
    if made is not None:
        shares = made.unwarp(shares)
    found = scan.onto_scan(np.where(shares.max(0) > 0, shares.argmax(0), 0).astype(np.uint8))
    return dice(found, truth), worst, smallest


def dices(o: Namespace) -> Section:
    """Dice on real heads, with the learned spectrum and the plain one."""
    section = Section("Dice on real heads")
    names = " | ".join(NAMES[1:])
    section.lines = [
        f"| spectrum | mm | mean | {names} | worst head | inverse error, largest, mm | smallest Jacobian |"
    ]
    section.lines.append("|" + "---|" * (6 + len(NAMES)))
    means: dict[tuple[str, float], float] = {}
    for name, spectrum in spectra().items():
        for strength in STRENGTHS if name == "learned" else STRENGTHS[1:]:
            found = [scores(head, strength, spectrum) for head in heads(o.data)[: 2 if o.quick else None]]
            each = np.array([f[0] for f in found])
            means[name, strength] = float(each.mean())
            cells = [f"{x:.3f}" for x in (each.mean(), *each.mean(axis=0), each.mean(axis=1).min())]
            ends = f"{max(f[1] for f in found):.2f} | {min(f[2] for f in found):.2f}"
            section.lines.append(f"| {name if strength else '–'} | {strength:g} | {' | '.join(cells)} | {ends} |")
    for strength, limit in MUST.items():
        value = means["learned", strength]
        section.rows.append(_row(f"mean Dice, {strength:g} mm", value, limit, value >= limit, "≥"))
    lost = means["learned", 0.0] - means["learned", 8.0]
    section.rows.append(_row("Dice lost by the deformation, 8 mm", lost, 0.03, lost <= 0.03, "≤"))
    section.lines += ["", "Each head once, under a new key; brains found by the client's own extraction."]
    return section


def _row(what: str, value: float, limit: float, reached: bool, sign: str) -> Row:
    return Row("proxy", what, f"{value:.3f}", f"{sign} {limit:g}", bool(reached), {"value": value})


def networks(o: Namespace) -> Section:
    """Identity networks on virtual subjects."""
    section = Section("Identity networks, virtual subjects")
    strengths = (12.0,) if o.quick else STRENGTHS[1:]
    options = {"steps": 4, "persons": 8, "own": 16} if o.quick else {}
    found = []
    for one in virtual_findings(o.data / "synthseg20", list(spectra().items()), strengths, **options):
        print(one.attack, one.spectrum, one.strength_mm, one, flush=True)
        found.append(one)
    return networks_section(section, found)


def networks_section(section: Section, found: Sequence[RecognitionFinding]) -> Section:
    """Rows and table of what identity networks found."""
    section.findings = list(found)
    by = {(f.attack, f.spectrum, f.strength_mm): f for f in found}
    clear = by[RETRAINED, "none", 0.0]
    section.rows = [_row("first guess without a deformation", clear.found, 0.9, clear.found >= 0.9, "≥")]
    high, plain = by.get((RETRAINED, "learned", 12.0)), by.get((RETRAINED, "plain", 12.0))
    if high is not None:
        section.rows += [
            _row("retrained network, first guess, 12 mm", high.found, 0.2, high.found <= 0.2, "≤"),
            _row("retrained network, AUC, 12 mm", high.area, 0.9, high.area <= 0.9, "≤"),
        ]
    if high is not None and plain is not None and plain.found:
        fewer = 1 - high.found / plain.found
        section.rows.append(_row("fewer found than with the plain spectrum, 12 mm", fewer, 1 / 3, fewer >= 1 / 3, "≥"))
    section.lines = [
        *proxy_attack.table(found).splitlines(), "",
        "Virtual subjects are anatomies of label maps under smooth deformations of their own; a visit has its own"
        " contrast, pose, bias and noise. Networks see a grid of 6 mm; they are trained on other label maps than they"
        " are judged on. A finer grid or a longer training would find more.",
    ]  # fmt: skip
    return section


def scans(o: Namespace) -> Section:
    """Attacks that need no training, on real scans."""
    section = Section("Real scans")
    for folder, match in (("ixi7", "_T1"), ("ljubljana_ms", "FLAIR")):
        section.lines += _on_scans(o, section, folder, match, register=False)
    section.lines += [
        "A candidate is a person's first scan; the proxy is made of the last one: of IXI the same scan, of Ljubljana"
        " another visit where there is one (four persons), on another scanner. Known plaintext: the field of one pair,"
        " undone on the others."
    ]
    return section


def registration(o: Namespace) -> Section:
    """Candidates registered to proxies by our own engine."""
    section = Section("Registration of candidates")
    section.lines = _on_scans(o, section, "ixi7", "_T1", register=True, strengths=(8.0,) if o.quick else STRENGTHS[1:])
    return section


def _on_scans(
    o: Namespace, section: Section, folder: str, match: str, register: bool, strengths: Sequence[float] = STRENGTHS
) -> list[str]:
    where = o.data / folder
    if not where.is_dir():
        return [f"{folder}: not at hand.", ""]
    a = Namespace(
        data=where, match=match, spectra=("learned",), strengths=strengths, register=register, json=False, output=None
    )
    both = proxy_attack.prepared_scans(a, CancelToken())
    found = list(proxy_attack.findings_on_scans(a, *both, segmenter(), CancelToken()))
    section.findings += found
    return [f"{folder}:", "", *proxy_attack.table(found).splitlines(), ""]


def seconds(o: Namespace) -> Section:
    """Processor's seconds of the client and the server, on a brain of 1 mm."""
    from PPIRLogic.proxy.resampling import resampled

    section = Section("Seconds")
    _, scan, _ = heads(o.data)[0]
    shape = (180, 216, 180)
    array = np.rint(resampled(scan.array, shape)).astype(np.uint8)
    mask = array > 0
    key = ProxyKey(secrets.token_bytes(32))
    rows = []
    for number in range(2):  # the first one compiles
        t = [time.process_time()]
        made = Deformation.make(key, b"%d" % number, mask, (1.0, 1.0, 1.0), 12.0)
        sent = made.warp(array)
        t.append(time.process_time())
        shares = segmenter().probabilities(sent, (1.0, 1.0, 1.0))
        t.append(time.process_time())
        made.unwarp(shares).argmax(0)
        t.append(time.process_time())
        rows = np.diff(t)
    client, server = float(rows[0] + rows[2]), float(rows[1])
    section.rows = [
        _row("client: warp and unwarp, 180 × 216 × 180, s", client, 10, client <= 10, "≤"),
        _row("server: segment, s", server, 30, server <= 30, "≤"),
    ]
    section.lines = ["The processor's seconds, without brain extraction; an IXI head of 2 mm, enlarged."]
    return section


SECTIONS: dict[str, Callable[[Namespace], Section]] = {
    "dice": dices, "networks": networks, "scans": scans, "registration": registration, "time": seconds,
}  # fmt: skip


def write(name: str, section: Section, where: dict[str, Any]) -> None:
    """The section's part of the page, and its rates in the package."""
    if not PAGE.exists():
        PAGE.write_text(HEAD, encoding="utf-8")
    head = f"{'A quick run, ' if where['quick'] else ''}{begun(where)}."
    lines = [*table(section.rows), "", *section.lines] if section.rows else section.lines
    write_section(PAGE, f"proxy {name}", section.title, head[0].upper() + head[1:], lines)
    if section.findings and not where["quick"]:
        write_rates(section.findings)


def write_rates(found: Sequence[RecognitionFinding], path: Path = RATES) -> None:
    """Replace the rates of the same attacks, persons and strengths; only the learned spectrum's are kept."""
    spectrum = Spectrum.shipped().digest
    table = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    old = table["rates"] if table.get("spectrum") == spectrum else []
    new = list(_rates(found))
    ours = {(r["attack"], r["strength_mm"]) for r in new}
    rows = [r for r in old if (r["attack"], r["strength_mm"]) not in ours] + new
    path.write_text(
        json.dumps({"spectrum": spectrum, "rates": rows}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )


def _rates(found: Sequence[RecognitionFinding]) -> Iterator[dict[str, Any]]:
    for f in found:
        if f.spectrum == "learned" and f.strength_mm:
            yield {
                "attack": f.attack, "strength_mm": f.strength_mm, "found": f.found, "low": f.low, "high": f.high,
                "persons": f.persons, "area": f.area,
            }  # fmt: skip


def measured(name: str, options: Namespace) -> Section:
    """One section; a measurement that fails is a row that says so, and the others go on."""
    try:
        return SECTIONS[name](options)
    except Exception as error:
        return Section(name.capitalize(), [failed("proxy", name, error)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of synthseg20, ixi7, ljubljana_ms")
    parser.add_argument("--only", default=",".join(SECTIONS), help=f"out of {', '.join(SECTIONS)}")
    parser.add_argument("--quick", action="store_true", help="fewer heads and shorter training")
    parser.add_argument("--output", type=Path, default=Path("bench-output"), help="folder of proxy.json")
    parser.add_argument("--write-docs", action="store_true", help="write Docs/results/proxy.md and the rates")
    a = parser.parse_args()
    if unknown := set(a.only.split(",")) - set(SECTIONS):
        parser.error(f"--only {', '.join(sorted(unknown))}: choose from {', '.join(SECTIONS)}")
    a.output.mkdir(parents=True, exist_ok=True)
    where, rows = surroundings(a.quick), []
    for name in a.only.split(","):
        section = measured(name, a)
        rows += section.rows
        print("\n".join(["", f"## {section.title}", *table(section.rows), "", *section.lines]), flush=True)
        if a.write_docs:
            write(name, section, where)
    (a.output / "proxy.json").write_text(json.dumps({**where, "rows": [asdict(r) for r in rows]}, indent=1) + "\n")


if __name__ == "__main__":
    main()
