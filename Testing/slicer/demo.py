"""The demonstration in Slicer's terms: the same image pairs through the module's logic, in a real MRML scene.

    python Testing/slicer/demo.py --output demo-output

Party 2 is a `ppir serve` process for each pair; party 1 is what the module starts. Leaves pictures of the slice views
before and after, and the scene as demo.mrb, which is loaded again and compared before this says that all is well.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import host
import numpy as np
import ppir_support as support
import slicer
import slicer.util

from PPIRLogic.cli.demo import DATA, PAIRS, Pair
from PPIRLogic.images.reading import read_volume
from PPIRLogic.registration.simulate import peers
from PPIRLogic.report.slices import window_of
from PPIRLogic.transforms import read_transform
from PPIRLogic.transforms.distances import rms_displacement

SAMPLES = support.EXTENSION / "Resources" / "SampleData"
NRRD = {  # slicer-core reads no PNG files; the module's own sample data are the same two slices
    "BrainProtonDensitySliceBSplined10.png": SAMPLES / "PPIRBrainFixed.nrrd",
    "BrainProtonDensitySliceR10X13Y17S12.png": SAMPLES / "PPIRBrainMoving.nrrd",
}
COARSE = {"lung3d": {"levels": "4,2"}}  # the finest level takes a minute, and `ppir demo` shows it
ORIENTATION = {"brain2d": ("Red", "Axial", (330, 384)), "lung3d": ("Green", "Coronal", (330, 600))}


class Scene:
    """The scene of one pair: its volumes, the transform that the module made, and the view that shows them."""

    def __init__(self, pair: Pair, logic: Any) -> None:
        self.pair, self.logic = pair, logic
        self.fixed, self.moving = (
            self._load(name, role) for name, role in ((pair.fixed, "fixed"), (pair.moving, "moving"))
        )
        self.transform: Any = None
        view, orientation, self._size = ORIENTATION[pair.name]
        self.view = host.SliceView(view, orientation)
        for volume, colour in ((self.fixed, "Green"), (self.moving, "Magenta")):
            host.coloured(volume, colour, window_of(slicer.util.arrayFromVolume(volume).astype(np.float32)))
        self.view.show(self.fixed, self.moving, compositing=slicer.vtkMRMLSliceCompositeNode.Add, opacity=1.0)

    def _load(self, name: str, role: str) -> Any:
        return slicer.util.loadVolume(str(NRRD.get(name, DATA / name)), {"name": f"{self.pair.name} {role}"})

    def register(self) -> dict[str, Any]:
        """Press the module through its logic, as at Slicer's console; returns the last progress event."""
        options = {
            k.removeprefix("--"): v for k, v in zip(self.pair.arguments[::2], self.pair.arguments[1::2], strict=True)
        }
        seen: list[dict[str, Any]] = []
        with peers(DATA / self.pair.fixed, protocol="fhe") as world:
            self.transform = self.logic.register(
                self.moving,
                world.peer.address,
                home=world.home,
                protocol="fhe",
                onProgress=seen.append,
                **options,
                **COARSE.get(self.pair.name, {}),
            )
        return next(event for event in reversed(seen) if "numbers" in event)

    def picture(self, path: Path) -> Path:
        self.view.save(path, *self._size)
        return path

    def remark(self, output: Path) -> str:
        """How far the module's transform is from that of `ppir demo`, if it ran before; both are fhe runs."""
        if self.pair.name in COARSE:
            return " (without the finest level)"
        file = output / f"{self.pair.name}_fhe.h5"
        if not file.exists():
            return ""
        from PPIRLib import conversion

        geometry = read_volume(DATA / self.pair.fixed, role="fixed").geometry
        found = conversion.initial_from_node(self.transform, geometry.dimension)
        return f", {rms_displacement(found, read_transform(file), geometry):.1e} mm RMS from the transform above"


def run(output: Path, pairs: tuple[Pair, ...] = PAIRS) -> Path:
    """Run the pairs, leave pictures and demo.mrb in `output`; returns the bundle's path."""
    output.mkdir(parents=True, exist_ok=True)
    logic = host.load_module(support.MODULE).source.PPIRLogic()
    print("\nThe same pairs through the Slicer module, fhe:", flush=True)
    for pair in pairs:
        started, scene = time.monotonic(), Scene(pair, logic)
        with tempfile.TemporaryDirectory() as folder:
            before = scene.picture(Path(folder, "before.png"))
            last = scene.register()
            after = scene.picture(Path(folder, "after.png"))
            host.side_by_side(
                [("before: fixed green, moving magenta", before), ("after: grey where they agree", after)],
                output / f"{pair.name}_slicer.png",
            )
        words = f"{time.monotonic() - started:.1f} s, {last['numbers']} numbers disclosed"
        print(f"  {pair.title}: {words}{scene.remark(output)}", flush=True)
    bundle = output.resolve() / "demo.mrb"  # MRML takes a bundle's path relative to a folder of its own
    save_and_compare(bundle)
    print(f"  pictures {', '.join(f'{p.name}_slicer.png' for p in pairs)} and the scene {bundle.resolve()}")
    return bundle


def save_and_compare(bundle: Path) -> None:
    """Save the scene, load it again, and make sure that nothing of it is lost."""
    saved = contents()
    bundle.unlink(missing_ok=True)
    host.save_scene(bundle)
    host.clear_scene()
    host.load_scene(bundle)
    loaded = contents()
    if lost := [name for name in saved if not same(saved[name], loaded.get(name))]:
        raise SystemExit(f"{bundle} was saved, but these came back changed or not at all: {', '.join(lost)}")


def contents() -> dict[str, Any]:
    """Voxels and parents of the volumes, matrices of the transforms, texts of the reports, by node name."""
    found: dict[str, Any] = {}
    for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"):
        parent = node.GetParentTransformNode()
        found[node.GetName()] = slicer.util.arrayFromVolume(node).copy()
        found[f"parent of {node.GetName()}"] = parent.GetName() if parent is not None else ""
    for node in slicer.util.getNodesByClass("vtkMRMLLinearTransformNode"):
        if node.GetHideFromEditors():
            continue  # the slice views' own
        found[node.GetName()] = slicer.util.arrayFromTransformMatrix(node)
    for node in slicer.util.getNodesByClass("vtkMRMLTextNode"):
        found[node.GetName()] = node.GetText()
    return found


def same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray):
        return other is not None and np.shape(one) == np.shape(other) and bool(np.allclose(one, other, atol=1e-9))
    return bool(one == other)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="The demonstration through the Slicer module.")
    parser.add_argument("--output", type=Path, default=Path("demo-output"))
    run(parser.parse_args().output)
