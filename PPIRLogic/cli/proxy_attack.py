"""The work of `ppir proxy attack`: how often proxies of one's own scans are recognised."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PPIRLogic.cli.common import Interruptible
from PPIRLogic.cli.output import Arguments, say
from PPIRLogic.errors import InputError, OutputError
from PPIRLogic.files import shown_path, write_atomically

if TYPE_CHECKING:
    import numpy as np

    from PPIRLogic.images.volume import Volume
    from PPIRLogic.progress import CancelToken
    from PPIRLogic.proxy.attacks.evidence import RecognitionFinding
    from PPIRLogic.proxy.attacks.scans import SeenProxy
    from PPIRLogic.proxy.preparation import Prepared

_ENDINGS = (".nrrd", ".nii", ".nii.gz", ".mha", ".mhd")
_NOT_SCANS = ("tissue", "label", "mask", "seg")
REGISTERED, ATLAS = "registration of candidates", "atlas registration and comparison"
HEAD = "| attack | spectrum | mm | found (95 % interval) | AUC | persons | proxies |\n|---|---|---|---|---|---|---|\n"
_ROOM = 2**20  # bytes


def run_attack(a: Arguments) -> None:
    from PPIRLogic.proxy.segmentation import Segmenter

    with Interruptible() as run:
        found: list[RecognitionFinding] = []
        for one in _virtual(a, run.token) if a.labels is not None else ():
            found.append(one)
            _show(a, one)
        if a.data is not None:
            candidates, probes = prepared_scans(a, run.token)
            segmenter = Segmenter.shipped() if a.model is None else Segmenter.from_file(a.model)
            for one in findings_on_scans(a, candidates, probes, segmenter, run.token):
                found.append(one)
                _show(a, one)
    if a.output is not None:
        _write(a, found)


def _show(a: Arguments, one: RecognitionFinding) -> None:
    say(a, "attack", f"{one.attack}, {one.spectrum} spectrum, {one.strength_mm:g} mm: {one}", **asdict(one))


# ------------------------------------------------------------------------------------------------------- own scans


def pairs_of(folder: Path, match: str = "") -> list[tuple[Path, Path]]:
    """For each person the first scan and the last by name (the same where there is one): SUBJECT_….nrrd."""
    files = [
        p for p in sorted(folder.glob("*"))
        if p.name.lower().endswith(_ENDINGS) and match in p.name and not any(w in p.name.lower() for w in _NOT_SCANS)
    ]  # fmt: skip
    persons: dict[str, list[Path]] = {}
    for path in files:
        persons.setdefault(path.name.split("_")[0], []).append(path)
    if len(persons) < 3:
        raise InputError(
            f"'{shown_path(folder)}' has scans of {len(persons)} persons; an attack needs at least 3. Name the files"
            " SUBJECT_VISIT.nrrd (or .nii.gz, .mha)."
        )
    return [(scans[0], scans[-1]) for scans in persons.values()]


def prepared_scans(a: Arguments, token: CancelToken) -> tuple[list[Prepared], list[Prepared]]:
    """Candidates and probes, each as it is before it is warped."""
    from PPIRLogic.images.reading import read_volume
    from PPIRLogic.proxy.preparation import prepare

    both: tuple[list[Prepared], list[Prepared]] = ([], [])
    pairs = pairs_of(a.data, a.match)
    for number, pair in enumerate(pairs, 1):
        for side, path in zip(both, pair, strict=True):
            side.append(prepare(read_volume(path), check=token.check))
        _step(a, "brains", number, len(pairs))
    visits = sum(first != last for first, last in pairs)
    say(a, "data", f"{len(pairs)} persons, {visits} of them with another visit", persons=len(pairs), visits=visits)
    return both


def findings_on_scans(
    a: Arguments, candidates: list[Prepared], probes: list[Prepared], segmenter: Any, token: CancelToken
) -> Iterator[RecognitionFinding]:
    """What attacks without training find, by spectrum and strength."""
    from PPIRLogic.proxy.attacks.evidence import finding
    from PPIRLogic.proxy.attacks.scans import all_findings, cosines, cube, make_proxies
    from PPIRLogic.proxy.spectrum import Spectrum

    spectra = {"learned": Spectrum.shipped(), "plain": Spectrum.plain()}
    for name in a.spectra:
        for strength in a.strengths:
            yield from all_findings(
                candidates, probes, strength, spectrum=spectra[name], name=name, segmenter=segmenter, check=token.check
            )
            if a.register:
                proxies = make_proxies(probes, strength, spectra[name], token.check)
                right = [p.person for p in proxies]
                yield finding(REGISTERED, strength, name, _registered(a, candidates, proxies, token), right)
                sides = [_volumes_of(candidates), _volumes_of(proxies)]
                brought = [_in_atlas(a, side, sides[0][0], token) for side in sides]
                alike = cosines([cube(v) for v in brought[1]], [cube(v) for v in brought[0]])
                yield finding(ATLAS, strength, name, alike, right)


def _volumes_of(scans: Sequence[Prepared] | Sequence[SeenProxy]) -> list[Volume]:
    """On grids of their own, the middle at the origin: what the attacker has no position of."""
    import numpy as np

    from PPIRLogic.images.geometry import Geometry
    from PPIRLogic.images.volume import Volume

    out = []
    for scan in scans:
        size = scan.array.shape[::-1]
        origin = tuple(-(n - 1) / 2 * s for n, s in zip(size, scan.spacing, strict=True))
        grid = Geometry(size, scan.spacing, origin, (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))
        out.append(Volume(np.asarray(scan.array, np.float32), grid))
    return out


def _registered(
    a: Arguments, candidates: Sequence[Prepared], proxies: Sequence[SeenProxy], token: CancelToken
) -> np.ndarray[Any, Any]:
    """How alike each proxy is to each candidate once the candidate was registered to it, deformably, in the clear."""
    import numpy as np

    alike = np.zeros((len(proxies), len(candidates)))
    moving = _volumes_of(candidates)
    for i, fixed in enumerate(_volumes_of(proxies)):
        for j, warped in enumerate(_brought(fixed, moving, "diffeo", token)):
            inside = (fixed.array > 0) | (warped > 0)
            alike[i, j] = np.corrcoef(fixed.array[inside], warped[inside])[0, 1]
            _step(a, "registrations", i * len(moving) + j + 1, alike.size)
    return alike


def _in_atlas(a: Arguments, scans: Sequence[Volume], atlas: Volume, token: CancelToken) -> list[np.ndarray[Any, Any]]:
    return list(_brought(atlas, scans, "affine", token))


def _brought(
    fixed: Volume, moving: Sequence[Volume], transform: str, token: CancelToken
) -> Iterator[np.ndarray[Any, Any]]:
    """Each moving image on the grid of the fixed one, after registration by our own engine, in the clear."""
    import numpy as np
    import SimpleITK as sitk

    from PPIRLogic.images.writing import write_volume
    from PPIRLogic.registration.parameters import Parameters
    from PPIRLogic.registration.party1.register import register
    from PPIRLogic.registration.simulate import peers

    deformable: dict[str, Any] = {"iterations": (12, 8)} if transform == "diffeo" else {}
    p = Parameters(
        transform=transform, loss="lncc" if deformable else "ncc", protocol="clear", levels=(4, 2), initial="centres",
        skip_check=True, threads=1, **deformable,
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="ppir-") as name:
        path = Path(name) / "fixed.mha"
        write_volume(fixed, path)
        with peers(path, protocol="clear", threads=1, scratch=Path(name)) as world:
            for image in moving:
                token.check()
                found = register(image, world.peer, parameters=p, home=world.home, cancel=token)
                onto = fixed.to_sitk()
                brought = sitk.Resample(image.to_sitk(), onto, found.transform, sitk.sitkLinear, 0.0)
                yield sitk.GetArrayFromImage(brought).astype(np.float32)


# ------------------------------------------------------------------------------------------------ virtual subjects


def _virtual(a: Arguments, token: CancelToken) -> Iterator[RecognitionFinding]:
    """Identity networks trained anew on virtual subjects of label maps, and judged on those of other maps."""
    from PPIRLogic.proxy.attacks.virtual import virtual_findings
    from PPIRLogic.proxy.spectrum import Spectrum

    spectra = {"learned": Spectrum.shipped(), "plain": Spectrum.plain()}
    yield from virtual_findings(
        a.labels, [(name, spectra[name]) for name in a.spectra], a.strengths, seed=a.seed, steps=a.steps,
        persons=a.persons, check=token.check, progress=lambda what, done, of: _step(a, what, done, of),
    )  # fmt: skip


def _step(a: Arguments, stage: str, done: int, of: int) -> None:
    if a.json:
        say(a, "progress", "", stage=stage, done=done, of=of)
    elif sys.stderr.isatty() or done == of:
        print(f"\r{stage} {done}/{of}    ", end="" if done < of else "\n", file=sys.stderr, flush=True)


def table(found: Sequence[RecognitionFinding]) -> str:
    """One row an attack, in Markdown."""
    return HEAD + "".join(
        f"| {f.attack} | {f.spectrum if f.strength_mm else '–'} | {f.strength_mm:g} | {100 * f.found:.0f} %"
        f" ({100 * f.low:.0f} to {100 * f.high:.0f}) | {f.area:.2f} | {f.persons} | {f.probes} |\n"
        for f in found
    )


def _write(a: Arguments, found: Sequence[RecognitionFinding]) -> None:
    folder: Path = a.output
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"The folder '{shown_path(folder)}' cannot be made: {error.strerror}. Give another --output."
        ) from None
    texts = {
        "attacks.md": "# Attacks on proxies\n\n" + table(found),
        "attacks.json": json.dumps([asdict(f) for f in found], indent=1, ensure_ascii=False) + "\n",
    }
    for name, text in texts.items():
        write_atomically(folder / name, Path(name).suffix, partial(_put, text), _ROOM)
    say(a, "written", f"written  {shown_path(folder)}: {', '.join(texts)}", output=shown_path(folder))


def _put(text: str, part: str) -> None:
    Path(part).write_bytes(text.encode())
