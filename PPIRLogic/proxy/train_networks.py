"""The networks in torch (optional): segmentation, which is shipped, and identity, which only trains and attacks."""

from __future__ import annotations

from typing import Any

from PPIRLogic.errors import MissingDependencyError

WIDTHS = (48, 64, 72)  # channels at 4, 8 and 16 mm


def torch_module() -> Any:
    """torch, or an error that says how to get it."""
    try:
        import onnx  # noqa: F401
        import torch
    except ImportError:
        raise MissingDependencyError(
            "Training needs the packages torch and onnx: pip install 'PPIRExtension[train]'."
        ) from None
    return torch


def autocast(torch: Any) -> Any:
    """Arithmetic in bfloat16 where the processor multiplies matrices of it; else it would be slower, not faster."""
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=torch.cpu._is_amx_tile_supported())


def _block(nn: Any, inside: int, outside: int, kernel: int = 3, stride: int = 1) -> list[Any]:
    return [
        nn.Conv3d(inside, outside, kernel, stride=stride, padding=kernel // 2, bias=False),
        nn.BatchNorm3d(outside, track_running_stats=False),
        nn.ReLU(),
    ]


def segmentation_network(torch: Any, classes: int) -> Any:
    """A U-Net of about 0.95 million weights: (n, 1, z, y, x), each side a multiple of 16, to logits (n, 8, classes, z/2,
    y/2, x/2), of each voxel of a block of eight.

    Voxels of 2 mm are packed in eights at once and unpacked at the end: all work is done at 4 mm and below. One volume
    at a time: each is normalised by its own statistics.
    """
    nn = torch.nn
    a, b, c = WIDTHS

    class Network(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Sequential(*_block(nn, 8, a), *_block(nn, a, a))
            self.second = nn.Sequential(*_block(nn, a, b, stride=2), *_block(nn, b, b))
            self.third = nn.Sequential(*_block(nn, b, c, stride=2), *_block(nn, c, c), *_block(nn, c, b, 1))
            self.second_up = nn.Sequential(*_block(nn, 2 * b, b), *_block(nn, b, a, 1))
            self.first_up = nn.Sequential(*_block(nn, 2 * a, a), *_block(nn, a, a), nn.Conv3d(a, 8 * classes, 1))

        def forward(self, x: Any) -> Any:
            first = self.first(packed(torch, x))
            second = self.second(first)
            second = self.second_up(torch.cat([second, _doubled(torch, self.third(second))], 1))
            out = self.first_up(torch.cat([first, _doubled(torch, second)], 1)).float()
            return out.reshape(len(x), 8, classes, *out.shape[2:])

    return Network().to(memory_format=torch.channels_last_3d)


def _doubled(torch: Any, x: Any) -> Any:
    return torch.nn.functional.interpolate(x, scale_factor=2, mode="nearest")


def packed(torch: Any, x: Any) -> Any:
    """(n, c, 2z, 2y, 2x) as (n, 8c, z, y, x)."""
    n, c, z, y, w = x.shape
    x = x.reshape(n, c, z // 2, 2, y // 2, 2, w // 2, 2)
    return (
        x.permute(0, 3, 5, 7, 1, 2, 4, 6)
        .reshape(n, 8 * c, z // 2, y // 2, w // 2)
        .contiguous(memory_format=torch.channels_last_3d)
    )


def unpacked(torch: Any, x: Any) -> Any:
    """(n, 8, c, z, y, x), of each voxel of a block of eight, as (n, c, 2z, 2y, 2x)."""
    n, _, c, z, y, w = x.shape
    x = x.reshape(n, 2, 2, 2, c, z, y, w).permute(0, 4, 5, 1, 6, 2, 7, 3)
    return x.reshape(n, c, 2 * z, 2 * y, 2 * w)


def overlap_loss(torch: Any, logits: Any, wanted: Any) -> Any:
    """One minus the soft Dice of all classes but the background, plus a part of the cross-entropy.

    logits: as the network gives them; wanted: classes (n, z, y, x), or shares (n, classes, z, y, x).
    """
    logs = torch.log_softmax(logits, 2)
    n, _, count, z, y, x = logits.shape
    voxels = wanted.numel() / (1 if wanted.dim() == 4 else count)
    inner = 1 if wanted.dim() == 4 else count
    blocks = wanted.reshape(n, inner, z, 2, y, 2, x, 2).permute(0, 3, 5, 7, 1, 2, 4, 6).reshape(n, 8, inner, z, y, x)
    if wanted.dim() == 4:
        blocks = (blocks == torch.arange(count)[:, None, None, None]).float()
    shares = logs.exp()
    axes = (0, 1, 3, 4, 5)
    both = (shares * blocks).sum(axes)
    dice = (2 * both + 50) / (shares.sum(axes) + blocks.sum(axes) + 50)
    return 1 - dice[1:].mean() - 0.3 * (logs * blocks).sum() / voxels
