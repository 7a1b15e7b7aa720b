"""Party 1: prepares a scan, deforms it, has its owner consent, sends the proxy and brings the answer back.

Nothing is sent before the owner has said yes and the ledger holds the disclosure. The scan, its header, the mask, the
key and the deformation stay here. Nothing that a service sends is used before it was checked.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.errors import InputError, ProtocolError, RefusedError
from PPIRLogic.images.reading import read_volume
from PPIRLogic.images.volume import Volume
from PPIRLogic.network.caller import ANSWER, Caller, Tell
from PPIRLogic.network.identity import default_home
from PPIRLogic.proxy import messages as m
from PPIRLogic.proxy.deformation import Deformation, strength_mm
from PPIRLogic.proxy.keys import ProxyKey, load_or_make_key
from PPIRLogic.proxy.preparation import Prepared, prepare
from PPIRLogic.proxy.rates import rates_for, warning
from PPIRLogic.proxy.segmentation_result import Segmentation, segmentation_of
from PPIRLogic.proxy.sent_records import SentRecords
from PPIRLogic.proxy.spectrum import MANIFEST, Spectrum

WORK = 600.0  # seconds for a proxy to be segmented
_ID = 32  # characters of a proxy's digest in the ledger


class SegmentingClient(Caller):
    """A connection to a site that segments proxies: a `Caller` that also tells of 'sending', 'segmenting', 'receiving'.

    model: what segments there. Errors: those of a `Caller`; RefusedError and ProtocolError of `probabilities`.

    >>> with SegmentingClient("ai.example:7443", home=default_home()) as client:  # doctest: +SKIP
    ...     print(client.model)
    """

    model: m.ServedModel
    service = "ppir proxy serve"

    def __init__(
        self,
        address: str,
        *,
        home: Path,
        check: Callable[[], None] = lambda: None,
        tell: Tell = lambda stage, done, total: None,
    ) -> None:
        self._former: m.ServedModel | None = None
        super().__init__(address, home=home, opens=m.OPENS, opening=m.opening(), check=check, tell=tell)

    def opened(self, data: Mapping[str, Any]) -> None:
        """Take in what the site says of its model. ProtocolError: malformed, or another model than before."""
        m.check_opening(data, m.ASKS, m.SEGMENTS)
        self.model = m.ServedModel.from_dict(data)
        if self._former is not None and self._former != self.model:
            raise ProtocolError("The site has another model since the line was lost. Ask again for the whole.")
        self._former = self.model

    def probabilities(self, proxy: NDArray[np.uint8], spacing: tuple[float, ...]) -> NDArray[np.uint8]:
        """Probabilities in 255ths of each class of `model`, uint8 (classes, z, y, x), of a proxy (z, y, x).

        spacing: mm, x y z. Over a lost line it is asked again, and what came is not sent again. Errors: InputError (no
        volume, or too large), BusyError, RefusedError, PeerError, ProtocolError (the answer does not fit the proxy).
        """
        if proxy.ndim != 3 or proxy.dtype != np.uint8:
            raise InputError("A site segments volumes of 8 bits. Give a scan of several slices.")
        data = m.packed(proxy)
        um = [round(1000 * s) for s in spacing]
        question = m.Segment(proxy.shape, (um[0], um[1], um[2]), len(data), m.digest_of(proxy))
        try:
            m.Segment.from_dict(question.to_dict())  # what the service would refuse is refused here
        except ProtocolError as error:
            raise InputError(f"The scan cannot be segmented at a site. {error}") from None
        answer = _Answer((len(self.model.classes), *question.shape))
        return self.retried(lambda: self._once(question, data, answer))

    def _once(self, question: m.Segment, data: bytes, answer: _Answer) -> NDArray[np.uint8]:
        asked = m.Segment(
            question.shape, question.spacing, question.size, question.digest, len(answer.data), answer.digest
        )
        self.connected.send("segment", asked.to_dict())
        for start in range(0, len(data), m.PART):
            self._check()
            self._tell("sending", start, len(data))
            self.connected.send("part", {}, data[start : start + m.PART])
        self._tell("segmenting", 0, 0)
        answer.begin(m.Segmented.from_dict(self.receive("segmented", WORK).data, answer.values))
        while not answer.whole:
            self._tell("receiving", len(answer.data), answer.size)
            answer.add(self.receive("part", ANSWER).payload)
        self._tell("receiving", answer.size, answer.size)
        return m.unpacked(answer.data, answer.shape, answer.digest, "The answer of the site")


class _Answer:
    """What has come of an answer, over any number of lines."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape, self.values = shape, int(np.prod(shape, dtype=np.int64))
        self.data, self.digest, self.size = bytearray(), bytes(m.DIGEST_BYTES), 0

    @property
    def whole(self) -> bool:
        return len(self.data) == self.size

    def begin(self, said: m.Segmented) -> None:
        """ProtocolError: it does not go on where this one ended."""
        if said.first not in (0, len(self.data)) or (said.first and said.digest != self.digest):
            raise ProtocolError("The answer of the site does not go on where it ended.")
        del self.data[said.first :]
        self.digest, self.size = said.digest, said.size

    def add(self, part: bytes | bytearray) -> None:
        if not part or len(self.data) + len(part) > self.size:
            raise ProtocolError("The answer of the site is longer than it said, or a part of it is empty.")
        self.data += part


# ------------------------------------------------------------------------------------------------- one scan


@dataclass(frozen=True, eq=False)
class Proxy:
    """A scan's proxy, and what brings back what belongs to it. array: uint8 (z, y, x), what a service gets.

    `make` makes it:

    >>> proxy = make("t1.nii.gz", strength="medium")  # doctest: +SKIP
    >>> proxy.id, proxy.voxels  # doctest: +SKIP
    """

    prepared: Prepared
    deformation: Deformation
    array: NDArray[np.uint8]

    @property
    def id(self) -> str:
        """By which the ledger knows it."""
        return m.digest_of(self.array).hex()[:_ID]

    @property
    def voxels(self) -> int:
        """That show something."""
        return int(np.count_nonzero(self.array))


def make(
    scan: Volume | str | Path,
    *,
    strength: str | float = "medium",
    mask: NDArray[np.bool_] | None = None,
    strip: str = "brain",
    key: ProxyKey | None = None,
    home: Path | None = None,
    spectrum: Spectrum | None = None,
    check: Callable[[], None] = lambda: None,
) -> Proxy:
    """The proxy of a scan, the same each time under the same key; nothing is sent.

    scan: a volume, or its file. strength: low, medium, high (4, 8, 12 mm rms) or a number of mm. mask: what to keep, in
    place of `strip` ('brain' or 'face': see `prepare`). key: default that of the home, made on first use.
    Errors: as `prepare`, `Deformation.make`, `load_or_make_key`.

    >>> from PPIRLogic import Geometry
    >>> grid = Geometry((40, 40), (4.0, 4.0), (0.0, 0.0), (1, 0, 0, 1))
    >>> disc = np.hypot(*np.mgrid[-20:20, -20:20]) < 12
    >>> scan = Volume(np.where(disc, np.arange(1600.0).reshape(40, 40) + 500, 0), grid)
    >>> one, two = (make(scan, strength=4.0, mask=disc, key=ProxyKey(bytes(32))) for _ in range(2))
    >>> one.id == two.id, one.array.dtype, bool(0 < one.deformation.smallest_jacobian())
    (True, dtype('uint8'), True)
    """
    volume = scan if isinstance(scan, Volume) else read_volume(scan, role="given")
    mm = strength_mm(strength)
    prepared = prepare(volume, mask, strip=strip, check=check)
    secret = key if key is not None else load_or_make_key(default_home() if home is None else home)
    deformation = Deformation.make(
        secret, prepared.digest(secret), prepared.mask, prepared.spacing, mm, spectrum, check
    )
    return Proxy(prepared, deformation, deformation.warp(prepared.array))


@dataclass(frozen=True, eq=False)
class Consent:
    """What a person sees before a proxy is sent. original, proxy: uint8 (z, y, x), spacing x, y, z in mm. peer: who
    gets it, by this site's name and its fingerprint. bits: that are disclosed. warning: what it means, in words, with
    the measured rates.

    >>> def ask(asked: Consent) -> bool:
    ...     return input(f"{asked.warning} Send it to {asked.peer}? (yes/no) ") == "yes"
    >>> segment("t1.nii.gz", "ai.example:7443", consent=ask)  # doctest: +SKIP
    """

    original: NDArray[np.uint8]
    proxy: NDArray[np.uint8]
    spacing: tuple[float, ...]
    strength: float
    strip: str
    peer: str
    bits: int
    warning: str


def consent_to(proxy: Proxy, peer: str) -> Consent:
    """What a person is asked of a proxy that would be sent to `peer`."""
    d = proxy.deformation
    return Consent(
        proxy.prepared.array, proxy.array, proxy.prepared.spacing, d.strength, proxy.prepared.strip, peer,
        8 * proxy.voxels, warning(d.strength),
    )  # fmt: skip


def segment(
    scan: Volume | str | Path,
    peer: str,
    *,
    consent: Callable[[Consent], bool],
    strength: str | float = "medium",
    mask: NDArray[np.bool_] | None = None,
    strip: str = "brain",
    model: str = "",
    key: ProxyKey | None = None,
    home: Path | None = None,
    spectrum: Spectrum | None = None,
    check: Callable[[], None] = lambda: None,
    tell: Tell = lambda stage, done, total: None,
) -> Segmentation:
    """Have a scan segmented at a site that sees only its proxy.

    A proxy is not encrypted: see Docs/privacy/proxy.md. consent: is shown what would be sent and to whom, and says
    whether it may be. model: digest of the model that must segment (default: the one whose rates and accuracy were
    measured here; 'any': whichever the site has). The rest: as `make`. tell: hears of a stage ('preparing', 'sending',
    'segmenting', 'receiving', 'waiting', 'reconnecting'), how much of how much.
    Errors: as `make` and `SegmentingClient`; InputError (another model), RefusedError (no consent), OutputError (the
    ledger cannot be written; then nothing was sent).

    >>> found = segment("t1.nii.gz", "ai.example:7443", consent=lambda asked: True)  # doctest: +SKIP
    >>> found.volumes_ml()["grey matter"]  # doctest: +SKIP
    612.4
    """
    place = default_home() if home is None else home
    began = time.monotonic()
    tell("preparing", 0, 0)
    proxy = make(scan, strength=strength, mask=mask, strip=strip, key=key, home=place, spectrum=spectrum, check=check)
    with SegmentingClient(peer, home=place, check=check, tell=tell) as client:
        refuse_other_model(client.model.digest, model)
        channel = client.connected
        if not consent(consent_to(proxy, f"{channel.known_as} (fingerprint {channel.peer_fingerprint})")):
            raise RefusedError("Nothing was sent: the owner of the scan did not consent.")
        check()
        d = proxy.deformation
        SentRecords(place).sent(
            channel.peer_fingerprint, proxy.id, voxels=proxy.voxels, strength=d.strength, draw=d.draw
        )
        found = client.probabilities(proxy.array, proxy.prepared.spacing)
        told = {
            "peer": channel.peer_fingerprint, "model": client.model.digest, "bytes_sent": client.connected.bytes_sent,
            "bytes_received": client.connected.bytes_received, "seconds": round(time.monotonic() - began, 2),
        }  # fmt: skip
        names = client.model.classes
    return unmake(proxy, found, names, told)


def refuse_other_model(digest: str, wanted: str) -> None:
    """InputError where a site has another model than the wanted one ('': the one measured here; 'any': whichever)."""
    due = wanted or shipped_model()
    if wanted == "any" or not due or digest == due.lower():
        return
    raise InputError(
        f"The site segments with the model {digest[:12]}…, and not with {due[:12]}…, whose accuracy and rates of"
        " recognition were measured. Nothing was sent. Ask for that one (--model any takes any), or update the older"
        " PPIRExtension."
    )


def shipped_model() -> str:
    """The digest of the model that was measured, hex; '' where none comes with the program."""
    path = resources.files("PPIRLogic.proxy") / "weights" / MANIFEST
    if not path.is_file():
        return ""
    sums: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))["sha256"]
    return next((value for name, value in sums.items() if name.endswith(".onnx")), "")


def unmake(
    proxy: Proxy, probabilities: NDArray[np.uint8], names: tuple[str, ...], told: Mapping[str, Any] | None = None
) -> Segmentation:
    """Bring the answer to a proxy back onto the scan. probabilities: uint8 (classes, z, y, x) of the proxy's grid.

    names: of the classes, from the background on. ProtocolError: the answer has another shape or type.

    >>> from PPIRLogic import Geometry
    >>> grid = Geometry((40, 40), (4.0, 4.0), (0.0, 0.0), (1, 0, 0, 1))
    >>> disc = np.hypot(*np.mgrid[-20:20, -20:20]) < 12
    >>> scan = Volume(np.where(disc, np.arange(1600.0).reshape(40, 40) + 500, 0), grid)
    >>> proxy = make(scan, strength=4.0, mask=disc, key=ProxyKey(bytes(32)))
    >>> answer = np.stack([np.zeros_like(proxy.array), np.full_like(proxy.array, 255)])
    >>> found = unmake(proxy, answer, ("background", "disc"))
    >>> found.labels.shape, bool((found.labels == disc).all())
    ((40, 40), True)
    """
    if probabilities.shape != (len(names), *proxy.array.shape) or probabilities.dtype != np.uint8:
        raise ProtocolError(
            f"The site answered {len(names)} classes with an array of shape {probabilities.shape}, which does not fit"
            f" the proxy ({proxy.array.shape})."
        )
    back = proxy.deformation.unwarp(probabilities)
    d = proxy.deformation
    error = d.inverse_error()
    facts = {
        "strength_mm": d.strength, "draw": d.draw, "strip": proxy.prepared.strip, "proxy": proxy.id,
        "bits": 8 * proxy.voxels, "smallest_jacobian": round(d.smallest_jacobian(), 4),
        "inverse_error_mm": {"mean": round(float(error.mean()), 4), "largest": round(float(error.max()), 4)},
        "rates": [rate.to_dict() for rate in rates_for(d.strength)], **(told or {}),
    }  # fmt: skip
    return segmentation_of(back, names, proxy.prepared, facts)
