"""Hospital A (party 1) registers its moving image to the fixed image that hospital B serves.

python examples/hospital_a_register.py
python examples/hospital_a_register.py my_image.nrrd --peer hospital-b.example:7443
"""

from __future__ import annotations

import argparse
from pathlib import Path

import PPIRLogic as ppir

SAMPLE = Path(ppir.__file__).parent / "sample_data" / "BrainProtonDensitySliceR10X13Y17S12.png"


def main() -> None:
    options = argparse.ArgumentParser(description="Hospital A: register the moving image to hospital B's.")
    options.add_argument("image", nargs="?", type=Path, default=SAMPLE)
    options.add_argument("--peer", default="127.0.0.1:7443", help="host:port where hospital B serves")
    options.add_argument("--dealer", default="", help="host:port of the dealer: then the protocol is mpc, else fhe")
    options.add_argument("--dealer-fingerprint", default="")
    options.add_argument("--output", type=Path, default=Path("."), help="folder for the transform and the warped image")
    a = options.parse_args()

    moving = ppir.read_volume(a.image)
    peer = ppir.Peer(a.peer, "atlas", a.dealer, a.dealer_fingerprint)
    parameters = ppir.Parameters(transform="affine", loss="ssd", protocol="mpc" if a.dealer else "fhe")
    result = ppir.register(moving, peer, parameters=parameters, progress=tell)

    # The transform maps points of the fixed image to points of the moving image: 3D Slicer and ITK read it.
    ppir.write_transform(result.transform, a.output / "transform.h5")
    ppir.write_volume(result.warp(moving), a.output / "warped.nrrd")
    print(f"Aligned in {result.seconds:.1f} s ({result.stop_reason}).")
    print(f"Hospital A learned {result.numbers} numbers about hospital B's image, hospital B none about A's.")


def tell(progress: ppir.Progress) -> None:
    if progress.stage == "evaluation":
        print(f"level {progress.level}/{progress.levels}  loss {progress.value:.5f}  {progress.numbers} numbers")


if __name__ == "__main__":
    try:
        main()
    except ppir.PPIRError as error:  # says what, where and what to do
        raise SystemExit(f"{error}") from None
