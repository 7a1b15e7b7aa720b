"""The work of `ppir proxy train`: the proxy's network and spectrum from label maps."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from PPIRLogic.cli.common import Interruptible
from PPIRLogic.cli.output import Arguments, say


def run_train(a: Arguments) -> None:
    from PPIRLogic.proxy.training import train

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Interruptible(a) as run, Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("reading", total=1.0)
        done = train(
            a.data, Path(a.output), seed=a.seed, steps=a.steps, generator_steps=a.generator_steps, cancel=run.token,
            progress=lambda what, part: bar.update(task, description=what, completed=part),
        )  # fmt: skip
    lines = [
        f"Model {done.model} in {done.folder}, after {done.seconds:.0f} s. Dice on synthetic scans of other heads:"
    ]
    lines += [f"  proxies of {r['mm']:g} mm: {r['mean']:.3f}" for r in done.held_out]
    lines += [f"Spectrum (rows: rim to depth; columns: {done.spectrum.scales_mm} mm): {done.spectrum.amplitudes}"]
    found = {"folder": str(done.folder), "model": done.model, "seconds": round(done.seconds)}
    say(a, "trained", "\n".join(lines), **found, held_out=done.held_out)
