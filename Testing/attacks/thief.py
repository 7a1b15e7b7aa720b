"""A party 1 that opens a session in order and then chooses its columns: it reads voxels instead of registering."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.disclosure.ledger import SessionLedger
from PPIRLogic.errors import PPIRError
from PPIRLogic.local_processes import Site
from PPIRLogic.network.identity import load_or_create_identity
from PPIRLogic.network.trust import TrustStore
from PPIRLogic.registration.party1.session import ClientSession
from PPIRLogic.registration.party2.fixed_image import FixedImage
from PPIRLogic.registration.request import Request
from PPIRLogic.registration.terms import VALUE, loss_of, terms_by_stage
from PPIRLogic.secure.layout import GROUP

BASE = 4097  # values of a voxel: one number carries three
DIGITS = 3
WANTED = Request("fixed", "fhe", "translation", "ssd", (1,), evaluations=45, starts=0, skip_check=True)


class ChosenColumns:
    """S as it is given, (columns, N): a `ColumnSource` that says of itself what gets it past party 1's own checks."""

    def __init__(self, dense: NDArray[np.int32]) -> None:
        self.dense, self.columns, self.groups = dense, len(dense), -(-dense.shape[1] // GROUP)

    def prepare(self, workers: int) -> None: ...

    def finish(self) -> None: ...

    def block(self, group: int, worker: int, out: NDArray[np.int32]) -> None:
        part = self.dense[:, group * GROUP : (group + 1) * GROUP]
        out[:] = 0
        out[:, : part.shape[1]] = part

    def absolute_sums(self) -> NDArray[np.int64]:
        return np.abs(self.dense).sum(axis=1, dtype=np.int64)

    def norms(self) -> NDArray[np.float64]:
        return np.ones(self.columns)

    def column_scales(self) -> NDArray[np.float64]:
        return np.ones(self.columns)


class Thief:
    """One session; `read` gives voxels of J until it is stopped, and `stopped` is what stopped it."""

    def __init__(self, site: Site, address: str, request: Request = WANTED, resumes: bytes = b"") -> None:
        self.request, self.stopped = request, None
        identity, trust = load_or_create_identity(site.home), TrustStore(site.home)
        self.session = ClientSession(address, identity, trust, lambda: None, 1, SessionLedger(None, {}))
        try:
            self.session.open(request, resumes=resumes)
            self.level = self.session.levels[0]
            self.session.open_level(self.level, loss_of(request), None)
        except BaseException:
            self.session.close()
            raise
        self.terms = list(terms_by_stage(request, self.level)[VALUE])
        self._columns = [t.column for t in self.terms if t.operand == "J"]

    stopped: PPIRError | None

    def read(self, voxels: Iterable[int]) -> dict[int, int]:
        """Exact 12-bit values by sample, three to a number."""
        wanted, found = list(voxels), dict[int, int]()
        step = DIGITS * len(self._columns)
        for first in range(0, len(wanted), step):
            part = wanted[first : first + step]
            try:
                found |= self._ask(part)
            except PPIRError as error:
                self.stopped = self.session.explain(error)
                break
        return found

    def _ask(self, part: list[int]) -> dict[int, int]:
        dense = np.zeros((1 + max(t.column for t in self.terms), len(self.level.samples)), np.int32)
        for n, voxel in enumerate(part):
            dense[self._columns[n // DIGITS], voxel] = BASE ** (n % DIGITS)
        values: Any = self.session.evaluate(self.level, ChosenColumns(dense), VALUE, self.terms)
        answers = [v for v, t in zip(values, self.terms, strict=True) if t.operand == "J"]
        shift = (BASE**DIGITS - 1) // 2
        return {
            voxel: (answers[n // DIGITS] + shift) // BASE ** (n % DIGITS) % BASE - (BASE - 1) // 2
            for n, voxel in enumerate(part)
        }

    def close(self) -> None:
        self.session.close()

    def __enter__(self) -> Thief:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def quantised(image: FixedImage, request: Request = WANTED) -> NDArray[np.int32]:
    """What a thief wants to know."""
    level = image.levels(request, bytes(16))[0]
    return image.operands(level, ("J",), request)["J"]


def right(found: dict[int, int], hidden: NDArray[np.int32]) -> int:
    """How many voxels were read exactly."""
    return sum(int(hidden[voxel]) == value for voxel, value in found.items())
