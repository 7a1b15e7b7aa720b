"""Segmentation at a server, between MRML nodes and `ppir proxy` processes. Holds node IDs, never nodes."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import SimpleITK as sitk
import slicer
import vtk

from PPIRLib import engine
from PPIRLib.run import write_fixed
from PPIRLib.sealing import SealedOutcome, SealedRun

WARNING = "PPIR.ProxyWarning"  # attribute of a segmentation that came from a server


class ProxyRun(SealedRun):
    """Commands of `ppir proxy`."""

    method = "proxy"


def _with_scan(volume: Any, mask: Any, command: Sequence[str], more: Any, take: Any, options: dict[str, Any]) -> Any:
    """A run on a volume; `more(folder)` gives the outputs, `take(outcome, folder)` brings them into the scene."""
    engine.add_to_path()
    folder = Path(tempfile.mkdtemp(prefix="ppir-"))  # 0700
    try:
        file, mask_file = write_fixed(volume, mask, folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    arguments = [command[0], str(file), *command[1:], *(["--mask", str(mask_file)] if mask_file else []), *more(folder)]
    return ProxyRun([arguments], folder=folder, take=lambda outcome: take(outcome, folder), **options)


def preview_run(volume: Any, *, mask: Any = None, strength: str, strip: str, **options: Any) -> ProxyRun:
    """Make the proxy and a picture of it; nothing is sent. InputError: an unusable volume."""

    def take(outcome: SealedOutcome, folder: Path) -> None:
        outcome.pictures["preview"] = (folder / "preview.png").read_bytes()

    command = ["make", "--strength", strength, "--strip", strip]
    return _with_scan(volume, mask, command, lambda folder: ["--preview", str(folder / "preview.png")], take, options)


def segment_run(
    volume: Any,
    peer: str,
    *,
    mask: Any = None,
    strength: str,
    strip: str,
    proxy: str = "",
    model: str = "",
    **options: Any,
) -> ProxyRun:
    """Have a volume segmented; the answer comes as a segmentation node. proxy: send no other than this one."""
    wanted = volume.GetID()

    def take(outcome: SealedOutcome, folder: Path) -> None:
        outcome.volume_id = _into_scene(folder / "labels.nrrd", outcome.last("segmented"), wanted)

    command = ["segment", "--peer", peer, "--strength", strength, "--strip", strip, "--yes"]
    command += ["--only", proxy] if proxy else []
    command += ["--model", model] if model else []
    return _with_scan(volume, mask, command, lambda folder: ["--output", str(folder / "labels.nrrd")], take, options)


def serve_run(address: str, model: str = "", **options: Any) -> ProxyRun:
    """Segment proxies of trusted hospitals until it is stopped. model: its file; empty: the one that is installed."""
    return ProxyRun([["serve", "--listen", address, *(["--model", model] if model else [])]], **options)


def _into_scene(path: Path, said: dict[str, Any], volume_id: str) -> str:
    """Labels as a segmentation node with the tissues' names and colours, on the volume's grid; returns its ID."""
    scene = slicer.mrmlScene
    volume = scene.GetNodeByID(volume_id)
    if volume is None:
        raise RuntimeError("The volume was removed from the scene while it was segmented.")
    labels = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", scene.GenerateUniqueName(f"{volume.GetName()} tissues"))
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    for row in said["labels"]:
        inside = (labels == row["value"]).astype("uint8")
        if inside.any():
            colour = [c / 255 for c in row["colour"]]
            node.AddSegmentFromBinaryLabelmapRepresentation(_oriented(inside, matrix), row["name"], colour)
    node.SetAttribute(WARNING, "made by a network; not for diagnosis")
    return str(node.GetID())


def _oriented(inside: Any, matrix: Any) -> Any:
    from vtk.util.numpy_support import numpy_to_vtk

    image = slicer.vtkOrientedImageData()
    image.SetDimensions(*reversed(inside.reshape((-1, *inside.shape[-2:])).shape))
    image.GetPointData().SetScalars(numpy_to_vtk(inside.ravel(), deep=True, array_type=vtk.VTK_UNSIGNED_CHAR))
    image.SetImageToWorldMatrix(matrix)
    return image
