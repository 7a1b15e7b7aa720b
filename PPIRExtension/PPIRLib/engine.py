"""Finding the engine and what it needs: nothing is imported or installed before a person asks for it."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import importlib.util
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import slicer

ENGINE = "PPIRLogic"
_MODULE_FOLDER = Path(__file__).resolve().parent.parent
# package to install → module it provides
_FHE = {
    "numba>=0.61": "numba",
    "cryptography>=43": "cryptography",
    "pyOpenSSL>=24.3": "OpenSSL",
    "msgpack>=1.0.8": "msgpack",
    "platformdirs>=4": "platformdirs",
    "rich>=13.7": "rich",
    "matplotlib>=3.8": "matplotlib",
    "tenseal==0.3.18": "tenseal",
}
_MPC = {"omegaconf>=2.3": "omegaconf", "pyyaml>=6": "yaml"}
_PRIMIS = {"onnxruntime>=1.20": "onnxruntime", "constriction>=0.4": "constriction"}
_PROXY = {"onnxruntime>=1.20": "onnxruntime"}
_MORE = {"mpc": _MPC, "primis": _PRIMIS, "proxy": _PROXY}  # beside those of every run


class Declined(Exception):
    """A person did not want the packages installed, or their installation failed."""


def folder() -> Path:
    """The folder that holds the engine package: beside this module when installed, one up in the source tree."""
    for place in (_MODULE_FOLDER, _MODULE_FOLDER.parent):
        if (place / ENGINE / "__init__.py").is_file():
            return place
    raise Declined(f"The package {ENGINE} is missing from the extension. Install PPIRExtension again.")


def add_to_path() -> None:
    """Make `import PPIRLogic` work in this process."""
    place = str(folder())
    if place not in sys.path:
        sys.path.append(place)


def missing(protocol: str = "fhe") -> list[str]:
    """What a run under this protocol, or of sealed images ('primis') or proxies ('proxy'), still needs."""
    needed = _FHE | _MORE.get(protocol, {})
    lacking = [package for package, module in needed.items() if importlib.util.find_spec(module) is None]
    if protocol == "mpc":
        lacking += [name for name in ("torch", "crypten") if importlib.util.find_spec(name) is None]
    return lacking


def ensure(protocol: str = "fhe") -> None:
    """Install what is missing, after asking; Declined with what to do if it is not wanted or fails."""
    lacking = missing(protocol)
    if lacking:
        ordinary = [p for p in lacking if p not in ("torch", "crypten")]
        try:
            if "torch" in lacking:
                _install_torch()  # first: it may need another extension, and then nothing else is of use
            if ordinary:
                _install(ordinary)
            if "crypten" in lacking:
                slicer.util.pip_install("--no-deps crypten==0.4.1")
        except Exception as error:
            raise Declined(f"The packages {', '.join(lacking)} were not installed: {error}") from error
        if still := missing(protocol):
            raise Declined(f"The packages {', '.join(still)} are needed and were not installed. Apply again to retry.")
    add_to_path()


def install_from(wheels: Path, protocol: str = "fhe") -> list[str]:
    """Install what is missing from a folder of wheels, without a network; what it was. torch is not among them.

    Declined with what to do if there is nothing to install from, or pip fails. `make wheelhouse` fills such a folder.
    """
    lacking = [package for package in missing(protocol) if package not in ("torch", "crypten")]
    if not any(Path(wheels).glob("*.whl")):
        raise Declined(
            f"{wheels} holds no wheels (*.whl). Choose the folder that make wheelhouse filled for this system."
        )
    if lacking:
        try:
            with _limits() as limits:
                slicer.util.pip_install([*lacking, "--no-index", "--find-links", str(wheels), "-c", limits])
        except Exception as error:
            raise Declined(
                f"The packages {', '.join(lacking)} could not be installed from {wheels}: {error}"
            ) from error
    add_to_path()
    return lacking


def constraints() -> str:
    """What pip must keep to, line by line: what is installed stays as it is, the rest as tested with this Slicer.

    Of a version of Slicer without a list, only what is installed is kept.
    """
    lists = {
        file.stem: [line for line in file.read_text(encoding="utf-8").splitlines() if "==" in line]
        for file in (_MODULE_FOLDER / "Resources" / "Constraints").glob("slicer-*.txt")
    }
    tested = lists.get(f"slicer-{slicer.app.majorVersion}.{slicer.app.minorVersion}", [])
    needed = {line.split("==")[0] for lines in lists.values() for line in lines}
    kept = {}
    for package in importlib.metadata.distributions():
        name = re.sub(r"[-_.]+", "-", package.metadata["Name"] or "").lower()  # as pip compares names
        if name in needed and re.fullmatch(r"\d[\w.!+]*", package.version or ""):
            kept[name] = f"{name}=={package.version}"
    return "\n".join([*sorted(kept.values()), *(line for line in tested if line.split("==")[0] not in kept), ""])


def _install(packages: list[str]) -> None:
    with _limits() as limits:
        _install_within(packages, limits)


@contextlib.contextmanager
def _limits() -> Iterator[str]:
    """A file with the `constraints`, as long as it is needed."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "constraints.txt"
        path.write_text(constraints(), encoding="utf-8")
        yield str(path)


def _install_within(packages: list[str], limits: str) -> None:
    try:
        packaging: Any = importlib.import_module("slicer.packaging")  # a part that the application does not load itself
    except ImportError:  # Slicer 5.10
        packaging = None
    if hasattr(packaging, "pip_ensure"):
        packaging.pip_ensure(packages, constraints=limits, requester="PPIR")
        return
    text = "Private registration needs the Python packages\n  " + "\n  ".join(packages) + "\nInstall them now?"
    if not slicer.util.confirmOkCancelDisplay(text, windowTitle="Install packages"):
        raise Declined("declined")
    slicer.util.pip_install([*packages, "-c", limits])


def _install_torch() -> None:
    """torch comes from the PyTorch extension, which picks the right build; never from a direct pip."""
    try:
        import PyTorchUtils
    except ImportError:
        raise Declined(
            "install the extension PyTorch from the Extensions Manager first, or use the protocol fhe"
        ) from None
    if PyTorchUtils.PyTorchUtilsLogic().installTorch(askConfirmation=True) is None:
        raise Declined("torch was not installed")
