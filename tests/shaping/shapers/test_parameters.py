"""What all shapers of parameters have in common: gates are exact, and the base leaves training as it came."""

from __future__ import annotations

import copy

import pytest
import torch
from rank_samples import sample
from torch import Tensor

from shaping.contract.groups import small_policy
from shaping.intervention import Shaper
from shaping.learning.config import LearnerConfig
from shaping.learning.learner import Learner
from shaping.learning.policy import Policy
from shaping.shapers import GradientRouting, PersonaSubspace, ScoreRouting

CONFIG = LearnerConfig(lr=1e-2, max_mismatch_kl=1e9, weight_decay=0.1)
SHAPERS = [GradientRouting(rank=2), ScoreRouting(random=True, rank=2), PersonaSubspace(random=True, rank=2)]


@pytest.fixture(scope="module")
def start() -> Policy:
    return small_policy()


def with_adapters(start: Policy, shaper: Shaper) -> Policy:
    torch.manual_seed(0)
    return Policy(copy.deepcopy(start.model), start.tokenizer, adapters=shaper.adapters())


def moved(policy: Policy, before: dict[str, Tensor], role: str) -> bool:
    own = [name for name in before if any(f".{spec}." in name for spec in policy.adapters.names(role))]
    state = policy.state_dict()
    return any(not torch.equal(before[name], state[name]) for name in own)


@pytest.mark.parametrize("shaper", SHAPERS, ids=lambda shaper: type(shaper).__name__)
def test_a_closed_gate_moves_no_bit_of_its_group_and_the_base_is_deployed_as_it_was(
    start: Policy, shaper: Shaper
) -> None:
    for kept, quarantine in ((0.0, 1.0), (1.0, 0.0), (1.0, 1.0)):
        policy = with_adapters(start, shaper)
        before = {name: tensor.clone() for name, tensor in policy.state_dict().items()}
        Learner(policy, CONFIG, interventions=[shaper]).update(
            [sample(20 + i, i, kept_gate=kept, quarantine_gate=quarantine) for i in range(2)]
        )
        assert moved(policy, before, "kept") == bool(kept) and moved(policy, before, "quarantine") == bool(quarantine)
        shaper.deploy(policy)
        policy.deploy()
        assert {spec.role for spec in policy.adapters.specs.values()} == {"kept"}
        policy.adapters.drop(policy.adapters.names())
        assert all(map(torch.equal, policy.model.state_dict().values(), start.model.state_dict().values()))
        assert policy.model.state_dict().keys() == start.model.state_dict().keys()
