"""The work of `ppir proxy`: key, make, unmake, segment."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PPIRLogic.cli.common import Interruptible, home_of, peer_address
from PPIRLogic.cli.output import Arguments, note, say
from PPIRLogic.errors import InputError, OutputError
from PPIRLogic.files import shown_path, split_extension

_WORDS = {
    "preparing": "preparing and deforming the scan …", "sending": "sending the proxy …",
    "segmenting": "the other site segments …", "waiting": "waiting for the other site …",
    "reconnecting": "the line was lost; calling again …",
}  # fmt: skip


def run_key(a: Arguments) -> None:
    from PPIRLogic.proxy.keys import key_file, make_key

    path = a.key or key_file(home_of(a))
    key = make_key(path, new=a.new)
    text = f"key  {shown_path(path)}\nid   {key.id}\nKeep a copy where a fire here does not reach; send it to nobody."
    say(a, "key", text, file=str(path), id=key.id)


def run_make(a: Arguments) -> None:
    from PPIRLogic.proxy.party1 import consent_to
    from PPIRLogic.proxy.proxy_file import record_of, write_proxy
    from PPIRLogic.proxy.spectrum import Spectrum
    from PPIRLogic.report.proxy import preview

    if a.output is None and a.preview is None:
        raise InputError("Give --output for the proxy, or --preview for a picture of it.")
    if a.output is not None:
        split_extension(a.output, (".nrrd", ".mha", ".nii.gz"))
    with Interruptible(a) as run:
        made = _made(a, run.token.check)
        consent = consent_to(made, a.peer_name or "the site that segments")
        if a.output is not None:
            write_proxy(made, record_of(made, _key(a), Spectrum.shipped().digest), a.output)
        if a.preview is not None:
            _write(a.preview, preview(consent))
    d = made.deformation
    text = (
        f"proxy     {made.id}\nstrength  {d.strength:g} mm rms, smallest Jacobian determinant"
        f" {d.smallest_jacobian():.2f}\n{consent.warning}"
    )
    say(
        a, "proxy", text, proxy=made.id, strength_mm=d.strength, draw=d.draw, strip=made.prepared.strip,
        bits=consent.bits, warning=consent.warning, output=str(a.output or ""), preview=str(a.preview or ""),
    )  # fmt: skip


def _key(a: Arguments) -> Any:
    from PPIRLogic.proxy.keys import load_key, load_or_make_key

    return load_key(a.key) if a.key is not None else load_or_make_key(home_of(a))


def _read(a: Arguments) -> tuple[Any, Any]:
    """The scan, and the mask where one was given."""
    from PPIRLogic.images.reading import read_mask, read_volume

    volume = read_volume(a.scan, role="given")
    return volume, read_mask(a.mask, volume) if a.mask is not None else None


def _made(a: Arguments, check: Callable[[], None]) -> Any:
    from PPIRLogic.proxy.party1 import make

    volume, mask = _read(a)
    return make(volume, strength=a.strength, mask=mask, strip=a.strip, key=_key(a), home=home_of(a), check=check)


def run_unmake(a: Arguments) -> None:
    import SimpleITK as sitk

    from PPIRLogic.images.reading import read_volume
    from PPIRLogic.images.writing import write_volume
    from PPIRLogic.proxy.keys import key_file, load_key
    from PPIRLogic.proxy.party1 import make
    from PPIRLogic.proxy.proxy_file import read_record, unwarp_labels
    from PPIRLogic.proxy.spectrum import Spectrum

    record = read_record(a.proxy)
    key = load_key(a.key or key_file(home_of(a)))
    record.check(key, Spectrum.shipped().digest)
    with Interruptible(a) as run:
        volume, mask = _read(a)
        strip = "brain" if record.strip == "mask" else record.strip
        if (record.strip == "mask") != (mask is not None):
            raise InputError("The proxy was made with a mask: give it (--mask)." if mask is None else _NO_MASK)
        made = make(volume, strength=record.strength_mm, mask=mask, strip=strip, key=key, check=run.token.check)
        if made.id != record.proxy:
            raise InputError(
                f"'{shown_path(a.scan)}' is not the scan (or the mask not the mask) that the proxy was made of: it"
                f" gives the proxy {made.id}, and not {record.proxy}."
            )
        labels = unwarp_labels(made, read_volume(a.file, role="given").array)
        image = sitk.GetImageFromArray(labels, isVector=False)
        volume.geometry.stamp(image)
        write_volume(image, a.output)
    say(a, "unmade", f"labels on the scan's grid  {a.output}", output=str(a.output), proxy=made.id)


_NO_MASK = "The proxy was made without a mask: give none."


# -------------------------------------------------------------------------------------------------- segment


def run_segment(a: Arguments) -> None:
    from PPIRLogic.proxy.party1 import segment
    from PPIRLogic.report.proxy import write_report

    split_extension(a.output, (".nrrd", ".mha", ".nii.gz"))
    if not a.yes and (a.json or a.with_parent or not sys.stdin.isatty()):
        raise InputError(
            "There is nobody to ask whether the proxy may be sent. Look at it first (ppir proxy make --preview"
            " look.png), then give --yes."
        )
    asked = _Person(a)
    with Interruptible(a) as run:
        volume, mask = _read(a)
        found = segment(
            volume, peer_address(a), consent=asked, strength=a.strength, mask=mask, strip=a.strip, model=a.model,
            key=_key(a), home=home_of(a), check=run.token.check, tell=_teller(a),
        )  # fmt: skip
        found.write(a.output)
        if a.report is not None:
            write_report(found, asked.consent, a.report)
    rows = [f"  {name:<24}{ml:>10.1f} ml" for name, ml in found.volumes_ml().items()]
    page = f"\nreport   {a.report / 'report.html'}" if a.report is not None else ""
    text = "\n".join([f"labels   {a.output}", *rows]) + page
    say(a, "segmented", text, **{**found.to_dict(), "labels": _labels(found)}, output=str(a.output))


def _labels(found: Any) -> list[dict[str, Any]]:
    from PPIRLogic.proxy.segmentation_result import colour_of

    return [{"value": i, "name": n, "colour": colour_of(i)} for i, n in enumerate(found.names) if i > 0]


class _Person:
    """Shows what would be sent, and asks at the terminal; `consent` is what was shown last."""

    def __init__(self, a: Arguments) -> None:
        self._a = a
        self.consent: Any = None

    def __call__(self, consent: Any) -> bool:
        from PPIRLogic.proxy.messages import digest_of
        from PPIRLogic.report.proxy import preview

        a, self.consent = self._a, consent
        made = digest_of(consent.proxy).hex()[:32]
        if a.only and made != a.only:
            raise InputError(
                f"The scan gives the proxy {made}, and not {a.only}, which was looked at. Nothing was sent."
            )
        if a.preview is not None:
            _write(a.preview, preview(consent))
        if a.yes:
            return True
        looked = f"\nLook at {a.preview} first." if a.preview is not None else " (--preview writes a picture of it.)"
        print(
            f"\nThe proxy {made} would be sent to {consent.peer}.\n{consent.warning}{looked}",
            file=sys.stderr,
            flush=True,
        )
        try:
            print("Send it? [y/N] ", end="", file=sys.stderr, flush=True)
            return input().strip().lower() in ("y", "yes")
        except EOFError:
            return False


def _teller(a: Arguments) -> Callable[[str, int, int], None]:
    last = ""

    def tell(stage: str, done: int, total: int) -> None:
        nonlocal last
        if a.json:
            say(a, "progress", "", stage=stage, done=done, total=total)
        elif stage in _WORDS and stage != last:
            note(a, _WORDS[stage])
        last = stage

    return tell


def _write(path: Path, data: bytes) -> None:
    """A picture. OutputError: not writable."""
    split_extension(path, (".png",))
    try:
        path.write_bytes(data)
    except OSError as error:
        raise OutputError(f"Cannot write '{shown_path(path)}': {error.strerror}.") from None
