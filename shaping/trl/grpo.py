"""Arms inside TRL's unmodified `GRPOTrainer`, through two of its public seams.

`rollout_func` plays whole groups of episodes with the trainer's own weights. `compute_loss` gets a copy of TRL's batch
with the arm's per-token credit in place of TRL's advantages. TRL shuffles and splits the batch between the two, so rows
are matched by their token ids. Loss, averaging, optimiser, checkpoints and LoRA are TRL's.

TRL logs the advantages and rewards *before* any intervention; the arm's are logged under `shaping/`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from envs.episode import Episode
from rewards.base import Reward
from rewards.env_reward import EnvReward
from shaping.arm import Arm
from shaping.hooks import InterventionError
from shaping.learning.config import SPREAD_FLOOR, AdvantageLevel, Algorithm
from shaping.sampling.embedded.transformers_engine import TransformersEngine
from shaping.sampling.outside_loops import outside_event_loops
from shaping.sampling.play import EpisodeRequest, Limits, play
from shaping.sampling.text.render import Renderer, TemplateError
from shaping.trl.join import SideData, TRLError
from shaping.trl.rollouts import Row, Worlds, episode_requests, prompts, refuse_unsupported, rows

try:
    from datasets import Dataset
    from peft import PeftModel
    from trl import GRPOConfig, GRPOTrainer
except ImportError as error:
    raise ImportError(f"training with TRL needs the extra trl: pip install 'shaping[trl]' ({error})") from error

_RESERVED = ("reward_funcs", "train_dataset", "eval_dataset", "rollout_func", "tools", "environment_factory")
"""Arguments of `GRPOTrainer` that this trainer sets itself."""
_RETURN = "shaping_return"


class ShapedGRPOTrainer(GRPOTrainer):
    """TRL's trainer on an arm and on worlds of this project. `shaping.episodes` holds the latest episodes.

    Args:
        model: a causal language model; with `peft_config` in `others` its adapter is trained.
        arm: made by `shaping.arm.compose`. An arm whose hooks TRL cannot honour is refused.
        worlds: by name, functions that make a world.
        seeds: seeds of the worlds; each world and seed is one prompt.
        args: TRL's settings. `num_generations` is the group size. `scale_rewards` has no effect, because `algorithm`
            computes the advantages. `max_completion_length` is only the constant of the loss type dr_grpo.
        processing_class: the model's tokenizer.
        reward: the reward; by default the world's own.
        algorithm: estimator of advantages.
        level: one advantage per episode or per turn.
        spread_floor: smallest number that divides advantages, as a share of the group's largest |return|.
        limits: limits of every episode.
        slots: episodes played at once.
        context_length: longest episode in tokens; the model's own limit by default.
        others: further arguments of `GRPOTrainer`.
    Raises: ValueError or `InterventionError` for settings and arms that TRL's trainer cannot honour.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        arm: Arm,
        worlds: Worlds,
        seeds: Sequence[int],
        args: GRPOConfig,
        processing_class: PreTrainedTokenizerBase,
        *,
        reward: Reward | None = None,
        algorithm: Algorithm = "grpo",
        level: AdvantageLevel = "episode",
        spread_floor: float = SPREAD_FLOOR,
        limits: Limits | None = None,
        slots: int = 64,
        context_length: int | None = None,
        **others: Any,
    ) -> None:
        if given := sorted(set(others).intersection(_RESERVED)):
            raise ValueError(f"{', '.join(given)}: set by this trainer, from arm, worlds, seeds and reward")
        self.shaping = Shaping(
            arm=arm,
            worlds=worlds,
            reward=reward or EnvReward(),
            renderer=Renderer(processing_class),
            algorithm=algorithm,
            level=level,
            spread_floor=spread_floor,
            limits=limits or Limits(),
            slots=slots,
            context_length=context_length,
            side=SideData(args.num_iterations, arm.ratio_mode()),
        )
        self.shaping.check(args)
        super().__init__(
            model=model,
            reward_funcs=self.shaping.episode_return,
            args=args,
            train_dataset=Dataset.from_list(prompts(worlds, seeds)),
            processing_class=processing_class,
            rollout_func=self.shaping.rollout,
            **others,
        )
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            raise ValueError("sharded weights (FSDP, DeepSpeed) cannot sample episodes here: use data parallelism")

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | None = None,
    ) -> Tensor:
        """TRL's loss with the arm's credit."""
        return super().compute_loss(model, self.shaping.side.shaped(inputs), return_outputs, num_items_in_batch)


@dataclass
class Shaping:
    """The functions that TRL's trainer calls: `rollout` once per generation, `episode_return` as its reward."""

    arm: Arm
    """The arm."""
    worlds: Worlds
    """By name, functions that make a world."""
    reward: Reward
    """The reward."""
    renderer: Renderer
    """Renderer of the trained model's tokenizer."""
    algorithm: Algorithm
    """Estimator of advantages."""
    level: AdvantageLevel
    """One advantage per episode or per turn."""
    spread_floor: float
    """Smallest number that divides advantages, as a share of the group's largest |return|."""
    limits: Limits
    """Limits of every episode."""
    slots: int
    """Episodes played at once."""
    context_length: int | None
    """Longest episode in tokens; None: the model's own limit."""
    side: SideData
    """The rows of the present generation."""
    episodes: list[Episode] = field(default_factory=list)
    """The episodes of the present generation."""
    _engine: TransformersEngine | None = None
    _generations: int = 0
    _metrics: dict[str, float] = field(default_factory=dict)

    def check(self, args: GRPOConfig) -> None:
        """Raise ValueError or `InterventionError` for settings and arms that TRL's trainer cannot honour."""
        refused = {
            "use_vllm=True, because episodes are played with the trainer's own weights": args.use_vllm,
            "mask_truncated_completions=True, which hides rows that have credit": args.mask_truncated_completions,
            "an eval_strategy; evaluate with the project's own audits": _setting(args.eval_strategy) != "no",
            f"temperature={args.temperature} where limits.temperature={self.limits.temperature}": args.temperature
            != self.limits.temperature,
            f"algorithm={self.algorithm!r} and level={self.level!r}, because TRL has no critic": self.algorithm == "ppo"
            or self.level == "token",
        }
        if wrong := [setting for setting, applies in refused.items() if applies]:
            raise ValueError(f"TRL's trainer cannot be used here with {'; with '.join(wrong)}")
        if not self.renderer.stable:
            raise TemplateError(
                "the chat template rewrites earlier turns, so that an episode is not one token sequence, but TRL has "
                "one row per episode: use a template that keeps earlier turns unchanged"
            )
        stateful = [type(i).__name__ for i in self.arm.interventions if "state_dict" in vars(type(i))]
        if stateful and _setting(args.save_strategy) != "no":
            raise InterventionError(
                f"arm {self.arm.name!r}: {stateful[0]} keeps state, which TRL's checkpoints do not hold: set "
                "save_strategy='no', or run this arm with the project's own learner"
            )
        refuse_unsupported(self.arm, self.worlds)

    def rollout(self, texts: list[str], trainer: GRPOTrainer) -> dict[str, Any]:
        """TRL's `rollout_func`: play episodes, assign credit, and keep it for `compute_loss`."""
        step, group_size = int(trainer.state.global_step), trainer.num_generations or 1
        entropy = [trainer.args.seed, step, self._generations, trainer.accelerator.process_index]
        self._generations += 1
        requests = episode_requests(texts, group_size, self.arm, self.worlds, update=step, entropy=entropy)
        self.episodes = self._play(requests, trainer)
        credited, metrics = rows(
            self.episodes,
            self.arm,
            self.renderer,
            self.reward,
            algorithm=self.algorithm,
            level=self.level,
            spread_floor=self.spread_floor,
        )
        if trainer.importance_sampling_level == "sequence":
            _refuse_varying(credited, self.arm)
        self._metrics = {**metrics, "unused_rows": float(self.side.unused)}
        self.side.put(credited)
        return {
            "prompt_ids": [list(row.prompt) for row in credited],
            "completion_ids": [list(row.completion) for row in credited],
            "logprobs": [row.logprobs.tolist() for row in credited],
            "env_mask": [row.mask.tolist() for row in credited],
            _RETURN: [row.returned for row in credited],
        }

    def episode_return(self, completions: Sequence[Any], **given: Any) -> list[float | None]:
        """TRL's reward function: the episodes' returns, for its logs. It also logs the arm's credit."""
        for name in (_RETURN, "log_metric"):
            if name not in given:
                raise TRLError.of(f"the reward function was not given {name!r}")
        for name, value in self._metrics.items():
            given["log_metric"](f"shaping/{name}", value)
        return list(given[_RETURN])

    def _play(self, requests: Sequence[EpisodeRequest], trainer: GRPOTrainer) -> list[Episode]:
        """Play episodes with the present weights, in evaluation mode and in the precision of training."""
        wrapped = trainer.accelerator.unwrap_model(trainer.model)
        model = wrapped.get_base_model() if isinstance(wrapped, PeftModel) else wrapped
        slots = min(self.slots, len(requests))
        if self._engine is None:
            self._engine = TransformersEngine(model, self.renderer, slots=slots, context_length=self.context_length)
        engine = self._engine
        engine.set_version(int(trainer.state.global_step))

        def work() -> list[Episode]:
            with trainer.accelerator.autocast():
                return asyncio.run(
                    play(requests, engine, self.renderer, self.arm, limits=self.limits, concurrency=slots)
                )

        training = wrapped.training
        wrapped.eval()
        try:
            return outside_event_loops(work)
        finally:
            wrapped.train(training)


def _setting(value: Any) -> str:
    """The value of an option that may be an enumeration."""
    return str(getattr(value, "value", value))


def _refuse_varying(credited: Sequence[Row], arm: Arm) -> None:
    """Refuse credit that varies within a sequence: TRL spreads the gradient of a sequence's ratio evenly over it."""
    for row in credited:
        inside = row.credit[row.mask == 1]
        if len(inside) and float(np.ptp(inside)) > 1e-6:
            raise InterventionError(
                f"arm {arm.name!r} credits the tokens of one episode differently, which importance_sampling_level="
                "'sequence' would average out: use 'token', or one credit per episode"
            )
