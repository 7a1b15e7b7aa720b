"""What can be typed after `ppir proxy`: segmentation at another site that sees only deformed scans."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

from PPIRLogic.cli.parsers.common import (
    HelpFormat,
    add_command,
    add_parent_options,
    add_relay_options,
    add_service_options,
    file_path,
)
from PPIRLogic.cli.parsers.proxy_attack import add_attack
from PPIRLogic.cli.parsers.proxy_train import add_train

STRIPS = ("brain", "face")


def add_proxy(commands: Any) -> None:
    text = "Have scans segmented at a site that sees only deformed ones. Lowers the risk; it is not encryption."
    words = (
        "A scan is deformed under a secret key, the proxy is segmented elsewhere, and the answer is brought back here."
        " The other site sees a whole image: whose it is can still be found, as often as the measured rates say. Where"
        " the model's owner agrees, take the model to the hospital instead, and nothing leaves it."
    )
    p = commands.add_parser(
        "proxy", help=text, description=textwrap.fill(words, 100), formatter_class=HelpFormat, allow_abbrev=False,
        epilog="example:\n  ppir proxy segment t1.nii.gz --peer ai.example:7443 --strength high --output tissues.nrrd",
    )  # fmt: skip
    inner = p.add_subparsers(dest="proxy_command", required=True, metavar="COMMAND")
    for add in (add_key, add_make, add_unmake, add_segment, add_serve, add_demo, add_train, add_attack):
        add(inner)


def add_key(commands: Any) -> None:
    text = "Make the key from which this site's deformations follow (32 random bytes, for its owner alone)."
    p = add_command(commands, "key", "proxy:run_key", text, "ppir proxy key")
    p.add_argument("--key", type=file_path, metavar="FILE", help="where it lies (proxy/key in this site's folder)")
    p.add_argument(
        "--new", action="store_true",
        help="replace the one that is there (kept as FILE.old): the same scan gets another proxy from now on",
    )  # fmt: skip


def add_make(commands: Any) -> None:
    text = "Make a scan's proxy as a file, to look at or to send by other means. Nothing is sent."
    p = add_command(
        commands, "make", "proxy:run_make", text, "ppir proxy make t1.nii.gz --output proxy.nrrd --preview look.png"
    )
    _add_scan(p)
    p.add_argument("--output", type=file_path, help="the proxy (.nrrd, .mha, .nii.gz); FILE.json beside it stays here")
    p.add_argument("--preview", type=file_path, metavar="PNG", help="original and proxy side by side")
    p.add_argument("--peer-name", default="", help="whom the preview's warning is about")
    add_parent_options(p)


def add_unmake(commands: Any) -> None:
    text = "Bring a segmentation of a proxy back onto its scan. Needs the scan, the key, and the proxy's FILE.json."
    example = "ppir proxy unmake answer.nrrd --proxy proxy.nrrd --scan t1.nii.gz --output tissues.nrrd"
    p = add_command(commands, "unmake", "proxy:run_unmake", text, example)
    p.add_argument("file", type=file_path, help="labels on the proxy's grid")
    p.add_argument("--proxy", type=file_path, required=True, help="the proxy, as `ppir proxy make` wrote it")
    p.add_argument("--scan", type=file_path, required=True, help="the scan that it was made of")
    p.add_argument("--mask", type=file_path, help="the mask that was given, if one was")
    p.add_argument("--key", type=file_path, metavar="FILE", help="the key (proxy/key in this site's folder)")
    p.add_argument("--output", type=file_path, required=True, help="labels on the scan's grid")
    add_parent_options(p)


def add_segment(commands: Any) -> None:
    text = "Have a scan segmented at a trusted site that gets its proxy; the answer comes back onto the scan."
    example = "ppir proxy segment t1.nii.gz --peer ai.example:7443 --output tissues.nrrd --report report"
    p = add_command(commands, "segment", "proxy:run_segment", text, example)
    _add_scan(p)
    p.add_argument("--peer", required=True, metavar="HOST:PORT", help="the site that segments")
    add_relay_options(p)
    p.add_argument("--output", type=file_path, required=True, help="labels (.nrrd, .mha, .nii.gz)")
    p.add_argument("--report", type=file_path, metavar="FOLDER", help="volumes, rates and pictures: JSON and a page")
    p.add_argument("--preview", type=file_path, metavar="PNG", help="what a person looks at before anything is sent")
    p.add_argument("--yes", action="store_true", help="send without asking: somebody has looked at the preview")
    p.add_argument("--only", default="", metavar="ID", help="send no other proxy than this (as `make` says)")
    p.add_argument(
        "--model", default="", metavar="SHA256", help="the model that must segment (the one measured here); any: any"
    )
    add_parent_options(p)


def add_serve(commands: Any) -> None:
    text = "Segment proxies for trusted sites. Nothing of them is kept or logged."
    p = add_command(commands, "serve", "proxy_serve:run_serve", text, "ppir proxy serve --allow 'Hospital A'")
    p.add_argument("--model", type=file_path, help="an ONNX file of `ppir proxy train` (the one that comes with ppir)")
    p.add_argument(
        "--allow", action="append", default=[], metavar="PEER",
        help="trusted peer (name or fingerprint) that may ask; may be given several times (every trusted peer)",
    )  # fmt: skip
    p.add_argument("--max-sessions", type=int, default=10, help="sites at once (10); their proxies wait in turn")
    add_service_options(p)


def add_demo(commands: Any) -> None:
    text = (
        "See it work: a hospital sends a scan's proxy to a site that segments it; both are processes of this machine."
    )
    p = add_command(commands, "demo", "proxy_demo:run_demo", text, "ppir proxy demo t1.nii.gz --output proxy-demo")
    p.add_argument("scan", type=file_path, help="a T1 scan of a head")
    p.add_argument("--model", type=file_path, help="an ONNX file of `ppir proxy train` (the one that comes with ppir)")
    p.add_argument(
        "--output", type=file_path, metavar="FOLDER", default=Path("proxy-demo"), help="for the results (proxy-demo)"
    )


def _add_scan(p: Any) -> None:
    p.add_argument("scan", type=file_path, help="MR of a head: image file, or folder with one DICOM series")
    p.add_argument("--strength", default="medium", help="low, medium, high (4, 8, 12 mm rms), or a number of mm")
    p.add_argument(
        "--strip", choices=STRIPS, default=STRIPS[0],
        help="what is taken: the brain alone (default), or the head without its face",
    )  # fmt: skip
    p.add_argument("--mask", type=file_path, help="what is taken, in place of --strip: non-zero is inside")
    p.add_argument("--key", type=file_path, metavar="FILE", help="the key (proxy/key in this site's folder)")
