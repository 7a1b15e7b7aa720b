"""The words of the report: what its codes mean, and how numbers, sizes and times are written."""

from __future__ import annotations

from collections.abc import Sequence

from PPIRLogic.disclosure.ledger import FRAME, GEOMETRY

KINDS = {
    GEOMETRY: (
        "fixed grid",
        "size, spacing, origin and direction of the fixed image: no content, and not part of the totals",
    ),
    FRAME: (
        "fixed frame of reference",
        "the UID by which the DICOM files of the fixed image's examination say in what coordinates they are: it links"
        " to them, holds no content, and is not part of the totals",
    ),
    "gradient": (
        "slope of the loss",
        "for each parameter of the transform, the sum over the voxels of the fixed intensity times how much the moving"
        " image would change there: which way to move, and by how much",
    ),
    "similarity": (
        "similarity",
        "the sum over all windows of the local correlation of the two images: how alike they are",
    ),
    "coarse force": (
        "coarse force on one half",
        "for each control point, which way the local correlation of the two images pulls one side's half of the"
        " transform, summed over all voxels around it; each side gets that on its own half alone",
    ),
    "half field": (
        "the other half of the transform",
        "the fixed side's half of the transform at the control points of a level: without it this site would not know"
        " the transform",
    ),
    "voxel force": (
        "force voxel by voxel",
        "three numbers for every voxel, as published, shown to both sides: both images can be computed from them",
    ),
    "lost": ("counted, not delivered", "numbers the owner counted whose answer was lost with the connection"),
    "value": ("product of both images", "the sum of fixed times moving intensity: how similar the two images are"),
    "overlap": (
        "brightness and contrast",
        "the sum of the fixed intensities or of their squares over the region that the moving image covers: the mean"
        " and the contrast of the fixed image there",
    ),
    "histogram": (
        "joint histogram",
        "how often each range of fixed intensities meets each range of moving intensities, over a random pool of"
        " voxels: the distribution of the fixed intensities where the moving image has a given value",
    ),
    "cross-covariance": (
        "product of both point sets",
        "the sum over the points of each fixed coordinate times each of this site's: how the two sets are turned to"
        " each other",
    ),
    "centroid": ("mean of the fixed points", "the sum of each coordinate of the fixed points: where they lie"),
    "spread": (
        "extent of the fixed points",
        "the sum of their squared distances from a reference point: how far they spread; it gives the residual",
    ),
    "moments": (
        "where the brightness lies",
        "the sum of the fixed intensities, times the place of each voxel, and times its squares: the centre of the"
        " brightness and along which axes it spreads",
    ),
    "mask": (
        "sums inside the fixed mask",
        "sums of this site's own values over the inside of the fixed image's private mask: they tell how large the"
        " mask is and roughly where it lies; they hold no intensity of the fixed image",
    ),
    "mask grid": (
        "outline of the fixed mask",
        "the mask of the fixed image itself, one bit per voxel of the level: its outline is no longer private",
    ),
    "sampling": (
        "choice of voxels",
        "which blocks of voxels this site chose, one bit per voxel: it shows the other side where the moving image has"
        " strong edges",
    ),
    "result": (
        "results of the private product",
        "the sums themselves, which this protocol shows to the other side as well: each is a sum of this site's image"
        " or its slopes, weighted by the fixed image",
    ),
    "half of the result": (
        "results over half of the voxels",
        "the sums over half of the voxels, which this protocol shows to the other side: each is a sum of this site's"
        " image or its slopes, weighted by the fixed image",
    ),
    "image": (
        "the fixed image itself",
        "every voxel of the level that took part, with its square where the loss needs it: nothing of the fixed image"
        " is private at this level",
    ),
}
REASONS = {
    "step": "steps became shorter than the tolerance",
    "loss": "the loss stopped falling",
    "evaluations": "the permitted evaluations were used up",
    "refused": "a short step did not lower the loss any more",
    "damping": "no further step lowered the loss",
    "folding": "every further step would have folded the image",
    "iterations": "the permitted iterations were used up",
    "": "not finished",
}
STOPS = {
    "finished": "all levels were run",
    "BudgetError": "the disclosure budget was used up",
    "PolicyError": "the owner of the fixed image does not permit it",
    "PeerError": "the other side was lost",
    "DealerError": "the dealer was lost",
    "Cancelled": "it was cancelled",
    "OverlapError": "the images no longer overlapped enough",
    "FixedPointError": "a value would have left the exact range",
    "VerificationError": "the other side's check of an evaluation failed",
    "TrustError": "the trust between the two sides was withdrawn",
}


def human_bytes(count: float) -> str:
    """Bytes as a person reads them, in powers of 1000: '0 B', '12.3 kB', '4.56 GB'."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.0f} B" if unit == "B" else f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} TB" if count < 1000 else f"{count:,.0f} TB"


def human_seconds(seconds: float | None) -> str:
    """A duration: '0.25 s', '12.3 s', '3 min 5 s', '1 h 2 min'; a dash where it is not known."""
    if seconds is None:
        return "–"
    if seconds < 99.95:
        return f"{seconds:.3g} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def number(value: float | None, form: str = ".4g") -> str:
    return "–" if value is None else format(value, form).replace("-", "−")


def share(value: float | None) -> str:
    """Per cent to two significant digits, without an exponent."""
    if value is None:
        return "–"
    if 0 < value < 0.0001:
        return "< 0.0001 %"
    return f"{value:.0f} %" if value >= 10 else f"{value:.2g} %"


def times(values: Sequence[float] | None) -> str:
    return " × ".join(f"{v:.4g}" if isinstance(v, float) else str(v) for v in values) if values else "–"
