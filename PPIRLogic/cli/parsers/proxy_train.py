"""What can be typed after `ppir proxy train`."""

from __future__ import annotations

from typing import Any

from PPIRLogic.cli.parsers.common import add_command, add_parent_options
from PPIRLogic.proxy.train_lengths import GENERATOR_STEPS, STEPS


def add_train(commands: Any) -> None:
    text = "Learn the proxy's network and spectrum from label maps of heads. Needs the extra 'train'."
    example = "ppir proxy train --data synthseg20 --seed 0 --output weights"
    p = add_command(commands, "train", "proxy_train:run_train", text, example)
    p.add_argument(
        "--data", required=True, metavar="FOLDER", help="label maps (*labels.nrrd, FreeSurfer's numbers, 2 mm voxels)"
    )
    p.add_argument("--output", default="proxy_weights", metavar="FOLDER", help="where the weights and the report go")
    p.add_argument("--seed", type=int, default=0, help="the same seed gives the same bytes on a machine")
    p.add_argument("--steps", type=int, default=STEPS, help="of the network's training")
    p.add_argument("--generator-steps", type=int, default=GENERATOR_STEPS, help="of the spectrum's training")
    add_parent_options(p)
