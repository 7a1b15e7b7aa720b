"""Training the segmentation network (optional torch) on synthetic scans and their proxies, and writing it as ONNX."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from PPIRLogic.proxy.train_networks import autocast, overlap_loss, segmentation_network
from PPIRLogic.proxy.train_scans import CLASSES, SPACING_MM, Scanner
from PPIRLogic.proxy.train_state import keep, take_up
from PPIRLogic.proxy.train_warps import basis, exponential, spline

_SIDES = ((48, 64), (64, 80), (48, 64))  # voxels of a patch, z, y, x
STATE = "segmentation.npz"
_RATE = 2e-3
_KEEP_EVERY = 50  # steps
_SCALES = (112.0, 72.0, 44.0, 28.0)  # mm, of the warps that the network is taught to bear
_PARTS = (0.6, 1.0, 0.7, 0.35)
_STRONGEST = 13.0  # mm, rms of a component
_COARSE = 2  # voxels of the grid on which a velocity is squared


def draw(scanner: Scanner, rng: Any) -> tuple[Any, Any]:
    """A patch (z, y, x) of a synthetic proxy, greys 0 to 1, and its classes."""
    torch = scanner.torch
    u = lambda *s: torch.rand(*s, generator=rng)  # noqa: E731
    shape = tuple(sides[int(torch.randint(len(sides), (1,), generator=rng))] for sides in _SIDES)
    number = int(torch.randint(len(scanner.maps), (1,), generator=rng))
    room = (torch.tensor(scanner.maps[number].shape[:1:-1]) - torch.tensor(shape[::-1])) * SPACING_MM
    points = scanner.grid(shape) + (u(3) - 0.5) * (room + 24).clamp_min(8)
    if float(u(1)) < 0.65:
        points = points + _warp(scanner, rng, shape, _STRONGEST * float(u(1)))
    points = points @ scanner.pose(rng).T
    if float(u(1)) < 0.5:
        points = points * torch.tensor([-1.0, 1.0, 1.0])
    tissues = scanner.tissues(number, points)
    picture = scanner.image(rng, tissues, scanner.means(rng))
    return scanner.extracted(rng, picture, tissues)


def _warp(scanner: Scanner, rng: Any, shape: tuple[int, ...], strength: float) -> Any:
    """Displacements (z, y, x, 3) in mm of a random mixture of scales."""
    torch = scanner.torch
    coarse = [n // _COARSE for n in shape]
    spacing = SPACING_MM * _COARSE
    velocity = torch.zeros(1, 3, *coarse)
    for scale, part in zip(_SCALES, _PARTS, strict=True):
        bases = [basis(torch, n, spacing, scale, beyond=1) for n in coarse]
        points = torch.randn(1, 3, *(b.shape[1] for b in bases), generator=rng)
        field = spline(torch, points, bases)
        velocity = velocity + field * (part * torch.rand(1, generator=rng) / field.square().mean().sqrt())
    velocity = velocity * (strength / velocity.square().mean().sqrt())
    return scanner.enlarged(exponential(torch, velocity, spacing)[0], shape).movedim(0, -1)


def train_segmentation(
    scanner: Scanner,
    *,
    seed: int,
    steps: int,
    kept: Path,
    progress: Callable[[int, float], None],
    check: Callable[[], None],
) -> Any:
    """The trained network. Each step draws from a generator of its own, so that a stopped training goes on exactly.

    kept: folder where the state is kept, and taken up again.
    progress: told the steps done and the mean loss.
    """
    torch = scanner.torch
    torch.manual_seed(seed)
    network = segmentation_network(torch, len(CLASSES))
    optimiser = torch.optim.Adam(network.parameters(), lr=_RATE)
    mean = 2.0
    for step in range(take_up(torch, kept / STATE, network, optimiser), steps):
        check()
        optimiser.param_groups[0]["lr"] = _rate(step, steps)
        rng = torch.Generator().manual_seed((seed << 32) + step)
        scan, classes = draw(scanner, rng)
        with autocast(torch):
            logits = network(scan[None, None])
        loss = overlap_loss(torch, logits, classes[None])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if (step + 1) % _KEEP_EVERY == 0 or step + 1 == steps:
            keep(kept / STATE, step + 1, network, optimiser)
        mean += 0.03 * (float(loss.detach()) - mean)
        progress(step + 1, mean)
    return network


def _rate(step: int, steps: int) -> float:
    """Rises over 40 steps, then falls to nought along a cosine."""
    return _RATE * min(1.0, (step + 1) / 40) * 0.5 * (1 + math.cos(math.pi * step / steps))


def as_onnx(torch: Any, network: Any) -> bytes:
    """The network as a graph from a volume (1, 1, z, y, x) to logits (1, classes, z, y, x), weights in 16 bits."""
    import onnx
    from onnx import TensorProto, helper

    graph = _Graph()
    fine = graph.layers(torch, network, "fine", "volume")
    first = graph.layers(torch, network, "first", fine)
    second = graph.layers(torch, network, "second", first)
    third = graph.layers(torch, network, "third", second)
    up = graph.layers(torch, network, "second_up", graph.joined(second, third, "join_8"))
    up = graph.layers(torch, network, "first_up", graph.joined(first, up, "join_4"))
    out = graph.layers(torch, network, "fine_up", graph.joined(fine, up, "join_2"))
    graph.nodes.append(helper.make_node("Identity", [out], ["logits"]))
    sides: list[str | int | None] = ["z", "y", "x"]
    whole = helper.make_graph(
        graph.nodes, "segmentation",
        [helper.make_tensor_value_info("volume", TensorProto.FLOAT, [1, 1, *sides])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, len(CLASSES), *sides])], graph.weights,
    )  # fmt: skip
    model = helper.make_model(whole, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="PPIR")
    helper.set_model_props(model, {"classes": ", ".join(CLASSES), "spacing_mm": f"{SPACING_MM:g}", "version": "1"})
    onnx.checker.check_model(model)
    return model.SerializeToString(deterministic=True)


class _Graph:
    """Nodes and weights of an ONNX graph as they are added."""

    def __init__(self) -> None:
        from onnx import numpy_helper

        self.nodes: list[Any] = []
        self.weights: list[Any] = [numpy_helper.from_array(np.array([1, 1, 2, 2, 2], np.float32), "twice")]

    def weight(self, name: str, values: Any) -> str:
        from onnx import TensorProto, helper, numpy_helper

        array = values.detach().float().contiguous().numpy().astype(np.float16)
        self.weights.append(numpy_helper.from_array(array, f"{name}_16"))
        self.nodes.append(helper.make_node("Cast", [f"{name}_16"], [name], to=TensorProto.FLOAT))
        return name

    def layers(self, torch: Any, network: Any, part: str, x: str) -> str:
        """A part of the network after x; what it gives."""
        from onnx import helper

        for number, layer in enumerate(getattr(network, part)):
            name = f"{part}_{number}"
            if isinstance(layer, torch.nn.Conv3d):
                inputs = [x, self.weight(f"{name}_w", layer.weight)]
                inputs += [self.weight(f"{name}_b", layer.bias)] if layer.bias is not None else []
                attributes: dict[str, Any] = {"pads": [layer.kernel_size[0] // 2] * 6, "strides": list(layer.stride)}
                node = helper.make_node("Conv", inputs, [name], **attributes)
            elif isinstance(layer, torch.nn.BatchNorm3d):
                inputs = [x, self.weight(f"{name}_w", layer.weight), self.weight(f"{name}_b", layer.bias)]
                node = helper.make_node("InstanceNormalization", inputs, [name], epsilon=layer.eps)
            else:
                node = helper.make_node("Relu", [x], [name])
            self.nodes.append(node)
            x = name
        return x

    def joined(self, fine: str, coarse: str, name: str) -> str:
        """Channels of two grids, the coarse one doubled."""
        from onnx import helper

        how = {"mode": "nearest", "nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}
        self.nodes.append(helper.make_node("Resize", [coarse, "", "twice"], [f"{name}_up"], **how))
        self.nodes.append(helper.make_node("Concat", [fine, f"{name}_up"], [name], axis=1))
        return name
