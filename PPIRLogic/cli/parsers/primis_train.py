"""What can be typed after `ppir primis train`."""

from __future__ import annotations

from typing import Any

from PPIRLogic.cli.parsers.common import add_command, add_parent_options


def add_train(commands: Any) -> None:
    text = "Learn the codec's weights (transform, tables, filter) from folders of images. Needs the extra 'train'."
    p = add_command(
        commands,
        "train",
        "primis_train:run_train",
        text,
        "ppir primis train --data nih_cxr --data volumes --seed 0 --output weights",
    )
    p.add_argument(
        "--data", required=True, action="append", metavar="FOLDER",
        help="a folder of X-rays (images/, labels.csv), or one of volumes; give it again for more",
    )  # fmt: skip
    p.add_argument("--output", default="primis_weights", metavar="FOLDER", help="where the weights and the report go")
    p.add_argument("--seed", type=int, default=0, help="the same seed gives the same bytes on a machine")
    p.add_argument("--rounds", type=int, default=1200, help="of the filter's training")
    add_parent_options(p)
