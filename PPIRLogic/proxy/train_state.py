"""What a training keeps of itself, so that a stopped one goes on to the same bytes (optional torch)."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np


def keep(path: Path, step: int, network: Any, optimiser: Any) -> None:
    """Write the numbers of a network and of Adam, whole or not at all."""
    out = {"step": np.array(step)}
    for name, value in network.state_dict().items():
        out[f"network/{name}"] = value.detach().numpy()
    for number, parameter in enumerate(network.parameters()):
        state = optimiser.state[parameter]
        out[f"mean/{number}"] = state["exp_avg"].numpy()
        out[f"square/{number}"] = state["exp_avg_sq"].numpy()
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **out)
    partial = path.with_suffix(".part")
    partial.write_bytes(buffer.getvalue())
    partial.replace(path)


def take_up(torch: Any, path: Path, network: Any, optimiser: Any) -> int:
    """Go on where a state was kept; from which step, 0 if there is none."""
    if not path.is_file():
        return 0
    with np.load(path, allow_pickle=False) as kept:
        step = int(kept["step"])
        values = {n: torch.from_numpy(kept[f"network/{n}"].copy()) for n in network.state_dict()}
        network.load_state_dict(values)
        for number, parameter in enumerate(network.parameters()):
            optimiser.state[parameter] = {
                "step": torch.tensor(float(step)),
                "exp_avg": torch.from_numpy(kept[f"mean/{number}"].copy()).to(memory_format=_format(torch, parameter)),
                "exp_avg_sq": torch.from_numpy(kept[f"square/{number}"].copy()).to(
                    memory_format=_format(torch, parameter)
                ),
            }
    return step


def _format(torch: Any, parameter: Any) -> Any:
    return torch.channels_last_3d if parameter.dim() == 5 else torch.contiguous_format
