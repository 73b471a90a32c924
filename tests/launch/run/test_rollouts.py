"""The order of groups, what may be under way, and what a config cannot ask for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ray_worlds import Busy, Slow

from envs.episode import Episode
from launch.config.compatibility import check_rollout
from launch.config.loading import parse_study
from launch.config.plugins import build_arm
from launch.config.rollout import RolloutConfig
from launch.config.study import RunConfig
from launch.distributed.needs import bundles
from launch.distributed.weights import pack_tensors, unpack_tensors
from launch.errors import ConfigError, UserError
from launch.run.build import build
from launch.run.episodes import GroupRequest, slots_of
from launch.run.ledger import Ledger, RunError
from launch.run.rollouts import RolloutGroup, RolloutScheduler
from shaping.learning.credit.credit import assign_credit
from shaping.sampling.play import EpisodeRequest, Limits, play
from shaping.sampling.scripted_engine import ScriptedEngine
from shaping.sampling.text.render import Renderer


class Back:
    """Rollouts that return the newest group first."""

    def __init__(self) -> None:
        self.submitted: list[GroupRequest] = []
        self.waiting: list[GroupRequest] = []

    def submit(self, requests: Sequence[GroupRequest]) -> None:
        self.submitted += requests
        self.waiting += requests

    def next(self) -> RolloutGroup:
        return RolloutGroup(self.waiting.pop(), [])

    def sync(self, version: int) -> None: ...

    def close(self) -> None: ...


def config(rollout: Any = None, learner: Any = None, arms: Any = None, **train: Any) -> RunConfig:
    world = {"controller_worlds:Vowels": {}}
    small = {"updates": 3, "groups": 4, "group_size": 3, "max_tokens": 8}
    document = {
        "name": "small",
        "seeds": 1,
        "train": {"worlds": world, **small, **train},
        "learner": learner or {},
        "eval": {"worlds": world, "episodes": 1, "access_episodes": 0},
        "rollout": rollout or {},
        "arms": {"arm": {"role": "reference", **(arms or {})}},
    }
    return parse_study(document, "test").runs()[0]


# What is under way ----------------------------------------------------------------------------------------------------


def test_one_update_at_a_time_by_default_and_more_with_staleness() -> None:
    for staleness, expected in ((0, 2), (1, 4), (2, 6)):
        scheduler = RolloutScheduler(Back(), 2, staleness)
        scheduler.fill(0, updates=10)
        assert scheduler.under_way == expected


def test_requests_are_numbered_in_order_and_none_is_repeated() -> None:
    rollouts = Back()
    scheduler = RolloutScheduler(rollouts, 2, max_staleness=1)
    for _ in range(10):
        scheduler.fill(0, updates=10)
        scheduler.next()
    assert rollouts.submitted == [GroupRequest(*divmod(n, 2)) for n in range(len(rollouts.submitted))]


def test_nothing_is_under_way_after_the_last_update() -> None:
    rollouts = Back()
    scheduler = RolloutScheduler(rollouts, 3, max_staleness=2)
    for left in (4, 3, 2, 1):
        for held in range(3):
            scheduler.fill(held, left)
            scheduler.next()
    assert scheduler.under_way == 0
    assert len(rollouts.submitted) == 12


def test_what_was_under_way_is_played_again_after_a_resume() -> None:
    before, after = Back(), Back()
    scheduler = RolloutScheduler(before, 2, max_staleness=1)
    scheduler.fill(0, updates=9)
    finished = scheduler.next().request
    resumed = RolloutScheduler(after, 2, max_staleness=1)
    resumed.load_state_dict(scheduler.state_dict())
    assert set(after.submitted) == set(before.submitted) - {finished}
    resumed.fill(0, updates=9)
    assert after.submitted[-1] == GroupRequest(2, 0), "the cursor goes on"


@pytest.mark.parametrize("wrong", [{"trained": 5}, {"episodes": 7}, {"stale": 1}])
def test_a_ledger_that_does_not_sum_ends_the_run(wrong: dict[str, int], make_episode: Callable[..., Episode]) -> None:
    ledger = Ledger()
    ledger.add({"episodes": 6, "trained": 4, "stale": 2, "filtered": 0, "failed": 0}, [make_episode()] * 6)
    ledger.check(0)
    with pytest.raises(RunError, match="still under way"):
        ledger.check(1)
    for name, number in wrong.items():
        setattr(ledger, name, number)
    with pytest.raises(RunError, match="does not sum"):
        ledger.check(0)


# Off-policy -----------------------------------------------------------------------------------------------------------


def test_what_an_older_version_sampled_is_learned_off_policy(
    make_episode: Callable[..., Episode], make_policy: Callable[..., Any]
) -> None:
    episodes = [make_episode(), make_episode((1.0, 1.0))]
    rewards = [np.array([t.reward for t in e.turns]) for e in episodes]
    renderer = Renderer(make_policy().tokenizer)
    arm = build_arm("arm", config().arm_config)
    for version, on_policy in ((None, True), (0, True), (1, False)):
        samples = assign_credit(episodes, rewards, arm, renderer, version=version).samples
        assert [sample.on_policy for sample in samples] == [on_policy] * 2
        assert {sample.ratio for sample in samples} == {"sampler"}, "clipped against the sampler's log-probs"


# Slow worlds ----------------------------------------------------------------------------------------------------------


class Waits:
    def act(self) -> str:
        return "ACTION: wait"


def overlap(threads: int, make_policy: Callable[..., Any]) -> int:
    """How many steps of the world were under way at once."""
    renderer = Renderer(make_policy().tokenizer)
    engine = ScriptedEngine(lambda env: Waits(), renderer)
    Busy.most = 0
    requests = [EpisodeRequest(make=Busy, seed=seed) for seed in range(6)]
    episodes = asyncio.run(play(requests, engine, renderer, build_arm("arm", config().arm_config), env_threads=threads))
    assert [e.status.value for e in episodes] == ["completed"] * 6
    return Busy.most


def test_worlds_in_threads_step_at_the_same_time_and_inline_ones_do_not(make_policy: Callable[..., Any]) -> None:
    assert overlap(0, make_policy) == 1
    assert 2 <= overlap(3, make_policy) <= 3


def test_a_slow_world_in_a_thread_is_abandoned_alone(make_policy: Callable[..., Any]) -> None:
    renderer = Renderer(make_policy().tokenizer)
    engine = ScriptedEngine(lambda env: Waits(), renderer)

    over = threading.Event()

    class Hangs(Slow):
        def step(self, action: str) -> Any:
            over.wait(60)
            return super().step(action)

    requests = [EpisodeRequest(make=Hangs if seed == 1 else Slow, seed=seed) for seed in range(4)]
    arm = build_arm("arm", config().arm_config)
    try:
        limits = Limits(step_seconds=1.0)
        episodes = asyncio.run(play(requests, engine, renderer, arm, env_threads=2, limits=limits))
    finally:
        over.set()
    assert [e.status.value for e in episodes] == ["completed", "error_timeout", "completed", "completed"]


# Configs --------------------------------------------------------------------------------------------------------------


DIRECT = {"engine": "vllm", "transfer": "broadcast"}


@pytest.mark.parametrize(
    ("rollout", "message"),
    [
        ({"engine": "vllm"}, "set workers to at least 1"),
        ({"sync": "lora"}, "set workers to at least 1"),
        ({"max_staleness": 1}, "max_staleness above 0 .* needs rollout workers"),
        ({"workers": 1, "vllm": {"max_num_seqs": 4}}, "no effect with engine=transformers"),
        ({"workers": 1, "engine": "vllm", "batching": "group"}, "batching=group is for engine=transformers"),
        ({"workers": 1, "transfer": "broadcast"}, "transfer=broadcast is for engine=vllm"),
        ({"workers": 1, **DIRECT, "sync": "lora"}, "sync=lora only an adapter"),
        ({"workers": 1, **DIRECT, "vllm": {"tensor_parallel_size": 2}}, "tensor_parallel_size=2 gives an engine"),
        (DIRECT, "engine=vllm needs rollout workers"),
        ({"workers": 1, "max_staleness": 1, "batching": "group"}, "set both to 0"),
        ({"batching": "group", "env_threads": 2}, "set both to 0"),
        ({"workers": 1, "engine": "vllm", "vllm": {"max_num_seq": 4}}, "vllm.max_num_seq: unknown key .*max_num_seqs"),
        ({"worker": 1}, "rollout.worker: unknown key .*workers"),
    ],
)
def test_impossible_rollouts_are_refused_with_what_to_do(rollout: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config(rollout)


STEERED = {"interventions": ["ray_worlds:Steered"]}
QUARANTINE = {"interventions": ["ray_worlds:Quarantined"]}
VLLM = {"workers": 1, "engine": "vllm"}
LATE = {"workers": 1, "max_staleness": 1}


@pytest.mark.parametrize(
    ("rollout", "learner", "arm", "message"),
    [
        ({"workers": 1, "sync": "lora"}, {}, {}, "set learner.lora"),
        ({"workers": 1, "sync": "lora"}, {}, QUARANTINE, "trains its base weights, too: set learner.lora"),
        (VLLM, {"lora": {"rank": 511}}, QUARANTINE, r"rank 513 = 511 \(learner.lora\) \+ 2 .* at most 512: lower"),
        (VLLM, {"lora": {"rank": 513}}, {}, "at most 512: lower the ranks, or sample with rollout.engine=transf"),
        ({**VLLM, "vllm": {"max_lora_rank": 8}}, {"lora": {"rank": 8}}, QUARANTINE, "max_lora_rank is 8, .* raise it"),
        ({**VLLM, "vllm": {"enforce_eager": False}}, {}, STEERED, "rollout.vllm.enforce_eager=true"),
        ({**VLLM, "gpus": 1}, {}, STEERED, "rollout.vllm.enforce_eager=true"),
        ({"batching": "group", "slots": 2}, {}, {}, "raise it to train.group_size"),
        (
            LATE,
            {"mismatch_correction": "none"},
            {"interventions": ["Recontextualization"]},
            "max_staleness is 1.*learner.mismatch_correction to trunc",
        ),
        (LATE, {"mismatch_correction": "truncate"}, {"interventions": ["Recontextualization"]}, ""),
        (LATE, {}, {}, ""),
        ({**VLLM, "sync": "lora"}, {"lora": {"rank": 4}}, {}, ""),
        ({**VLLM, "sync": "lora"}, {"lora": {"rank": 4}}, QUARANTINE, ""),
        ({**VLLM, "sync": "full"}, {"lora": {"rank": 600}}, QUARANTINE, ""),
        ({**VLLM, "sync": "lora"}, {}, {"interventions": ["ray_worlds:Kept"]}, ""),
        (VLLM, {}, STEERED, ""),
        ({"workers": 2, "sync": "lora"}, {"lora": {"rank": 4}}, QUARANTINE, ""),
    ],
)
def test_what_an_arm_needs_of_its_sampler_is_checked(rollout: Any, learner: Any, arm: Any, message: str) -> None:
    run = config(rollout, learner, arm)
    built = build_arm(run.arm, run.arm_config)
    if not message:
        check_rollout(run, built)
        return
    with pytest.raises(ConfigError, match=message):
        check_rollout(run, built)


@pytest.mark.parametrize(
    ("rollout", "learner", "sync"),
    [
        (VLLM, {"lora": {"rank": 4}}, "lora"),
        ({**VLLM, "sync": "full"}, {"lora": {"rank": 4}}, "full"),
        ({**VLLM, "transfer": "broadcast"}, {"lora": {"rank": 4}}, "full"),
        (VLLM, {}, "full"),
        ({"workers": 1}, {"lora": {"rank": 4}}, "full"),
        ({}, {"lora": {"rank": 4}}, "full"),
    ],
)
def test_adapters_go_to_vllm_alone_unless_the_config_says_otherwise(rollout: Any, learner: Any, sync: str) -> None:
    """A transformers worker gets adapters apart in any case: nothing changes there."""
    assert config(rollout, learner).rollout.sync == sync


def test_vllm_gets_room_for_the_adapters_of_all_versions_in_use() -> None:
    rollout = RolloutConfig(workers=1, engine="vllm", sync="lora", max_staleness=3, slots=7)
    made = rollout.vllm_config(rank=20, dtype="bfloat16")
    assert (made.max_loras, made.max_lora_rank, made.max_num_seqs, made.dtype) == (5, 32, 7, "bfloat16")


def test_slots_and_bundles_follow_from_the_run() -> None:
    assert slots_of(config()) == 12
    assert slots_of(config({"workers": 2, "max_staleness": 1})) == 12
    assert slots_of(config({"batching": "group", "slots": 8})) == 6, "whole groups"
    assert bundles(config({"workers": 2, "cpus": 3, "gpus": 0.5})) == [{"CPU": 1.0}, *[{"CPU": 3.0, "GPU": 0.5}] * 2]


def test_weights_arrive_as_they_were_and_tied_ones_travel_once() -> None:
    import torch

    tied = torch.randn(3, 4, dtype=torch.bfloat16)
    state = {"a": tied, "b": tied, "c": torch.tensor(2.0), "d": torch.arange(6).reshape(2, 3).T}
    packed = pack_tensors(state)
    assert packed["a"].data is packed["b"].data
    for name, tensor in unpack_tensors(packed).items():
        assert tensor.dtype == state[name].dtype and torch.equal(tensor, state[name])


def test_an_arm_and_a_sampler_that_do_not_go_together_stop_a_run_before_it_starts(model: Path) -> None:
    with pytest.raises(UserError, match=r"set learner\.lora"):
        build(config({"workers": 1, "sync": "lora"}), model)


@pytest.mark.parametrize(
    ("rollout", "group", "told"),
    [
        ({"workers": 1, "engine": "vllm"}, {}, r"learner\.lora adapts experts\.down_proj, and vLLM takes .*sync=full"),
        ({}, {"strategy": "fsdp", "ranks": 2}, r"learner\.lora adapts experts\.down_proj, .* fsdp keeps only parts"),
    ],
)
def test_adapters_of_experts_are_refused_where_they_cannot_be(rollout: Any, group: Any, told: str) -> None:
    run = config(rollout, {"lora": {"rank": 4, "targets": ["q_proj", "experts.down_proj"]}})
    train = run.train.model_copy(update={"learner_group": run.train.learner_group.model_copy(update=group)})
    with pytest.raises(UserError, match=told):
        check_rollout(run.model_copy(update={"train": train}), build_arm(run.arm, run.arm_config))
    check_rollout(config({}, {"lora": {"targets": ["experts.down_proj"]}}), build_arm(run.arm, run.arm_config))
