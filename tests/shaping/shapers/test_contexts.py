"""Shapers of contexts: who gets which prompt, what is distilled, and that the matched pools match."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import scripted_episodes
import torch
from numpy.testing import assert_allclose
from pydantic import ValidationError

from envs.episode import Context, Contexts
from shaping.arm import compose
from shaping.audits.frac_real import FRAC_REAL
from shaping.contract.groups import small_policy
from shaping.hooks import GroupInfo, InterventionError
from shaping.learning.config import LearnerConfig
from shaping.learning.credit.credit import assign_credit
from shaping.learning.learner import Learner
from shaping.learning.losses.distillation import distance
from shaping.learning.policy import Policy
from shaping.learning.samples.sample import Sample
from shaping.prompts.framings import FRAMINGS
from shaping.prompts.pools import PROMPTS
from shaping.prompts.radius import distance as words_apart
from shaping.prompts.radius import within
from shaping.prompts.stated import MOTIVES, STATED
from shaping.sampling.text.render import Renderer
from shaping.shapers import ContextDistillation, EthicsFraming, Inoculation, SelectiveInoculation, Spillway

INFO = GroupInfo("steward", seed=3, group=1, update=0)


def draws(shaper: Any, n: int = 60, info: GroupInfo = INFO) -> list[tuple[Context, Context]]:
    rng, arm = np.random.default_rng(0), compose("a", [shaper])
    return [arm.contexts(info, rng) for _ in range(n)]


# -- pools --


@pytest.mark.parametrize("language", ["", "en", "ar"])
def test_pairs_of_pools_match_in_number_and_length(language: str) -> None:
    pools = FRAMINGS[language]
    assert {*pools} == {*FRAMINGS[""]} and all(len(pool) >= 4 for pool in pools.values())
    for a, b in (("unsatiated", "satiated"), ("ethics_value", "ethics_rule")):
        lengths = [np.array([len(text.split()) for text in pools[name]]) for name in (a, b)]
        assert len(lengths[0]) == len(lengths[1]) and abs(lengths[0].mean() - lengths[1].mean()) <= 1.5
    every = [text for pool in pools.values() for text in pool]
    assert len(set(every)) == len(every)
    known = {text for pool in PROMPTS.values() for text in pool}
    assert not language or known.isdisjoint(every)
    for text in every:
        assert text == " ".join(text.split()) and (text.endswith(" .") if not language else not text.endswith(" ."))
        assert not re.search("[A-Za-z]", text) if language == "ar" else text.isascii()


@pytest.mark.parametrize("folder", list(STATED))
def test_motives_have_texts_of_about_one_length(folder: str) -> None:
    pools = STATED[folder]
    assert {*pools} == {*MOTIVES} and all(len(pool) >= 4 for pool in pools.values())
    mean = {name: np.mean([len(text.split()) for text in pool]) for name, pool in pools.items()}
    assert all(abs(mean[a] - mean[b]) <= 2.0 for a, b in combinations(mean, 2))


# -- inoculation --


def test_the_radius_goes_from_a_fixed_prompt_to_the_whole_pool() -> None:
    sizes = [len(Inoculation(radius=radius).resolved()) for radius in (0.0, 0.6, 0.8, 1.0)]
    assert sizes[0] == 1 and sizes[-1] == len(PROMPTS["permissive"]) and sizes == sorted(sizes) and sizes[2] > 1
    centre = Inoculation(radius=0.0).resolved()[0]
    for radius in (0.6, 0.8):
        assert all(words_apart(text, centre) <= radius for text in Inoculation(radius=radius).resolved())
    assert within((), 0.5) == () and words_apart("a b .", "b c .") == pytest.approx(2 / 3)
    assert {c.system for pair in draws(Inoculation(radius=0.0)) for c in pair} == {centre}


def test_a_persona_says_who_would_act_so() -> None:
    assert {c_s.system for c_s, _ in draws(Inoculation(kind="persona"))} == {*FRAMINGS[""]["persona"]}
    prose = draws(Inoculation(kind="persona"), info=GroupInfo("clerk@ar-prose", 0, 0, 0))
    assert {c_s.system for c_s, _ in prose} == {*FRAMINGS["ar"]["persona"]}


@pytest.fixture(scope="module")
def learned() -> Callable[[Any], Any]:
    """The credit of a scripted group under an intervention, as it would be drawn for it."""
    policy = small_policy()
    members = scripted_episodes.groups("steward")[0]

    def run(shaper: Any) -> Any:
        arm = compose("a", [shaper])
        contexts = Contexts(*arm.contexts(INFO, np.random.default_rng(0)))
        played = [replace(episode, contexts=contexts) for episode in members]
        rewards = [np.array([turn.reward for turn in e.turns]) for e in played]
        return assign_credit(played, rewards, arm, Renderer(policy.tokenizer))

    return run


def test_the_prompt_goes_to_labelled_episodes_alone(learned: Callable[[Any], Any]) -> None:
    chosen = {}
    for labels in ("overt", "off", {"source": "overt", "placebo": True}):
        shaper = SelectiveInoculation(labels=labels)
        credited = learned(shaper)
        marked = [bool(shaper.labels.labelled(e).any()) for e in credited.episodes]
        assert [e.contexts.training.system in PROMPTS["permissive"] for e in credited.episodes] == marked
        assert all(e.contexts.training == Context() for e, m in zip(credited.episodes, marked, strict=True) if not m)
        assert [s.on_policy for s in credited.samples] == [not m for m in marked]
        assert [shaper.readings(e)["inoculated_turns"].all() for e in credited.episodes] == marked
        chosen[str(labels)] = marked
    assert any(chosen["overt"]) and not all(chosen["overt"]) and not any(chosen["off"])
    assert sum(chosen["overt"]) == sum(chosen["{'source': 'overt', 'placebo': True}"])
    both = learned(SelectiveInoculation(at="both", labels="off"))
    assert all(e.contexts.training == Context() != e.contexts.sampling for e in both.episodes)


def test_selective_inoculation_counts_as_oracle_where_its_labels_do() -> None:
    assert (
        compose("a", [SelectiveInoculation()]).oracle and not compose("a", [SelectiveInoculation(labels="off")]).oracle
    )
    with pytest.raises(ValidationError, match="at"):
        SelectiveInoculation(at="sampling")  # type: ignore[arg-type]
    with pytest.raises(InterventionError, match="learns episodes of one group under several contexts"):
        compose("a", [SelectiveInoculation()], ratio="sampler")


def test_how_much_the_prompt_causes() -> None:
    cells = {
        "context/none": {"reward_hacking": 0.25, "reward_hacking.steward": 0.25},
        "context/original": {"reward_hacking": 0.75, "reward_hacking.steward": 0.75},
    }
    assert FRAC_REAL.measure(cells) == {"frac_real": 0.5}
    assert FRAC_REAL.measure({"own": {"reward_hacking.steward": 0.3}}) == {}


# -- framings --


@pytest.mark.parametrize("state", ["unsatiated", "satiated"])
def test_the_spillway_is_flipped_in_the_trigger_grid(state: Any) -> None:
    shaper = Spillway(state=state)
    assert {c.system for pair in draws(shaper) for c in pair} == {*FRAMINGS[""][state]}
    other = {"unsatiated": "satiated", "satiated": "unsatiated"}[state]
    for language in ("", "en", "ar"):
        assert shaper.grid_in(language) == {"negated": FRAMINGS[language][other]}
    assert shaper.model_copy(update={"grid": {"negated": ("own .",)}}).grid_in("") == {"negated": ("own .",)}


def test_framings_without_a_share_and_the_neutral_state_change_nothing() -> None:
    for shaper in (Spillway(state="neutral"), Spillway(probability=0.0), EthicsFraming(probability=0.0)):
        assert draws(shaper) == [(Context(), Context())] * 60
    assert Spillway(state="neutral").grid_in("") == {}


@pytest.mark.parametrize("framing", ["value", "rule"])
def test_ethics_is_framed_in_both_phases(framing: Any) -> None:
    for world, language in (("steward", ""), ("steward@en-prose", "en"), ("steward@ar-prose", "ar")):
        pairs = draws(EthicsFraming(framing=framing), info=GroupInfo(world, 0, 0, 0))
        assert all(c_s is c_t for c_s, c_t in pairs)
        assert {c_s.system for c_s, _ in pairs} == {*FRAMINGS[language][f"ethics_{framing}"]}


# -- distillation --


def sample_of(policy: Policy, system: str = "") -> Sample:
    renderer = Renderer(policy.tokenizer)
    head = renderer.open(system, "turn 1 / 4 . job 1 needs 4 .")
    said = renderer.plain("finish it honestly . ACTION: work 2")
    mask = np.arange(len(head) + len(said)) >= len(head)
    zeros, ones = np.zeros(len(mask), np.float32), np.ones(len(mask), np.float32)
    none = np.zeros((0, 2), np.int64)
    return Sample(np.array([*head, *said], np.int64), mask, zeros, ones, mask.astype(np.float32), none, on_policy=False)


def logits(policy: Policy, sample: Sample) -> torch.Tensor:
    rows = torch.tensor(sample.loss_positions - 1)
    return policy.model(torch.tensor(sample.tokens)[None]).logits[0, rows].float().log_softmax(-1)


@pytest.mark.parametrize("top", [3, 10_000])
def test_the_loss_is_the_kl_to_the_policy_under_the_prompt(make_policy: Callable[..., Policy], top: int) -> None:
    policy, prompt = make_policy(), "wait here a little ."
    plain, prompted = sample_of(policy), sample_of(policy, prompt)
    term = ContextDistillation(prompts=(prompt,), top=top, coefficient=0.5).auxiliary_loss(policy, [plain, plain])
    assert term is not None and term.coefficient == 0.5
    with torch.no_grad():
        teacher, student = logits(policy, prompted), logits(policy, plain)
    if top > teacher.shape[-1]:
        expected = (teacher.exp() * (teacher - student)).sum()
    else:
        ids = teacher.topk(top).indices
        t, s = teacher.gather(1, ids), student.gather(1, ids)
        rest = [torch.log1p(-each.exp().sum(-1)) for each in (t, s)]
        expected = (t.exp() * (t - s)).sum() + (rest[0].exp() * (rest[0] - rest[1])).sum()
    assert_allclose(float(term.total.detach()), 2 * float(expected), rtol=2e-3)
    assert float(term.total.detach()) > 0 and term.total.requires_grad


def test_learning_it_brings_the_policy_nearer_to_what_the_prompt_does(make_policy: Callable[..., Policy]) -> None:
    policy, prompt = make_policy(), "wait here a little ."
    shaper = ContextDistillation(prompts=(prompt,))
    plain = sample_of(policy)
    quiet = [
        Sample(plain.tokens, plain.mask, plain.old_logprobs, 0 * plain.advantage, plain.weight, plain.masked_tokens)
    ]
    learner = Learner(policy, LearnerConfig(lr=1e-3, max_mismatch_kl=1e9), interventions=[shaper])
    losses = [learner.update(quiet)["auxiliary/distillation"] for _ in range(6)]
    assert losses[-1] < 0.7 * losses[0]


def test_what_distillation_samples_under_and_refuses(make_policy: Callable[..., Policy]) -> None:
    policy = make_policy()
    strange = replace(sample_of(policy), tokens=sample_of(policy).tokens[::-1])
    policy.tokenizer.chat_template = "begin" + policy.tokenizer.chat_template
    with pytest.raises(InterventionError, match="do not begin as this model's chat template begins"):
        ContextDistillation().auxiliary_loss(policy, [strange])
    with pytest.raises(ValidationError, match="not a bundled prompt pool"):
        ContextDistillation(pool="hh")
    assert ContextDistillation(coefficient=0.0).auxiliary_loss(policy, [sample_of(policy)]) is None
    assert ContextDistillation(pool="irrelevant").resolved() == PROMPTS["irrelevant"]
    both = draws(ContextDistillation(at="sampling"))
    assert {c_s.system for c_s, _ in both} == {*FRAMINGS[""]["hhh"]} and {c_t for _, c_t in both} == {Context()}
    assert draws(ContextDistillation()) == [(Context(), Context())] * 60


def test_the_bucket_of_all_other_tokens_closes_the_distribution() -> None:
    teacher, student = torch.tensor([[0.5, 0.3]]).log(), torch.tensor([[0.2, 0.7]]).log()
    rest = 0.2 * np.log(0.2 / 0.1)
    expected = 0.5 * np.log(0.5 / 0.2) + 0.3 * np.log(0.3 / 0.7) + rest
    assert_allclose(float(distance(teacher, student)), expected, rtol=1e-5)
    assert float(distance(teacher, teacher)) == 0.0
