"""Rate and quality of PRIMIS's lossy levels beside JPEG, JPEG 2000, JPEG XL and AVIF, each sealed the same way.

`python -m Benchmarks.primis_rates --data FOLDER --output FOLDER` judges on the patients that training keeps apart.
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from PPIRLogic.primis.codec import decode_levels, encode
from PPIRLogic.primis.levels import LEVELS
from PPIRLogic.primis.model import LOSSY, shipped
from PPIRLogic.primis.study import read_study

OVERHEAD = 64  # bytes a code: what sealing may add at most
SIZES = (700, 1100, 1500, 1900, 2700, 3600)  # sealed bytes at which the codecs are compared
QUALITIES = (0.25, 0.4, 0.65, 1.0, 1.6, 2.5)
GRIDS = {
    "JPEG": (5, 10, 20, 35, 50, 65, 75, 82, 88, 92, 95, 98),
    "JPEG 2000": (27, 30, 33, 36, 39, 42, 45, 48),
    "JPEG XL": (15, 11, 8, 6, 4, 3, 2, 1.4, 1.0, 0.7, 0.4),
    "AVIF": (5, 15, 25, 35, 45, 55, 65, 75, 82, 88, 93),
}


@dataclass(frozen=True)
class Point:
    """The mean over the images, of one codec at one setting: sealed bytes, PSNR in dB, SSIM."""

    codec: str
    setting: str
    size: float
    psnr: float
    ssim: float


def _quality_of(image: NDArray[Any], back: NDArray[Any]) -> tuple[float, float]:
    from skimage.metrics import structural_similarity

    error = max(float(np.mean((back.astype(float) - image) ** 2)), 1e-3)
    return 10 * np.log10(255**2 / error), float(structural_similarity(image, back, data_range=255))


def _pillow(kind: str, image: NDArray[Any], setting: float) -> tuple[int, NDArray[Any]]:
    out = io.BytesIO()
    options = {"optimize": True} if kind == "JPEG" else {"speed": 4}
    Image.fromarray(image).save(out, kind, quality=int(setting), **options)
    return len(out.getvalue()), np.array(Image.open(io.BytesIO(out.getvalue())).convert("L"))


def _jpeg_2000(image: NDArray[Any], setting: float) -> tuple[int, NDArray[Any]]:
    import imagecodecs

    code = imagecodecs.jpeg2k_encode(image, level=setting, codecformat="J2K")
    return len(code), imagecodecs.jpeg2k_decode(code)


def _jpeg_xl(image: NDArray[Any], setting: float) -> tuple[int, NDArray[Any]]:
    import imagecodecs

    code = imagecodecs.jpegxl_encode(image, distance=setting, effort=7)
    return len(code), imagecodecs.jpegxl_decode(code)


OTHERS: dict[str, Callable[[NDArray[Any], float], tuple[int, NDArray[Any]]]] = {
    "JPEG": lambda image, setting: _pillow("JPEG", image, setting),
    "JPEG 2000": _jpeg_2000,
    "JPEG XL": _jpeg_xl,
    "AVIF": lambda image, setting: _pillow("AVIF", image, setting),
}


def curves(images: Sequence[NDArray[np.uint8]]) -> dict[str, NDArray[np.float64]]:
    """By codec: (settings, images, [sealed bytes, PSNR, SSIM]). PRIMIS: every lossy level at some qualities."""
    out = {}
    for codec, grid in GRIDS.items():
        found = np.zeros((len(grid), len(images), 3))
        for i, setting in enumerate(grid):
            for j, image in enumerate(images):
                size, back = OTHERS[codec](image, setting)
                found[i, j] = size + OVERHEAD, *_quality_of(image, back)
        out[codec] = found
    ours = np.zeros((len(QUALITIES) * LOSSY, len(images), 3))
    for i, quality in enumerate(QUALITIES):
        for j, image in enumerate(images):
            coded = encode(image, LOSSY, quality=quality)
            for level, back in enumerate(decode_levels(coded.codes, coded.shape, coded.dtype, shipped())):
                size = sum(len(c) + OVERHEAD for c in coded.codes[: level + 1])
                ours[i * LOSSY + level, j] = size, *_quality_of(image, back)
    out["PRIMIS"] = ours
    return out


def at_sizes(found: dict[str, NDArray[np.float64]], sizes: Sequence[int] = SIZES) -> list[dict[str, Any]]:
    """Of every codec at every size: mean PSNR and SSIM, read off each image's own curve between its settings.

    PRIMIS is read off the curve of each of its levels, the best of which counts (a lower level has fewer codes).
    """
    rows = []
    for codec, values in found.items():
        parts = [values[level::LOSSY] for level in range(LOSSY)] if codec == "PRIMIS" else [values]
        for size in sizes:
            read = [_read_off(part, size) for part in parts]
            read = [r for r in read if r is not None]
            if read:
                psnr, ssim = max(read)
                rows.append({"codec": codec, "size": size, "psnr": round(psnr, 2), "ssim": round(ssim, 4)})
    return rows


def _read_off(values: NDArray[np.float64], size: int) -> tuple[float, float] | None:
    """Mean PSNR and SSIM of all images at a size; None if some image's curve does not reach there."""
    pairs = []
    for curve in values.swapaxes(0, 1):
        curve = curve[np.argsort(curve[:, 0])]
        if not curve[0, 0] <= size <= curve[-1, 0]:
            return None
        pairs.append([np.interp(np.log(size), np.log(curve[:, 0]), curve[:, k]) for k in (1, 2)])
    psnr, ssim = np.mean(pairs, axis=0)
    return float(psnr), float(ssim)


def levels(images: Sequence[NDArray[np.uint8]]) -> list[dict[str, Any]]:
    """Of every level: bytes of all codes up to it (mean, 99th percentile), sealed bytes, PSNR, SSIM, and JPEG's at the
    same sealed size; of the exact level: PNG's bytes."""
    rows = [_level_row(image) for image in images]
    jpeg = curves_of_jpeg(images)
    out = []
    for level, name in enumerate(LEVELS):
        sizes = np.array([r["sizes"][level] for r in rows], float)
        sealed = sizes + OVERHEAD * (level + 1)
        row = {"level": name, "bytes": round(sizes.mean(), 1), "bytes_99": round(float(np.quantile(sizes, 0.99)), 1)}
        row |= {"sealed": round(sealed.mean(), 1)}
        if level < LOSSY:
            pairs = np.array([r["quality"][level] for r in rows])
            row |= {"psnr": round(pairs[:, 0].mean(), 2), "ssim": round(pairs[:, 1].mean(), 4)}
            beside = [_read_off(jpeg[:, j : j + 1], int(s)) for j, s in enumerate(sealed)]
            reached = [b for b in beside if b is not None]
            if len(reached) == len(beside):
                row |= {"jpeg_psnr": round(float(np.mean([b[0] for b in reached])), 2)}
                row |= {"jpeg_ssim": round(float(np.mean([b[1] for b in reached])), 4)}
        else:
            png = np.array([r["png"] for r in rows], float)
            row |= {"png": round(png.mean(), 1), "above_png": int((sizes > png).sum())}
            row |= {"sealed_above_png": int((sealed > png + OVERHEAD).sum()), "images": len(rows)}
        out.append(row)
    return out


def curves_of_jpeg(images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
    found = [[_pillow("JPEG", image, s) for image in images] for s in GRIDS["JPEG"]]
    return np.array(
        [
            [(size + OVERHEAD, *_quality_of(image, back)) for (size, back), image in zip(row, images, strict=True)]
            for row in found
        ]
    )


def _level_row(image: NDArray[np.uint8]) -> dict[str, Any]:
    coded = encode(image)
    shown = decode_levels(coded.codes, coded.shape, coded.dtype, shipped())
    if not np.array_equal(shown[-1], image):
        raise AssertionError("the exact level is not exact")
    out = io.BytesIO()
    Image.fromarray(image).save(out, "PNG", optimize=True)
    return {
        "sizes": np.cumsum([len(c) for c in coded.codes]),
        "quality": [_quality_of(image, back) for back in shown[:-1]],
        "png": len(out.getvalue()),
    }


def points(found: dict[str, NDArray[np.float64]]) -> list[Point]:
    """The mean of every setting, to draw."""
    names = {c: [str(s) for s in g] for c, g in GRIDS.items()}
    names["PRIMIS"] = [f"{LEVELS[level]}, quality {q:g}" for q in QUALITIES for level in range(LOSSY)]
    return [
        Point(codec, names[codec][i], *(float(round(v, 4)) for v in values[i].mean(axis=0)))
        for codec, values in found.items()
        for i in range(len(values))
    ]


def plot(drawn: Sequence[Point], path: str | Path) -> None:
    """PSNR and SSIM against sealed bytes, PRIMIS's levels at the usual quality as a line."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), dpi=120, facecolor="white", layout="constrained")
    for axes, what, unit in zip(figure.subplots(1, 2), ("psnr", "ssim"), ("PSNR (dB)", "SSIM"), strict=True):
        for codec in dict.fromkeys(p.codec for p in drawn):
            some = [p for p in drawn if p.codec == codec and (codec != "PRIMIS" or p.setting.endswith(" 1"))]
            style = {"linewidth": 2.5, "color": "black", "marker": "o"} if codec == "PRIMIS" else {"marker": "."}
            some.sort(key=lambda p: p.size)
            axes.plot([p.size for p in some], [getattr(p, what) for p in some], label=codec, **style)
        axes.set_xlim(0, 4500)
        axes.set_ylim(*((26, 47) if what == "psnr" else (0.7, 1)))
        axes.set_xlabel("sealed bytes (64 a code)")
        axes.set_ylabel(unit)
        axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, metadata={"Software": None})


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--output", required=True)
    parser.add_argument("--images", type=int, default=60)
    a = parser.parse_args(arguments)
    folder = Path(a.output)
    folder.mkdir(parents=True, exist_ok=True)
    images = list(read_study(a.data).split()[1].images)
    images = images[:: max(1, len(images) // a.images)][: a.images]
    table = levels(images)
    found = curves(images)
    result = {"images": len(images), "levels": table, "at sizes": at_sizes(found)}
    result["points"] = [asdict(p) for p in points(found)]
    (folder / "primis_rates.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    plot(points(found), folder / "primis_rates.png")
    print(json.dumps({k: v for k, v in result.items() if k != "points"}, indent=1))


if __name__ == "__main__":
    main()
