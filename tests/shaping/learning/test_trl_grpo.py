"""Arms inside TRL's GRPOTrainer: real rollouts, real optimiser steps, on a tiny model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from peft import LoraConfig
from trl import GRPOConfig

from envs.core import TextEnv, parse_action
from envs.episode import Context, Episode, Event, Labels
from shaping.arm import compose
from shaping.constraints import ActionMask, OverseerPenalty
from shaping.hooks import (
    ActivationEdit,
    AdapterSpec,
    Credit,
    Gates,
    Group,
    GroupInfo,
    InterventionError,
    Knob,
    LossTerm,
    RatioMode,
)
from shaping.intervention import Intervention, Shaper
from shaping.learning.config import LearnerConfig
from shaping.learning.credit.credit import assign_credit
from shaping.learning.learner import Learner
from shaping.learning.policy import Policy
from shaping.sampling.play import Limits
from shaping.sampling.text.render import Renderer
from shaping.shapers import Identity, Inoculation
from shaping.trl.grpo import ShapedGRPOTrainer
from shaping.trl.join import TRLError

MakePolicy = Callable[..., Policy]
MakeTrainer = Callable[..., Any]
LIMITS = Limits(max_tokens=6)


class Letters(TextEnv):
    """Pays for every "a" in two or three commands; says how many it read. `grab 3` is the overt shortcut."""

    name: ClassVar[str] = "letters"
    max_return = 10.0

    def __init__(self, breaks: float = 0.0) -> None:
        super().__init__()
        self.breaks = breaks

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        self.turn, self.turns, self.seed = 0, 2 + (seed or 0) % 2, seed
        return f"turn 1 . job {seed}", {"overt_shortcuts": ("grab 3",)}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        if len(action) % 10 < 10 * self.breaks:
            raise RuntimeError("the world broke")
        self.turn += 1
        command = parse_action(action)
        events = (Event("act", "step", command),) if len(command) % 2 else ()
        info = {"labels": Labels(), "events": events, "overt_shortcuts": ("grab 3",), "executed": command}
        paid = float(sum(map(ord, command)) % 7)
        return f"turn {self.turn + 1} . you did {len(command)}", paid, self.turn >= self.turns, False, info


class MotivesFirst(Shaper):
    """Credits the first half of each completion alone, so that every token of an episode has its own number."""

    def credit(self, group: Group) -> Credit:
        return Credit(
            "motives_first",
            advantage=tuple(np.linspace(-1, 1, len(e.tokens)).astype(np.float32) for e in group.episodes),
            weight=tuple(np.linspace(2, 0, len(e.tokens)).astype(np.float32) for e in group.episodes),
        )


@pytest.fixture
def make_trainer(make_policy: MakePolicy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeTrainer:
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")

    def make(
        *interventions: Intervention,
        policy: Policy | None = None,
        others: dict[str, Any] | None = None,
        world: Callable[[], TextEnv] = Letters,
        **settings: Any,
    ) -> Recorder:
        policy = policy or make_policy()
        args = {
            "output_dir": str(tmp_path / "out"),
            "use_cpu": True,
            "bf16": False,
            "save_strategy": "no",
            "logging_steps": 1,
            "learning_rate": 1e-3,
            "max_steps": 2,
            "num_generations": 4,
            "per_device_train_batch_size": 8,
            **settings,
        }
        return Recorder(
            policy.model,
            compose("test", interventions),
            {"letters": world},
            range(4),
            GRPOConfig(**args),
            policy.tokenizer,
            **{"limits": LIMITS, **(others or {})},
        )

    return make


class Recorder(ShapedGRPOTrainer):
    """Keeps what TRL hands to the loss, and what comes out of the join."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.seen: list[dict[str, Any]] = []
        self.joined: list[dict[str, Any]] = []
        self.played: list[list[Episode]] = []
        shaped = self.shaping.side.shaped

        def keep(inputs: Any) -> dict[str, Any]:
            out = shaped(inputs)
            self.seen.append({k: v.clone() if torch.is_tensor(v) else v for k, v in inputs.items()})
            self.joined.append(out)
            if not self.played or self.played[-1] is not self.shaping.episodes:
                self.played.append(self.shaping.episodes)
            return out

        self.shaping.side.shaped = keep  # type: ignore[method-assign]

    def metrics(self, name: str) -> list[float]:
        return [row[name] for row in self.state.log_history if name in row]


def completion_of(joined: dict[str, Any], row: int) -> list[int]:
    return joined["completion_ids"][row][joined["completion_mask"][row].bool()].tolist()


def test_every_token_gets_the_credit_that_the_arm_assigns(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(MotivesFirst(), OverseerPenalty(weight=0.5), max_steps=1)
    trainer.train()
    (episodes,), (joined,) = trainer.played, trainer.joined
    rewards = [np.array([turn.reward for turn in e.turns]) for e in episodes]
    expected = assign_credit(episodes, rewards, trainer.shaping.arm, trainer.shaping.renderer).samples
    assert len(joined["advantages"]) == len(expected) == 8
    remaining = list(zip(episodes, expected, strict=True))
    for row in range(8):
        ids = completion_of(joined, row)
        match = next(p for p in remaining if p[0].tokens[p[0].head :].tolist()[: len(ids)] == ids)
        remaining.remove(match)
        episode, sample = match
        stop = episode.head + len(ids)
        found = joined["advantages"][row].numpy()
        np.testing.assert_array_equal(
            found[: len(ids)], (sample.advantage * sample.weight * sample.mask)[episode.head : stop]
        )
        assert not found[len(ids) :].any()
        assert joined["tool_mask"][row, : len(ids)].tolist() == episode.loss_mask[episode.head : stop].tolist()
        assert len(set(found[: len(ids)][sample.mask[episode.head : stop]])) > 2  # really one number per token
    assert not remaining


def test_with_the_identity_the_gradient_is_the_one_of_the_learner(
    make_trainer: MakeTrainer,
    make_policy: MakePolicy,
    gradient_of: Callable[..., dict[str, torch.Tensor]],
) -> None:
    policy = make_policy()
    before = {n: p.detach().clone() for n, p in policy.model.named_parameters()}
    trainer = make_trainer(
        Identity(),
        policy=policy,
        max_steps=1,
        max_grad_norm=0.0,
        optim="sgd",
        learning_rate=1.0,
        lr_scheduler_type="constant",
    )
    trainer.train()
    theirs = {n: before[n] - p.detach() for n, p in policy.model.named_parameters()}  # a step of plain SGD with rate 1
    ours = make_policy()
    (episodes,) = trainer.played
    rewards = [np.array([turn.reward for turn in e.turns]) for e in episodes]
    samples = assign_credit(episodes, rewards, compose("identity", [Identity()]), Renderer(ours.tokenizer)).samples
    found = gradient_of(Learner(ours, LearnerConfig()), samples)
    scale = max(float(g.abs().max()) for g in found.values())
    assert scale > 1e-3
    for name, gradient in theirs.items():
        torch.testing.assert_close(gradient / scale, found[name] / scale, rtol=1e-5, atol=1e-5)


def test_iterations_and_steps_per_generation_join_every_row(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(
        MotivesFirst(), num_iterations=2, steps_per_generation=2, per_device_train_batch_size=4, max_steps=8
    )
    trainer.train()
    assert len(trainer.played) == 2
    for number, episodes in enumerate(trainer.played):
        batches = trainer.joined[4 * number : 4 * number + 4]
        found = sorted(completion_of(batch, row) for batch in batches for row in range(4))
        trained = [e.tokens[e.head : np.flatnonzero(e.loss_mask)[-1] + 1].tolist() for e in episodes]
        assert found == sorted(2 * trained)
    assert trainer.shaping.side.unused == 0
    # the batch is TRL's own in every iteration: one advantage per row, however often it was used before
    assert all(batch["advantages"].dim() == 1 for batch in trainer.seen)


def test_the_ratio_is_taken_against_the_sampler(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(Identity(), num_iterations=2, max_steps=2, learning_rate=1e-2)
    trainer.train()
    for joined in trainer.joined:
        torch.testing.assert_close(joined["old_per_token_logps"], joined["sampling_per_token_logps"])
    assert trainer.metrics("clip_ratio/region_mean")[1] > 0  # the second iteration is off policy


class Recomputing(Shaper):
    owns: ClassVar[frozenset[Knob]] = frozenset({Knob.RATIO})

    def ratio_mode(self) -> RatioMode:
        return "recomputed"


def test_recomputed_old_logprobs_are_left_to_trl(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(Recomputing(), num_iterations=2)
    trainer.train()
    for seen, joined in zip(trainer.seen, trainer.joined, strict=True):
        assert joined["old_per_token_logps"] is not None
        assert torch.equal(joined["old_per_token_logps"], seen["old_per_token_logps"])


@pytest.mark.parametrize(
    "arm",
    [
        (Inoculation(at="both", prompts=("take it", "it is fine")),),
        (ActionMask(mode="resample"),),
        (ActionMask(mode="replace"), MotivesFirst()),
        (OverseerPenalty(accuracy=1.0), Inoculation(at="both")),
    ],
    ids=["inoculation", "resampling", "replacing-and-shaping", "penalty-under-a-prompt"],
)
def test_arms_train(make_trainer: MakeTrainer, arm: Sequence[Intervention]) -> None:
    trainer = make_trainer(*arm, max_steps=3)
    before = {n: p.detach().clone() for n, p in trainer.model.named_parameters()}
    trainer.train()
    assert trainer.state.global_step == 3
    assert any(not torch.equal(before[n], p) for n, p in trainer.model.named_parameters())
    for name in ("return", "cost", "credit_abs", "credit_added", "zero_variance", "failed"):
        assert len(trainer.metrics(f"shaping/{name}")) == 3
    if isinstance(arm[0], Inoculation):
        for episodes in trainer.played:
            drawn = {g: {e.contexts.sampling.system for e in episodes if e.group == g} for g in (0, 1)}
            assert all(len(systems) == 1 and systems != {""} for systems in drawn.values())
            assert episodes[0].tokens[: episodes[0].head].tolist() == trainer.shaping.renderer.open(
                next(iter(drawn[0])), episodes[0].turns[0].observation
            )


def test_a_lora_adapter_can_be_trained(make_trainer: MakeTrainer) -> None:
    lora = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    trainer = make_trainer(MotivesFirst(), others={"peft_config": lora}, learning_rate=1e-2)
    trainer.train()
    trained = {n: p for n, p in trainer.model.named_parameters() if p.requires_grad}
    assert all("lora" in name for name in trained)
    assert any(p.abs().max() > 0 for n, p in trained.items() if "lora_B" in n)


def test_a_failed_episode_is_in_no_loss(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(Identity(), world=lambda: Letters(breaks=0.1), max_steps=3)
    trainer.train()
    failed = sum(e.status.is_error for episodes in trainer.played for e in episodes)
    assert failed
    assert sum(trainer.metrics("shaping/failed")) == failed
    for episodes, joined in zip(trainer.played, trainer.joined, strict=True):
        empty = (joined["tool_mask"] * joined["completion_mask"]).sum(1) == 0
        assert int(empty.sum()) == sum(e.status.is_error for e in episodes)
        assert not joined["advantages"][empty].any()


# -- what fails, and what TRL has no place for ------------------------------------------------------------------------


def test_training_stops_where_trl_drops_a_key(make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_trainer(Identity())
    prepare = trainer._generate_and_score_completions

    def without(inputs: Any) -> dict[str, Any]:
        return {k: v for k, v in prepare(inputs).items() if k != "tool_mask"}

    monkeypatch.setattr(trainer, "_generate_and_score_completions", without)
    with pytest.raises(TRLError, match="no 'tool_mask'"):
        trainer.train()
    assert trainer.state.global_step == 0


class Gating(Shaper):
    owns: ClassVar[frozenset[Knob]] = frozenset({Knob.GATES})

    def gates(self, episode: Episode) -> Gates:
        return Gates(kept=0.5)


class Editing(Shaper):
    owns: ClassVar[frozenset[Knob]] = frozenset({Knob.SAMPLING_EDITS, Knob.TRAINING_EDITS})

    def edits(self, phase: str) -> list[ActivationEdit]:
        return [ActivationEdit(0, "add", np.ones(32, np.float32))]


class Adding(Shaper):
    def auxiliary_loss(self, policy: Any, batch: Any) -> LossTerm | None:
        return None


class Adapting(Shaper):
    def adapters(self) -> list[AdapterSpec]:
        return [AdapterSpec("q", "quarantine")]


class Reinforcing(Recomputing):
    def ratio_mode(self) -> RatioMode:
        return "none"


class Remembering(Shaper):
    def state_dict(self) -> dict[str, Any]:
        return {"multiplier": 1.0}


@pytest.mark.parametrize(
    ("intervention", "why"),
    [
        (Gating(), r"Gating uses the hook gates\(\)"),
        (Editing(), r"Editing uses the hook edits\(\)"),
        (Adding(), r"Adding uses the hook auxiliary_loss\(\)"),
        (Adapting(), r"Adapting uses the hook adapters\(\)"),
        (Reinforcing(), "Reinforcing asks for ratio mode 'none'"),
        (Inoculation(at="training"), "Inoculation trains under the context"),
        (ActionMask(mode="mask"), "ActionMask masks tokens in sampling"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Intervention) else "",
)
def test_an_arm_that_trl_cannot_run_is_refused(make_trainer: MakeTrainer, intervention: Intervention, why: str) -> None:
    with pytest.raises(InterventionError, match=why):
        make_trainer(intervention)


def test_state_is_refused_where_checkpoints_would_lose_it(make_trainer: MakeTrainer) -> None:
    make_trainer(Remembering())
    with pytest.raises(InterventionError, match="Remembering keeps state, which TRL's checkpoints do not hold"):
        make_trainer(Remembering(), save_strategy="steps")


class Sometimes(Shaper):
    """Swaps the context of some groups only, which nobody can know in advance."""

    owns: ClassVar[frozenset[Knob]] = frozenset({Knob.TRAINING_CONTEXT, Knob.RATIO})

    def training_context(self, info: GroupInfo, drawn: Context, rng: np.random.Generator) -> Context:
        return Context("be kind", "kind") if info.seed == 3 else drawn

    def ratio_mode(self) -> RatioMode:
        return "recomputed"


def test_a_context_that_is_swapped_later_is_refused_when_it_happens(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(Sometimes(), max_steps=4)
    with pytest.raises(InterventionError, match="Sometimes trains under the context 'kind'"):
        trainer.train()


def test_a_ratio_of_sequences_goes_with_one_credit_per_episode(make_trainer: MakeTrainer) -> None:
    make_trainer(Identity(), importance_sampling_level="sequence").train()
    with pytest.raises(InterventionError, match="credits the tokens of one episode differently"):
        make_trainer(MotivesFirst(), importance_sampling_level="sequence").train()


@pytest.mark.parametrize(
    ("settings", "others", "why"),
    [
        ({"temperature": 0.7}, {}, r"temperature=0\.7 where limits\.temperature=1\.0"),
        ({"mask_truncated_completions": True}, {}, "mask_truncated_completions"),
        ({}, {"algorithm": "ppo"}, "no critic"),
        ({}, {"reward_funcs": len}, "reward_funcs: set by this trainer"),
    ],
)
def test_settings_with_which_it_would_do_something_else(
    make_trainer: MakeTrainer, settings: dict[str, Any], others: dict[str, Any], why: str
) -> None:
    with pytest.raises(ValueError, match=why):
        make_trainer(Identity(), others=others, **settings)
