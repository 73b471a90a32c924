"""The policy that a run trains, as evaluation and saving see it, wherever its weights are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch

from envs.calls import call
from launch.storage.files import disk_errors
from launch.storage.rundir import RunDirectory
from shaping.arm import Arm
from shaping.hooks import InterventionError
from shaping.intervention import Intervention
from shaping.learning.policy import Policy
from shaping.learning.samples.packing import pack
from shaping.learning.samples.sample import Sample


class TrainedPolicy(Protocol):
    """What becomes of a policy outside of its updates."""

    @property
    def vocabulary(self) -> int:
        """Number of its logits."""

    def mean_logprob(self, samples: Sequence[Sample], *, edited: bool) -> float:
        """The mean log-prob per loss token under the adapters of sampling; `edited`: and the arm's edits."""

    def undo(self) -> None:
        """Let every intervention undo what it left on the policy."""

    def save(self, directory: RunDirectory) -> None:
        """Save quarantine adapters, then drop all that is not shipped, and save the rest. Nothing can follow."""


class PolicyHere:
    """A policy in the memory of this process."""

    def __init__(self, policy: Policy, arm: Arm) -> None:
        self._policy, self._arm = policy, arm

    @property
    def vocabulary(self) -> int:
        return len(self._policy.model.get_output_embeddings().weight)

    def mean_logprob(self, samples: Sequence[Sample], *, edited: bool) -> float:
        return mean_logprob(self._policy, samples, self._arm, edited=edited)

    def undo(self) -> None:
        undo(self._policy, self._arm)

    def save(self, directory: RunDirectory) -> None:
        with disk_errors(directory.path):
            save(self._policy, directory)


def undoes(arm: Arm) -> bool:
    """May an intervention of this arm change the policy before it is evaluated as deployed?"""
    return any(type(intervention).deploy is not Intervention.deploy for intervention in arm.interventions)


def undo(policy: Policy, arm: Arm) -> None:
    """Let every intervention undo what it left on a policy."""
    for intervention in arm.interventions:
        call(InterventionError, intervention, "deploy", policy)


def save(policy: Policy, directory: RunDirectory) -> None:
    """As `TrainedPolicy.save`. Ranks that share the policy must call it together; rank 0 writes."""
    for name in policy.adapters.names("quarantine"):
        if policy.ranks.rank == 0:  # adapters are whole on every rank
            policy.adapters.save(name, directory.weights("quarantine", name), policy.base)
    policy.deploy()
    policy.save(directory.weights("checkpoint") if policy.ranks.rank == 0 else directory.path)


@torch.no_grad()
def mean_logprob(policy: Policy, samples: Sequence[Sample], arm: Arm, *, edited: bool) -> float:
    """As `TrainedPolicy.mean_logprob`. Ranks that share the policy must call it together; all get the result."""
    policy.model.eval()
    batches = pack(samples, max(8192, *map(len, samples)), policy.device)
    edits = arm.edits("sampling") if edited else []
    with policy.phase("sampling"):
        values = [policy.logprobs(batch, edits)[0] for batch in batches]
    return float(torch.cat(values).mean())
