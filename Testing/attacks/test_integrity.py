"""What a side that deviates can do to the *result*: nothing protects it, and these attacks succeed on ours.

Under `fhe` party 2 must hold the numbers that it tests, and may then release others. Under `mpc` the dealer and party 2
add what they like to every number. What party 1 gets is as good as they are, and it is told so in SECURITY.md.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from recording import Record

from PPIRLogic.disclosure.accounts import Budget
from PPIRLogic.errors import ProtocolError
from PPIRLogic.images.geometry import Geometry
from PPIRLogic.images.volume import Volume
from PPIRLogic.local_processes import make_sites
from PPIRLogic.network.identity import load_or_create_identity
from PPIRLogic.registration.dealer.orders import Order
from PPIRLogic.registration.parameters import Parameters
from PPIRLogic.registration.party1.register import register
from PPIRLogic.registration.party2.fixed_image import FixedImage
from PPIRLogic.registration.party2.policy import Policy
from PPIRLogic.registration.party2.server import Server
from PPIRLogic.registration.party2.site import Shared
from PPIRLogic.registration.request import Peer
from PPIRLogic.secure.fhe.parameters import PLAIN_MODULUS
from PPIRLogic.secure.fhe.protocol import FheFixed
from PPIRLogic.secure.product import Term

RNG = np.random.default_rng(5)
IMAGE = RNG.integers(-2048, 2049, 5000).astype(np.int32)
COLUMNS = RNG.integers(-300, 301, (2, 5000)).astype(np.int32)
TRUE = [int(c.astype(np.int64) @ IMAGE) for c in COLUMNS]
TERMS = [Term(k, "J", "gradient") for k in range(2)]
LARGEST = int(np.abs(COLUMNS[0]).sum()) * 2048


@pytest.mark.parametrize("added", [12_345, LARGEST * 3], ids=["possible", "more than any image gives"])
def test_numbers_that_party_2_changes_after_the_test_are_believed_if_an_image_could_give_them(
    added: int, exchange: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, record: Record
) -> None:
    release = FheFixed._release

    def changed(self: FheFixed, numbers: NDArray[np.uint64], secret: Any) -> None:
        release(self, (numbers + np.uint64(added)) % np.uint64(PLAIN_MODULUS), secret)

    monkeypatch.setattr(FheFixed, "_release", changed)
    opened = exchange("fhe", {"J": IMAGE})
    if added > LARGEST:
        with pytest.raises(ProtocolError, match="larger than any image"):
            opened.evaluate(COLUMNS, TERMS)
        return
    assert opened.evaluate(COLUMNS, TERMS) == [v + added for v in TRUE]
    record(
        "numbers changed after their test (malicious party 2, the result)",
        "believed, whatever they are",
        "believed as long as an image could give them (known limit: the result is as good as party 2)",
    )


def test_a_dealer_adds_what_it_likes_to_every_number(
    exchange: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, record: Record
) -> None:
    correlation, added = Order.correlation, 2**50
    monkeypatch.setattr(Order, "correlation", lambda self, *keys, **more: correlation(self, *keys, **more) + added)
    assert exchange("mpc", {"J": IMAGE}).evaluate(COLUMNS, TERMS) == [v + added for v in TRUE]
    record(
        "wrong masks (malicious dealer, the result)",
        "every number is off by what the dealer chose",
        "the same (known limit: no MACs under mpc)",
    )


def blobs(shift: tuple[float, float] = (0.0, 0.0)) -> Volume:
    draw, y, x = np.random.default_rng(2), *np.indices((72, 64))
    spots = draw.uniform(18, 48, (10, 2)) + np.array(shift)
    array = sum(np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / draw.uniform(30, 120)) for cx, cy in spots)
    return Volume((1000 * array).astype(np.float32), Geometry((64, 72), (1.0, 1.0), (0.0, 0.0), (1, 0, 0, 1)), "blobs")


def test_a_party_2_with_another_image_steers_the_transform_and_nothing_shows(tmp_path: Path, record: Record) -> None:
    """It serves its image moved by 6 and −4 mm: so is the transform, and no doubt is raised."""
    sites = make_sites(tmp_path, ("A", "B"))
    identity = load_or_create_identity(sites["B"].home)
    policy = Policy(protocols=frozenset({"fhe"}), budget=Budget(100, 1e9, 10**9, 10**9))
    shared = [Shared(FixedImage(name, image), policy) for name, image in (("true", blobs()), ("moved", blobs((6, -4))))]
    server = Server("127.0.0.1:0", identity, sites["B"].home, shared, threads=1)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    address = str(server.listener.address)
    try:
        run = Parameters(
            transform="translation", loss="ssd", levels=(2,), evaluations=12, threads=1, initial="identity",
        )  # fmt: skip
        runs = {
            name: register(blobs(), Peer(address, image=name), home=sites["A"].home, parameters=run)
            for name in ("true", "moved")
        }
    finally:
        server.stop()
        thread.join(15)
    true, moved = (np.array(runs[name].transform.TransformPoint((0.0, 0.0))) for name in ("true", "moved"))
    assert np.allclose(true, 0, atol=0.1) and np.allclose(moved, (-6, 4), atol=0.3)
    assert not runs["moved"].doubts and runs["moved"].complete
    record(
        "an image moved by 7.2 mm (malicious party 2, the result)",
        "the transform is off by 7.2 mm, and no doubt is raised",
        "the same (known limit: the result is as good as party 2)",
    )
