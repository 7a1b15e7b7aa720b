"""The command `ppir primis train`: the codec's weights from folders of images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from PPIRLogic.cli.common import Arguments, Interruptible, add_command, add_parent_options, say, watch_parent


def add_train(commands: Any) -> None:
    text = "Learn the codec's weights (transform, tables, filter) from folders of images. Needs the extra 'train'."
    p = add_command(
        commands, "train", _run_train, text, "ppir primis train --data nih_cxr --data volumes --seed 0 --output weights"
    )
    p.add_argument(
        "--data", required=True, action="append", metavar="FOLDER",
        help="a folder of X-rays (images/, labels.csv), or one of volumes; give it again for more",
    )  # fmt: skip
    p.add_argument("--output", default="primis_weights", metavar="FOLDER", help="where the weights and the report go")
    p.add_argument("--seed", type=int, default=0, help="the same seed gives the same bytes on a machine")
    p.add_argument("--rounds", type=int, default=1200, help="of the filter's training")
    add_parent_options(p)


def _run_train(a: Arguments) -> None:
    from PPIRLogic.primis.training import train

    if a.with_parent:
        watch_parent(a.scratch)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Interruptible() as run, Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("reading", total=1.0)
        done = train(
            a.data, Path(a.output), seed=a.seed, rounds=a.rounds, cancel=run.token,
            progress=lambda what, part: bar.update(task, description=what, completed=part),
        )  # fmt: skip
    lines = [f"Model {done.digest} in {done.folder}, after {done.seconds:.0f} s. On other patients:"]
    lines += [f"  {r['level']}: {r['bytes']:.0f} bytes, {r['psnr']} dB, SSIM {r['ssim']}" for r in done.held_out]
    found = {"folder": str(done.folder), "model": done.digest, "seconds": round(done.seconds)}
    say(a, "trained", "\n".join(lines), **found, held_out=done.held_out)
