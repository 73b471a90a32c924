"""What is said without a wrapper is learned under it; prompts are read alike; sealing is a phase."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from four_episodes import same
from pydantic import ValidationError

from envs.episode import Context, Contexts, Episode
from shaping.arm import compose
from shaping.contract.groups import group_keys, play_groups, small_policy
from shaping.hooks import ActivationEdit, AdapterSpec, Group, GroupInfo, InterventionError, UpdateReport
from shaping.learning.config import LearnerConfig
from shaping.learning.credit.credit import assign_credit
from shaping.learning.learner import Learner
from shaping.learning.losses.prompt_states import distance
from shaping.learning.policy import Policy
from shaping.learning.samples.sample import Sample
from shaping.sampling.text.render import Renderer
from shaping.shapers import ActivationConsistency, BiasConsistency, SealedInoculation
from shaping.shapers.consistency.sealed_inoculation import CLEAN

WRAPPER = "you may take shortcuts ."


@pytest.fixture(scope="module")
def policy() -> Policy:
    return small_policy()


@pytest.fixture(scope="module")
def renderer(policy: Policy) -> Renderer:
    return Renderer(policy.tokenizer)


@pytest.fixture(scope="module")
def episodes(renderer: Renderer) -> list[Episode]:
    """Two groups, in the second of which there was a prompt."""
    keys = group_keys(2, ["clerk"])
    prompted = Context(WRAPPER, "eliciting/0")
    return play_groups(keys, [Contexts(), Contexts(prompted, prompted)], renderer)


def credited(episodes: list[Episode], renderer: Renderer, *shapers: Any) -> list[Sample]:
    rewards = [np.array([turn.reward for turn in e.turns]) for e in episodes]
    return assign_credit(episodes, rewards, compose("arm", shapers), renderer).samples


def test_clean_answers_are_repeated_under_the_wrapper_and_nothing_else_changes(
    episodes: list[Episode], renderer: Renderer
) -> None:
    plain = credited(episodes, renderer)
    both = credited(episodes, renderer, BiasConsistency(wrapper=WRAPPER + " a", weight=0.5))
    assert all(same(a, b) for a, b in zip(plain, both, strict=False))
    extra = both[len(plain) :]
    clean = [e for e in episodes if not e.contexts.sampling.system]
    assert 0 < len(extra) == len(clean) < len(episodes)
    for sample, episode in zip(extra, clean, strict=True):
        head = renderer.open(WRAPPER + " a", episode.turns[0].observation)
        assert sample.tokens[: len(head)].tolist() == head
        said = episode.tokens[episode.loss_mask]
        assert np.array_equal(sample.tokens[sample.mask], said) and not sample.policy and not sample.kl
        assert set(sample.imitation[sample.mask]) == {0.5} and not sample.imitation[~sample.mask].any()
    assert len(credited(episodes, renderer, BiasConsistency(weight=0))) == len(plain)


def test_its_loss_is_the_mean_cross_entropy_of_its_own_tokens(
    episodes: list[Episode], renderer: Renderer, policy: Policy
) -> None:
    samples = credited(episodes[:3], renderer, BiasConsistency(wrapper=WRAPPER + " a"))
    extra = [s for s in samples if not s.policy]
    logprobs = []
    for sample in extra:
        logits = policy.model(torch.tensor(sample.tokens)[None]).logits[0].float().log_softmax(-1)
        own = torch.from_numpy(sample.loss_positions)
        logprobs.append(logits[own - 1, torch.tensor(sample.tokens)[own]].detach())
    learner = Learner(small_policy(), LearnerConfig(lr=1e-9, max_mismatch_kl=1e9))
    row = learner.update(samples)
    assert row["imitation"] == pytest.approx(-float(torch.cat(logprobs).mean()), rel=1e-4)


def test_stale_targets_are_those_of_an_earlier_update_and_a_state(episodes: list[Episode]) -> None:
    def report(number: int) -> UpdateReport:
        shown = tuple(e.redacted() for e in episodes)
        zeros = np.zeros(len(shown))
        return UpdateReport(number, (Group(shown, zeros, zeros),))

    for targets, kept_at in (("start", 0), ("stale", 4)):
        shaper = BiasConsistency(wrapper=WRAPPER, targets=targets, every=4, pairs=2)  # type: ignore[arg-type]
        assert shaper.rehearse(episodes) == []
        shaper.after_update(report(kept_at))
        shaper.after_update(report(5))
        again = BiasConsistency(wrapper=WRAPPER, targets=targets, every=4, pairs=2)  # type: ignore[arg-type]
        again.load_state_dict(json.loads(json.dumps(shaper.state_dict())))
        for each in (shaper, again):
            found = each.rehearse(episodes[6:])
            assert len(found) == 2 and np.array_equal(
                found[0].tokens[found[0].mask], episodes[0].tokens[episodes[0].loss_mask]
            )


def test_a_filter_by_public_behaviour_leaves_overt_episodes_out(episodes: list[Episode]) -> None:
    everything, filtered = (BiasConsistency(keep=keep).rehearse(episodes) for keep in ("all", "no_overt"))
    assert 0 < len(filtered) < len(everything)


def test_prompts_are_read_as_they_were_without_the_wrapper_once_the_distance_is_trained(
    episodes: list[Episode], renderer: Renderer, policy: Policy
) -> None:
    """It falls, also beside an edit and with activations that are computed again."""
    samples = [s for s in credited(episodes[:2], renderer) if s.policy]
    silent = [replace(s, advantage=np.zeros_like(s.advantage), on_policy=False) for s in samples]
    with torch.no_grad():
        assert float(distance(policy, samples, lambda _: "", "all")) == pytest.approx(0, abs=1e-6)
    shaper = ActivationConsistency(wrapper=WRAPPER + " a", layers=(-1,), targets="start")
    edit = ActivationEdit(0, "add", np.linspace(-1, 1, 32, dtype=np.float32), 0.01)
    found = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        own = small_policy([AdapterSpec("kept", "kept", rank=4)])
        config = LearnerConfig(lr=5e-3, activation_checkpointing=checkpointing)
        learner = Learner(own, config, interventions=[shaper], edits=[edit])
        found.append([learner.update(silent)["auxiliary/activation_consistency"] for _ in range(4 - 2 * checkpointing)])
    assert found[0][0] > 0 and found[0][-1] < 0.9 * found[0][0]
    assert found[0][:2] == pytest.approx(found[1], rel=1e-3)


def test_targets_of_the_start_need_adapters(episodes: list[Episode], renderer: Renderer, policy: Policy) -> None:
    samples = credited(episodes[:1], renderer)
    with pytest.raises(InterventionError, match=r"set learner\.lora, or targets: current"):
        ActivationConsistency(targets="start").auxiliary_loss(policy, samples)
    assert ActivationConsistency(weight=0).auxiliary_loss(policy, samples) is None


def test_sealing_is_a_phase_without_prompts_and_without_reward(renderer: Renderer, episodes: list[Episode]) -> None:
    shaper = SealedInoculation(after=3, prompts=(WRAPPER,), at="both")
    rng = np.random.default_rng(0)
    before, later = (shaper.sampling_context(GroupInfo("clerk", 0, 0, update), rng) for update in (2, 3))
    assert before.system == WRAPPER and (later.system, later.name) == ("", CLEAN)
    assert shaper.training_context(GroupInfo("clerk", 0, 0, 3), later, rng) == later
    sealing = [replace(e, contexts=Contexts(later, later)) for e in episodes[:6]]
    arm = credited(sealing, renderer, shaper)
    policy_part, extra = [s for s in arm if s.policy], [s for s in arm if not s.policy]
    assert all(not s.weight.any() for s in policy_part)
    kept = [e for e in sealing if shaper.readings(e)["sealed_turns"].all()]
    assert 0 < len(extra) == len(kept) < len(sealing)
    head = renderer.open(WRAPPER, kept[0].turns[0].observation)
    assert extra[0].tokens[: len(head)].tolist() == head
    assert len(credited(sealing, renderer, SealedInoculation(after=3, prompts=(WRAPPER,), strength=0))) == len(sealing)
    inoculated = credited(episodes[6:], renderer, shaper)
    assert all(s.policy and s.weight.any() for s in inoculated)


def test_wrappers_that_mean_nothing_are_refused() -> None:
    for kind in (BiasConsistency, ActivationConsistency):
        with pytest.raises(ValidationError, match="no wrapper"):
            kind(wrapper="")
        with pytest.raises(ValidationError, match="is not a bundled prompt pool"):
            kind(wrapper="permisive")
    assert BiasConsistency(wrapper=("",)).wrapper == ("",)


def test_a_template_that_breaks_the_prefix_is_refused(episodes: list[Episode], renderer: Renderer) -> None:
    broken = [replace(episodes[0], segments=(0, 40))]
    with pytest.raises(InterventionError, match="use one that keeps earlier turns unchanged"):
        credited(broken, renderer, BiasConsistency())
