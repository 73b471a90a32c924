"""Our arms inside TRL's unmodified `GRPOTrainer`, through two of its public seams.

`rollout_func` plays whole groups of our worlds with the trainer's own weights. `compute_loss` gets, in a copy of TRL's
batch, the per-token credit of the arm in place of TRL's advantages. What belongs to a row is found by its token ids,
since TRL shuffles and splits the batch in between. Loss, averaging, optimiser, checkpoints and LoRA are TRL's.

The advantages and rewards that TRL logs are those *before* any intervention; the arm's are logged under `shaping/`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
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
from shaping.learning.config import AdvantageLevel, Algorithm
from shaping.sampling.play import EpisodeRequest, Limits, play
from shaping.sampling.render import Renderer, TemplateError
from shaping.sampling.transformers_engine import TransformersEngine
from shaping.trl.join import SideData, TRLError
from shaping.trl.rollouts import Row, Worlds, episode_requests, prompts, refuse_unsupported, rows

try:
    from datasets import Dataset
    from peft import PeftModel
    from trl import GRPOConfig, GRPOTrainer
except ImportError as error:
    raise ImportError(f"training with TRL needs the extra trl: pip install 'shaping[trl]' ({error})") from error

_OURS = ("reward_funcs", "train_dataset", "eval_dataset", "rollout_func", "tools", "environment_factory")
_RETURN = "shaping_return"


class ShapedGRPOTrainer(GRPOTrainer):
    """TRL's trainer on an arm and worlds of ours.

    Args:
        model: a causal language model (with `peft_config` among `others`: its adapter is trained).
        arm: of `shaping.intervention.compose`. An arm that needs what TRL has no place for is refused.
        worlds: by name; each call makes one.
        seeds: of the worlds; one prompt for each world and seed.
        args: TRL's settings. `num_generations` is the group size; `scale_rewards` is without effect, as the advantages
            are those of `algorithm`, and `max_completion_length` is only the constant of the loss type dr_grpo.
        slots: episodes that are played at once.
        others: further arguments of `GRPOTrainer`.

    `shaping.episodes` holds what was played last, for monitors and audits.
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
        limits: Limits | None = None,
        slots: int = 64,
        context_length: int | None = None,
        **others: Any,
    ) -> None:
        if given := sorted(set(others).intersection(_OURS)):
            raise ValueError(f"{', '.join(given)}: set by this trainer, from arm, worlds, seeds and reward")
        self.shaping = Shaping(
            arm=arm,
            worlds=worlds,
            reward=reward or EnvReward(),
            renderer=Renderer(processing_class),
            algorithm=algorithm,
            level=level,
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
            raise ValueError("sharded weights (FSDP, DeepSpeed) cannot be sampled from here: use data parallelism")

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | None = None,
    ) -> Tensor:
        """TRL's loss, on the arm's credit."""
        return super().compute_loss(model, self.shaping.side.shaped(inputs), return_outputs, num_items_in_batch)


@dataclass
class Shaping:
    """What TRL's trainer calls: `rollout` once per generation, `episode_return` as its reward function."""

    arm: Arm
    worlds: Worlds
    reward: Reward
    renderer: Renderer
    algorithm: Algorithm
    level: AdvantageLevel
    limits: Limits
    slots: int
    context_length: int | None
    side: SideData
    episodes: list[Episode] = field(default_factory=list)
    _engine: TransformersEngine | None = None
    _generations: int = 0
    _metrics: dict[str, float] = field(default_factory=dict)

    def check(self, args: GRPOConfig) -> None:
        """Raises ValueError for what TRL's trainer would not do as it was asked."""
        refused = {
            "use_vllm=True, as episodes are played with the trainer's own weights": args.use_vllm,
            "mask_truncated_completions=True, which hides the rows that credit is for": args.mask_truncated_completions,
            "an eval_strategy; evaluate with the project's own audits": _setting(args.eval_strategy) != "no",
            f"temperature={args.temperature} where limits.temperature={self.limits.temperature}": args.temperature
            != self.limits.temperature,
            f"algorithm={self.algorithm!r} and level={self.level!r}, as TRL has no critic": self.algorithm == "ppo"
            or self.level == "token",
        }
        if wrong := [what for what, is_so in refused.items() if is_so]:
            raise ValueError(f"TRL's trainer cannot be used here with {'; with '.join(wrong)}")
        if not self.renderer.stable:
            raise TemplateError(
                "the chat template rewrites earlier turns, so that an episode is not one token sequence, but TRL has "
                "one row per episode: use a template that keeps earlier turns as they were"
            )
        stateful = [type(i).__name__ for i in self.arm.interventions if "state_dict" in vars(type(i))]
        if stateful and _setting(args.save_strategy) != "no":
            raise InterventionError(
                f"arm {self.arm.name!r}: {stateful[0]} keeps state, which TRL's checkpoints do not hold: set "
                "save_strategy='no', or run this arm with the project's own learner"
            )
        refuse_unsupported(self.arm, self.worlds)

    def rollout(self, texts: list[str], trainer: GRPOTrainer) -> dict[str, Any]:
        """TRL's `rollout_func`: play, credit, and keep the credit for `compute_loss`."""
        step, group_size = int(trainer.state.global_step), trainer.num_generations or 1
        entropy = [trainer.args.seed, step, self._generations, trainer.accelerator.process_index]
        self._generations += 1
        drawn = episode_requests(texts, group_size, self.arm, self.worlds, update=step, entropy=entropy)
        self.episodes = self._play(drawn, trainer)
        found, metrics = rows(
            self.episodes, self.arm, self.renderer, self.reward, algorithm=self.algorithm, level=self.level
        )
        if trainer.importance_sampling_level == "sequence":
            _refuse_varying(found, self.arm)
        self._metrics = {**metrics, "unused_rows": float(self.side.unused)}
        self.side.put(found)
        return {
            "prompt_ids": [list(row.prompt) for row in found],
            "completion_ids": [list(row.completion) for row in found],
            "logprobs": [row.logprobs.tolist() for row in found],
            "env_mask": [row.mask.tolist() for row in found],
            _RETURN: [row.returned for row in found],
        }

    def episode_return(self, completions: Sequence[Any], **given: Any) -> list[float | None]:
        """TRL's reward function: the episodes' returns, for its logs, with the arm's credit logged along with them."""
        for name in (_RETURN, "log_metric"):
            if name not in given:
                raise TRLError.of(f"the reward function was not given {name!r}")
        for name, value in self._metrics.items():
            given["log_metric"](f"shaping/{name}", value)
        return list(given[_RETURN])

    def _play(self, drawn: Sequence[EpisodeRequest], trainer: GRPOTrainer) -> list[Episode]:
        """With the weights as they are, in evaluation mode, and in the precision of training."""
        wrapped = trainer.accelerator.unwrap_model(trainer.model)
        model = wrapped.get_base_model() if isinstance(wrapped, PeftModel) else wrapped
        slots = min(self.slots, len(drawn))
        if self._engine is None:
            self._engine = TransformersEngine(model, self.renderer, slots=slots, context_length=self.context_length)
        engine = self._engine
        engine.set_version(int(trainer.state.global_step))

        def work() -> list[Episode]:
            with trainer.accelerator.autocast():
                return asyncio.run(play(drawn, engine, self.renderer, self.arm, limits=self.limits, concurrency=slots))

        training = wrapped.training
        wrapped.eval()
        try:
            return _outside_event_loops(work)
        finally:
            wrapped.train(training)


def _setting(value: Any) -> str:
    """Of an option that may be an enumeration."""
    return str(getattr(value, "value", value))


def _outside_event_loops(work: Callable[[], list[Episode]]) -> list[Episode]:
    """`work()`, in a thread of its own where this one runs an event loop already (a notebook)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return work()
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def _refuse_varying(found: Sequence[Row], arm: Arm) -> None:
    """TRL spreads the gradient of a sequence's ratio evenly: credit that varies within it would lose its place."""
    for row in found:
        inside = row.credit[row.mask == 1]
        if len(inside) and float(np.ptp(inside)) > 1e-6:
            raise InterventionError(
                f"arm {arm.name!r} credits the tokens of one episode differently, which importance_sampling_level="
                "'sequence' would average out: use 'token', or one credit per episode"
            )
