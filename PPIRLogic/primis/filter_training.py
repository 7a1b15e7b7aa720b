"""Training the post-filter (optional torch), and writing it as ONNX: on decoded pictures against what was wanted."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.errors import InputError, MissingDependencyError
from PPIRLogic.primis.post_filter import step_number

WIDTH = 32  # channels
_PATCH, _BATCH = 96, 12
_RATE = 1e-3
_WARM = 50  # steps until that rate: at once it is too much for weights that begin at nought, and the network dies
_KEEP_EVERY = 100  # steps


def torch_module() -> Any:
    """torch, or an error that says how to get it."""
    try:
        import onnx  # noqa: F401
        import torch
    except ImportError:
        raise MissingDependencyError(
            "Training needs the packages torch and onnx: pip install 'PPIRExtension[primis,train]'."
        ) from None
    return torch


def _network(torch: Any) -> Any:
    nn = torch.nn
    layers = []
    for inside, outside in ((5, WIDTH), (WIDTH, WIDTH), (WIDTH, WIDTH), (WIDTH, 4)):
        layers += [nn.Conv2d(inside, outside, 3, padding=1), nn.ReLU()]
    network = nn.Sequential(*layers[:-1])
    nn.init.zeros_(network[-1].weight)  # begins as no filter at all
    nn.init.zeros_(network[-1].bias)
    return network


def _filtered(torch: Any, network: Any, pictures: Any, told: Any) -> Any:
    small = torch.nn.functional.pixel_unshuffle(pictures, 2)
    with_step = torch.cat([small, told.expand(-1, 1, *small.shape[2:])], dim=1)
    return pictures + torch.nn.functional.pixel_shuffle(network(with_step), 2)


def train_filter(
    decoded: Sequence[Sequence[NDArray[np.float32]]],
    wanted: Sequence[NDArray[np.float32]],
    steps: Sequence[float],
    *,
    seed: int,
    rounds: int,
    kept: Path,
    progress: Callable[[int, float], None],
    check: Callable[[], None],
) -> bytes:
    """The trained filter, as ONNX.

    decoded: by level, then by group of pictures (n, y, x), 1 being the full range; wanted: the same groups; steps: of
    the levels, in 255ths of the range; kept: where the state is kept, and taken up again. One thread, so that the same
    seed gives the same bytes on a machine.
    """
    torch = torch_module()
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    network = _network(torch)
    optimiser = torch.optim.Adam(network.parameters(), lr=_RATE)
    rng = np.random.default_rng(seed)
    errors = [np.mean([np.mean((d - w) ** 2) for d, w in zip(level, wanted, strict=True)]) for level in decoded]
    shares = np.array([w.size for w in wanted], float) / sum(w.size for w in wanted)
    first = _take_up(torch, network, optimiser, kept, rng)
    for round_ in range(first, rounds):
        check()
        optimiser.param_groups[0]["lr"] = _rate(round_, rounds)
        given, goal, levels = _batch(rng, decoded, wanted, shares)
        told = torch.tensor([step_number(steps[i]) for i in levels], dtype=torch.float32)[:, None, None, None]
        weight = torch.tensor([1 / max(errors[i], 1e-9) for i in levels], dtype=torch.float32)
        out = _filtered(torch, network, torch.from_numpy(given), told)
        loss = (((out - torch.from_numpy(goal)) ** 2).mean(dim=(1, 2, 3)) * weight).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if (round_ + 1) % _KEEP_EVERY == 0:
            _keep(network, optimiser, kept, round_ + 1, rng)
        progress(round_ + 1, float(loss.detach()))
    if rounds > _WARM and _is_dead(torch, network, _batch(rng, decoded, wanted, shares)[0]):
        raise InputError("The filter's training came to nothing: it changes no picture. Train with another seed.")
    return as_onnx([(c.weight.detach().numpy(), c.bias.detach().numpy()) for c in network if hasattr(c, "weight")])


def _is_dead(torch: Any, network: Any, pictures: NDArray[np.float32]) -> bool:
    """Whether a network adds the same to all there is: then its last layer gets zeros alone."""
    given = torch.from_numpy(pictures)
    with torch.no_grad():
        change = _filtered(torch, network, given, torch.full((len(pictures), 1, 1, 1), 0.7)) - given
        return float(change.std(dim=(0, 2, 3)).max()) < 1e-4


def _rate(round_: int, rounds: int) -> float:
    """Of a step: rises in a line, and falls as half a cosine."""
    falling = _RATE * 0.5 * (1 + np.cos(np.pi * round_ / rounds)) + 1e-5
    return float(falling * min(1.0, (round_ + 1) / _WARM))


def _batch(
    rng: np.random.Generator, decoded: Sequence[Sequence[NDArray[np.float32]]], wanted: Sequence[NDArray[np.float32]],
    shares: NDArray[np.float64],
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:  # fmt: skip
    """Patches of all levels in turn, turned and mirrored."""
    levels = np.arange(_BATCH) % len(decoded)
    pairs = []
    for level in levels:
        group = int(rng.choice(len(wanted), p=shares))
        picture = int(rng.integers(len(wanted[group])))
        size = min(_PATCH, *(n // 2 * 2 for n in wanted[group].shape[1:]))
        y, x = (int(rng.integers(n - size + 1)) for n in wanted[group].shape[1:])
        turns, mirror = int(rng.integers(4)), bool(rng.integers(2))
        patch = []
        for source in (decoded[int(level)][group], wanted[group]):
            cut = np.rot90(source[picture, y : y + size, x : x + size], turns)
            cut = cut[:, ::-1] if mirror else cut
            patch.append(np.pad(cut, [(0, _PATCH - size)] * 2, mode="symmetric"))
        pairs.append(patch)
    given, goal = (np.ascontiguousarray(np.stack([p[i] for p in pairs])[:, None], np.float32) for i in (0, 1))
    return given, goal, levels


def _keep(network: Any, optimiser: Any, path: Path, round_: int, rng: np.random.Generator) -> None:
    out: dict[str, Any] = {"round": np.array(round_)}
    for number, parameter in enumerate(network.parameters()):
        state = optimiser.state[parameter]
        for name, value in (("value", parameter), ("mean", state["exp_avg"]), ("square", state["exp_avg_sq"])):
            out[f"{name}{number}"] = value.detach().numpy()
    draws = rng.bit_generator.state["state"]
    out["draws"] = np.array([f"{draws['state']:x}", f"{draws['inc']:x}"])
    out["half"] = np.array([rng.bit_generator.state["has_uint32"], rng.bit_generator.state["uinteger"]], np.int64)
    buffer = io.BytesIO()
    np.savez(buffer, **out)
    partial = path.with_suffix(".part")
    partial.write_bytes(buffer.getvalue())
    partial.replace(path)


def _take_up(torch: Any, network: Any, optimiser: Any, path: Path, rng: np.random.Generator) -> int:
    """Go on where a state was kept; from which round."""
    if not path.is_file():
        return 0
    with np.load(path, allow_pickle=False) as kept:
        round_ = int(kept["round"])
        for number, parameter in enumerate(network.parameters()):
            parameter.data.copy_(torch.from_numpy(kept[f"value{number}"]))
            optimiser.state[parameter] = {
                "step": torch.tensor(float(round_)),
                "exp_avg": torch.from_numpy(kept[f"mean{number}"].copy()),
                "exp_avg_sq": torch.from_numpy(kept[f"square{number}"].copy()),
            }
        state, increment = (int(n, 16) for n in kept["draws"])
        rng.bit_generator.state = {
            "bit_generator": "PCG64", "state": {"state": state, "inc": increment},
            "has_uint32": int(kept["half"][0]), "uinteger": int(kept["half"][1]),
        }  # fmt: skip
    return round_


def as_onnx(layers: Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]]) -> bytes:
    """Convolutions (weights, biases) as the filter's graph; the same numbers give the same bytes."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node("SpaceToDepth", ["picture"], ["small"], blocksize=2),
        helper.make_node("Concat", ["small", "step"], ["x0"], axis=1),
    ]
    kept = []
    for i, (weight, bias) in enumerate(layers):
        kept += [numpy_helper.from_array(weight, f"w{i}"), numpy_helper.from_array(bias, f"b{i}")]
        nodes.append(helper.make_node("Conv", [f"x{i}", f"w{i}", f"b{i}"], [f"y{i}"], pads=[1, 1, 1, 1]))
        if i + 1 < len(layers):
            nodes.append(helper.make_node("Relu", [f"y{i}"], [f"x{i + 1}"]))
    nodes.append(helper.make_node("DepthToSpace", [f"y{len(layers) - 1}"], ["change"], blocksize=2))
    nodes.append(helper.make_node("Add", ["picture", "change"], ["filtered"]))
    shape: list[str | int | None] = [1, 1, "rows", "columns"]
    half: list[str | int | None] = [1, 1, "half_rows", "half_columns"]
    graph = helper.make_graph(
        nodes, "filter",
        [
            helper.make_tensor_value_info("picture", TensorProto.FLOAT, shape),
            helper.make_tensor_value_info("step", TensorProto.FLOAT, half),
        ],
        [helper.make_tensor_value_info("filtered", TensorProto.FLOAT, shape)], kept,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="PPIR")
    onnx.checker.check_model(model)
    return model.SerializeToString(deterministic=True)
