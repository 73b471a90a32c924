"""Several processes that train one policy: data parallel or fully sharded (FSDP2), over gloo on CPUs, NCCL on GPUs.

Every rank gets all samples of an update and packs them identically, so that all ranks know the global token counts
without communication. Each rank takes its share of the micro-batches. Losses are divided by global counts, so
gradients are only summed.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import zip_longest
from typing import Any, Literal, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor
from torch.nn.utils import get_total_norm
from transformers import PreTrainedModel

from shaping.learning.ranks.rendezvous import served_by_torchrun, store_of
from shaping.learning.ranks.sharding import Run, run_here, shard, whole
from shaping.sockets import use_interface

T = TypeVar("T")
Strategy = Literal["none", "data", "fsdp"]
_BUCKET = 1 << 25
"""Largest number of elements in one all-reduce: large enough for the network, small enough for memory."""


class RanksError(RuntimeError):
    """The processes of a learner cannot connect to each other."""


@dataclass(frozen=True, slots=True)
class Ranks:
    """The processes that train one policy, from the side of one of them. With one rank its methods change nothing."""

    rank: int = 0
    """Number of this process, from 0."""
    size: int = 1
    """Number of processes."""
    strategy: Strategy = "none"
    """`data`: every rank has all weights; `fsdp`: the weights are sharded."""
    device: str = "cpu"
    """torch device of this process."""

    @classmethod
    def connect(
        cls,
        strategy: Strategy,
        device: str,
        *,
        timeout: float = 600.0,
        environment: Mapping[str, str] = os.environ,
        listening: socket.socket | None = None,
    ) -> Ranks:
        """Connect to the other ranks. Nothing listens on other networks than that of MASTER_ADDR.

        Args:
            strategy: how the ranks share the training.
            device: `cpu` or `cuda`.
            timeout: seconds for the connection, and for every later exchange.
            environment: the variables that torchrun sets.
            listening: of rank 0, if it listens at MASTER_ADDR and MASTER_PORT already.
        Raises: `RanksError` if a variable is missing or wrong, or if other ranks do not connect in time.
        """
        if strategy == "none":
            return cls(device=device)
        rank, size, local = (_number(environment, n, strategy) for n in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
        if rank >= size:
            raise RanksError(f"RANK={rank} is not below WORLD_SIZE={size}: ranks count from 0")
        host, port = _read(environment, "MASTER_ADDR", strategy), _number(environment, "MASTER_PORT", strategy)
        cuda = device.startswith("cuda")
        if cuda and local >= torch.cuda.device_count():
            raise RanksError(
                f"LOCAL_RANK={local}, but there are {torch.cuda.device_count()} GPUs: start one process per GPU"
            )
        if cuda:
            torch.cuda.set_device(local)
        limit = timedelta(seconds=timeout)
        backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
        try:
            use_interface(host, "GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
            client = rank > 0 or served_by_torchrun(environment)
            store = store_of(host, port, size, limit, client=client, listening=listening)
            dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=limit)
        except (RuntimeError, ValueError, OSError) as error:
            raise RanksError(
                f"rank {rank} of {size} did not meet the others at {host}:{port} within {timeout:.0f} s; start all of "
                f"them with the same MASTER_ADDR, MASTER_PORT and WORLD_SIZE ({error})"
            ) from error
        return cls(rank, size, strategy, f"cuda:{local}" if cuda else "cpu")

    def close(self) -> None:
        """End the process group."""
        if self.strategy != "none":
            dist.destroy_process_group()

    def distribute(
        self,
        model: PreTrainedModel,
        others: Iterable[Tensor],
        keep: Collection[nn.Parameter],
        dtype: torch.dtype | None = None,
    ) -> Run[Any]:
        """Copy rank 0's weights to all ranks; under fsdp also shard them, layer by layer.

        Args:
            model: the model; under fsdp its weights may still be on the CPU.
            others: further tensors to copy.
            keep: parameters that stay whole under fsdp.
            dtype: type that fsdp gives to all other weights; none: their own.
        Returns: a function that must run every computation with the model (see `sharding.shard`).
        """
        if self.size == 1:
            return run_here
        sharded = self.strategy == "fsdp"
        for tensor in (*(keep if sharded else model.parameters()), *model.buffers(), *others):
            dist.broadcast(tensor.detach(), 0)
        if not sharded:
            return run_here
        return shard(model, init_device_mesh(self.device.partition(":")[0], (self.size,)), keep, dtype)

    def share(
        self, batches: Sequence[T], kind: Callable[[T], Hashable], cost: Callable[[T], int]
    ) -> list[tuple[T, bool]]:
        """Choose this rank's micro-batches.

        Sharded ranks must run equally many passes of each kind. A rank with fewer repeats a batch that does not count.

        Args:
            batches: all micro-batches, the same on every rank.
            kind: kind of a batch; batches of one kind run the same passes.
            cost: relative time of a batch.
        Returns: (batch, True if it counts).
        """
        if self.size == 1:
            return [(batch, True) for batch in batches]
        schedule = deal([cost(b) for b in batches], [kind(b) for b in batches], self.size)[self.rank]
        return [(batches[i], counts) for i, counts in schedule if counts or self.strategy == "fsdp"]

    def total(self, values: Mapping[str, float]) -> dict[str, float]:
        """Sum each value over the ranks that have it. The result is the same on all ranks."""
        if self.size == 1:
            return dict(values)
        sums: dict[str, float] = {}
        for of_rank in self.gather(dict(values)):
            for name, value in of_rank.items():
                sums[name] = sums.get(name, 0) + value
        return sums

    def gather(self, value: T) -> list[T]:
        """The values of all ranks, in order."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def add_up(self, *tensors: Tensor) -> None:
        """Sum tensors over ranks in place."""
        for tensor in tensors if self.size > 1 else ():
            dist.all_reduce(tensor)

    def stored(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Whole copies on the CPU, on rank 0; empty on other ranks. All ranks must call it together."""
        copies: dict[str, Tensor] = {}
        for name, tensor in tensors.items():
            complete = whole(tensor.detach())
            if self.rank == 0:
                copies[name] = complete.cpu().clone()
        return copies

    def reduce(self, gradients: dict[nn.Parameter, Tensor], parameters: Sequence[nn.Parameter]) -> None:
        """Sum gradients over ranks in place. Gradients of sharded parameters are summed already.

        A parameter without a gradient on any rank stays missing, so that the optimiser skips it.
        """
        plain = [p for p in parameters if not isinstance(p, DTensor)]
        if self.size == 1 or not plain:
            return
        has_gradient = torch.tensor([p in gradients for p in plain], dtype=torch.uint8, device=self.device)
        dist.all_reduce(has_gradient, dist.ReduceOp.MAX)
        present = [p for p, somewhere in zip(plain, has_gradient.tolist(), strict=True) if somewhere]
        for parameter in present:
            gradients.setdefault(parameter, torch.zeros_like(parameter, dtype=torch.float32))
        for bucket in _buckets([gradients[p] for p in present]):
            flat = torch.cat([g.reshape(-1) for g in bucket])
            dist.all_reduce(flat)
            for gradient, summed in zip(bucket, flat.split([g.numel() for g in bucket]), strict=True):
                gradient.copy_(summed.view_as(gradient))


SINGLE = Ranks()
"""One process alone."""


def deal(costs: Sequence[int], kinds: Sequence[Hashable], ranks: int) -> list[list[tuple[int, bool]]]:
    """Deal batches to ranks in rounds: one batch per rank, all of one kind.

    Within a kind the most expensive batches come first. In each round they go to the ranks with the least work so far,
    so that two ranks never differ by more than one batch. A rank without a batch in a round repeats the cheapest batch
    of the kind.

    Args:
        costs: relative time of each batch.
        kinds: kind of each batch.
        ranks: number of ranks.
    Returns: per rank (index of a batch, True if it counts), in the order of work.
    """
    load = [0] * ranks
    schedules: list[list[tuple[int, bool]]] = [[] for _ in range(ranks)]
    for kind in dict.fromkeys(kinds):
        members = sorted((i for i, k in enumerate(kinds) if k == kind), key=lambda i: -costs[i])
        for start in range(0, len(members), ranks):
            by_load = sorted(range(ranks), key=lambda r: load[r])
            for rank, i in zip_longest(by_load, members[start : start + ranks]):
                schedules[rank].append((members[-1], False) if i is None else (i, True))
                load[rank] += 0 if i is None else costs[i]
    return schedules


def global_norm(gradients: Sequence[Tensor]) -> Tensor:
    """2-norm of gradients, some of which may be sharded; the same on all ranks. All ranks must call it together."""
    kinds = [[g for g in gradients if isinstance(g, DTensor) is sharded] for sharded in (True, False)]
    norms = [whole(get_total_norm(kind)) for kind in kinds if kind]
    return norms[0] if len(norms) == 1 else torch.stack(norms).norm() if norms else torch.tensor(0.0)


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    bucket: list[Tensor] = []
    for tensor in tensors:
        if bucket and (tensor.dtype != bucket[0].dtype or sum(t.numel() for t in bucket) + tensor.numel() > _BUCKET):
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket


def _read(environment: Mapping[str, str], name: str, strategy: Strategy) -> str:
    try:
        return environment[name]
    except KeyError:
        raise RanksError(
            f"learner.strategy={strategy} needs the environment variable {name}: start the processes with torchrun "
            "--nproc-per-node=..., or set learner.strategy=none"
        ) from None


def _number(environment: Mapping[str, str], name: str, strategy: Strategy) -> int:
    value = _read(environment, name, strategy)
    if not value.isdecimal():
        raise RanksError(f"{name}={value!r} is not a number; torchrun sets it")
    return int(value)
