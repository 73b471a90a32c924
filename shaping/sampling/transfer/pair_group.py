"""A process group of two, for weights on their way from a learner to an engine.

Neither side uses torch's default group, which belongs to the learner on one side and to vLLM on the other.
"""

from __future__ import annotations

import contextlib
import os
import threading
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor
from torch.distributed import BroadcastOptions, PrefixStore, Store

from shaping.sampling.engine import EngineError
from shaping.sockets import own_address, use_interface


class TransferError(EngineError):
    """Weights have not arrived. The engine keeps serving its present weights."""


class PairGroup:
    """A process group of two, in which rank 0 sends.

    Raises: RuntimeError if the other rank does not join in time.
    """

    def __init__(self, store: Store, host: str, rank: int, device: torch.device, timeout: float) -> None:
        self._limit = timedelta(seconds=timeout)
        here = _identity(device)
        store.set(f"device-{rank}", here)
        there = store.get(f"device-{1 - rank}").decode()
        nccl = "cpu" not in (here, there) and here != there  # NCCL refuses two ranks on one GPU
        self.device = device if nccl else torch.device("cpu")
        self._group: Any = (_nccl if nccl else _gloo)(PrefixStore("group", store), rank, self._limit, device, host)

    def move(self, message: Tensor) -> None:
        """Send the bytes of `message` on rank 0, receive them into `message` on rank 1. It lies on `device`."""
        if (group := self._group) is None:
            raise TransferError("called off")
        options = BroadcastOptions()
        options.rootRank, options.timeout = 0, self._limit
        group.broadcast([message], options).wait(self._limit)

    def close(self) -> None:
        """End the group, from any thread. A `move` under way raises, here and on the other side."""
        group, self._group = self._group, None
        if group is not None:
            with contextlib.suppress(RuntimeError):
                group.abort()  # ends a broadcast under way; connections close when the group is deleted


def _identity(device: torch.device) -> str:
    return "cpu" if device.type != "cuda" else str(torch.cuda.get_device_properties(device).uuid)


def _gloo(store: Store, rank: int, limit: timedelta, device: torch.device, host: str) -> Any:
    from torch.distributed import ProcessGroupGloo

    gloo: Any = ProcessGroupGloo  # torch's stub lacks the options for the address to listen on
    options = gloo._Options()
    options._timeout = limit
    options._devices = [gloo.create_device(hostname=own_address(host))]
    return gloo(store, rank, 2, options)


def _nccl(store: Store, rank: int, limit: timedelta, device: torch.device, host: str) -> Any:
    from torch.distributed import ProcessGroupNCCL

    use_interface(host, "NCCL_SOCKET_IFNAME")
    options = ProcessGroupNCCL.Options()
    options._timeout = limit
    with _BLOCKING, torch.cuda.device(device):
        previous = os.environ.get("TORCH_NCCL_BLOCKING_WAIT")
        # Without it, torch's watchdog would end this whole process after the loss of the peer, not only the transfer.
        os.environ["TORCH_NCCL_BLOCKING_WAIT"] = "1"
        try:
            return ProcessGroupNCCL(store, rank, 2, options)
        finally:
            os.environ.pop("TORCH_NCCL_BLOCKING_WAIT")
            os.environ.update({} if previous is None else {"TORCH_NCCL_BLOCKING_WAIT": previous})


_BLOCKING = threading.Lock()
"""Held while the environment variable is changed."""
