"""Players with adapters of their own: a seat's samples train its adapter alone, as if it were the only one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from shaping.contract.groups import small_policy
from shaping.hooks import AdapterSpec
from shaping.learning.config import LearnerConfig
from shaping.learning.learner import Learner
from shaping.learning.policy import Policy
from shaping.learning.samples.sample import Sample
from shaping.learning.snapshots import Snapshots, slot_name

CONFIG = LearnerConfig(lr=1e-2, max_mismatch_kl=1e9)
A, B = AdapterSpec("a", "kept", rank=2, player="a"), AdapterSpec("b", "kept", rank=2, player="b")


def make(*specs: AdapterSpec) -> Policy:
    torch.manual_seed(0)
    return small_policy(specs)


def sample(player: str, seed: int, length: int = 12) -> Sample:
    rng = np.random.default_rng(seed)
    mask = np.zeros(length, bool)
    mask[4:] = True
    return Sample(
        tokens=rng.integers(5, 100, length),
        mask=mask,
        old_logprobs=np.where(mask, -4.0, 0.0).astype(np.float32),
        advantage=np.where(mask, rng.normal(), 0.0).astype(np.float32),
        weight=mask.astype(np.float32),
        masked_tokens=np.zeros((0, 2), np.int64),
        ratio="none",
        player=player,
    )


def weights(policy: Policy, name: str) -> dict[str, Tensor]:
    return {key: tensor.clone() for key, tensor in policy.adapters.tensors(name).items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(tensor, other[key]) for key, tensor in one.items())


def copied(policy: Policy, source: dict[str, Tensor], name: str) -> None:
    with torch.no_grad():
        for key, tensor in policy.adapters.tensors(name).items():
            tensor.copy_(source[key])


def test_samples_of_one_player_change_its_adapter_alone() -> None:
    policy = make(A, B)
    before = weights(policy, "b")
    start = weights(policy, "a")
    Learner(policy, CONFIG).update([sample("a", 1), sample("a", 2)])
    assert same(before, weights(policy, "b")) and not same(start, weights(policy, "a"))


def test_two_players_in_one_update_learn_as_each_by_itself() -> None:
    """To the bit: neither token counts, nor the norm that is clipped, nor the moments are shared."""
    together, alone = make(A, B), make(replace(B, player=None))
    start = weights(together, "b")
    copied(alone, start, "b")
    # a's gradient is huge: a norm over both would scale b's steps down
    large = [replace(s, advantage=s.advantage * 1e4) for s in (sample("a", 1, 40), sample("a", 2))]
    both, one = Learner(together, CONFIG), Learner(alone, CONFIG)
    for step in range(2):
        own = [sample("b", 10 + step), sample("b", 20 + step)]
        both.update([*large, *own])
        one.update([replace(s, player="") for s in own])
    assert same(weights(together, "b"), weights(alone, "b")) and not same(weights(alone, "b"), start)


def test_where_no_player_has_an_adapter_of_its_own_all_are_trained_together() -> None:
    plain, named = make(replace(A, player=None)), make(replace(A, player=None))
    start = weights(plain, "a")
    Learner(plain, CONFIG).update([sample("", 1), sample("", 2)])
    Learner(named, CONFIG).update([sample("red", 1), sample("blue", 2)])
    assert same(weights(plain, "a"), weights(named, "a")) and not same(weights(plain, "a"), start)


def test_a_sample_of_an_unknown_player_is_refused() -> None:
    with pytest.raises(ValueError, match="player 'c', who has no adapter: there are a, b"):
        Learner(make(A, B), CONFIG).update([sample("a", 1), sample("c", 2)])


# Past policies --------------------------------------------------------------------------------------------------------


def test_snapshots_are_the_policy_of_their_version_and_go_with_every_checkpoint() -> None:
    snapshots = Snapshots(every=2, keep=2)
    policy = make(A, *snapshots.specs([A]))
    learner = Learner(policy, CONFIG, snapshots=snapshots)
    seen = {0: weights(policy, "a")}
    for version in range(1, 5):
        learner.update([sample("a", version), sample("a", 50 + version)])
        seen[version] = weights(policy, "a")
    # numbers 1 and 2 (versions 2 and 4) are kept; number 0 was in the slot of 2
    assert same(weights(policy, slot_name("a", snapshots.slot(1))), seen[2])
    assert same(weights(policy, slot_name("a", snapshots.slot(2))), seen[4])
    state = policy.state_dict()
    other = make(A, *snapshots.specs([A]))
    other.load_state_dict(state)
    assert same(weights(other, slot_name("a", 1)), seen[2])


def test_the_first_snapshot_is_the_policy_at_its_start() -> None:
    snapshots = Snapshots(every=5, keep=3)
    policy = make(A, *snapshots.specs([A]))
    for name in policy.adapters.names("frozen"):
        assert not any(tensor.any() for key, tensor in weights(policy, name).items() if ".lora_B." in key)
    assert policy.adapters.names("frozen", phase="sampling") == policy.adapters.names("frozen", phase="training") == ()


@pytest.mark.parametrize("staleness", [0, 1, 3])
def test_a_group_meets_only_snapshots_that_every_version_that_may_play_it_has(staleness: int) -> None:
    snapshots = Snapshots(every=2, keep=3)
    for update in range(20):
        numbers = snapshots.numbers(update, staleness)
        assert len(numbers) >= 1
        for version in range(max(update - staleness, 0), update + 1):
            newest = version // snapshots.every
            held = {snapshots.slot(n): n for n in range(newest + 1)}
            assert all(held.get(snapshots.slot(n)) == n for n in numbers), (update, version)


def test_the_kl_of_a_player_is_to_its_own_start() -> None:
    """A frozen adapter of one player is in no other player's reference."""
    from shaping.learning.reference import Reference
    from shaping.learning.samples.packing import pack

    policy = make(A, B, AdapterSpec("of_b", "frozen", rank=2, player="b"))
    with torch.no_grad():
        for tensor in policy.adapters.tensors("of_b").values():
            tensor.copy_(torch.randn_like(tensor))
    reference = Reference(policy)
    (batch,) = pack([sample("a", 1)], 100)
    with policy.adapters.using(()):
        plain = policy.logprobs(batch)[0]
    with policy.playing("a"):
        assert torch.allclose(reference.logprobs(batch), plain)
    with policy.playing("b"):
        assert not torch.allclose(reference.logprobs(batch), plain)
