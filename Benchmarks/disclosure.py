"""What a session that spends its whole budget reveals: the fixed image, reconstructed from party 1's own ledger.

Party 1 keeps its columns S and the sums it is entitled to, and solves for the image: least squares with a smooth prior
around its own warped image, which it has anyway. Real image pair, real sessions through the server, its ledger and
its default budget. The gain over the warped image is what the sums are worth.

    python -m Benchmarks.disclosure [--write-docs]

Affine SSD: one ordinary session, then sessions from different starting points until the budget refuses. B-spline
(the measurements are made from the same images): Σ φ_k·∂I/∂x_a·J at knots 16 pixels apart. Joint histogram (32 moving
bins): the mean of the fixed intensity in every moving bin, which is what a histogram says about J given I.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from scipy import fft, ndimage

from Benchmarks.pairs import DEMO
from Benchmarks.rows import surroundings
from Benchmarks.sections import RESULTS
from PPIRLogic.arrays import AnyArray
from PPIRLogic.disclosure.accounts import Budget
from PPIRLogic.errors import BudgetError
from PPIRLogic.images.reading import read_volume
from PPIRLogic.images.volume import Volume
from PPIRLogic.local_processes import make_sites
from PPIRLogic.network.identity import load_or_create_identity
from PPIRLogic.registration.levels import make_levels
from PPIRLogic.registration.losses import LOSSES
from PPIRLogic.registration.operands import FIXED_SCALE
from PPIRLogic.registration.parameters import Parameters
from PPIRLogic.registration.party1.register import register
from PPIRLogic.registration.party1.session import ClientSession
from PPIRLogic.registration.party2.fixed_image import FixedImage
from PPIRLogic.registration.party2.policy import Policy
from PPIRLogic.registration.party2.server import Server
from PPIRLogic.registration.party2.site import Shared
from PPIRLogic.registration.request import Request

SHRINK = 2  # the level that is reconstructed
BINS = 32
AFFINE = 6  # parameters in 2D
KNOTS = 8  # voxels of the level between two knots
BUDGET = "affine SSD, {} sessions, the whole budget"


# ------------------------------------------------------------------------------------------- the sessions


@dataclass
class View:
    """What party 1 has after its sessions at one level: rows S and sums, over samples in raster order."""

    rows: list[AnyArray]
    sums: list[float]
    warped: AnyArray  # its own image under the last transform, on the fixed grid
    overlap: AnyArray


class Tap:
    """A ColumnSource that keeps a copy of the columns that pass."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.blocks = inner, {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def block(self, group: int, worker: int, out: AnyArray) -> None:
        self.inner.block(group, worker, out)
        self.blocks[group] = out.copy()

    def columns_of(self, samples: AnyArray, voxels: int) -> AnyArray:
        whole = np.concatenate([self.blocks[g] for g in sorted(self.blocks)], axis=1)[:, : len(samples)]
        out = np.zeros((len(whole), voxels), np.float32)
        out[:, samples] = whole
        return out


@contextmanager
def tapped(views: dict[int, View]) -> Iterator[None]:
    """Every evaluation of every session in this process leaves its rows and sums in `views`, by shrink factor."""
    original = ClientSession.evaluate

    def evaluate(self: ClientSession, level: Any, source: Any, stage: str, terms: Any, details: Any) -> list[int]:
        tap = Tap(source)
        values = original(self, level, tap, stage, terms, details)
        voxels = int(np.prod(level.geometry.array_shape))
        columns, scales = tap.columns_of(level.samples, voxels), source.column_scales()
        view = views.setdefault(level.factor, View([], [], np.empty(0), np.empty(0)))
        for term, value in zip(terms, values, strict=True):
            if term.operand == "J":
                view.rows.append(columns[term.column])
                view.sums.append(float(value))
        view.warped, view.overlap = columns[-2] / scales[-2], columns[-1] / scales[-1]
        return values

    ClientSession.evaluate = evaluate  # type: ignore[method-assign]
    try:
        yield
    finally:
        ClientSession.evaluate = original  # type: ignore[method-assign]


def starts() -> Iterator[str | sitk.Transform]:
    """The ordinary starting point, then random ones."""
    yield "identity"
    rng = np.random.default_rng(0)
    while True:
        start = sitk.AffineTransform(2)
        start.SetTranslation(rng.normal(0, 6, 2).tolist())
        start.Rotate(0, 1, float(rng.normal(0, 0.08)))
        yield start


def spend_the_budget(fixed: Volume, moving: Volume, folder: Path) -> tuple[View, list[int], AnyArray, AnyArray]:
    """Sessions until the owner's default budget refuses.

    The view of the level, how many rows it had after each session, and the warped image and overlap of the first.
    """
    sites = make_sites(folder, ("one", "two"))
    shared = Shared(FixedImage("fixed", fixed), Policy(protocols=frozenset({"fhe"}), budget=Budget()))
    server = Server("127.0.0.1:0", load_or_create_identity(sites["two"].home), sites["two"].home, [shared])
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    views: dict[int, View] = {}
    after: list[int] = []
    warped = overlap = np.empty(0)
    ordinary = Parameters(transform="affine", loss="ssd", threads=1)
    endless = dataclasses.replace(ordinary, levels=(SHRINK,), step_tolerance=1e-6, loss_tolerance=0.0)
    address = str(server.listener.address)
    try:
        with tapped(views), contextlib.suppress(BudgetError):
            for start in starts():
                p = dataclasses.replace(endless if after else ordinary, initial=start)
                register(moving, address, home=sites["one"].home, parameters=p)
                if not after:
                    warped, overlap = views[SHRINK].warped, views[SHRINK].overlap
                after.append(len(views[SHRINK].rows))
        return views[SHRINK], after, warped, overlap
    finally:
        server.stop()
        thread.join(10)


# --------------------------------------------------------------------------------------- the reconstruction


def smooth(image: AnyArray, width: float) -> AnyArray:
    """The prior's covariance: smooth over so many voxels, diagonal in cosines."""
    angles = [np.pi * np.arange(n) / n for n in image.shape]
    laplace = (2 - 2 * np.cos(angles[0]))[:, None] + (2 - 2 * np.cos(angles[1]))[None]
    return np.asarray(fft.idctn(fft.dctn(image, norm="ortho") / (1 + width**2 * laplace) ** 2, norm="ortho"))


def solve(rows: AnyArray, sums: AnyArray, prior: AnyArray, width: float = 2.0, noise: float = 1e-6) -> AnyArray:
    """The image x around `prior` that agrees with rows·x = sums, smoothest first."""
    shape = prior.shape
    filtered = np.stack([smooth(r.reshape(shape), width).ravel() for r in rows])
    gram = filtered @ rows.T
    rest = sums - rows @ prior.ravel()
    weights = np.linalg.lstsq(gram + noise * np.trace(gram) / len(gram) * np.eye(len(gram)), rest, rcond=None)[0]
    return prior + (weights @ filtered).reshape(shape)


def unit(rows: AnyArray, sums: AnyArray) -> tuple[AnyArray, AnyArray]:
    norms = np.linalg.norm(rows, axis=1)
    kept = norms > 0
    return rows[kept] / norms[kept, None], sums[kept] / norms[kept]


def basis(size: int, spacing: int) -> AnyArray:
    """Cubic B-splines, (knots, size)."""
    control_points = np.arange(-1, size // spacing + 3)
    u = np.abs(np.arange(size)[None] / spacing - control_points[:, None])
    inner, outer = 2 / 3 - u**2 + u**3 / 2, np.maximum(2 - u, 0) ** 3 / 6
    return np.where(u < 1, inner, outer)


def bspline_rows(image: AnyArray, spacing: int) -> AnyArray:
    """φ_k·∂I/∂x_a for all knots and both axes."""
    one, two = (basis(n, spacing) for n in image.shape)
    grid = np.einsum("ay,bx->abyx", one, two).reshape(-1, *image.shape)
    return np.concatenate([(grid * g).reshape(len(grid), -1) for g in np.gradient(image)])


def histogram_rows(image: AnyArray, overlap: AnyArray) -> AnyArray:
    """The Parzen weights of the moving image, one row per bin."""
    scaled = np.clip(image, 0, 1) * (BINS - 3) + 1
    u = np.abs(scaled[None] - np.arange(BINS)[:, None, None])
    weights = np.where(u < 1, 2 / 3 - u**2 + u**3 / 2, np.maximum(2 - u, 0) ** 3 / 6)
    return (weights * (overlap > 0.5)).reshape(BINS, -1)


def moved(image: AnyArray, rng: np.random.Generator) -> AnyArray:
    """The moving image at another step of an optimiser: a few degrees and pixels away."""
    angle = rng.normal(0, 0.05)
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * (1 + rng.normal(0, 0.02))
    centre = (np.array(image.shape) - 1) / 2
    return np.asarray(ndimage.affine_transform(image, matrix, centre - matrix @ centre + rng.normal(0, 2, 2), order=1))


# ------------------------------------------------------------------------------------------------ the page


def correlation(one: AnyArray, two: AnyArray, where: AnyArray) -> float:
    return float(np.corrcoef(one[where], two[where])[0, 1])


@dataclass
class Row:
    name: str
    numbers: int
    image: AnyArray


def measure(folder: Path) -> tuple[AnyArray, AnyArray, list[Row], str]:
    """The truth, where both images are, every reconstruction, and what they are of."""
    fixed, moving = read_volume(DEMO[0], role="fixed"), read_volume(DEMO[1])
    view, after, warped, common = spend_the_budget(fixed, moving, folder)
    truth = level_image(fixed)
    prior, overlap = warped.reshape(truth.shape), common.reshape(truth.shape) > 0.5
    fitted = prior * np.linalg.lstsq(prior[overlap][:, None], truth[overlap], rcond=None)[0][0]
    found = [Row("own warped image, no sums", 0, fitted)]
    rows, sums = np.array(view.rows, np.float64), np.array(view.sums) / FIXED_SCALE
    terms, image_terms = LOSSES["ssd"].terms(AFFINE), [t for t in LOSSES["ssd"].terms(AFFINE) if t.operand == "J"]
    rng = np.random.default_rng(1)
    for count, name, given, around in (
        (after[0], "affine SSD, one ordinary session of all levels", sums, fitted),
        (after[-1], BUDGET.format(len(after)), sums, fitted),
        (after[-1], f"{BUDGET.format(len(after))}, without the warped image", sums, 0 * fitted),
        (after[-1], "control: the same rows, the sums in another order", rng.permutation(sums), 0 * fitted),
    ):
        image = solve(*unit(rows[:count], given[:count]), around)
        found.append(Row(name, count * len(terms) // len(image_terms), image))
    own = prior + 0.5

    def several(make: Callable[[AnyArray], AnyArray], image: AnyArray, evaluations: int, around: AnyArray) -> AnyArray:
        many = np.concatenate([make(moved(image, rng) if k else image) for k in range(evaluations)])
        return solve(*unit(many, many @ truth.ravel()), around)

    for n in (1, 5):
        image = several(lambda i: bspline_rows(i, KNOTS), prior, n, fitted)
        numbers = n * len(bspline_rows(prior, KNOTS))
        found.append(Row(f"B-spline, knots every {KNOTS * SHRINK} pixels, evaluations: {n}", numbers, image))
    for n in (1, 20):
        image = several(lambda i: histogram_rows(i, overlap), own, n, 0 * fitted)
        found.append(Row(f"joint histogram {BINS} × {BINS}, evaluations: {n}", n * BINS * BINS, image))
    size = " × ".join(map(str, fixed.geometry.size))
    return truth, overlap, found, f"level 1/{SHRINK} of a {size} slice, {truth.size} voxels"


def level_image(fixed: Volume) -> AnyArray:
    """J of the level as its owner has it, in units of the normalised intensity, centred as the operands are."""
    request = Request("fixed", "fhe", "affine", "ssd", (SHRINK,))
    level = make_levels(fixed.geometry, request)[0]
    out = np.zeros(int(np.prod(level.geometry.array_shape)))
    out[level.samples] = FixedImage("fixed", fixed).operands(level, ("J",), request)["J"] / FIXED_SCALE
    return out.reshape(level.geometry.array_shape)


def picture(truth: AnyArray, rows: list[Row], where: AnyArray, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = [Row("fixed image (hidden)", truth.size, truth), *rows]
    figure = Figure(figsize=(10, 5.6), layout="constrained")
    axes = figure.subplots(2, (len(shown) + 1) // 2)
    for axis in axes.flat:
        axis.axis("off")
    for axis, row in zip(axes.flat, shown, strict=False):
        axis.imshow(row.image, cmap="gray", vmin=-0.5, vmax=0.6)
        title = f"{row.name}\n{row.numbers} numbers, r = {correlation(row.image, truth, where):.3f}"
        axis.set_title(title, fontsize=6, wrap=True)
    FigureCanvasAgg(figure).print_png(str(path), pil_kwargs={"optimize": True})


def page(truth: AnyArray, rows: list[Row], where: AnyArray, head: str) -> str:
    lines = []
    for row in rows:
        whole = correlation(row.image, truth, where)
        gained = correlation(row.image - rows[0].image, truth - rows[0].image, where) if row.numbers else 0.0
        share = 100 * row.numbers / truth.size
        lines.append(f"| {row.name} | {row.numbers} | {share:.1f} % | {whole:.3f} | {gained:.2f} |")
    made = surroundings(False)
    return TEXT.format(date=made["date"][:10], commit=made["commit"][:7], head=head, table="\n".join(lines))


TEXT = """# What a session, and a spent budget, really reveal

Written by `make disclosure` on {date} at {commit}: {head}. Party 1 keeps its columns and the sums it is entitled
to, and solves for the fixed image: the smoothest image, around its own warped one, that agrees with all sums. The
affine rows are real sessions against a server with the default budget: an ordinary one, then others from random
starting points until it refuses. The B-spline and histogram rows use the same images and the measurements that
those methods open. The pair shows one head in two positions, so party 1's own columns know the anatomy: a hard
case.

| what party 1 has | numbers opened | of the voxels | correlation with the fixed image | gained of what was missing |
|---|---|---|---|---|
{table}

![reconstructions](disclosure.png)

The last column is the correlation between what the sums added to the warped image and what the warped image lacks:
0 is nothing, 1 is all of it. (After a registration party 1 has an image that resembles the other one anyway; that
is what registration means.)

**Read it plainly.** The sums are exact. A budget of 5 % of a level's voxels, once spent, is enough for a
recognisable, slightly blurred picture of the fixed image, with ordinary sessions and ordinary mathematics; one
ordinary session opens a small part of that and adds little. Encryption keeps everything else back; it does not make
these numbers harmless. What limits the picture is how few numbers are opened. An owner for whom a blurred picture
is too much sets the budget to what one session needs (`ppir serve --budget-session`, `--budget-image`,
`--budget-percent`; `ppir ledger` shows what was used) and gives the image to no peer that should not have such a
picture. A party 1 that chooses its columns for the purpose needs no registration at all: k numbers are worth a
picture of k boxes ([attacks.md](attacks.md), "a coarse copy"). Deformable methods and joint histograms open more
per evaluation.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write-docs", action="store_true", help="write Docs/results/disclosure.md and its picture")
    a = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ppir-disclosure-") as folder:
        truth, where, rows, head = measure(Path(folder))
    text = page(truth, rows, where, head)
    print(text)
    if a.write_docs:
        (RESULTS / "disclosure.md").write_text(text, encoding="utf-8")
        picture(truth, rows, where, RESULTS / "disclosure.png")


if __name__ == "__main__":
    main()
