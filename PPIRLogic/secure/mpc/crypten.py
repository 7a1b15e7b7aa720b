"""CrypTen on our channel: its share type and its opening, with our transport and nothing of its defaults.

CrypTen 0.4.1 as shipped draws its masks from a Mersenne Twister, moves pickles over plaintext sockets and lets
one party know every triple. None of that is used here: shares are made and multiplied by us in the ring of
64-bit integers (precision 0, never truncated), correlated randomness comes from our dealer and AES streams, and
this communicator carries an opening over our mutually authenticated channel to one party only.

One communicator per thread, so that a server can hold several sessions at once.
"""

from __future__ import annotations

import sys
import threading
import types
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from PPIRLogic.errors import MissingDependencyError, ProtocolError
from PPIRLogic.secure.product import Link

_local = threading.local()


@lru_cache(maxsize=1)
def load_crypten() -> tuple[Any, Any]:
    """(torch, CrypTen's ArithmeticSharedTensor), with our communicator in CrypTen's place."""
    try:
        _put_aside_onnx()
        import crypten.communicator as communicator
        import torch
        from crypten.communicator.communicator import Communicator
        from crypten.mpc.primitives import ArithmeticSharedTensor
    except ImportError as error:
        raise MissingDependencyError(
            "The mpc protocol needs torch and CrypTen, which are not installed here:"
            " pip install 'ppir[mpc]' and then pip install --no-deps crypten==0.4.1."
        ) from error
    communicator.DistributedCommunicator = _communicator_class(Communicator, torch)
    return torch, ArithmeticSharedTensor


def _put_aside_onnx() -> None:
    """CrypTen imports its ONNX converter at start, which needs packages no secret-shared tensor uses."""
    name = "crypten.nn.onnx_converter"
    if name not in sys.modules:
        stub: Any = types.ModuleType(name)
        stub.from_onnx = stub.from_pytorch = stub.from_tensorflow = None
        stub.TF_AND_TF2ONNX = False
        sys.modules[name] = stub


def _communicator_class(base: type, torch: Any) -> type:
    class ChannelCommunicator(base):  # type: ignore[misc]
        """CrypTen's communicator for two parties over a `Channel`: only the opening towards one party."""

        def __init__(self, link: Link, rank: int) -> None:
            self.link, self.rank = link, rank

        @classmethod
        def is_initialized(cls) -> bool:
            return getattr(_local, "communicator", None) is not None

        @classmethod
        def get(cls) -> Any:
            return _local.communicator

        @classmethod
        def shutdown(cls) -> None:
            _local.communicator = None

        def get_rank(self) -> int:
            return self.rank

        def get_world_size(self) -> int:
            return 2

        def reduce(self, input: Any, dst: int, op: Any = None, batched: bool = False) -> Any:
            """Sum of both parties' shares, to `dst` alone: the other one's share is all that travels."""
            if batched or op is not None:
                raise NotImplementedError("only single sums are opened")
            if self.rank != dst:
                self.link.channel.send("answer", {}, input.contiguous().numpy().data)
                return None
            payload = self.link.receive("answer").payload
            if len(payload) != 8 * input.numel():
                raise ProtocolError(f"Expected {input.numel()} shares from the peer, got {len(payload) / 8:g}.")
            return input + torch.frombuffer(bytearray(payload), dtype=torch.int64).reshape(input.shape)

    return ChannelCommunicator


def open_to_party_1(share: NDArray[np.int64], link: Link, rank: int) -> NDArray[np.int64] | None:
    """Open additive shares (count,) int64 mod 2^64 to rank 0 (party 1); rank 1 gets None."""
    torch, shared_tensor = load_crypten()
    import crypten.communicator as communicator

    _local.communicator = communicator.DistributedCommunicator(link, rank)
    try:
        tensor = shared_tensor.from_shares(torch.from_numpy(share.copy()), precision=0)
        opened = tensor.reveal(dst=0)
    finally:
        _local.communicator = None
    return None if opened is None else opened.numpy()
