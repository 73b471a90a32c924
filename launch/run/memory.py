"""What the processes of a run will hold in memory, estimated before anything starts. docs/memory.md has the formula."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from launch.config.stages import learner_of
from launch.config.study import RunConfig
from launch.distributed.needs import computes_itself
from launch.errors import UserError
from launch.preference.stage import preference_stage
from launch.run.episodes import slots_of
from shaping.learning.losses.logprobs import CHUNK
from shaping.models.sizes import ModelSizes, sizes_of

GIB = 1 << 30
USABLE = 0.95
"""Share of a GPU's memory that an estimate may fill: CUDA itself, and gaps between allocations, take the rest."""
FLOAT = 4
"""Bytes of a float32 number."""


class TooLargeError(UserError):
    """A run cannot fit into the memory of a GPU."""


class Part(NamedTuple):
    """One thing that is held."""

    what: str
    """Its name."""
    size: float
    """Its bytes."""
    setting: str
    """What makes it smaller."""


@dataclass(frozen=True)
class Holding:
    """What one process holds."""

    who: str
    """The process."""
    share: float
    """GPUs that it reserves, or a share of one; 0: it holds all this in the memory of its machine."""
    parts: tuple[Part, ...]
    """On each of its GPUs."""

    @property
    def size(self) -> float:
        return sum(part.size for part in self.parts)


def holdings(run: RunConfig, sizes: ModelSizes, *, gpu: bool, memory: float | None = None) -> list[Holding]:
    """What each process of a run holds: the run itself, then each rollout worker, then each learner rank.

    `gpu`: does the run itself compute on one? `memory`: bytes of a GPU, of which vLLM takes a share; None: not known.
    """
    group, rollout = run.train.learner_group, run.rollout
    own = [_weights(run, sizes)] if computes_itself(run) else []
    own += [] if group.strategy != "none" else _learning(run, sizes, 1)
    if not rollout.workers:
        open_here = max(slots_of(run), run.eval.slots or 1)
        own.append(_cache(run, sizes, open_here, "rollout.slots, eval.slots or learner.token_budget"))
    worker = _vllm(run, sizes, memory) if rollout.engine == "vllm" else _sampling(run, sizes)
    shards = group.ranks if group.strategy == "fsdp" else 1
    rank = [_weights(run, sizes, shards), *_learning(run, sizes, shards)]
    return [
        Holding("the run itself", run.train.gpus if gpu and computes_itself(run) else 0.0, tuple(own)),
        *[Holding("rollout worker", rollout.gpus, tuple(worker))] * rollout.workers,
        *[Holding("learner rank", group.gpus, tuple(rank))] * len(group.bundles()),
    ]


def by_device(found: Iterable[Holding]) -> list[list[Holding]]:
    """Holdings by the GPU that they share; a process with several GPUs has each of them for itself, and counts once."""
    devices: list[list[Holding]] = []
    free: list[float] = []
    for holding in (h for h in found if h.share):
        room = [i for i, left in enumerate(free) if holding.share < 1 and left >= holding.share - 1e-6]
        if room:
            fullest = min(room, key=lambda i: free[i])
            devices[fullest].append(holding)
            free[fullest] -= holding.share
        else:
            devices.append([holding])
            free.append(1.0 - min(holding.share, 1.0))
    return devices


def refusal(run: RunConfig, sizes: ModelSizes, memory: float, *, gpu: bool = True) -> str:
    """Say what cannot fit into GPUs with so many bytes, and what to set; empty if everything fits."""
    for sharing in by_device(holdings(run, sizes, gpu=gpu, memory=memory)):
        needed = sum(holding.size for holding in sharing)
        if needed > USABLE * memory:
            who, part = max(((h.who, p) for h in sharing for p in h.parts), key=lambda pair: pair[1].size)
            names = " and ".join(dict.fromkeys(holding.who for holding in sharing))
            return (
                f"{names} need about {_gib(needed)} of a GPU with {_gib(memory)}, most of it for {part.what} "
                f"({_gib(part.size)}, {who}): change {part.setting} (docs/memory.md; --dry-run shows all parts)"
            )
    return _too_small_a_share(run, sizes, memory)


def _too_small_a_share(run: RunConfig, sizes: ModelSizes, memory: float) -> str:
    """Say whether vLLM's share of a GPU does not hold its weights and one episode."""
    if run.rollout.engine != "vllm" or not run.rollout.gpus:
        return ""
    config = run.rollout.vllm_config(dtype=run.learner.dtype)
    needed, share = sum(part.size for part in _vllm(run, sizes, None)), config.gpu_memory_utilization * memory
    if config.kv_cache_gib is not None or needed <= share:
        return ""
    return (
        f"vLLM needs {_gib(needed)} of a GPU for its weights and one episode, and has {_gib(share)} of {_gib(memory)}: "
        f"raise rollout.vllm.gpu_memory_utilization (now {config.gpu_memory_utilization:g}) or tensor_parallel_size, "
        "or lower rollout.vllm.max_model_len"
    )


def check_memory(starts: Iterable[tuple[RunConfig, Path]], memory: float | None = None) -> None:
    """Raise `TooLargeError` for the first run that the GPUs here cannot hold. Without GPUs nothing is known.

    Runs of preference models are left to `launch.run.models.preference_memory`.
    """
    memory = memory or gpu_memory()
    if memory is None:
        return
    agents = [(whole, model) for whole, model in starts if preference_stage(whole.stages) is None]
    for run, model in [(own, model) for whole, model in agents for own in _stages(whole)]:
        try:
            sizes = sizes_of(model, _targets(run))
        except ValueError:  # of a model of unknown size nothing is refused
            continue
        if why := refusal(run, sizes, memory, gpu=run.train.device != "cpu"):
            raise TooLargeError(f"{run.directory_name} does not fit: {why}")


def _stages(run: RunConfig) -> list[RunConfig]:
    """The run, or each of its stages of fine-tuning with the learner that it has."""
    learners = dict.fromkeys(learner_of(stage, run.learner) for stage in run.stages)
    return [run.model_copy(update={"learner": learner}) for learner in learners] or [run]


def gpu_memory() -> float | None:
    """Bytes of the smallest GPU here; None without one."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return min((torch.cuda.get_device_properties(i).total_memory for i in range(count)), default=None)


def memory_lines(run: RunConfig, model: Path, memory: float | None = None) -> list[str]:
    """A table of what each kind of process of a run holds, in GiB per device."""
    try:
        sizes = sizes_of(model, _targets(run))
    except ValueError as error:
        return [f"not estimated: {error}"]
    gpu = run.train.device.startswith("cuda") or (run.train.device == "auto" and memory is not None)
    found = holdings(run, sizes, gpu=gpu, memory=memory)
    rows = []
    for holding in dict.fromkeys(found):
        count = found.count(holding)
        where = "host" if not holding.share else "GPU" if holding.share <= 1 else f"each of {holding.share:g} GPUs"
        name = holding.who if count == 1 else f"{count} x {holding.who}"
        shown = ", ".join(f"{p.what} {p.size / GIB:.2f}" for p in holding.parts if p.size >= 0.005 * GIB) or "little"
        rows.append((name, where, f"{holding.size / GIB:.2f}", shown))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    known = "" if memory is None else f", of {_gib(memory)} per GPU"
    head = f"{sizes.parameters / 1e6:,.1f} M weights; GiB per device at the most{known}:"
    return [head, *("  ".join([*map(str.ljust, row, widths), row[-1]]) for row in rows)]


def _targets(run: RunConfig) -> Sequence[str]:
    return run.learner.lora.targets if run.learner.lora else ()


def _item(run: RunConfig) -> int:
    return 2 if run.learner.dtype == "bfloat16" else FLOAT


def _weights(run: RunConfig, sizes: ModelSizes, shards: int = 1) -> Part:
    setting = "train.learner_group (strategy fsdp, more ranks)" + ("" if _item(run) == 2 else " or learner.dtype")
    return Part("weights", sizes.parameters * _item(run) / shards, setting)


def _learning(run: RunConfig, sizes: ModelSizes, shards: int) -> list[Part]:
    """What learning adds to the weights, on one of `shards` ranks; adapters are whole on every rank."""
    learner, item = run.learner, _item(run)
    lora = learner.lora
    trained = sizes.adaptable * lora.rank if lora else sizes.parameters / shards
    short = learner.optimizer_states == "bfloat16" and item < FLOAT and not lora
    whole = "learner.lora, learner.optimizer_states, or train.learner_group (strategy fsdp, more ranks)"
    fewer = "learner.lora.rank" if lora else whole
    layer = sizes.activated * item
    kept = sizes.layers * sizes.hidden * item + layer if learner.activation_checkpointing else sizes.layers * layer
    activations = "learner.token_budget" + ("" if learner.activation_checkpointing else " or activation_checkpointing")
    head = sizes.head * FLOAT * ((item < FLOAT) + (lora is None))
    parts = [
        Part("adapters", trained * FLOAT if lora else 0, fewer),
        Part("float32 copies", trained * FLOAT if item < FLOAT and not (lora or short) else 0, fewer),
        Part("gradients", trained * FLOAT, fewer),
        Part("moments", 2 * trained * (item if short else FLOAT), fewer),
        Part("reference", sizes.parameters * item / shards if learner.kl and not lora else 0, "learner.kl or lora"),
        Part("logits", 3 * max(CHUNK, 16 * sizes.vocabulary) * FLOAT + head, "learner.lora"),
        Part("activations", learner.token_budget * kept, activations),
    ]
    if shards > 1:
        parts.append(Part("layers in use", 2 * sizes.parameters * item / sizes.layers, "train.learner_group.strategy"))
    return [part for part in parts if part.size]


def _cache(run: RunConfig, sizes: ModelSizes, slots: int, setting: str) -> Part:
    longest = min(run.learner.token_budget, sizes.context)
    return Part(f"cache of {slots} slots", slots * longest * sizes.cached * _item(run), setting)


def _sampling(run: RunConfig, sizes: ModelSizes) -> list[Part]:
    slots = slots_of(run)
    rows = Part(
        "logits", 3 * slots * sizes.vocabulary * FLOAT + sizes.head * FLOAT * (_item(run) < FLOAT), "rollout.slots"
    )
    return [_weights(run, sizes), _cache(run, sizes, slots, "rollout.slots or learner.token_budget"), rows]


def _vllm(run: RunConfig, sizes: ModelSizes, memory: float | None) -> list[Part]:
    """vLLM takes a share of a GPU and fills it with cache; less than weights and one episode it cannot take."""
    config = run.rollout.vllm_config(dtype=run.learner.dtype)
    item = FLOAT if config.dtype == "float32" else 2
    split = config.tensor_parallel_size
    longest = min(config.max_model_len or sizes.context, sizes.context)
    one = longest * sizes.cached * item / split
    weights = sizes.parameters * item / split
    share = config.gpu_memory_utilization * (memory or math.inf)
    cache = one if config.kv_cache_gib is None else max(one, config.kv_cache_gib * GIB)
    if config.kv_cache_gib is None and weights + one < share < math.inf:
        cache = share - weights
    rest = "rollout.vllm.gpu_memory_utilization" if config.kv_cache_gib is None else "rollout.vllm.kv_cache_gib"
    return [
        Part("weights", weights, "rollout.vllm.tensor_parallel_size"),
        Part("vLLM's cache", cache, f"{rest} or rollout.vllm.max_model_len"),
    ]


def _gib(size: float) -> str:
    return f"{size / GIB:.1f} GiB"
