"""What the tests of the module share: two sites, a real peer process, volumes with a known transform between them."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from PPIRLogic.local_processes import Child, Site, make_sites, start
from PPIRLogic.network.trust import TrustStore

if sys.version_info < (3, 12):
    # PySide6 6.12 gives back one reference to None too many at each call without a result. From Python 3.12 on None is
    # immortal; before, a long session would end with "deallocating None".
    ctypes.c_ssize_t.from_address(id(None)).value += 1 << 40

ROOT = Path(__file__).resolve().parents[2]
EXTENSION = ROOT / "PPIRExtension"
MODULE = EXTENSION / "PPIR.py"
TRUTH = sitk.Euler3DTransform((2.0, 1.0, 40.0), 0.05, -0.04, 0.09, (3.0, -2.0, 1.5))


def phantom(size: tuple[int, int, int] = (40, 36, 32)) -> sitk.Image:
    """Smooth blobs of different size and brightness."""
    grids = np.meshgrid(*(np.linspace(-1, 1, n) for n in size[::-1]), indexing="ij")
    rng, out = np.random.default_rng(3), np.zeros(size[::-1], np.float32)
    for _ in range(14):
        centre, width, height = rng.uniform(-0.6, 0.6, 3), rng.uniform(0.12, 0.3), rng.uniform(300, 1000)
        out += height * np.exp(-sum((g - c) ** 2 for g, c in zip(grids, centre, strict=True)) / (2 * width**2))
    image = sitk.GetImageFromArray(out)
    image.SetSpacing((2.0, 1.8, 2.5))
    image.SetOrigin((-40.0, -35.0, 10.0))
    return image


def moved(fixed: sitk.Image) -> sitk.Image:
    """The image that TRUTH (fixed to moving points) registers to `fixed`."""
    return sitk.Resample(fixed, fixed, TRUTH.GetInverse(), sitk.sitkBSpline, 0.0)


FIXED = phantom()
figures: list[str] = []  # what the test run says at its end
MOVING = moved(FIXED)


def add_volume(image: sitk.Image, name: str, node_class: str = "vtkMRMLScalarVolumeNode") -> Any:
    """A volume node that holds an image."""
    import slicer
    from PPIRLib import conversion

    from PPIRLogic.images.volume import Volume

    node = slicer.mrmlScene.AddNewNodeByClass(node_class, name)
    conversion.volume_to_node(Volume.from_sitk(image), node)
    return node


def add(node_class: str, name: str) -> Any:
    import slicer

    return slicer.mrmlScene.AddNewNodeByClass(node_class, name)


def error_mm(node: Any, fixed: sitk.Image) -> float:
    """Largest distance between what a transform node and TRUTH do to the middle of the fixed grid."""
    from PPIRLib import conversion

    found = conversion.initial_from_node(node)
    index = np.stack(np.meshgrid(*(np.linspace(0.2 * n, 0.8 * n, 4) for n in fixed.GetSize())), -1).reshape(-1, 3)
    points = [fixed.TransformContinuousIndexToPhysicalPoint(p) for p in index.tolist()]
    return max(float(np.linalg.norm(np.subtract(found.TransformPoint(p), TRUTH.TransformPoint(p)))) for p in points)


class Sites:
    """Two hospitals that trust each other: A is where the module runs, B serves or calls from a process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        names = ("Hospital A", "Hospital B", "Dealer")
        self.a, self.b, self.dealer = make_sites(folder, names, "Dealer").values()
        self._children: list[Child] = []

    def forget(self, home: Path, fingerprint: str) -> None:
        TrustStore(home).remove(fingerprint)

    def serve(self, image: sitk.Image, *options: str, names: tuple[str, ...] = ("atlas",)) -> str:
        """Hospital B serves an image (under several names); returns its address."""
        path = self.folder / "fixed.mha"
        sitk.WriteImage(image, str(path))
        arguments = [str(path)] * len(names)
        for name in names:
            arguments += ["--name", name]
        return self.start("serve", *arguments, "--listen", "127.0.0.1:0", "--threads", "1", *options).wait_for(
            "listening"
        )["address"]  # fmt: skip

    def deal(self) -> str:
        """A dealer at a third site, whom both hospitals trust; returns its address."""
        return str(self.start("dealer", "--listen", "127.0.0.1:0", site=self.dealer).wait_for("listening")["address"])

    def start(self, *arguments: str, site: Site | None = None) -> Child:
        child = start(arguments[0], (site or self.b).home, *arguments)
        self._children.append(child)
        return child

    def freeze(self) -> None:
        """Hold every process of theirs, so that a run stays where it is, however fast the machine."""
        for child in self._children:
            child.process.send_signal(signal.SIGSTOP)

    def stop(self) -> None:
        while self._children:
            self._children[-1].process.send_signal(signal.SIGCONT)
            self._children.pop().stop()


def children(*words: str) -> list[int]:
    """Processes below this one whose command line has all the words."""
    return [pid for pid in descendants(os.getpid()) if all(w in command_line(pid) for w in words)]


def descendants(parent: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{parent}/task").glob("*/children"):
        for pid in map(int, task.read_text().split()):
            found += [pid, *descendants(pid)]
    return found


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    """Without an event loop."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()
