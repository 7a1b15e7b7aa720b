"""The networks in torch (optional): segmentation, which is shipped, and identity, which only trains and attacks."""

from __future__ import annotations

from typing import Any

from PPIRLogic.errors import MissingDependencyError

WIDTHS = (16, 48, 64, 72)  # channels at 2, 4, 8 and 16 mm


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
    """A U-Net of 0.97 million weights: (1, 1, z, y, x), each side a multiple of 8, to logits (1, classes, z, y, x).

    One volume at a time: each is normalised by its own statistics.
    """
    nn = torch.nn
    a, b, c, d = WIDTHS

    class SegmentationNetwork(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.fine = nn.Sequential(*_block(nn, 1, a))
            self.first = nn.Sequential(*_block(nn, a, b, stride=2), *_block(nn, b, b))
            self.second = nn.Sequential(*_block(nn, b, c, stride=2), *_block(nn, c, c))
            self.third = nn.Sequential(*_block(nn, c, d, stride=2), *_block(nn, d, d), *_block(nn, d, c, 1))
            self.second_up = nn.Sequential(*_block(nn, 2 * c, c), *_block(nn, c, b, 1))
            self.first_up = nn.Sequential(*_block(nn, 2 * b, b), *_block(nn, b, a, 1))
            self.fine_up = nn.Sequential(*_block(nn, 2 * a, a), nn.Conv3d(a, classes, 1))

        def forward(self, x: Any) -> Any:
            fine = self.fine(x.contiguous(memory_format=torch.channels_last_3d))
            first = self.first(fine)
            second = self.second(first)
            second = self.second_up(torch.cat([second, _doubled(torch, self.third(second))], 1))
            first = self.first_up(torch.cat([first, _doubled(torch, second)], 1))
            return self.fine_up(torch.cat([fine, _doubled(torch, first)], 1)).float()

    return SegmentationNetwork().to(memory_format=torch.channels_last_3d)


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


def overlap_loss(torch: Any, logits: Any, wanted: Any) -> Any:
    """One minus the soft Dice of all classes but the background, plus the cross-entropy.

    logits: (n, classes, z, y, x); wanted: classes (n, z, y, x), or shares like the logits.
    """
    logs = torch.log_softmax(logits, 1)
    if wanted.dim() == 4:
        wanted = (wanted[:, None] == torch.arange(logits.shape[1])[:, None, None, None]).float()
    shares = logs.exp()
    axes = (0, 2, 3, 4)
    both = (shares * wanted).sum(axes)
    dice = (2 * both + 100) / (shares.sum(axes) + wanted.sum(axes) + 100)
    return 1 - dice[1:].mean() - (logs * wanted).sum() / (wanted.numel() / logits.shape[1])
