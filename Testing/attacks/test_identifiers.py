"""Whose image it is does not travel: neither what a DICOM file says of the patient, nor the names of files."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from PPIRLogic.images.reading import read_volume
from PPIRLogic.local_processes import make_sites
from PPIRLogic.network.channel import Channel
from PPIRLogic.network.identity import load_or_create_identity
from PPIRLogic.registration.parameters import Parameters
from PPIRLogic.registration.party1.register import register
from PPIRLogic.registration.party2.fixed_image import FixedImage
from PPIRLogic.registration.party2.policy import Policy
from PPIRLogic.registration.party2.server import Server
from PPIRLogic.registration.party2.site import Shared

SECRETS = {"0010|0010": "DOE^JOHN", "0010|0020": "ID-4711", "0008|0080": "Clinic-of-X", "0020|000d": "1.2.826.99.4711"}


def dicom_file(path: Path, seed: int) -> Path:
    """One slice of smooth noise, with all that a file says of its patient."""
    rough = sitk.GetImageFromArray(np.random.default_rng(seed).normal(size=(72, 64)).astype(np.float32))
    image = sitk.JoinSeries(sitk.Cast(5000 * sitk.DiscreteGaussian(rough, 16.0), sitk.sitkInt16))
    for tag, text in {**SECRETS, "0008|0060": "MR", "0020|0037": "1\\0\\0\\0\\1\\0", "0020|0032": "0\\0\\0"}.items():
        image.SetMetaData(tag, text)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    writer.SetFileName(str(path))
    writer.Execute(image)
    return path


def test_no_message_of_either_side_names_the_patient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[bytes] = []
    send = Channel.send

    def recorded(channel: Channel, kind: str, data: dict[str, Any] | None = None, payload: Any = b"") -> None:
        sent.append(kind.encode() + repr(data).encode() + bytes(payload))
        send(channel, kind, data, payload)

    monkeypatch.setattr(Channel, "send", recorded)
    fixed, moving = (read_volume(dicom_file(tmp_path / f"DOE-JOHN-{seed}.dcm", seed)) for seed in (1, 1))
    assert fixed.subject  # it was read
    sites = make_sites(tmp_path / "sites", ("A", "B"))
    shared = Shared(FixedImage("atlas", fixed), Policy())
    server = Server(
        "127.0.0.1:0", load_or_create_identity(sites["B"].home), sites["B"].home, [shared], threads=1
    )  # fmt: skip
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    run = Parameters(
        transform="translation", loss="ssd", levels=(1,), evaluations=3, threads=1, initial="identity", skip_check=True,
    )  # fmt: skip
    try:
        register(moving, str(server.listener.address), home=sites["A"].home, parameters=run)
    finally:
        server.stop()
        thread.join(15)
    everything = b"\n".join(sent)
    assert len(sent) > 20 and b"atlas" in everything
    for word in (*SECRETS.values(), "DOE", "JOHN", "4711", fixed.subject, ".dcm", str(tmp_path)):
        assert word.encode() not in everything, word
