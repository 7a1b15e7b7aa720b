"""What a person chooses for a run, as options of the engine's commands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from PPIRLib import choices


@dataclass
class Settings:
    """What a registration needs besides its nodes. The names are those of the engine's Parameters."""

    peer: str = ""
    image: str = ""
    dealer: str = ""
    transform: str = choices.usual("transform")
    loss: str = choices.usual("loss")
    protocol: str = choices.usual("protocol")
    sampling: str = choices.usual("sampling")
    percent: float = choices.usual("percent")
    initial: str = choices.usual("initial")  # compare | centres | identity (the volume's place in the scene)
    fixed_mask: str = choices.usual("fixed_mask")  # auto: the engine's default
    levels: str = ""
    evaluations: int = choices.usual("evaluations")
    step_tolerance: float = choices.usual("step_tolerance")  # 0: the engine's default
    loss_tolerance: float = choices.usual("loss_tolerance")
    grid_spacing: float = choices.usual("grid_spacing")  # bspline, mm
    iterations: str = ""  # deformable, one per level; empty: the engine's default
    stride: int = choices.usual("stride")  # diffeo, voxels
    radius: float = choices.usual("radius_mm")  # lncc, mm; 0: the engine's default
    bins: str = choices.usual("bins")  # mi; auto: the engine's default

    @classmethod
    def from_node(cls, node: Any) -> Settings:
        """What a person chose in the Register panel."""
        return cls(
            peer=node.peer, image=node.image, dealer=node.dealer, transform=node.transform, loss=node.loss,
            protocol=node.protocol, sampling=node.sampling, percent=node.percent, fixed_mask=node.fixedMask,
            levels=node.levels, evaluations=node.evaluations, step_tolerance=node.stepTolerance,
            loss_tolerance=node.lossTolerance, grid_spacing=node.gridSpacing, iterations=node.iterations,
            stride=node.stride, radius=node.radius, bins=node.bins,
        )  # fmt: skip

    def of_points(self) -> dict[str, str]:
        """What a registration of points has of them."""
        return {name: getattr(self, name) for name in ("peer", "image", "dealer", "transform", "protocol")}

    def arguments(self) -> list[str]:
        """As options of `ppir register`."""
        options = [
            "--transform", self.transform, "--loss", self.loss, "--protocol", self.protocol,
            "--sampling", self.sampling, "--evaluations", str(self.evaluations),
            "--loss-tolerance", repr(self.loss_tolerance),
        ]  # fmt: skip
        if self.fixed_mask != "auto":
            options += ["--fixed-mask", self.fixed_mask]
        if self.sampling != "full":
            options += ["--percent", repr(self.percent)]
        if self.step_tolerance > 0:
            options += ["--step-tolerance", repr(self.step_tolerance)]
        if self.levels.strip():
            options += ["--levels", self.levels.replace(" ", "")]
        return options + self._of_method()

    def _of_method(self) -> list[str]:
        """Options that only some transforms and losses have."""
        options = []
        if choices.uses("iterations", self.transform) and self.iterations.strip():
            options += ["--iterations", self.iterations.replace(" ", "")]
        if choices.uses("grid_spacing", self.transform):
            options += ["--grid-spacing", repr(self.grid_spacing)]
        if choices.uses("stride", self.transform):
            options += ["--stride", str(self.stride)]
        if choices.uses("radius_mm", self.loss) and self.radius > 0:
            options += ["--radius", repr(self.radius)]
        if choices.uses("bins", self.loss) and self.bins != "auto":
            options += ["--bins", self.bins]
        return options


@dataclass
class ShareSettings:
    """What the owner of a fixed image permits.

    budget_percent: numbers of each level, per cent of its voxels. Four times as many per cent of its bits (a number has
    about four times a voxel's) and ten times the numbers of a session per peer and image go with it, as in the engine.
    """

    name: str = "fixed"
    address: str = "0.0.0.0:7443"
    protocols: str = "fhe"
    losses: str = ""  # names separated by commas; empty: all
    transforms: str = ""
    allow: tuple[str, ...] = ()
    budget_percent: float = 5.0
    budget_session: int = 20_000
    dealer: str = ""

    def arguments(self) -> list[str]:
        options = ["--name", self.name, "--listen", self.address, "--protocols", self.protocols]
        options += ["--budget-percent", repr(self.budget_percent), "--budget-bits", repr(4 * self.budget_percent)]
        options += ["--budget-session", str(self.budget_session), "--budget-image", str(10 * self.budget_session)]
        for option, names in (("--losses", self.losses), ("--transforms", self.transforms)):
            options += [option, names] if names.strip() else []
        for peer in self.allow:
            options += ["--allow", peer]
        return options + (["--dealer", self.dealer] if self.dealer else [])
