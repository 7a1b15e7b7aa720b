"""The work of `ppir primis train`: the codec's weights from folders of images."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from PPIRLogic.cli.common import Interruptible
from PPIRLogic.cli.output import Arguments, say


def run_train(a: Arguments) -> None:
    from PPIRLogic.primis.training import train

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Interruptible(a) as run, Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("reading", total=1.0)
        done = train(
            a.data, Path(a.output), seed=a.seed, rounds=a.rounds, cancel=run.token,
            progress=lambda what, part: bar.update(task, description=what, completed=part),
        )  # fmt: skip
    lines = [f"Model {done.digest} in {done.folder}, after {done.seconds:.0f} s. On other patients:"]
    lines += [f"  {r['level']}: {r['bytes']:.0f} bytes, {r['psnr']} dB, SSIM {r['ssim']}" for r in done.held_out]
    found = {"folder": str(done.folder), "model": done.digest, "seconds": round(done.seconds)}
    say(a, "trained", "\n".join(lines), **found, held_out=done.held_out)
