"""The nodes of a Ray cluster: are they all there, and do they run the same program as this one?"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from launch.errors import UserError
from launch.storage.versions import versions

ANSWER = 120.0
"""Seconds within which every node must have answered; the first task on a node starts a process there."""
POLL = 1.0


class NodeError(UserError):
    """A node is missing, does not answer, or has other software."""


def unreachable(address: str, error: Exception) -> UserError:
    """Why there is no connection to the Ray cluster at `address`, and what to do."""
    told = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if isinstance(error, ray.exceptions.AuthenticationError):
        return UserError(
            f"{address} asks for a token, and there is none here or another one: set RAY_AUTH_MODE=token, and "
            "RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH, or put it into ~/.ray/auth_token (docs/clusters.md)"
        )
    if "Version mismatch" in str(error):
        return UserError(f"{address} is a cluster of another Ray or Python. {error}")
    return UserError(
        f"no Ray cluster answers at {address}: {told}; is it up, and the address right? host:6379 from its own nodes, "
        "ray://host:10001 from elsewhere. Ray that asks for tokens looks the same: then set RAY_AUTH_MODE=token and "
        "put the token in place (docs/clusters.md)"
    )


def skew(here: Mapping[str, Any], there: Mapping[str, Any]) -> list[str]:
    """What differs between two `launch.storage.versions.versions()`, as "torch is 2.12.0, the driver has 2.13.0".

    Builds of one version (2.13.0+cpu, 2.13.0+cu130) count as equal, and so do patch releases of Python.
    """
    pairs = [("python", _minor(here["python"]), _minor(there["python"]))]
    packages = sorted({*here["packages"], *there["packages"]})
    pairs += [(name, _release(here["packages"].get(name)), _release(there["packages"].get(name))) for name in packages]
    pairs.append(("our source code", here["source"][:8], there["source"][:8]))
    return [f"{name} is {found}, the driver has {wanted}" for name, wanted, found in pairs if wanted != found]


def _minor(python: str) -> str:
    return ".".join(python.split(".")[:2])


def _release(version: str | None) -> str:
    return version.partition("+")[0] if version else "not installed"


def check_nodes(here: Mapping[str, Any] | None = None, *, patience: float = ANSWER) -> list[str]:
    """Compare every living node with this process; returns their names. Ray must be connected.

    Raises `NodeError`, which names each node that differs, the packages, and both versions.
    """
    here = here or versions()
    found = _ask({_name(node): node["NodeID"] for node in _living()}, patience)
    lines = []
    for name, answer in sorted(found.items()):
        differing = [answer] if isinstance(answer, str) else skew(here, answer)
        lines += [f"  {name}: {difference}" for difference in differing]
    if lines:
        raise NodeError(
            "the nodes of the cluster do not all run what the driver runs:\n" + "\n".join(lines) + "\n"
            "give them one image or one environment (docs/clusters.md), and start Ray there again"
        )
    return sorted(found)


def wait_for_nodes(
    number: int, patience: float, tell: Callable[[str], None], clock: Callable[[], float] = time.monotonic
) -> None:
    """Return when at least `number` nodes have joined the cluster."""
    deadline, seen = clock() + patience, -1
    while (there := len(_living())) < number:
        if there != seen:
            tell(f"{there} of {number} nodes are there")
            seen = there
        if clock() > deadline:
            names = ", ".join(sorted(map(_name, _living()))) or "none"
            raise NodeError(
                f"only {there} of {number} nodes joined within {patience:.0f} s ({names}); see what `ray start` "
                "printed on the others: can they reach the head's port, and have they the same token?"
            )
        time.sleep(POLL)


def _living() -> Sequence[Mapping[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]


def _name(node: Mapping[str, Any]) -> str:
    return f"node {node['NodeManagerHostname']} ({node['NodeManagerAddress']}, {node['NodeID'][:8]})"


def _ask(nodes: Mapping[str, str], patience: float) -> dict[str, dict[str, Any] | str]:
    """Per node its versions, or what is wrong with it."""

    def versions_there() -> dict[str, Any] | str:  # sent as a whole: our packages may be missing on the node
        try:
            from launch.storage.versions import versions
        except ImportError as error:
            return f"shaping is not installed there ({error})"
        return dict(versions())

    asked = {}
    for name, node in nodes.items():
        place = NodeAffinitySchedulingStrategy(node, soft=False)
        asked[ray.remote(versions_there).options(num_cpus=0, max_retries=0, scheduling_strategy=place).remote()] = name
    ready, late = ray.wait(list(asked), num_returns=len(asked), timeout=patience)
    found: dict[str, dict[str, Any] | str] = {
        asked[reference]: f"no answer within {patience:.0f} s" for reference in late
    }
    for reference in ready:
        try:
            found[asked[reference]] = ray.get(reference)
        except ray.exceptions.RayError as error:
            found[asked[reference]] = f"it runs no task: {str(error).strip().splitlines()[-1]}"
    return found
