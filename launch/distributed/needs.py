"""What the processes of a run need, and whether the nodes at hand have it. Arithmetic alone: no Ray is asked."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from launch.config.study import RunConfig
from launch.errors import UserError

Node = Mapping[str, float]
"""Resource -> amount, as Ray counts it: CPU, GPU."""
SLIVER = 0.01
"""What a worker without cores gets of one."""
ROUNDING = 1e-6
"""Ten tenths are one."""


class PlacementError(UserError):
    """The cluster lacks the cores or GPUs that a run needs at the same time."""


class Need(NamedTuple):
    """What one process of a run needs."""

    who: str
    """The process, as messages name it."""
    remedy: str
    """What can be set for it to need less of a GPU."""
    bundle: dict[str, float]
    """Resource -> amount."""
    apart: bool = False
    """Is it placed by itself, after the others?"""


def this_machine(cpus: int | None = None) -> list[Node]:
    """The one node of a local Ray: its cores, and the GPUs that torch can use."""
    import torch

    return [{"CPU": float(cpus or os.cpu_count() or 1), "GPU": float(torch.cuda.device_count())}]


def computes_itself(run: RunConfig) -> bool:
    """Does the run's own process hold the model? Not if rollout workers play and learner ranks train."""
    return not run.rollout.workers or run.train.learner_group.strategy == "none"


def wants_gpu(run: RunConfig, nodes: Iterable[Node]) -> bool:
    """Does the run's own process compute on a GPU? With `auto` it does wherever some node has one."""
    device = run.train.device
    if not computes_itself(run):
        return False
    return device.startswith("cuda") or (device == "auto" and any(node.get("GPU", 0.0) > 0 for node in nodes))


def needs(run: RunConfig, nodes: Sequence[Node] = (), *, own_cpus: float = 1.0) -> list[Need]:
    """The needs of a run's processes: the run itself, then each rollout worker, then each learner rank."""
    rollout, group = run.rollout, run.train.learner_group
    own = {"CPU": own_cpus} | ({"GPU": run.train.gpus} if wants_gpu(run, nodes) else {})
    worker = {"CPU": rollout.cpus or SLIVER} | ({"GPU": rollout.gpus} if rollout.gpus else {})
    share = "" if group.gpus else ", or train.gpus below 1 to share one"
    return [
        Need("the run itself", f"train.device to cpu{share}", own),
        *[Need("rollout workers", "rollout.gpus or rollout.workers lower", worker)] * rollout.workers,
        *[
            Need("learner ranks", "train.learner_group.gpus or ranks lower", bundle, group.nodes == "spread")
            for bundle in group.bundles()
        ],
    ]


def bundles(run: RunConfig, nodes: Sequence[Node] = ()) -> list[dict[str, float]]:
    """The resources of a run's placement group: the run itself, then each rollout worker, then each learner rank.

    Learner ranks are left out with `nodes: spread`: they have a placement group of their own.
    """
    return [need.bundle for need in needs(run, nodes) if not need.apart]


def shortage(wanted: Sequence[Need], nodes: Sequence[Node]) -> str:
    """Say what these nodes lack even when they are idle, and what to set; empty if all processes fit."""
    for kind in ("CPU", "GPU"):
        asked = [(need, need.bundle.get(kind, 0.0)) for need in wanted if need.bundle.get(kind)]
        needed, available = sum(amount for _, amount in asked), sum(node.get(kind, 0.0) for node in nodes)
        if needed > available + ROUNDING:
            told = _per_process(asked) if kind == "GPU" else " + ".join(f"{amount:g}" for _, amount in asked)
            few = "is" if needed == 1 else "are"
            return (
                f"{needed:g} {kind}{'s' * (needed != 1)} {few} needed ({told}), and the cluster has {available:g}. "
                f"{_remedy(wanted, kind)}"
            )
    free = [_Free(node) for node in nodes]
    for need in sorted(wanted, key=lambda n: (n.bundle.get("GPU", 0.0), n.bundle.get("CPU", 0.0)), reverse=True):
        if not any(node.take(need.bundle) for node in free):
            largest = max((node.get("CPU", 0.0) for node in nodes), default=0.0)
            return (
                f"one process ({need.who}) needs {_told(need.bundle)}, which no node has left (the largest has "
                f"{largest:g} CPUs). {_remedy([need], 'GPU' if need.bundle.get('GPU') else 'CPU')}"
            )
    return ""


def check_room(runs: Iterable[RunConfig], nodes: Sequence[Node], *, own_cpus: float = 1.0) -> None:
    """Raise `PlacementError` for the first run that these nodes have no room for, even when they are idle.

    `own_cpus`: cores of the run's own process; 0 where it is this one, which is there already.
    """
    for run in runs:
        if missing := shortage(needs(run, nodes, own_cpus=own_cpus), nodes):
            raise PlacementError(f"no room for {run.directory_name}: {missing}")


def at_once(runs: Sequence[RunConfig], nodes: Sequence[Node]) -> int:
    """How many runs fit on these nodes at a time, each counted as the largest; at least one."""
    fit = math.inf
    for kind in ("CPU", "GPU"):
        largest = max((sum(bundle.get(kind, 0.0) for bundle in bundles(run, nodes)) for run in runs), default=0.0)
        if largest:
            fit = min(fit, sum(node.get(kind, 0.0) for node in nodes) / largest)
    return max(1, int(fit)) if math.isfinite(fit) else 1


class _Free:
    """What is left of a node. A share of a GPU must come from one GPU."""

    def __init__(self, node: Node) -> None:
        self._cpus = node.get("CPU", 0.0)
        self._gpus = [1.0] * int(node.get("GPU", 0.0))

    def take(self, bundle: Mapping[str, float]) -> bool:
        """Take a bundle, if it fits: the fullest GPUs that have room for it."""
        cpus, gpus = bundle.get("CPU", 0.0), bundle.get("GPU", 0.0)
        share, number = (gpus, 1) if gpus < 1 else (1.0, math.ceil(gpus))
        roomy = [i for i, free in enumerate(self._gpus) if free >= share - ROUNDING]
        chosen = sorted(roomy, key=lambda i: self._gpus[i])
        if cpus > self._cpus + ROUNDING or (gpus and len(chosen) < number):
            return False
        self._cpus -= cpus
        for index in chosen[: number if gpus else 0]:
            self._gpus[index] -= share
        return True


def _per_process(asked: Sequence[tuple[Need, float]]) -> str:
    """Who asks for how much, as `1 for the run itself, 2 x 0.5 for rollout workers`."""
    each: dict[str, list[float]] = {}
    for need, amount in asked:
        each.setdefault(need.who, []).append(amount)
    return ", ".join(
        f"{amounts[0]:g} for {who}" if len(amounts) == 1 else f"{len(amounts)} x {amounts[0]:g} for {who}"
        for who, amounts in each.items()
    )


def _remedy(wanted: Sequence[Need], kind: str) -> str:
    if kind == "CPU":
        return (
            "Lower rollout.workers, train.learner_group.ranks or their cpus, or use a larger cluster (--cpus for a "
            "local Ray)"
        )
    asking = dict.fromkeys(need.remedy for need in wanted if need.bundle.get("GPU"))
    return f"Set {', or '.join(asking)}, or use a larger cluster"


def _told(bundle: Mapping[str, float]) -> str:
    return " and ".join(f"{amount:g} {kind}s" for kind, amount in bundle.items())
