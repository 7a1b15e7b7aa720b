"""The work of `ppir proxy demo`: a hospital has a scan segmented at a site that sees only its proxy."""

from __future__ import annotations

from PPIRLogic.cli.output import Arguments, print_line
from PPIRLogic.errors import OutputError
from PPIRLogic.files import shown_path


def run_demo(a: Arguments) -> None:
    from PPIRLogic.images.reading import read_volume
    from PPIRLogic.proxy.both_sites import simulate
    from PPIRLogic.proxy.party1 import Consent
    from PPIRLogic.report.proxy import write_report

    try:
        a.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"The folder {shown_path(a.output)} cannot be made: {error.strerror}.") from None
    volume = read_volume(a.scan, role="given")
    for strength in ("low", "medium", "high"):
        asked: list[Consent] = []

        def consent(shown: Consent, asked: list[Consent] = asked) -> bool:
            asked.append(shown)
            return True

        found = simulate(volume, strength, model=a.model, consent=consent)
        found.write(a.output / f"{strength}.nrrd")
        page = write_report(found, asked[0], a.output / strength)
        volumes = ", ".join(f"{name} {ml:.0f} ml" for name, ml in found.volumes_ml().items())
        print_line(f"{strength:<7} {volumes}\n        {page}")
    print_line(asked[0].warning)
