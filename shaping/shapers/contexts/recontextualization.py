"""Recontextualization: sample under one context and train under a more permissive one (2512.19027)."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field, field_validator, model_validator

from envs.episode import Context
from shaping.controls import OF_TRAINING_PROMPTS, ControlKind
from shaping.hooks import Credit, Group, GroupInfo, Knob, RatioMode
from shaping.intervention import Shaper
from shaping.prompts.controls import PromptControl, controlled
from shaping.prompts.grid import GridTexts
from shaping.prompts.pools import choose, language_of, texts


class Recontextualization(Shaper):
    """Sample under `sampling`, train under the more permissive `training`, deploy with neither (2512.19027).

    Each of the two is a prompt, a list of prompts (drawn once per group), the name of a bundled pool, or `""` for no
    prompt. A `training` context that is *less* permissive is the reverse control of the paper; it is allowed.

    Completions are off-policy under the training context from the first step. With rho = exp(log p(y | c_t) - old
    log-prob), `ratio` selects the old log-probs:

    - `sampler` (as in the paper, there per sequence): the sampler's under c_s. Tokens that are less likely under c_t
      start below 1 - eps. PPO's minimum then clips those with *negative* advantage (no gradient) and keeps those with
      positive advantage, scaled by the small rho. Tokens that are more likely under c_t start above 1 + eps; there
      the tokens with positive advantage lose their gradient.
    - `recomputed` (default): the current policy's under c_t, before the first step. rho starts at 1, so the first
      step clips no token of either sign.
    - `none`: no ratio and no clipping, the plain policy gradient under c_t.

    With `best_of: n` it is expert iteration, the paper's other form, in place of a policy gradient: a group is split
    into sets of n episodes (some get one more where n does not divide it; a smaller group is one set), and the best of
    each by its reward, the first of equal ones, is imitated under c_t. The loss is -log p(y | c_t), a mean over the
    tokens of all that is imitated. Nothing else is learned: advantages and costs of constraints do not count, and
    `ratio` has no effect. `best_of: 1` imitates every episode, the control without a selection.

    `probability` is the share of groups that are trained under `training`, for studies of its strength. The others are
    trained under the context that they were sampled under.

    Seen in `methods` (clerk, 8 replicates, 95 %): shortcuts per chance, deployed, beside unshaped: -0.01 [-0.09,
    +0.08], where it should be below 0; 0.12 would be seen with a power of .8.
    """

    owns: ClassVar[frozenset[Knob]] = frozenset({Knob.SAMPLING_CONTEXT, Knob.TRAINING_CONTEXT, Knob.RATIO})
    needs: ClassVar[tuple[ControlKind, ...]] = OF_TRAINING_PROMPTS

    sampling: str | tuple[str, ...] = Field("", description="sampling context (c_s)")
    training: str | tuple[str, ...] = Field("permissive", description="training context (c_t)")
    ratio: RatioMode = Field("recomputed", description="old log-probs of the policy ratio")
    probability: float = Field(1.0, ge=0, le=1, description="share of groups with the training context (0: none)")
    best_of: int = Field(
        0, ge=0, le=10_000, description="episodes of which the best is imitated; 0: policy gradient; 1: no selection"
    )
    control: PromptControl | None = Field(None, description="other prompts in the place of `training`, as a control")
    grid: GridTexts = Field({}, description="prompts of the trigger grid that stand for the bundled ones (own prompts)")

    @field_validator("sampling", "training")
    @classmethod
    def _usable(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        texts(value)
        return value

    @model_validator(mode="after")
    def _contexts_differ(self) -> Recontextualization:
        if texts(self.sampling) == texts(self.training):
            raise ValueError("`sampling` and `training` are the same; for one prompt in both phases use Inoculation")
        return self

    def sampling_context(self, info: GroupInfo, rng: np.random.Generator) -> Context:
        return choose(self._texts(self.sampling, info), "sampling", rng)

    def training_context(self, info: GroupInfo, drawn: Context, rng: np.random.Generator) -> Context:
        prompts = self._texts(self.training, info)
        if self.control:
            prompts = controlled(prompts, self.control, language_of(info.world, info.prose))
        other = choose(prompts, self.control or "training", rng)
        return other if rng.random() < self.probability else drawn  # drawn last: no prompt depends on the share

    @staticmethod
    def _texts(source: str | tuple[str, ...], info: GroupInfo) -> tuple[str, ...]:
        return texts(source, language_of(info.world, info.prose))

    def ratio_mode(self) -> RatioMode:
        return "none" if self.best_of else self.ratio

    def credit(self, group: Group) -> Credit | None:
        if not self.best_of:
            return None
        size = len(group.episodes)
        sets = np.array_split(np.arange(size), max(1, size // self.best_of))
        best = {int(members[np.argmax(group.returns[members])]) for members in sets}
        nothing = tuple(np.zeros(len(episode.tokens), np.float32) for episode in group.episodes)
        imitated = tuple(
            np.full(len(episode.tokens), float(number in best), np.float32)
            for number, episode in enumerate(group.episodes)
        )
        return Credit("best_of", weight=nothing, imitation=imitated)
