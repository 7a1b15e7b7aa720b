"""A proxy as a file, for who sends it by other means, and what its site keeps beside it to bring an answer back.

The image is what a server may have: 8 bits, spacing, no place, no orientation. The record beside it (FILE.json, 0600)
stays at the site: it names the key, the strength and the draw, so that a wrong key is told before anything is undone.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from PPIRLogic.disclosure.record_file import on_disk
from PPIRLogic.errors import InputError
from PPIRLogic.files import read_bounded, shown_path, write_private_file
from PPIRLogic.images.writing import write_volume
from PPIRLogic.proxy.deformation import strength_mm
from PPIRLogic.proxy.keys import ProxyKey
from PPIRLogic.proxy.party1 import Proxy

_MAX_RECORD = 64 * 1024  # bytes


@dataclass(frozen=True)
class ProxyRecord:
    """How a proxy was made. key: its id. proxy: half of its SHA-256, hex. spectrum: digest of the generator's table."""

    key: str
    proxy: str
    strength_mm: float
    strip: str
    draw: int
    spectrum: str

    def check(self, key: ProxyKey, spectrum: str) -> None:
        """InputError: another key, or another table of amplitudes, than the proxy was made with."""
        if key.id != self.key:
            raise InputError(
                f"The proxy was made under the key {self.key}, and this one is {key.id}. Give the right one (--key)."
                " If it is lost, nothing brings this answer back; have the scan segmented again, and know that the"
                " server then has two proxies of it."
            )
        if spectrum != self.spectrum:
            raise InputError(
                f"The proxy was made with the generator {self.spectrum[:12]}…, and this program has {spectrum[:12]}…."
                " Install the release of PPIRExtension that made it."
            )


def record_file(path: Path) -> Path:
    """Where the record of a proxy's file lies."""
    return path.with_name(f"{path.name}.json")


def record_of(proxy: Proxy, key: ProxyKey, spectrum: str) -> ProxyRecord:
    """What is kept of a proxy."""
    d = proxy.deformation
    return ProxyRecord(key.id, proxy.id, d.strength, proxy.prepared.strip, d.draw, spectrum)


def write_proxy(proxy: Proxy, record: ProxyRecord, path: Path) -> None:
    """The image, and the record beside it. OutputError: one cannot be written."""
    image = sitk.GetImageFromArray(proxy.array, isVector=False)
    image.SetSpacing(proxy.prepared.spacing)
    write_volume(image, path)
    data = (json.dumps(asdict(record), indent=2) + "\n").encode()
    on_disk(lambda: write_private_file(record_file(path), data), "no proxy is made")


def read_record(path: Path) -> ProxyRecord:
    """The record beside a proxy's file. InputError: missing, damaged, or of something else."""
    file = record_file(path)
    try:
        found: Any = json.loads(read_bounded(file, _MAX_RECORD))
        record = ProxyRecord(
            str(found["key"]), str(found["proxy"]), strength_mm(float(found["strength_mm"])), str(found["strip"]),
            int(found["draw"]), str(found["spectrum"]),
        )  # fmt: skip
    except OSError as error:
        raise InputError(
            f"The record of the proxy, {shown_path(file)}, cannot be read: {error.strerror}. It lies where the proxy"
            " was made."
        ) from None
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{shown_path(file)} is not the record of a proxy, or is damaged.") from None
    return record


def unwarp_labels(proxy: Proxy, labels: NDArray[Any]) -> NDArray[np.uint8]:
    """Labels (0 to 255) of the proxy's grid on the scan's own grid: at each voxel the one with the most weight."""
    if labels.shape != proxy.array.shape:
        raise InputError(
            f"The segmentation has the array shape {labels.shape}, and the proxy {proxy.array.shape}: it is of another"
            " proxy, or of another scan."
        )
    values = np.unique(labels)
    if (labels.dtype.kind == "f" and (values != np.rint(values)).any()) or values[0] < 0 or values[-1] > 255:
        raise InputError("A segmentation holds whole numbers from 0 to 255. Give labels, not probabilities.")
    best = np.zeros(labels.shape, np.uint8)
    most = np.zeros(labels.shape, np.uint8)
    for value in values:
        share = proxy.deformation.unwarp((255 * (labels == value)).astype(np.uint8)[None])[0]
        better = share > most
        best[better], most[better] = int(value), share[better]
    return np.asarray(proxy.prepared.onto_scan(best))
