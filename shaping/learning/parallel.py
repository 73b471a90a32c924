"""Several processes that learn as one: data parallel or fully sharded (FSDP2), over gloo on CPUs and NCCL on GPUs.

Every rank is given all samples of an update and packs them alike, so that all know the global token counts without a
word. Each takes its share of the micro-batches; losses are divided by global counts, so gradients are only summed.
"""

from __future__ import annotations

import os
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

from shaping.learning.sharding import Run, run_here, shard, whole

T = TypeVar("T")
Strategy = Literal["none", "data", "fsdp"]
_BUCKET = 1 << 25
"""Numbers of one all-reduce: enough to use the network well, few enough to cost little memory."""


class RanksError(RuntimeError):
    """The processes of a learner cannot be brought together."""


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process's place among those that train one policy. With one rank nothing here changes anything."""

    rank: int = 0
    size: int = 1
    strategy: Strategy = "none"
    device: str = "cpu"

    @classmethod
    def connect(
        cls,
        strategy: Strategy,
        device: str,
        *,
        timeout: float = 600.0,
        environment: Mapping[str, str] = os.environ,
    ) -> Ranks:
        """Meets the other ranks; `environment` is what torchrun sets. `timeout` seconds also bound every exchange.

        Raises `RanksError` if a variable is missing or wrong, or if the others do not come.
        """
        if strategy == "none":
            return cls(device=device)
        rank, size, local = (_number(environment, n, strategy) for n in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
        if rank >= size:
            raise RanksError(f"RANK={rank} is not below WORLD_SIZE={size}")
        address = "tcp://{}:{}".format(*(_read(environment, n, strategy) for n in ("MASTER_ADDR", "MASTER_PORT")))
        cuda = device.startswith("cuda")
        if cuda and local >= torch.cuda.device_count():
            raise RanksError(f"LOCAL_RANK={local}, but there are {torch.cuda.device_count()} GPUs: start as many")
        if cuda:
            torch.cuda.set_device(local)
        limit = timedelta(seconds=timeout)
        backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
        try:
            dist.init_process_group(backend, init_method=address, rank=rank, world_size=size, timeout=limit)
        except (RuntimeError, ValueError) as error:
            raise RanksError(
                f"rank {rank} of {size} did not meet the others at {address} within {timeout:.0f} s; start all of them "
                f"with the same MASTER_ADDR, MASTER_PORT and WORLD_SIZE ({error})"
            ) from error
        return cls(rank, size, strategy, f"cuda:{local}" if cuda else "cpu")

    def close(self) -> None:
        if self.strategy != "none":
            dist.destroy_process_group()

    def distribute(self, model: PreTrainedModel, others: Iterable[Tensor], keep: Collection[nn.Parameter]) -> Run[Any]:
        """Give rank 0's weights, and `others`, to all; under fsdp spread the model's, except those to `keep` whole.

        Returns what must run every computation with the model (see `sharding.shard`).
        """
        if self.size == 1:
            return run_here
        for tensor in (*model.parameters(), *model.buffers(), *others):
            dist.broadcast(tensor.detach(), 0)
        if self.strategy == "data":
            return run_here
        return shard(model, init_device_mesh(self.device.partition(":")[0], (self.size,)), keep)

    def share(
        self, batches: Sequence[T], kind: Callable[[T], Hashable], cost: Callable[[T], int]
    ) -> list[tuple[T, bool]]:
        """This rank's micro-batches, and whether each counts.

        Sharded ranks must all run equally many passes of a kind; one that has fewer repeats a batch without counting.
        """
        if self.size == 1:
            return [(batch, True) for batch in batches]
        hand = deal([cost(b) for b in batches], [kind(b) for b in batches], self.size)[self.rank]
        return [(batches[i], counts) for i, counts in hand if counts or self.strategy == "fsdp"]

    def total(self, values: Mapping[str, float]) -> dict[str, float]:
        """Each value summed over the ranks that have it, alike on all."""
        if self.size == 1:
            return dict(values)
        sums: dict[str, float] = {}
        for found in self.gather(dict(values)):
            for name, value in found.items():
                sums[name] = sums.get(name, 0) + value
        return sums

    def gather(self, value: T) -> list[T]:
        """Every rank's value, in the order of ranks."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value)
        return found

    def stored(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Whole copies on the CPU, as one rank would have them: on rank 0; nothing elsewhere. All ranks must ask."""
        found: dict[str, Tensor] = {}
        for name, tensor in tensors.items():
            complete = whole(tensor.detach())
            if self.rank == 0:
                found[name] = complete.cpu().clone()
        return found

    def reduce(self, gradients: dict[nn.Parameter, Tensor], parameters: Sequence[nn.Parameter]) -> None:
        """Sum gradients over ranks in place; those of sharded parameters are summed already.

        A parameter whose gradient is missing on all ranks stays missing, so that the optimiser passes it over.
        """
        plain = [p for p in parameters if not isinstance(p, DTensor)]
        if self.size == 1 or not plain:
            return
        has = torch.tensor([p in gradients for p in plain], dtype=torch.uint8, device=self.device)
        dist.all_reduce(has, dist.ReduceOp.MAX)
        present = [p for p, somewhere in zip(plain, has.tolist(), strict=True) if somewhere]
        for parameter in present:
            gradients.setdefault(parameter, torch.zeros_like(parameter, dtype=torch.float32))
        for bucket in _buckets([gradients[p] for p in present]):
            flat = torch.cat([g.reshape(-1) for g in bucket])
            dist.all_reduce(flat)
            for gradient, summed in zip(bucket, flat.split([g.numel() for g in bucket]), strict=True):
                gradient.copy_(summed.view_as(gradient))


SINGLE = Ranks()


def deal(costs: Sequence[int], kinds: Sequence[Hashable], ranks: int) -> list[list[tuple[int, bool]]]:
    """For each rank, (index, does it count) in the order of work: rounds of one batch a rank, all of one kind.

    Within a kind the most expensive come first, and in each round they go to the ranks with the least work so far, so
    that two ranks never differ by more than one batch. A rank left over in a round repeats the kind's cheapest batch.
    """
    load = [0] * ranks
    hands: list[list[tuple[int, bool]]] = [[] for _ in range(ranks)]
    for kind in dict.fromkeys(kinds):
        members = sorted((i for i, k in enumerate(kinds) if k == kind), key=lambda i: -costs[i])
        for start in range(0, len(members), ranks):
            by_load = sorted(range(ranks), key=lambda r: load[r])
            for rank, i in zip_longest(by_load, members[start : start + ranks]):
                hands[rank].append((members[-1], False) if i is None else (i, True))
                load[rank] += 0 if i is None else costs[i]
    return hands


def global_norm(gradients: Sequence[Tensor]) -> Tensor:
    """2-norm of gradients of which some may be sharded, alike on all ranks; all must ask."""
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
