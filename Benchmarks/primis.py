"""Sealed images: rates, what each level is good for, attacks, sizes and seconds; to Docs/results/primis.md.

    python -m Benchmarks.primis --data FOLDER [--only use,attacks] [--write-docs]

FOLDER holds `nih_cxr` (images, labels.csv, lungs_silver) and, for generality, `lung_ct/baseline.mha`,
`brainweb3d/t1.mha` and `ixi7/*_T1.nrrd`; of these, what is not there is left out. Three patients in ten are judged, by
a digest of their names; the codec's weights and all that is trained here have the others alone. One thread.
"""

from __future__ import annotations

import argparse
import functools
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from Benchmarks.rows import Row, at_most, failed, surroundings, table
from Benchmarks.sections import RESULTS, begun, write_section
from PPIRLogic import primis
from PPIRLogic.arrays import AnyArray
from PPIRLogic.cli.primis_attack import table as attack_table
from PPIRLogic.local_processes import make_sites
from PPIRLogic.primis.ambiguated import coded_bytes
from PPIRLogic.primis.attacks import tampering
from PPIRLogic.primis.attacks.battery import QUICK, Effort, attack, psnr
from PPIRLogic.primis.attacks.public_views import publish
from PPIRLogic.primis.attacks.strip import write_strip
from PPIRLogic.primis.codec import decode, encode
from PPIRLogic.primis.evidence import Interval, area_under_curve, over_patients
from PPIRLogic.primis.levels import LEVELS
from PPIRLogic.primis.sealed_file import OVERHEAD
from PPIRLogic.primis.study import Study, read_study
from PPIRLogic.primis.use import TEXTURES, Classifier, LungSegmenter, dice, texture

PAGE, PICTURES = RESULTS / "primis.md", RESULTS.parent / "pictures"
POSITIVE = "Pneumonia"
LOSSY = LEVELS[:-1]
CHANGES = 100_000
SEGMENTER_IMAGES = 400
RATED = 60  # images on which codecs are compared
MAX_BYTES = 1900
HEAD = """# Sealed images

Written by `make bench-primis`. What each row means is in [the page on privacy](../privacy/primis.md) and in
`Benchmarks/README.md`. The X-rays are 792 of 549 patients of NIH's ChestX-ray8, 160 × 160 pixels; 240 of 170 patients
are judged, the others train. Brackets are 95 % intervals over patients. Published figures: not available to us.
(X-rays: NIH Clinical Center, https://nihcc.app.box.com/v/ChestXray-NIHCC; X. Wang et al., ChestX-ray8, CVPR 2017.)
"""


@dataclass
class Section:
    """What one measurement writes: its title, rows with limits, and lines below them."""

    title: str
    rows: list[Row] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Options:
    data: Path
    quick: bool
    pictures: Path
    folder: Path


@functools.cache
def study_of(data: Path, quick: bool) -> tuple[Study, Study]:
    """Training and judged patients."""
    train, test = read_study(data / "nih_cxr", most=200 if quick else 0).split()
    return train, test


@functools.cache
def decoded(data: Path, quick: bool) -> tuple[dict[str, AnyArray], AnyArray]:
    """Every judged image at every level, and the bytes of its codes (images, levels)."""
    _, test = study_of(data, quick)
    out: dict[str, list[AnyArray]] = {name: [] for name in LEVELS}
    lengths = []
    for image in test.images:
        coded = encode(image)
        lengths.append([len(c) for c in coded.codes])
        for n, name in enumerate(LEVELS, 1):
            out[name].append(decode(coded.codes[:n], coded.shape, coded.dtype, coded.model))
    return {name: np.stack(images) for name, images in out.items()}, np.array(lengths)


def similarity(image: AnyArray, truth: AnyArray) -> float:
    from skimage.metrics import structural_similarity

    return float(structural_similarity(image, truth, data_range=255))


# ------------------------------------------------------------------------------------------------------------- rates


def rates(o: Options) -> Section:
    """Bytes against quality, beside other codecs."""
    from Benchmarks import primis_rates

    images = list(study_of(o.data, o.quick)[1].images)
    count = 8 if o.quick else RATED
    images = images[:: max(1, len(images) // count)][:count]
    levels, found = primis_rates.levels(images), primis_rates.curves(images)
    primis_rates.plot(primis_rates.points(found), o.pictures / "primis_rates.png")
    section = Section("Rate and quality")
    best = [row for row in levels if row["sealed"] <= MAX_BYTES and "jpeg_psnr" in row][-1]
    what = f"the level {best['level']}, {best['sealed']:.0f} bytes sealed, over JPEG at the same size"
    over = {"PSNR": best["psnr"] - best["jpeg_psnr"], "SSIM": best["ssim"] - best["jpeg_ssim"]}
    section.rows = [
        Row("rates", f"PSNR in dB, {what}", f"{over['PSNR']:+.2f}", "≥ 0; aim + 1", bool(over["PSNR"] >= 0)),
        Row("rates", f"SSIM, {what}", f"{over['SSIM']:+.4f}", "≥ 0", bool(over["SSIM"] >= 0)),
    ]
    section.lines = [
        "| up to level | bytes, mean; 99 of 100 | sealed (64 B a code) | PSNR, dB; JPEG's | SSIM; JPEG's |",
        "|" + "---|" * 5,
        *(_level_line(row) for row in levels),
        "", f"The mean of {len(images)} judged images. At these sealed sizes, PSNR in dB and SSIM:", "",
        "| | " + " | ".join(f"{size} B" for size in primis_rates.SIZES) + " |",
        "|" + "---|" * (1 + len(primis_rates.SIZES)),
        *_lines_at_sizes(primis_rates.at_sizes(found), primis_rates.SIZES),
        "", "![PSNR and SSIM against sealed bytes](../pictures/primis_rates.png)",
    ]  # fmt: skip
    return section


def _level_line(row: dict[str, Any]) -> str:
    quality = "exact; – | 1; –"
    if "psnr" in row:
        beside = (f"{row['jpeg_psnr']:.2f}", f"{row['jpeg_ssim']:.4f}") if "jpeg_psnr" in row else ("not so small",) * 2
        quality = f"{row['psnr']:.2f}; {beside[0]} | {row['ssim']:.4f}; {beside[1]}"
    return f"| {row['level']} | {row['bytes']:.0f}; {row['bytes_99']:.0f} | {row['sealed']:.0f} | {quality} |"


def _lines_at_sizes(rows: list[dict[str, Any]], sizes: Sequence[int]) -> list[str]:
    cells = {(r["codec"], r["size"]): f"{r['psnr']:.2f}, {r['ssim']:.4f}" for r in rows}
    codecs = list(dict.fromkeys(r["codec"] for r in rows))
    return [f"| {c} | " + " | ".join(cells.get((c, s), "–") for s in sizes) + " |" for c in codecs]


def use(o: Options) -> Section:
    """Classification, segmentation and texture on decoded images against originals."""
    train, test = study_of(o.data, o.quick)
    images, lengths = decoded(o.data, o.quick)
    section = Section("What each level is good for")
    total = lengths.cumsum(1).mean(0)
    quality = {n: _quality(images[n], test.images) for n in LEVELS}
    classes, lost = _classification(train, test, images)
    found = _segmentation(o, train, test, images)
    alike = _texture(test, images)
    section.lines += [
        "| up to level | bytes, mean | PSNR, dB | SSIM | AUC lost, of 80 pixels | AUC lost, of 160 pixels | lungs, Dice"
        f" against original: mean, worst of 20 | {' | '.join(TEXTURES)} |",
        "|" + "---|" * (7 + len(TEXTURES)),
    ]
    for n, name in enumerate(LEVELS):
        worst = float(np.percentile(found[name], 5))
        cells = [
            name, f"{total[n]:.0f}", _decibels(quality[name][0]), f"{quality[name][1]:.3f}", _signed(lost[name, 80]),
            _signed(lost[name, 160]), f"{found[name].mean():.3f}, {worst:.3f}", *(f"{v:.3f}" for v in alike[name]),
        ]  # fmt: skip
        section.lines.append("| " + " | ".join(cells) + " |")
    section.lines += ["", *_what_it_means(classes)]
    value = float(lost["classification", 80].value)
    section.rows = [
        at_most("use", "AUC pneumonia / no finding lost at the classification level", value, 0.02, ""),
        _least("Dice of lungs against original, segmentation level", float(found["segmentation"].mean()), 0.95),
        _least("smallest correlation of a texture feature, texture level", float(alike["texture"].min()), 0.98),
    ]  # fmt: skip
    return section


def _quality(images: AnyArray, truth: AnyArray) -> tuple[float, float]:
    """Mean PSNR and SSIM."""
    pairs = list(zip(images, truth, strict=True))
    return float(np.mean([psnr(a, b) for a, b in pairs])), float(np.mean([similarity(a, b) for a, b in pairs]))


def _least(what: str, value: float, limit: float) -> Row:
    return Row("use", what, f"{value:.3f}", f"≥ {limit:g}", bool(value >= limit), {"value": float(value)})


def _decibels(value: float) -> str:
    return "exact" if value > 98 else f"{value:.1f}"


def _signed(value: Interval) -> str:
    return f"{value.value:+.3f} ({value.low:+.3f} to {value.high:+.3f})"


def _what_it_means(classes: dict[int, Interval]) -> list[str]:
    return [
        f"Lost: AUC on originals ({classes[80]}; {classes[160]} where gradients are taken at 160 pixels) less AUC on"
        " decoded images, of one classifier (gradient histograms, a coarse copy, logistic regression) trained on"
        " originals of the other patients. Lungs: one small U-Net, trained on originals with masks that a network made"
        " (a silver standard). Texture: Pearson's correlation of each feature of the grey-level co-occurrence matrix"
        " (32 greys, distance 1, four directions) between decoded and original, over all judged images.",
    ]


def _classification(
    train: Study, test: Study, images: dict[str, AnyArray]
) -> tuple[dict[int, Interval], dict[tuple[str, int], Interval]]:
    positive = np.array(test.labels) == POSITIVE
    classes, lost = {}, {}
    for size in (80, 160):
        model = Classifier(size).fit(train.images, np.array(train.labels) == POSITIVE)
        own = model.scores(test.images)
        classes[size] = over_patients(test.patients, _area(own, positive))
        for name in LEVELS:
            both = (own, model.scores(images[name]))
            lost[name, size] = over_patients(test.patients, _lost(*both, positive))
    return classes, lost


def _area(scores: AnyArray, positive: AnyArray) -> Callable[[AnyArray], float]:
    return lambda k: area_under_curve(scores[k], positive[k])


def _lost(own: AnyArray, other: AnyArray, positive: AnyArray) -> Callable[[AnyArray], float]:
    return lambda k: area_under_curve(own[k], positive[k]) - area_under_curve(other[k], positive[k])


def _segmentation(o: Options, train: Study, test: Study, images: dict[str, AnyArray]) -> dict[str, AnyArray]:
    assert train.masks is not None
    model = LungSegmenter().fit(
        train.images[:SEGMENTER_IMAGES], train.masks[:SEGMENTER_IMAGES], epochs=3 if o.quick else 12
    )
    own = model.masks(test.images)
    return {name: dice(model.masks(images[name]), own) for name in LEVELS}


def _texture(test: Study, images: dict[str, AnyArray]) -> dict[str, AnyArray]:
    own = texture(test.images)
    out = {}
    for name in LEVELS:
        other = texture(images[name])
        out[name] = np.array([np.corrcoef(own[:, k], other[:, k])[0, 1] for k in range(len(TEXTURES))])
    return out


# ----------------------------------------------------------------------------------------------------------- attacks


def attacks(o: Options) -> Section:
    """The battery of `ppir primis attack` on all images."""
    section = Section("Attacks")
    train, test = study_of(o.data, o.quick)
    masks = None if train.masks is None or test.masks is None else np.concatenate([train.masks, test.masks])
    whole = Study(
        np.concatenate([train.images, test.images]), train.names + test.names, train.patients + test.patients,
        train.labels + test.labels, masks,
    )  # fmt: skip
    effort = QUICK if o.quick else Effort()
    findings, pictures = attack(whole, effort=effort, found=lambda f: print(f.attack, "|", f.sealed, flush=True))
    write_strip(pictures, o.pictures / "primis_attacks.png")
    one, other = (publish(image) for image in test.images[:2])
    changes = 2000 if o.quick else CHANGES
    tried, opened = tampering.opened_anyway(one.sealed, other.sealed, one.key, changes)
    beyond = [f.attack for f in findings if f.holds is False]
    section.rows = [
        Row("attacks", "attacks on sealed files beyond chance", str(len(beyond)), "0", not beyond, {"which": beyond}),
        Row("attacks", f"of {sum(tried.values())} changed files opened", str(sum(opened.values())), "0", not opened),
    ]
    section.lines = [
        *attack_table(findings).splitlines(), "",
        "At chance: within four standard errors of what who knows nothing can say (the mean image of other patients,"
        " AUC 0.5, one byte in 256).", "",
        "![One image as its owner, a recipient, the public and an attacker see it](../pictures/primis_attacks.png)",
    ]  # fmt: skip
    return section


# ------------------------------------------------------------------------------------------------------------- sizes


def sizes(o: Options) -> Section:
    """Keys, grants, overhead; what filling up costs; codes with decoys beside it."""
    section = Section("Sizes")
    _, test = study_of(o.data, o.quick)
    _, lengths = decoded(o.data, o.quick)
    some = [publish(image) for image in test.images[:40]]
    filled = np.array([[c.length for c in p.sealed.header.codes] for p in some])
    section.rows = [
        at_most("sizes", "a grant with the longest purpose", _longest_grant(o.folder, test.images[0]), 400, "B"),
        at_most("sizes", "a key", len(some[0].key.secret), 32, "B"),
        at_most("sizes", "a code beside its content, not filled up", OVERHEAD, 64, "B"),
    ]  # fmt: skip
    each = np.array([_png_bytes(o.folder, i) for i in test.images])
    png, longer = each.mean(), int((lengths.sum(1) > each).sum())
    whole = lengths.sum(1).mean()
    section.rows.append(
        at_most("sizes", "all five codes, not filled up, of PNG's bytes, in all", float(whole / png), 1.0, "")
    )
    section.rows += [
        Row("sizes", f"images of {len(each)} whose codes, not filled up, are longer than their PNG", str(longer)),
        Row("sizes", "the longest of them, of its PNG's bytes", f"{(lengths.sum(1) / each).max():.3g}"),
        Row(
            "sizes",
            "all five codes, filled up as they are by default, of PNG's bytes",
            f"{filled.sum(1).mean() / png:.3g}",
        ),
    ]
    section.lines = [
        "| | bytes, mean |", "|---|---|",
        *(f"| code {n} ({name}), content; filled up | {lengths[:, n - 1].mean():.0f}; {filled[:, n - 1].mean():.0f} |"
          for n, name in enumerate(LEVELS, 1)),
        f"| all codes, content; filled up | {whole:.0f}; {filled.sum(1).mean():.0f} |",
        f"| PNG of the same images | {png:.0f} |",
        f"| `ambiguated`, four levels: its entries alone | {np.mean([coded_bytes(p.maps) for p in some]):.0f} |",
        f"| the same with decoys; its key | {np.mean([coded_bytes(p.public) for p in some]):.0f};"
        f" {np.mean([len(p.decoy_key) for p in some]):.0f} |",
    ]  # fmt: skip
    return section


def _longest_grant(folder: Path, image: AnyArray) -> int:
    sites = make_sites(folder / "sites", ("owner", "friend"))
    file, card = folder / "sites" / "x.ppis", primis.own_card(sites["friend"].home)
    primis.seal(image, file, home=sites["owner"].home)
    return len(primis.grant(file, card, "exact", home=sites["owner"].home, purpose="p" * 120))


def _png_bytes(folder: Path, image: AnyArray) -> int:
    path = folder / "x.png"
    sitk.WriteImage(sitk.GetImageFromArray(image), str(path), True, 9)
    return path.stat().st_size


# -------------------------------------------------------------------------------------------------------------- time


def seconds(o: Options) -> Section:
    """Seal and open an image of 1024 × 1024."""
    section = Section("Seconds")
    _, test = study_of(o.data, o.quick)
    image = enlarged(test.images[0], 1024)
    home, file = make_sites(o.folder / "clock", ("owner",))["owner"].home, o.folder / "clock" / "x.ppis"
    primis.seal(test.images[0], file, home=home)  # what is compiled, is compiled now
    primis.unseal(file, home=home)
    runs: dict[str, list[tuple[float, float]]] = {"seal": [], "open the exact image": []}
    for _ in range(5):
        runs["seal"].append(_timed(lambda: primis.seal(image, file, home=home, overwrite=True)))
        runs["open the exact image"].append(_timed(lambda: primis.unseal(file, home=home)))
    assert np.array_equal(primis.unseal(file, home=home).pixels, image)
    section.rows = [
        at_most("time", f"{what}, 1024 × 1024, 8 bits: seconds of one core, median of 5", _middle_of(took, 1), 1.0, "s")
        for what, took in runs.items()
    ]
    walls = " and ".join(f"{_middle_of(took, 0):.2f} s to {what}" for what, took in runs.items())
    section.lines = [
        f"The processor's seconds, in one process, after a first image; by the clock {walls}, beside what else ran (see"
        " the load). Compiling takes seconds once per installation. The image is an X-ray of 160 pixels, enlarged by"
        " cubic splines, with noise of 1.5 greys: no X-ray of this size was at hand.",
    ]
    return section


def _timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds of the clock, and of the processor."""
    clock, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - clock, time.process_time() - processor


def _middle_of(took: list[tuple[float, float]], which: int) -> float:
    return float(np.median([t[which] for t in took]))


def enlarged(image: AnyArray, side: int) -> AnyArray:
    """Cubic splines, and noise as a detector has it."""
    small = sitk.GetImageFromArray(image.astype(np.float32))
    rows = image.shape[0]
    spacing = [(rows - 1) / (side - 1)] * 2
    large = sitk.Resample(small, [side, side], sitk.Transform(), sitk.sitkBSpline, [0, 0], spacing, [1, 0, 0, 1])
    noise = np.random.default_rng(0).normal(0, 1.5, (side, side))
    return np.clip(np.rint(sitk.GetArrayFromImage(large) + noise), 0, 255).astype(np.uint8)


# ------------------------------------------------------------------------------------------------------------ others


def others(o: Options) -> Section:
    """Images of other kinds than the weights were trained on."""
    section = Section("Other images")
    section.lines = [
        f"| image | type | PNG-like, bytes a pixel¹ | {' | '.join(f'{n}: bytes a pixel, dB' for n in LOSSY)} | exact |",
        "|" + "---|" * (len(LOSSY) + 4),
    ]
    exact = []
    for name, volume in other_images(o.data):
        coded = encode(volume)
        width = float(np.ptp(np.percentile(volume, [0.1, 99.9])))
        cells = [name, str(volume.dtype), f"{_deflated(volume):.2f}"]
        for n in range(1, len(LEVELS)):
            shown = decode(coded.codes[:n], coded.shape, coded.dtype, coded.model).astype(np.float64)
            error = float(np.sqrt(np.mean(np.square(shown - volume))))
            spent = sum(map(len, coded.codes[:n])) / volume.size
            cells.append(f"{spent:.3f}, {20 * np.log10(width / max(error, 1e-9)):.1f}")
        whole = decode(coded.codes, coded.shape, coded.dtype, coded.model)
        exact.append(bool(np.array_equal(whole, volume)))
        cells.append(f"{sum(map(len, coded.codes)) / volume.size:.2f}, {'bit for bit' if exact[-1] else 'NOT exact'}")
        section.lines.append("| " + " | ".join(cells) + " |")
    section.lines += [
        "",
        "¹ zlib, level 9, of the differences along rows. dB: of the range of all but 2 in 1000 greys.",
    ]
    same = f"{sum(exact)} of {len(exact)}"
    section.rows = [Row("others", "other images that come back bit for bit", same, "all", all(exact))]
    return section


def other_images(data: Path) -> Iterator[tuple[str, AnyArray]]:
    """(name, int16 or uint8 array) of every image that is there; slices through the middle, and a volume."""
    lung, brain = data / "lung_ct" / "baseline.mha", data / "brainweb3d" / "t1.mha"
    if lung.is_file():
        volume = sitk.GetArrayFromImage(sitk.ReadImage(str(lung)))
        yield "lung CT, middle slice", volume[len(volume) // 2]
        yield "lung CT, volume of 20 slices", volume[len(volume) // 2 - 10 : len(volume) // 2 + 10]
    if brain.is_file():
        volume = sitk.GetArrayFromImage(sitk.ReadImage(str(brain)))
        yield "brain MR, simulated (BrainWeb), middle slice", volume[len(volume) // 2]
    for path in sorted((data / "ixi7").glob("*_T1.nrrd"))[:2]:
        volume = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
        top = float(volume.max())
        grey = np.rint(volume if top > 255 else volume * (4095 / top)).astype(np.int16)
        yield f"brain MR, real ({path.stem}), middle slice", grey[len(grey) // 2]


def _deflated(volume: AnyArray) -> float:
    import zlib

    rest = np.diff(volume.astype(np.int64), axis=-1, prepend=0).astype(volume.dtype)
    return len(zlib.compress(rest.tobytes(), 9)) / volume.size


# -------------------------------------------------------------------------------------------------------------- main


def seams(o: Options) -> Section:
    """What the filter does to the levels as they are shown."""
    from Benchmarks import primis_pictures

    return Section("Seams", *primis_pictures.seams(study_of(o.data, o.quick)[1].images[: 8 if o.quick else RATED]))


def text(o: Options) -> Section:
    """Warnings of text in the pixels."""
    from Benchmarks import primis_pictures

    images = [image for study in study_of(o.data, o.quick) for image in study.images]
    return Section("Text in the pixels", *primis_pictures.text(images))


SECTIONS: dict[str, Callable[[Options], Section]] = {
    "rates": rates, "use": use, "attacks": attacks, "sizes": sizes, "time": seconds, "others": others,
    "seams": seams, "text": text,
}  # fmt: skip


def write(name: str, section: Section, where: dict[str, Any]) -> None:
    """The section's part of the page; the others are kept."""
    if not PAGE.exists():
        PAGE.write_text(HEAD, encoding="utf-8")
    head = f"{'A quick run, ' if where['quick'] else ''}{begun(where)}."
    lines = [*table(section.rows), "", *section.lines]
    write_section(PAGE, f"primis {name}", section.title, head[0].upper() + head[1:], lines)


def measured(name: str, options: Options) -> Section:
    """One section; a measurement that fails is a row that says so, and the others go on."""
    try:
        return SECTIONS[name](options)
    except Exception as error:
        return Section(name.capitalize(), [failed(name, name, error)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of nih_cxr and, perhaps, others")
    parser.add_argument("--only", default=",".join(SECTIONS), help=f"out of {', '.join(SECTIONS)}")
    parser.add_argument("--quick", action="store_true", help="fewer images and shorter training")
    parser.add_argument("--output", type=Path, default=Path("bench-output"), help="folder of primis.json")
    parser.add_argument("--write-docs", action="store_true", help="write Docs/results/primis.md and its pictures")
    a = parser.parse_args()
    if unknown := set(a.only.split(",")) - set(SECTIONS):
        parser.error(f"--only {', '.join(sorted(unknown))}: choose from {', '.join(SECTIONS)}")
    _one_thread()
    a.output.mkdir(parents=True, exist_ok=True)
    PICTURES.mkdir(exist_ok=True)
    where, rows = surroundings(a.quick), []
    with tempfile.TemporaryDirectory(prefix="ppir-primis-") as folder:
        options = Options(a.data, a.quick, PICTURES if a.write_docs else a.output, Path(folder))
        for name in a.only.split(","):
            section = measured(name, options)
            rows += section.rows
            print("\n".join(["", f"## {section.title}", *table(section.rows), "", *section.lines]), flush=True)
            if a.write_docs:
                write(name, section, where)
    (a.output / "primis.json").write_text(json.dumps({**where, "rows": [asdict(r) for r in rows]}, indent=1) + "\n")


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


if __name__ == "__main__":
    main()
