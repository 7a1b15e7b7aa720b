"""A network of the proxy that is made in no time, and label maps of a head that is a few balls."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

GREYS = Path(__file__).with_name("proxy") / "greys.onnx"


def grey_network() -> bytes:
    """ONNX with the shapes of the shipped network: bands of grey to classes, softly. What `made_anew` makes."""
    return GREYS.read_bytes()


def made_anew() -> bytes:
    """The bytes of the file, by the package that the extra `train` brings."""
    from onnx import TensorProto, helper, numpy_helper

    middles = np.array([0.0, 0.5, 0.8, 0.65, 0.2, 2.0, 3.0])  # background, grey, white, deep, ventricles, none, none
    weight = (80 * middles).astype(np.float32).reshape(-1, 1, 1, 1, 1)
    bias = (-40 * middles**2).astype(np.float32)
    sides: list[str | int | None] = ["z", "y", "x"]
    graph = helper.make_graph(
        [helper.make_node("Conv", ["volume", "weight", "bias"], ["logits"])], "greys",
        [helper.make_tensor_value_info("volume", TensorProto.FLOAT, [1, 1, *sides])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, len(middles), *sides])],
        [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(bias, "bias")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="PPIR")
    return model.SerializeToString(deterministic=True)


def write_label_maps(folder: Path, count: int = 3) -> Path:
    """FreeSurfer's numbers on 2 mm: a ball of cortex, white matter in it, ventricles and deep nuclei, skin around."""
    z, y, x = np.mgrid[-30:30, -34:34, -28:28]
    for n in range(count):
        r = np.sqrt((z / (1 + 0.04 * n)) ** 2 + (y / 1.15) ** 2 + x**2)
        labels = np.where(r < 27, 511, 0)
        for radius, label in ((23, 24), (22, 3), (18, 2), (8, 10), (4, 4)):
            labels = np.where(r < radius, label, labels)
        image = sitk.GetImageFromArray(labels.astype(np.int16))
        image.SetSpacing((2.0, 2.0, 2.0))
        sitk.WriteImage(image, str(folder / f"subject{n:02d}_labels.nrrd"), True)
    return folder
