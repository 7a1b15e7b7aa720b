"""Hospital B (party 2) serves its fixed image, under rules of its own, until it is stopped with Ctrl-C.

python examples/hospital_b_serve.py
python examples/hospital_b_serve.py my_image.nrrd --listen 0.0.0.0:7443
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import PPIRLogic as ppir

SAMPLE = Path(ppir.__file__).parent / "sample_data" / "BrainProtonDensitySliceBSplined10.png"


def main() -> None:
    options = argparse.ArgumentParser(description="Hospital B: serve the fixed image.")
    options.add_argument("image", nargs="?", type=Path, default=SAMPLE)
    options.add_argument("--listen", default="127.0.0.1:7443")
    options.add_argument("--dealer", default="", help="host:port of a dealer at a third site, for the protocol mpc")
    options.add_argument("--dealer-fingerprint", default="")
    a = options.parse_args()

    # What is shared, and on what terms. Everything that the policy does not list is refused.
    image = ppir.FixedImage("atlas", ppir.read_volume(a.image))
    policy = ppir.Policy(
        protocols=frozenset({"fhe", "mpc"}),
        losses=frozenset({"ssd", "ncc"}),
        transforms=frozenset({"rigid", "affine"}),
        # The sample is a small slice: what a few runs tell is a larger share of it than of a volume.
        budget=ppir.Budget(percent_per_level=25.0, bits_percent_per_level=100.0, numbers_per_session=1_000),
    )
    shared = ppir.Shared(image, policy, a.dealer, a.dealer_fingerprint)

    try:
        ppir.serve([shared], a.listen, on_event=tell)
    except KeyboardInterrupt:
        print("No longer served.")


def tell(event: dict[str, Any]) -> None:
    """One line for everything that happens; the same is in the audit log."""
    print(event["event"], event.get("address") or event.get("peer", ""), event.get("numbers", ""), flush=True)


if __name__ == "__main__":
    try:
        main()
    except ppir.PPIRError as error:  # says what, where and what to do
        raise SystemExit(f"{error}") from None
