"""Attacks on proxies of real scans, the user's own: the attacker holds clear scans and asks whose a proxy is.

None of them needs training. `candidates` are prepared scans, one a person; `probes` prepared scans of the same persons
in the same order (another visit's where there are two), each warped under a key of its own.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.arrays import AnyArray
from PPIRLogic.proxy.attacks.evidence import RecognitionFinding, finding
from PPIRLogic.proxy.deformation import Deformation
from PPIRLogic.proxy.keys import ProxyKey
from PPIRLogic.proxy.preparation import Prepared
from PPIRLogic.proxy.resampling import resampled
from PPIRLogic.proxy.segmentation import Segmenter
from PPIRLogic.proxy.spectrum import Spectrum

_SIDE = 24  # voxels of the cube on which images are compared
_BINS = 32
NEAREST, HISTOGRAMS, VOLUMES, KNOWN = "nearest image", "histogram of greys", "volumes of tissues", "known plaintext"


@dataclass(frozen=True)
class SeenProxy:
    """A proxy as the attacker has it. person: whose it is; array, spacing: as sent; deformation: what only its owner
    has, and, of one proxy, an attacker who knows its plaintext."""

    person: int
    array: NDArray[np.uint8]
    spacing: tuple[float, ...]
    deformation: Deformation | None


def make_proxies(
    probes: Sequence[Prepared], strength: float, spectrum: Spectrum | None = None,
    check: Callable[[], None] = lambda: None,
) -> list[SeenProxy]:  # fmt: skip
    """A proxy of each under a new key; strength 0: as they are."""
    out = []
    for person, probe in enumerate(probes):
        check()
        if not strength:
            out.append(SeenProxy(person, probe.array, probe.spacing, None))
            continue
        key = ProxyKey(secrets.token_bytes(32))
        made = Deformation.make(key, probe.digest(key), probe.mask, probe.spacing, strength, spectrum, check)
        out.append(SeenProxy(person, made.warp(probe.array), probe.spacing, made))
    return out


def nearest_image(candidates: Sequence[Prepared], proxies: Sequence[SeenProxy]) -> AnyArray:
    """How alike each proxy is to each candidate: correlation on a coarse cube of their boxes."""
    return cosines([cube(p.array) for p in proxies], [cube(c.array) for c in candidates])


def histograms(candidates: Sequence[Prepared], proxies: Sequence[SeenProxy]) -> AnyArray:
    """The overlap of the histograms of greys, which no deformation changes much."""
    mine, theirs = ([_histogram(v.array) for v in side] for side in (proxies, candidates))
    return np.array([[np.minimum(a, b).sum() for b in theirs] for a in mine])


def volumes(candidates: Sequence[Prepared], proxies: Sequence[SeenProxy], segmenter: Segmenter) -> AnyArray:
    """How near the volumes of tissues are: logarithms, in spreads of the candidates."""
    mine, theirs = (np.array([_volumes(segmenter, v.array, v.spacing) for v in side]) for side in (proxies, candidates))
    spread = theirs.std(axis=0) + 1e-3
    return -np.abs((mine[:, None] - theirs[None]) / spread).sum(axis=-1)


def known_plaintext(candidates: Sequence[Prepared], proxies: Sequence[SeenProxy]) -> AnyArray:
    """One pair of scan and proxy is known, so its deformation is: it is undone on the others, and images compared.

    It helps if scans shared a deformation; here each has its own, even under one key.
    """
    known = proxies[0].deformation
    undone = []
    for proxy in proxies:
        array = proxy.array
        if known is not None:
            there = np.rint(resampled(array, known.shape)).astype(np.uint8)
            array = known.unwarp(there[None])[0]
        undone.append(array)
    return cosines([cube(a) for a in undone], [cube(c.array) for c in candidates])


def all_findings(
    candidates: Sequence[Prepared], probes: Sequence[Prepared], strength: float, *, spectrum: Spectrum | None = None,
    name: str = "learned", segmenter: Segmenter | None = None, check: Callable[[], None] = lambda: None,
) -> list[RecognitionFinding]:  # fmt: skip
    """Every attack of this file on proxies of one strength."""
    proxies = make_proxies(probes, strength, spectrum, check)
    right = [p.person for p in proxies]
    alike = {
        NEAREST: nearest_image(candidates, proxies),
        HISTOGRAMS: histograms(candidates, proxies),
        KNOWN: known_plaintext(candidates, proxies),
    }
    if segmenter is not None:
        alike[VOLUMES] = volumes(candidates, proxies, segmenter)
    out = [finding(attack, strength, name, scores, right) for attack, scores in alike.items() if attack != KNOWN]
    if strength and len(proxies) > 2:  # the known one is not to be found
        out.append(finding(KNOWN, strength, name, alike[KNOWN][1:], right[1:]))
    return out


def cube(volume: AnyArray) -> AnyArray:
    """A coarse copy of a volume as a vector of length 1, without its mean."""
    small = resampled(volume, (_SIDE,) * volume.ndim).ravel()
    small = small - small.mean()
    return np.asarray(small / (np.linalg.norm(small) + 1e-9))


def cosines(rows: Sequence[AnyArray], columns: Sequence[AnyArray]) -> AnyArray:
    """How alike each row is to each column, of vectors of length 1."""
    return np.asarray(np.stack(rows) @ np.stack(columns).T)


def _histogram(volume: AnyArray) -> AnyArray:
    counts = np.histogram(volume[volume > 0], bins=_BINS, range=(0, 256))[0].astype(float)
    return np.asarray(counts / max(1.0, counts.sum()))


def _volumes(segmenter: Segmenter, volume: NDArray[np.uint8], spacing: Sequence[float]) -> AnyArray:
    shares = segmenter.probabilities(volume, spacing)[1:]
    millilitres = shares.reshape(len(shares), -1).sum(axis=1, dtype=np.float64) / 255 * np.prod(spacing) / 1000
    return np.asarray(np.log(millilitres + 1))
