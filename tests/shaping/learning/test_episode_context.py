"""A training context per episode: who gets it, what is learned under it, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest
from four_episodes import RETURNS

from envs.episode import Context, Contexts, Episode
from shaping.arm import compose
from shaping.contract.interventions import check_intervention
from shaping.hooks import GroupInfo, InterventionError, Knob, RatioMode
from shaping.intervention import Shaper
from shaping.learning.config import LearnerConfig
from shaping.learning.credit.credit import Credited, assign_credit
from shaping.learning.learner import Learner
from shaping.learning.policy import Policy
from shaping.sampling.text.render import Renderer
from shaping.trl.rollouts import refuse_unsupported

PROMPT = Context("wait here a little .", "wait")


class OfGood(Shaper):
    """Episodes of a high return are learned under a prompt."""

    owns: ClassVar[frozenset[Knob]] = frozenset({Knob.EPISODE_CONTEXT, Knob.TRAINING_CONTEXT, Knob.RATIO})
    above: float = 0.5
    prompt: str = PROMPT.system
    answer: str = "context"
    mode: RatioMode = "recomputed"

    def training_context(self, info: GroupInfo, drawn: Context, rng: np.random.Generator) -> Context:
        return PROMPT

    def episode_context(self, episode: Episode) -> Context | None:
        if self.answer != "context":
            return self.answer  # type: ignore[return-value]
        return Context(self.prompt, "own") if episode.proxy_return > self.above else episode.contexts.sampling

    def ratio_mode(self) -> RatioMode:
        return self.mode


@pytest.fixture
def drawn(episodes: list[Episode]) -> list[Episode]:
    """The episodes as they are played: each group has drawn the prompt as its training context."""
    return [replace(episode, contexts=Contexts(Context(), PROMPT)) for episode in episodes]


class Silent(OfGood):
    """Gives no context of its own."""

    def episode_context(self, episode: Episode) -> Context | None:
        return None


def test_only_the_chosen_episodes_are_learned_under_the_prompt(
    credit: Callable[..., Credited], episodes: list[Episode], drawn: list[Episode], renderer: Renderer
) -> None:
    plain, own = credit(), credit(OfGood(), among=drawn)
    assert np.array_equal(plain.advantages, own.advantages), "baselines stay those of the group"
    chosen = [float(np.sum(returns)) > 0.5 for returns in RETURNS]
    assert [e.contexts.training.name for e in own.episodes] == ["own" if each else "none" for each in chosen]
    for before, after, given, episode in zip(plain.samples, own.samples, chosen, episodes, strict=True):
        opening = renderer.open(PROMPT.system if given else "", episode.turns[0].observation)
        if not given:
            assert np.array_equal(before.tokens, after.tokens) and after.on_policy
        else:
            assert after.tokens[: len(opening)].tolist() == opening and not after.on_policy
            assert np.array_equal(after.tokens[len(opening) :], before.tokens[episode.head :])
        assert np.array_equal(after.tokens[after.mask], before.tokens[before.mask])
        assert after.ratio == "recomputed"


def test_the_kl_stays_under_the_sampling_context_where_it_is_asked_for(
    credit: Callable[..., Credited], episodes: list[Episode], drawn: list[Episode]
) -> None:
    parts = credit(OfGood(), among=drawn, kl_context="sampling").samples
    under_prompt = [s for s in parts if not s.kl]
    only_kl = [s for s in parts if not s.policy]
    assert len(under_prompt) == len(only_kl) == sum(float(np.sum(r)) > 0.5 for r in RETURNS)
    assert all(any(np.array_equal(s.tokens, e.tokens[: len(s)]) for e in episodes) for s in only_kl)


def test_an_episode_without_a_context_of_its_own_is_learned_as_its_group(
    credit: Callable[..., Credited], drawn: list[Episode]
) -> None:
    assert [e.contexts for e in credit(Silent(), among=drawn).episodes] == [e.contexts for e in drawn]


def test_recomputed_log_probs_start_the_ratio_at_one(
    drawn: list[Episode], renderer: Renderer, make_policy: Callable[..., Policy]
) -> None:
    arm = compose("a", [OfGood()])
    samples = assign_credit(drawn, [np.array([t.reward for t in e.turns]) for e in drawn], arm, renderer).samples
    learner = Learner(make_policy(), LearnerConfig(max_mismatch_kl=1e9, clip_low=1e-6, clip_high=1e-6))
    assert learner.update(samples)["clipped"] == 0.0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"prompt": "wait here a little . " * 9},
            r"room was kept for \d+: draw the longest",
        ),
        ({"answer": "prompt"}, "returned 'prompt'; return Context, or None"),
    ],
)
def test_what_is_no_context_or_too_long_is_refused(
    credit: Callable[..., Credited], fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(InterventionError, match=message):
        credit(OfGood(above=-9.0, **fields))


@pytest.mark.parametrize("mode", ["sampler", None])
def test_the_ratio_must_not_be_taken_against_the_sampler(mode: RatioMode | None) -> None:
    message = "learns episodes of one group under several contexts"
    with pytest.raises(InterventionError, match=message):
        compose("a", [OfGood(mode="sampler")])
    with pytest.raises(InterventionError, match=message):
        compose("a", [OfGood()], ratio="sampler")
    bare = type("Bare", (OfGood,), {"owns": OfGood.owns - {Knob.RATIO}, "ratio_mode": Shaper.ratio_mode})
    with pytest.raises(InterventionError, match=message):
        compose("a", [bare()])
    assert compose("a", [bare()], ratio="none").ratio_mode() == "none"


def test_the_knob_must_be_declared_and_trl_refuses_it() -> None:
    with pytest.raises(InterventionError, match=r"episode_context\(\) but does not list Knob.EPISODE"):
        compose("a", [type("Hidden", (OfGood,), {"owns": frozenset({Knob.TRAINING_CONTEXT, Knob.RATIO})})()])
    with pytest.raises(InterventionError, match=r"uses the hook episode_context\(\)"):
        refuse_unsupported(compose("a", [OfGood()]), {"steward": lambda: None})  # type: ignore[dict-item, return-value]


def test_the_contract_tries_the_hook() -> None:
    faults = {
        each.rule: each.detail
        for each in check_intervention(lambda: OfGood(answer="no"), 1, ("clerk",)).results
        if not each.ok
    }
    assert [*faults] == ["episode_context"] and "return envs.episode.Context" in faults["episode_context"]
