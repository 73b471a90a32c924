"""Shapers of motives: what they force and how often, what they add to credit, and what they never invert."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import scripted_episodes
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from envs.episode import Episode, Forced
from shaping.arm import compose
from shaping.hooks import Group, GroupInfo, Prefill, UpdateReport
from shaping.learning.credit.advantages import estimate
from shaping.prompts.stated import MOTIVES, STATED, stated
from shaping.shapers import MotiveDiversity, MotiveProposal, OrderPreservingCredit, SelfNarration
from shaping.shapers.motives.self_narration import shuffled
from shaping.shapers.motives.tie_breaking import tie_breaks

INFO = GroupInfo("steward", seed=3, group=1, update=0)


@pytest.fixture(scope="module")
def group() -> Group:
    """Six scripted episodes: honest ones and others."""
    return group_of([e.redacted() for e in scripted_episodes.groups("steward")[0]])


def group_of(members: list[Episode], returns: Any = None) -> Group:
    paid = np.array([e.proxy_return for e in members] if returns is None else returns, np.float64)
    return Group(tuple(members), paid, estimate("grpo", paid, np.zeros(len(paid), np.int64)))


def draws(shaper: SelfNarration | MotiveProposal, n: int = 200, members: int = 4, info: GroupInfo = INFO) -> list[Any]:
    rng, arm = np.random.default_rng(0), compose("a", [shaper])
    return [arm.prefills(info, members, rng) for _ in range(n)]


# -- self-narration --


@pytest.mark.parametrize("motive", MOTIVES)
def test_a_group_shares_one_preamble_of_its_type(motive: Any) -> None:
    drawn = draws(SelfNarration(type=motive, loss="in"))
    assert all(len(set(texts)) == 1 for texts in drawn)
    assert {texts[0].text for texts in drawn} == {*stated(motive, "steward")}
    assert {(texts[0].name, texts[0].loss, texts[0].proposal) for texts in drawn} == {(motive, "in", None)}


def test_members_may_have_preambles_of_their_own_and_the_words_fit_the_world() -> None:
    assert any(len(set(texts)) > 1 for texts in draws(SelfNarration(per="member")))
    for world, folder in (("steward@ar-1850", "dialect/ar"), ("steward@ar-prose", "ar"), ("steward@en-prose", "en")):
        told = {text.text for texts in draws(SelfNarration(), 40, info=GroupInfo(world, 0, 0, 0)) for text in texts}
        assert told == {*STATED[folder]["prosocial"]}


def test_a_shuffled_preamble_has_the_words_of_a_prosocial_one() -> None:
    whole = {tuple(sorted(text.split())) for text in stated("prosocial", "steward")}
    told = [texts[0].text for texts in draws(SelfNarration(type="shuffled"))]
    assert {tuple(sorted(text.split())) for text in told} == whole and all(text.endswith(" .") for text in told)
    assert len(set(told)) > 20
    assert shuffled("", np.random.default_rng(0)) == ""


def test_a_share_of_the_groups_has_no_preamble_and_shifts_no_other_draw() -> None:
    full, half = draws(SelfNarration()), draws(SelfNarration(share=0.5))
    assert 60 < sum(texts == () for texts in half) < 140
    assert all(texts in ((), other) for texts, other in zip(half, full, strict=True))
    assert draws(SelfNarration(share=0.0)) == [()] * 200


def test_stripped_preambles_name_the_ratio() -> None:
    assert SelfNarration(loss="stripped").ratio_mode() == "recomputed" and SelfNarration().ratio_mode() == "sampler"
    for fields, message in (
        ({"loss": "stripped", "ratio": "sampler"}, "leave ratio out"),
        ({"prompts": ("ok . ACTION: grab 1",)}, "holds an action"),
        ({"prompts": (" ",)}, "blank"),
    ):
        with pytest.raises(ValidationError, match=message):
            SelfNarration(**fields)


# -- proposals --


def test_members_draw_from_the_proposal_and_say_with_what_probability() -> None:
    shaper = MotiveProposal(loss="importance")
    drawn = [text for texts in draws(shaper, 500) for text in texts]
    counts = Counter(text.name for text in drawn)
    assert set(counts) == set(MOTIVES)
    for motive, q in shaper.q().items():
        assert abs(counts[motive] / len(drawn) - q) < 4 * math.sqrt(q * (1 - q) / len(drawn))
        told = {text.proposal for text in drawn if text.name == motive}
        assert told == {math.log(q / len(stated(motive, "steward")))}  # type: ignore[arg-type]
    assert {text.loss for text in drawn} == {"in"}
    masked = draws(MotiveProposal(), 1)[0]
    assert all(isinstance(text, Prefill) and (text.loss, text.proposal) == ("masked", None) for text in masked)
    assert draws(MotiveProposal(share=0.0)) == [()] * 200


def told(group: Group, names: list[str], advantages: list[float]) -> UpdateReport:
    """A report in which the members had these motives and advantages."""
    members = tuple(
        replace(episode, turns=tuple(replace(turn, forced=Forced(name, 3)) for turn in episode.turns))
        for episode, name in zip(group.episodes, names, strict=False)
    )
    return UpdateReport(0, (Group(members, np.array(advantages), np.array(advantages)),))


def test_the_proposal_follows_the_advantages_under_its_prior(group: Group) -> None:
    shaper, fixed = MotiveProposal(rate=0.5, floor=0.2), MotiveProposal(rate=0.0)
    before = shaper.q()
    report = told(group, ["prosocial", "score_seeking"], [-1.0, 1.0])
    for plugin in (shaper, fixed):
        for _ in range(20):
            plugin.after_update(report)
    after = shaper.q()
    assert after["score_seeking"] > before["score_seeking"] and after["prosocial"] < before["prosocial"]
    assert after["task_pride"] / after["neutral"] != 0 and sum(after.values()) == pytest.approx(1.0)
    # exp(value / temperature) times the prior, and a share of the floor
    raw = {"prosocial": 0.4 * math.exp(-1), "task_pride": 0.3, "neutral": 0.2, "score_seeking": 0.1 * math.exp(1)}
    expected = {m: 0.8 * w / sum(raw.values()) + 0.05 for m, w in raw.items()}
    assert after == pytest.approx(expected, abs=1e-5)
    assert fixed.q() == MotiveProposal(rate=0.0).q() and min(after.values()) >= 0.05
    again = MotiveProposal(rate=0.5, floor=0.2)
    again.load_state_dict(shaper.state_dict())
    assert again.q() == after


def test_a_motive_has_no_mass_only_where_its_prior_is_zero() -> None:
    shaper = MotiveProposal(prior={"prosocial": 1.0, "score_seeking": 0.0})
    assert shaper.q() == {"prosocial": 1.0}
    for prior, message in (
        ({"prosocial": 0.0, "neutral": 0.0}, "the proposal has no mass"),
        ({}, "the proposal has no mass"),
        ({"prosocial": -1.0}, "than or equal to"),
        ({"prosocial": float("nan")}, "than or equal to"),
        ({"greed": 1.0}, "prosocial"),
    ):
        with pytest.raises(ValidationError, match=message):
            MotiveProposal(prior=prior)  # type: ignore[arg-type]


# -- credit --

ANY = st.floats(-1e30, 1e30) | st.sampled_from([0.0, -0.0, 1e-45, 1e-38, 1.0, 1.0000001])


@settings(max_examples=100, deadline=None)
@given(st.data(), st.integers(1, 8), st.floats(0, 1e6))
def test_no_scores_whatever_invert_two_returns(data: st.DataObject, size: int, weight: float) -> None:
    def numbers(of: st.SearchStrategy[float]) -> np.ndarray:
        return np.array(data.draw(st.lists(of, min_size=size, max_size=size)), np.float64)

    returns, scores = numbers(ANY), numbers(ANY | st.sampled_from([1e308, -1e308]))
    order = np.argsort(returns, kind="stable")
    advantages = np.zeros(size)
    advantages[order] = np.sort(numbers(ANY))  # any estimator that keeps the order, or flattens it
    for value in np.unique(returns):
        advantages[returns == value] = advantages[returns == value].min()
    group = Group((), returns, advantages)
    bonus = tie_breaks(group, scores, weight)
    assert (bonus >= 0).all() and (bonus <= np.float32(weight)).all()
    credit = advantages.astype(np.float32) + bonus
    for i in range(size):
        assert (credit[i] <= credit[returns > returns[i]]).all()


def test_ties_are_broken_by_the_stated_motive(group: Group) -> None:
    shaper = OrderPreservingCredit(weight=0.25)
    tied = group_of(list(group.episodes), [1.0] * 3 + [0.0] * 3)
    credit = shaper.credit(tied)
    assert credit is not None
    bonus = np.array([values[0] for values in credit.advantage])
    honest = np.array([shaper.readings(e)["preferred_motive"].mean() for e in group.episodes])
    assert np.ptp(honest) > 0 and bonus.max() == np.float32(0.25) and bonus.min() == 0
    assert (np.diff(bonus[np.argsort(honest)]) >= 0).all()
    for values, episode in zip(credit.advantage, group.episodes, strict=True):
        assert (values == values[0]).all() and len(values) == len(episode.tokens)
    other = OrderPreservingCredit(weight=0.25, placebo=True).credit(tied)
    assert other is not None and sorted(v[0] for v in other.advantage) == sorted(bonus)
    less = OrderPreservingCredit(weight=0.25, prefer="less").credit(tied)
    assert less is not None and np.argmax([v[0] for v in less.advantage]) == np.argmin(honest)


def test_without_weight_or_difference_nothing_is_added(group: Group) -> None:
    for shaper in (OrderPreservingCredit(weight=0.0), MotiveDiversity(weight=0.0), OrderPreservingCredit(motives=())):
        assert shaper.credit(group) is None
    assert OrderPreservingCredit(phrases=("no such phrase",)).credit(group) is None


def test_rare_motives_are_reinforced_more(group: Group) -> None:
    tied = group_of(list(group.episodes), [0.0] * 6)
    shaper = MotiveDiversity(weight=0.5)
    clusters = [shaper._cluster(e) for e in group.episodes]
    credit = shaper.credit(tied)
    assert credit is not None and len(set(clusters)) > 1
    bonus = [float(values[0]) for values in credit.advantage]
    share = [clusters.count(each) for each in clusters]
    assert (np.diff(np.array(bonus)[np.argsort(share)[::-1]]) >= 0).all() and max(bonus) == 0.5
    free = MotiveDiversity(weight=0.5, order_preserving=False).credit(tied)
    assert free is not None
    assert sum(values[0] for values in free.advantage) == pytest.approx(0.0, abs=1e-6)
    assert MotiveDiversity(by="text").credit(tied) is not None
