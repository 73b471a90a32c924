"""Credit: neutral interventions change no bit, costs are in the rewards' units, contexts swap the head alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from four_episodes import RETURNS, same
from numpy.testing import assert_allclose, assert_array_equal

from envs import make_world
from envs.episode import Context, Contexts, Episode
from shaping.arm import compose
from shaping.constraints import ActionMask
from shaping.hooks import ActivationEdit, Credit, Gates, Group, InterventionError, Knob, Phase, RatioMode
from shaping.intervention import Constraint, Shaper
from shaping.learning.credit.credit import Credited
from shaping.learning.policy import Policy
from shaping.learning.samples.packing import pack
from shaping.sampling.embedded.transformers_engine import TransformersEngine
from shaping.sampling.play import EpisodeRequest, Limits, play
from shaping.sampling.text.render import Renderer
from shaping.shapers import Identity

MakeEpisode = Callable[..., Episode]


def test_the_identity_shaper_changes_no_bit(credit: Callable[..., Credited]) -> None:
    plain, shaped = credit(), credit(Identity())
    assert len(plain.samples) == len(shaped.samples) == 4
    assert all(same(a, b) for a, b in zip(plain.samples, shaped.samples, strict=True))
    assert plain.credit.tobytes() == shaped.credit.tobytes()


def test_every_sampled_token_gets_its_episodes_group_advantage(credit: Callable[..., Credited]) -> None:
    found = credit()
    assert_array_equal(found.returns, [1, 3, 2, 0])
    assert_allclose(found.advantages, [-1, 1, 1, -1])
    assert_allclose(found.credit, found.advantages)
    for sample, advantage in zip(found.samples, found.advantages, strict=True):
        assert_array_equal(sample.advantage, np.where(sample.mask, advantage, 0.0).astype(np.float32))
        assert_array_equal(sample.weight, sample.mask.astype(np.float32))
    assert_allclose(credit(algorithm="dr_grpo").advantages, [-1, 1, 1, -1])


def test_a_group_must_share_one_draw_of_contexts(credit: Callable[..., Credited], episodes: list[Episode]) -> None:
    other = Contexts(Context("be good .", "good"), Context("be good .", "good"))
    mixed = [*episodes[:3], replace(episodes[3], contexts=other)]
    with pytest.raises(InterventionError, match="group 1 mixes contexts; one draw per group"):
        credit(among=mixed)


class Price(Constraint):
    costs: tuple[tuple[float, ...] | None, ...]
    scale: float = 1.0

    def cost(self, episode: Episode) -> Any:
        found = self.costs[RETURNS.index(tuple(t.reward for t in episode.turns))]
        return None if found is None else self.scale * np.array(found)


COSTS = ((0.0, 0.0), (1.0, 1.0), (0.0, 0.5), (0.0, 0.0))


CENTRED = np.array([-1, 1, 0.25, -0.25])
"""The costs of the episodes less the mean of their group; the deviation of the returns is 1 in both groups."""


def test_what_is_trained_is_return_minus_weight_times_cost(credit: Callable[..., Credited]) -> None:
    found = credit(Price(costs=COSTS, weight=0.5))
    assert_array_equal(found.costs, [0, 2, 0.5, 0])
    assert_allclose(found.credit, found.advantages - 0.5 * CENTRED)
    assert_allclose(found.advantages, credit().advantages, err_msg="the audit needs the advantage before any cost")
    assert found.floored == 0.0 and credit(algorithm="rloo").floored is None


def test_the_size_of_a_cost_counts_as_its_weight_does(credit: Callable[..., Credited]) -> None:
    plain = credit(Price(costs=COSTS)).credit
    assert_allclose(credit(Price(costs=COSTS, scale=3.0)).credit - credit().credit, 3 * (plain - credit().credit))
    assert_allclose(credit(Price(costs=COSTS, weight=3.0)).credit, credit(Price(costs=COSTS, scale=3.0)).credit)


@pytest.mark.parametrize("level", ["episode", "turn"])
@pytest.mark.parametrize("algorithm", ["grpo", "dr_grpo", "rloo", "reinforce_pp"])
def test_a_cost_without_weight_changes_no_bit(credit: Callable[..., Credited], algorithm: Any, level: Any) -> None:
    options = {"algorithm": algorithm, "level": level}
    found, plain = credit(Price(costs=COSTS, scale=1e6, weight=0.0), **options), credit(**options)
    assert all(same(a, b) for a, b in zip(found.samples, plain.samples, strict=True))
    assert_array_equal(found.costs, [0, 2e6, 0.5e6, 0], err_msg="it is still measured")


def test_a_floor_is_a_share_of_the_largest_return(credit: Callable[..., Credited]) -> None:
    found = credit(Price(costs=COSTS), spread_floor=1.0)
    assert_allclose(found.advantages, [-1 / 3, 1 / 3, 1 / 2, -1 / 2])
    assert_allclose(found.credit, found.advantages - CENTRED / [3, 3, 2, 2])
    assert found.floored == 1.0


def test_two_constraints_are_priced_one_by_one(credit: Callable[..., Credited]) -> None:
    both = credit(Price(costs=COSTS), Price(costs=COSTS, scale=10.0, weight=0.25))
    assert_allclose(both.credit, both.advantages - 3.5 * CENTRED)


class Shuffled(Constraint):
    """Charges every episode what another one of its group has earned."""

    answers: Any = None

    def cost_group(self, episodes: Sequence[Episode]) -> Any:
        assert len({e.group for e in episodes}) == 1 and len(episodes) == 2
        own = [np.array([t.reward for t in e.turns]) for e in episodes[::-1]]
        return own if self.answers is None else self.answers


def test_a_constraint_can_price_a_group_as_a_whole(credit: Callable[..., Credited], episodes: list[Episode]) -> None:
    found = credit(Shuffled())
    assert_array_equal(found.costs, [3, 1, 0, 2])
    mixed = credit(Shuffled(), among=[episodes[i] for i in (0, 2, 1, 3)])
    assert_array_equal(mixed.costs, [3, 0, 1, 2], err_msg="members of a group need not be neighbours")
    assert not credit(Shuffled(answers=[None, None])).costs.any()


@pytest.mark.parametrize(("level", "shares"), [("episode", (0.5, 0.5, 0.0)), ("turn", (0.5, 0.0, 0.0))])
def test_a_group_is_uninformative_if_neither_rewards_nor_priced_costs_vary(
    make_episode: MakeEpisode, credit: Callable[..., Credited], level: Any, shares: tuple[float, float, float]
) -> None:
    paid = ((1.0, 1.0), (1.0, 1.0), (0.0, 1.0), (0.0, 3.0))
    same_return = [make_episode(r, group=n // 2, seed=n // 2) for n, r in enumerate(paid)]
    moved = [make_episode((0.0, 2.0), group=0, seed=0), *same_return[1:]]
    assert credit(among=same_return, level=level).uninformative == shares[0]
    assert credit(among=moved, level=level).uninformative == shares[1]

    class OneCost(Constraint):
        def cost(self, episode: Episode) -> Any:
            calls.append(1)
            return np.full(2, float(len(calls) == 1))

    calls: list[int] = []
    assert credit(OneCost(), among=same_return, level=level).uninformative == shares[2]
    calls.clear()
    assert credit(OneCost(weight=0.0), among=same_return, level=level).uninformative == 0.5


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ([np.zeros(2)], r"Shuffled\.cost_group gave 1 arrays for a group of 2 episodes"),
        (np.zeros((2, 2)), r"Shuffled\.cost_group gave ndarray for a group of 2"),
        ([np.zeros(2), np.zeros(3)], r"Shuffled\.cost_group must give 2 finite numbers, one per turn, for steward"),
        ([np.zeros(2), None], r"Shuffled\.cost_group must give 2 finite numbers"),
    ],
)
def test_costs_of_a_group_are_one_array_per_episode(
    credit: Callable[..., Credited], answers: Any, message: str
) -> None:
    with pytest.raises(InterventionError, match=message):
        credit(Shuffled(answers=answers))


@pytest.mark.parametrize(
    "costs",
    [
        (COSTS[0], (1.0,), *COSTS[2:]),
        (COSTS[0], (1.0, float("nan")), *COSTS[2:]),
        (COSTS[0], None, *COSTS[2:]),
        (COSTS[0], (1.0, 1.0, 1.0), *COSTS[2:]),
    ],
    ids=["too short", "nan", "missing for one episode", "too long"],
)
def test_a_cost_that_is_not_a_finite_number_per_turn_is_refused(credit: Callable[..., Credited], costs: Any) -> None:
    with pytest.raises(InterventionError, match=r"Price\.cost must give 2 finite numbers, one per turn, for steward"):
        credit(Price(costs=costs))


class Adds(Shaper):
    """Credit of any shape, as told."""

    kind: str = "advantage"
    change: int = 0
    value: float = 2.0
    arrays: int = 2

    def credit(self, group: Group) -> Credit:
        streams = tuple(np.full(len(e.tokens) + self.change, self.value, np.float32) for e in group.episodes)
        return Credit("adds", **{self.kind: (streams * 2)[: self.arrays]})


def test_credit_is_added_to_the_advantage_and_multiplied_into_the_weight_of_sampled_tokens(
    credit: Callable[..., Credited],
) -> None:
    plain, added, weighted = credit(), credit(Adds()), credit(Adds(kind="weight"))
    for before, after, heavy in zip(plain.samples, added.samples, weighted.samples, strict=True):
        assert_allclose(after.advantage, before.advantage + 2.0 * before.mask)
        assert_allclose(heavy.weight, 2.0 * before.weight)
    assert_allclose(added.credit, plain.credit + 2.0)
    assert_allclose(weighted.credit, plain.credit * 2.0)
    assert_allclose(credit(Adds(), Adds(kind="weight")).credit, (plain.credit + 2.0) * 2.0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"change": 1}, "advantage must hold 10 finite numbers, one per token"),
        ({"value": float("inf")}, "advantage must hold 10 finite numbers"),
        ({"kind": "weight", "change": -1}, "weight must hold 10 finite numbers"),
        ({"arrays": 1}, "advantage holds 1 arrays for a group of 2"),
        ({"arrays": 3, "kind": "weight"}, "weight holds 3 arrays for a group of 2"),
    ],
)
def test_credit_of_a_wrong_shape_is_refused(credit: Callable[..., Credited], wrong: Any, message: str) -> None:
    with pytest.raises(InterventionError, match=f"credit 'adds': {message}"):
        credit(Adds(**wrong))


class Reads(Shaper):
    """Reads the truth in every hook of this stage."""

    owns: ClassVar[frozenset[Knob]] = frozenset({Knob.GATES})
    hook: str = "credit"

    def credit(self, group: Group) -> Credit | None:
        if self.hook == "credit":
            group.episodes[0].truth.open()
        return None

    def gates(self, episode: Episode) -> Gates:
        return Gates(min(1.0, float(len(episode.truth.open())))) if self.hook == "gates" else Gates()


class Prices(Constraint):
    def cost(self, episode: Episode) -> Any:
        return np.array([labels.deception for labels in episode.truth.open()])


class Oracle(Reads):
    oracle: ClassVar[bool] = True


class OraclePrices(Prices):
    oracle: ClassVar[bool] = True


def test_the_truth_is_sealed_from_whoever_does_not_declare_that_it_reads_it(credit: Callable[..., Credited]) -> None:
    for intervention in (Reads(), Reads(hook="gates"), Prices()):
        with pytest.raises(InterventionError, match=r"SealedError: .*oracle"):
            credit(intervention)
    for intervention in (Oracle(), Oracle(hook="gates"), OraclePrices()):
        credit(intervention)


@pytest.fixture(scope="module")
def played(policy: Policy, renderer: Renderer) -> Callable[..., list[Episode]]:
    """Masked episodes in a real world, sampled by a random policy."""

    def play_them(sampling: str, training: str) -> list[Episode]:
        contexts = Contexts(Context(sampling, "a"), Context(training, "l"))
        engine = TransformersEngine(policy.model, renderer, slots=4)
        requests = [
            EpisodeRequest(lambda: make_world("clerk", {"size": 3, "horizon": 3}), 5, 0, contexts, sampling_seed=n)
            for n in range(4)
        ]
        arm = compose("masked", [ActionMask(commands=tuple("abcdefghijklmnopqrstuvwxyz"))])
        return asyncio.run(play(requests, engine, renderer, arm, limits=Limits(max_tokens=8)))

    return play_them


class Swap(Shaper):
    owns: ClassVar[frozenset[Knob]] = frozenset({Knob.TRAINING_CONTEXT, Knob.RATIO})
    ratio: RatioMode = "recomputed"

    def ratio_mode(self) -> RatioMode:
        return self.ratio


@pytest.mark.parametrize(("sampling", "training"), [("", "take what you can ."), ("take what you can .", "")])
def test_a_learning_context_replaces_the_head_and_nothing_else(
    credit: Callable[..., Credited],
    played: Callable[..., list[Episode]],
    policy: Policy,
    renderer: Renderer,
    sampling: str,
    training: str,
) -> None:
    same_context, swapped = played(sampling, sampling), played(sampling, training)
    usual, recontextualised = credit(among=same_context), credit(Swap(), among=swapped)
    for episode, a, b in zip(swapped, usual.samples, recontextualised.samples, strict=True):
        head = renderer.open(training, episode.turns[0].observation)
        assert b.tokens[: len(head)].tolist() == head and len(head) != episode.head
        for stream in ("tokens", "mask", "old_logprobs", "advantage", "weight"):
            assert_array_equal(getattr(b, stream)[len(head) :], getattr(a, stream)[episode.head :])
        assert not b.mask[: len(head)].any()
        shift = len(head) - episode.head
        assert len(a.masked_tokens) > 0
        assert_array_equal(b.masked_tokens, a.masked_tokens + np.array([shift, 0]))
        assert (a.on_policy, b.on_policy, b.ratio) == (True, False, "recomputed")
        with torch.no_grad():  # the mask still sits on the same sampled tokens: none of them has become impossible
            logprobs, _ = policy.logprobs(pack([b], len(b))[0])
        assert torch.isfinite(logprobs).all() and len(logprobs) == int(episode.loss_mask.sum())


@pytest.mark.parametrize("training", ["", "take what you can ."])
@pytest.mark.parametrize("ratio", ["recomputed", "none", "sampler"])
def test_what_an_older_version_sampled_says_how_it_was_sampled_where_the_ratio_does_not(
    credit: Callable[..., Credited], played: Callable[..., list[Episode]], ratio: RatioMode, training: str
) -> None:
    episodes = played("", training)
    assert all(s.sampled is None for s in credit(Swap(ratio=ratio), among=episodes, version=0).samples)
    for episode, sample in zip(episodes, credit(Swap(ratio=ratio), among=episodes, version=1).samples, strict=True):
        assert not sample.on_policy
        if ratio == "sampler":
            assert sample.sampled is None
            continue
        assert sample.sampled is not None
        assert_array_equal(sample.sampled.tokens, episode.tokens)
        assert_array_equal(sample.sampled.mask, episode.loss_mask)
        assert_array_equal(sample.sampled.old_logprobs[episode.loss_mask], episode.logprobs[episode.loss_mask])
        assert_array_equal(sample.sampled.masked_tokens, [(p, i) for p, ids in episode.masked_tokens() for i in ids])


def test_a_swap_on_a_template_that_breaks_the_prefix_is_refused(
    credit: Callable[..., Credited], make_episode: MakeEpisode
) -> None:
    broken = replace(make_episode(), segments=(0, 5), contexts=Contexts(Context(), Context("be good .", "good")))
    with pytest.raises(InterventionError, match="chat template breaks the prefix"):
        credit(Swap(), among=[broken, broken])


class Steers(Shaper):
    owns: ClassVar[frozenset[Knob]] = frozenset({Knob.SAMPLING_EDITS, Knob.TRAINING_EDITS})
    training_scale: float = 1.0

    def edits(self, phase: Phase) -> Sequence[ActivationEdit]:
        scale = 1.0 if phase == "sampling" else self.training_scale
        return [ActivationEdit(0, "add", np.ones(32, np.float32), scale)]


class SteersOffPolicy(Steers):
    owns: ClassVar[frozenset[Knob]] = Steers.owns | {Knob.RATIO}

    def ratio_mode(self) -> RatioMode:
        return "none"


def test_the_same_edits_in_both_phases_are_on_policy(credit: Callable[..., Credited]) -> None:
    assert all(sample.on_policy for sample in credit(Steers()).samples)


def test_different_edits_need_a_ratio_mode(credit: Callable[..., Credited]) -> None:
    with pytest.raises(InterventionError, match=r"edits or adapters differ.*ratio_mode\(\)"):
        credit(Steers(training_scale=2.0))
    samples = credit(SteersOffPolicy(training_scale=2.0)).samples
    assert all(not s.on_policy and s.ratio == "none" for s in samples)


class GatesByReturn(Shaper):
    owns: ClassVar[frozenset[Knob]] = frozenset({Knob.GATES})

    def gates(self, episode: Episode) -> Gates:
        return Gates(kept=float(episode.proxy_return > 1), quarantine=0.5)


def test_gates_are_set_per_episode(credit: Callable[..., Credited]) -> None:
    found = credit(GatesByReturn()).samples
    assert [(s.kept_gate, s.quarantine_gate) for s in found] == [(0.0, 0.5), (1.0, 0.5), (1.0, 0.5), (0.0, 0.5)]
