"""All weights of a model from one process to another: through NCCL where each can have a GPU."""

from __future__ import annotations

import contextlib
import multiprocessing
import time
from multiprocessing.connection import Connection
from typing import Any

import torch

from benchmarks.gpu.report import Check, Part
from benchmarks.gpu.shapes import SMOLLM2_135M, TINY, model_of
from benchmarks.table import Row
from shaping.sampling.transfer.broadcast import Broadcaster, Receiver
from shaping.sampling.transfer.weights import checksum

TIMEOUT = 60.0


def broadcast(device: torch.device, quick: bool) -> Part:
    """The part `broadcast`."""
    if device.type == "cuda" and torch.cuda.device_count() < 2:
        told = f"there is {torch.cuda.device_count()} GPU: NCCL needs one for each of two processes"
        return Part("broadcast", [Check("NCCL", None, told)])
    other = "cuda:1" if device.type == "cuda" else "cpu"
    state = dict(model_of(TINY if quick else SMOLLM2_135M, device, torch.bfloat16).state_dict())
    wanted = [(n, str(t.dtype).removeprefix("torch."), list(t.shape)) for n, t in state.items()]
    here, there = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_receive, args=(there, other), daemon=True)
    process.start()
    seconds: list[float] = []
    found: Any = "nothing arrived"
    with contextlib.closing(Broadcaster("127.0.0.1", TIMEOUT)) as sender:
        for _ in range(3):  # the first makes the pair
            begun = time.perf_counter()
            offer = sender.offer("receiver", state)
            here.send((offer.host, offer.port, offer.session, offer.number, offer.timeout, wanted))
            found = here.recv() if here.poll(2 * TIMEOUT) else "nothing arrived"
            seconds.append(time.perf_counter() - begun)
            sender.settle("receiver", found == checksum(state))
    here.send(None)
    process.join(10)
    process.kill()
    size = sum(t.numel() * t.element_size() for t in state.values())
    right = found == checksum(state)
    checks = [Check(f"weights from {device} to {other}", right, "equal to the bit" if right else str(found))]
    return Part("broadcast", checks, [Row("all weights", size / min(seconds) / 2**30, unit="GiB/s")])


def _receive(pipe: Connection, device: str) -> None:
    """Receive what is offered until None comes; send back the checksum, or the reason of a failure."""
    receiver = Receiver(torch.device(device))
    while (offered := pipe.recv()) is not None:
        receiver.start(*offered)
        while (outcome := receiver.outcome) is None:
            time.sleep(0.002)
        pipe.send(outcome or checksum(receiver.take()))
    receiver.close()
