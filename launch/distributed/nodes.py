"""Checks of a Ray cluster: have all nodes joined, and do they run the software of this process?"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from launch.distributed.reachable import named
from launch.errors import UserError
from launch.storage.versions import versions

ANSWER_TIMEOUT = 120.0
"""Seconds within which every node must answer. The first task on a node also starts a process there."""
POLL = 1.0
"""Seconds between two looks at the cluster."""


class NodeError(UserError):
    """A node is missing, does not answer, or has different software."""


def unreachable(address: str, error: Exception) -> UserError:
    """Why there is no connection to the Ray cluster at `address`, and what to do."""
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if isinstance(error, ray.exceptions.AuthenticationError):
        return UserError(
            f"{address} asks for a token, and the one here is missing or wrong: set RAY_AUTH_MODE=token, and "
            "RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH, or put the token into ~/.ray/auth_token (docs/clusters.md)"
        )
    if "Version mismatch" in str(error):
        return UserError(f"{address} runs another version of Ray or Python. {error}")
    return UserError(
        f"no Ray cluster answers at {named(address)}: {reason}; is it up, and is the address right? Use host:6379 from "
        "its own nodes and ray://host:10001 from elsewhere. A cluster that asks for tokens looks the same: then set "
        "RAY_AUTH_MODE=token and put the token in place (docs/clusters.md)"
    )


def skew(here: Mapping[str, Any], there: Mapping[str, Any]) -> list[str]:
    """The differences between two results of `versions()`, as "torch is 2.12.0, the driver has 2.13.0".

    Builds of one version (2.13.0+cpu, 2.13.0+cu130) count as equal, and so do patch releases of Python.
    """
    pairs = [("python", _minor(here["python"]), _minor(there["python"]))]
    packages = sorted({*here["packages"], *there["packages"]})
    pairs += [(name, _release(here["packages"].get(name)), _release(there["packages"].get(name))) for name in packages]
    pairs.append(("our source code", here["source"][:8], there["source"][:8]))
    return [f"{name} is {theirs}, the driver has {ours}" for name, ours, theirs in pairs if ours != theirs]


def _minor(python: str) -> str:
    return ".".join(python.split(".")[:2])


def _release(version: str | None) -> str:
    return version.partition("+")[0] if version else "not installed"


def check_nodes(here: Mapping[str, Any] | None = None, *, patience: float = ANSWER_TIMEOUT) -> list[str]:
    """Compare the software of every living node with that of this process. Ray must be connected.

    Args:
        here: Versions to compare with; default: the versions of this process.
        patience: Seconds within which every node must answer.

    Returns:
        The names of the nodes.

    Raises:
        NodeError: Names each node that differs, the packages, and both versions.
    """
    here = here or versions()
    answers = _versions_of({_name(node): node["NodeID"] for node in _living()}, patience)
    lines = []
    for name, answer in sorted(answers.items()):
        differing = [answer] if isinstance(answer, str) else skew(here, answer)
        lines += [f"  {name}: {difference}" for difference in differing]
    if lines:
        raise NodeError(
            "some nodes of the cluster do not run the driver's software:\n" + "\n".join(lines) + "\n"
            "give all nodes one image or one environment (docs/clusters.md), and restart Ray there"
        )
    return sorted(answers)


def wait_for_nodes(
    number: int, patience: float, log: Callable[[str], None], clock: Callable[[], float] = time.monotonic
) -> None:
    """Wait until at least `number` nodes have joined. Raises `NodeError` after `patience` seconds."""
    deadline, seen = clock() + patience, -1
    while (joined := len(_living())) < number:
        if joined != seen:
            log(f"{joined} of {number} nodes have joined")
            seen = joined
        if clock() > deadline:
            names = ", ".join(sorted(map(_name, _living()))) or "none"
            raise NodeError(
                f"only {joined} of {number} nodes joined within {patience:.0f} s ({names}); look at the output of "
                "`ray start` on the others: can they reach the head's port, and do they have the same token?"
            )
        time.sleep(POLL)


def _living() -> Sequence[Mapping[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]


def _name(node: Mapping[str, Any]) -> str:
    return f"node {node['NodeManagerHostname']} ({node['NodeManagerAddress']}, {node['NodeID'][:8]})"


def _versions_of(nodes: Mapping[str, str], patience: float) -> dict[str, dict[str, Any] | str]:
    """The versions of each node, by name, or an error message."""

    def versions_there() -> dict[str, Any] | str:  # pickled by value: our packages may be missing on the node
        try:
            from launch.storage.versions import versions
        except ImportError as error:
            return f"shaping is not installed there ({error})"
        return dict(versions())

    requests = {}
    for name, node in nodes.items():
        on_node = NodeAffinitySchedulingStrategy(node, soft=False)
        task = ray.remote(versions_there).options(num_cpus=0, max_retries=0, scheduling_strategy=on_node)
        requests[task.remote()] = name
    ready, late = ray.wait(list(requests), num_returns=len(requests), timeout=patience)
    answers: dict[str, dict[str, Any] | str] = {
        requests[reference]: f"no answer within {patience:.0f} s" for reference in late
    }
    for reference in ready:
        try:
            answers[requests[reference]] = ray.get(reference)
        except ray.exceptions.RayError as error:
            answers[requests[reference]] = f"it runs no task: {str(error).strip().splitlines()[-1]}"
    return answers
