"""PPO: generalised advantages per turn or token, reward and costs apart, against a slow reference; and it learns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from envs.episode import Context, Contexts, Episode, RolloutStatus
from shaping.arm import compose
from shaping.hooks import Credit, Group
from shaping.intervention import Constraint, Intervention, Shaper
from shaping.learning.config import LearnerConfig
from shaping.learning.credit.credit import Credited, assign_credit
from shaping.learning.credit.critic import Critic
from shaping.learning.learner import Learner
from shaping.learning.policy import Policy
from shaping.learning.samples.sample import Sample
from shaping.sampling.text.render import Renderer
from shaping.shapers import Recontextualization

MakeEpisode = Callable[..., Episode]
Level = Literal["turn", "token"]
REWARDS = ((0.0, 1.0), (0.5,), (2.0, -1.0, 0.25), (0.0, 0.0))
COSTS = ((1.0, 0.0), (0.0,), (0.0, 3.0, 0.0), (0.5, 0.5))
STATUS = (
    RolloutStatus.COMPLETED,
    RolloutStatus.TRUNCATED_MAX_TURNS,
    RolloutStatus.TRUNCATED_LENGTH,
    RolloutStatus.COMPLETED,
)


class Price(Constraint):
    def cost(self, episode: Episode) -> Any:
        return np.array(COSTS[REWARDS.index(tuple(t.reward for t in episode.turns))])


class Free(Constraint):
    """A constraint without a price."""


@pytest.fixture
def episodes(make_episode: MakeEpisode) -> list[Episode]:
    """Of one to three turns, with two sampled tokens each: completed and cut off ones."""
    made = [make_episode(r, group=n // 2, seed=n // 2) for n, r in enumerate(REWARDS)]
    return [replace(episode, status=status) for episode, status in zip(made, STATUS, strict=True)]


def opinions(heads: int) -> Callable[[Sequence[Sample]], list[tuple[np.ndarray, np.ndarray]]]:
    """A critic with an arbitrary opinion of every sequence, place and head, that depends on the context, too."""

    def values(samples: Sequence[Sample]) -> list[tuple[np.ndarray, np.ndarray]]:
        found = []
        for sample in samples:
            level = np.cumsum(np.sin(sample.tokens))  # of all tokens up to a place
            places = np.flatnonzero(sample.mask)
            by_head = np.arange(1, heads + 1)
            found.append((np.sin(np.outer(level[places - 1], by_head)), np.sin(level[-1] * by_head)))
        return found

    return values


def assign(
    episodes: Sequence[Episode],
    renderer: Renderer,
    *interventions: Intervention,
    level: Level = "token",
    **options: Any,
) -> Credited:
    heads = 1 + sum(isinstance(i, Constraint) for i in interventions)
    critic = Critic(options.pop("values", opinions(heads)), options.pop("gamma", 0.9), options.pop("gae_lambda", 0.8))
    rewards = [np.array([turn.reward for turn in e.turns]) * options.get("scale", 1.0) for e in episodes]
    options.pop("scale", None)
    arm = compose("arm", interventions)
    return assign_credit(episodes, rewards, arm, renderer, algorithm="ppo", level=level, critic=critic, **options)


@dataclass
class Step:
    """In the reference: one decision, the places of its tokens among the sampled ones, and what it was paid."""

    places: list[int]
    paid: float


def steps_of(episode: Episode, paid: Sequence[float], level: Level) -> list[Step]:
    steps, place = [], 0
    for turn, amount in zip(episode.turns, paid, strict=True):
        places = list(range(place, place + len(turn.tokens)))
        place += len(turn.tokens)
        if level == "turn":
            steps.append(Step(places, amount))
        else:
            steps += [Step([p], amount if p == places[-1] else 0.0) for p in places]
    return steps


def slow_gae(
    steps: Sequence[Step], values: Sequence[float], after: float, gamma: float, gae_lambda: float
) -> list[float]:
    """A_t = sum over l of (gamma lambda)^l (r + gamma V_next - V) at t + l, term by term."""
    before = [values[step.places[0]] for step in steps]
    found = []
    for t in range(len(steps)):
        total = 0.0
        for later in range(t, len(steps)):
            following = before[later + 1] if later + 1 < len(steps) else after
            surprise = steps[later].paid + gamma * following - before[later]
            total += (gamma * gae_lambda) ** (later - t) * surprise
        found.append(total)
    return found


def slow(
    episodes: Sequence[Episode], samples: Sequence[Sample], paid: Sequence[Sequence[float]], head: int, level: Level
) -> tuple[list[list[float]], list[dict[int, float]]]:
    """(centred advantage of every sampled token, value targets by place of a step's first token) per episode."""
    spread: list[list[float]] = []
    targets: list[dict[int, float]] = []
    for episode, sample, amounts in zip(episodes, samples, paid, strict=True):
        ((values, after),) = opinions(head + 1)([sample])
        own = [float(v[head]) for v in values]
        ended = not episode.status.is_cut_off
        steps = steps_of(episode, amounts, level)
        advantages = slow_gae(steps, own, 0.0 if ended else float(after[head]), 0.9, 0.8)
        tokens = [0.0] * len(own)
        for step, advantage in zip(steps, advantages, strict=True):
            for place in step.places:
                tokens[place] = advantage
        spread.append(tokens)
        targets.append({s.places[0]: a + own[s.places[0]] for s, a in zip(steps, advantages, strict=True)})
    everything = [a for tokens in spread for a in tokens]
    mean = sum(everything) / len(everything)
    return [[a - mean for a in tokens] for tokens in spread], targets


@pytest.mark.parametrize("swapped", [False, True], ids=["same context", "other training context"])
@pytest.mark.parametrize("level", ["turn", "token"])
def test_advantages_and_targets_are_those_of_the_slow_reference(
    episodes: list[Episode], renderer: Renderer, level: Level, swapped: bool
) -> None:
    interventions: list[Intervention] = [Price(weight=0.7), Free()]
    if swapped:
        contexts = Contexts(Context(), Context("take what you can .", "permissive"))
        episodes = [replace(e, contexts=contexts) for e in episodes]
        interventions.append(Recontextualization())
    found = assign(episodes, renderer, *interventions, level=level)
    reward, reward_targets = slow(episodes, found.samples, REWARDS, 0, level)
    cost, cost_targets = slow(episodes, found.samples, COSTS, 1, level)
    of_reward = [a for tokens in reward for a in tokens]
    deviation = (sum(a**2 for a in of_reward) / len(of_reward)) ** 0.5
    reward, cost = ([[a / deviation for a in tokens] for tokens in head] for head in (reward, cost))
    for n, (episode, sample) in enumerate(zip(episodes, found.samples, strict=True)):
        assert (len(sample) != len(episode.tokens)) == swapped
        expected = [r - 0.7 * c for r, c in zip(reward[n], cost[n], strict=True)]
        assert_allclose(sample.advantage[sample.mask], expected, rtol=1e-5)
        assert not sample.advantage[~sample.mask].any()
        assert sample.critic is not None
        places = np.flatnonzero(sample.mask)
        firsts = [int(places[p]) for p in reward_targets[n]]
        assert np.flatnonzero(sample.critic.mask).tolist() == firsts
        assert_allclose(sample.critic.targets[firsts, 0], list(reward_targets[n].values()), rtol=1e-5)
        assert_allclose(sample.critic.targets[firsts, 1], list(cost_targets[n].values()), rtol=1e-5)
        ((values, _),) = opinions(3)([sample])
        assert_allclose(sample.critic.old[sample.mask], values, rtol=1e-5)
        assert found.advantages[n] == pytest.approx(sum(reward[n]) / len(reward[n])), "of the rewards alone"
    assert_array_equal(found.costs, [sum(c) for c in COSTS])


@pytest.mark.parametrize("level", ["turn", "token"])
def test_only_what_was_cut_off_is_continued_by_its_value(
    make_episode: MakeEpisode, renderer: Renderer, level: Level
) -> None:
    def last_target(status: RolloutStatus, gamma: float = 0.5) -> float:
        episode = replace(make_episode((0.0, 1.0)), status=status)
        (sample,) = assign([episode], renderer, level=level, gamma=gamma, gae_lambda=0.3).samples
        assert sample.critic is not None
        return float(sample.critic.targets[sample.critic.mask][-1, 0])

    episode = make_episode((0.0, 1.0))
    (sample,) = assign([episode], renderer, level=level).samples
    ((_, after),) = opinions(1)([sample])
    assert abs(after[0]) > 0.01
    assert last_target(RolloutStatus.COMPLETED) == pytest.approx(1.0)
    cut_off = [s for s in RolloutStatus if s.is_cut_off]
    assert len(cut_off) == 3 and RolloutStatus.TRUNCATED_CUT_OFF in cut_off
    for status in cut_off:
        assert last_target(status) == pytest.approx(1.0 + 0.5 * after[0], rel=1e-5)
        assert last_target(status, gamma=1.0) == pytest.approx(1.0), "without a discount it would stand for itself"
    assert last_target(RolloutStatus.TRUNCATED_MAX_TURNS) == pytest.approx(1.0), "the horizon is a rule of the world"


def test_costs_are_divided_by_the_deviation_of_the_rewards_advantages(
    episodes: list[Episode], renderer: Renderer
) -> None:
    """One deviation over reward - weight * cost would cancel a weight that is all there is."""

    def silent(samples: Sequence[Sample]) -> list[tuple[np.ndarray, np.ndarray]]:
        return [(np.zeros((int(s.mask.sum()), 2)), np.zeros(2)) for s in samples]

    def credit(weight: float, scale: float = 1.0, **options: Any) -> np.ndarray:
        return assign(episodes, renderer, Price(weight=weight), values=silent, scale=scale, **options).credit

    assert_allclose(credit(1e3, scale=1e3), credit(1.0), rtol=1e-5)
    assert_allclose(credit(2.0) - credit(1.0), credit(1.0) - credit(0.0), rtol=1e-4, atol=1e-6)
    assert np.abs(credit(1.0) - credit(0.0)).max() > 0.1
    without = credit(0.0, scale=0.0)
    assert_array_equal(without, np.zeros(4), err_msg="rewards that never vary teach nothing")
    assert_allclose(credit(3.0, scale=0.0), 3 * credit(1.0, scale=0.0), rtol=1e-5)
    assert np.abs(credit(1.0, scale=0.0)).max() < np.abs(COSTS[0]).sum() + 1, "a unit of reward where none was paid"
    floored = [credit(1.0, spread_floor=floor) for floor in (0.5, 1.0)]
    assert_allclose(floored[0], 2 * floored[1], rtol=1e-5, err_msg="both floors are above the deviation")


def test_a_cost_without_weight_leaves_advantages_and_targets(episodes: list[Episode], renderer: Renderer) -> None:
    def first(samples: Sequence[Sample]) -> list[tuple[np.ndarray, np.ndarray]]:
        found = opinions(1)(samples)
        return [(np.pad(v, ((0, 0), (0, 1))), np.pad(a, (0, 1))) for v, a in found]

    plain = assign(episodes, renderer)
    found = assign(episodes, renderer, Price(weight=0.0), values=first)
    for a, b in zip(plain.samples, found.samples, strict=True):
        assert a.advantage.tobytes() == b.advantage.tobytes()
        assert a.critic is not None and b.critic is not None
        assert_array_equal(b.critic.targets[:, 0], a.critic.targets[:, 0])
        assert not b.critic.targets[:, 1].any()


class ByPlace(Shaper):
    """Credit that tells every token of the sampling sequence from every other."""

    def credit(self, group: Group) -> Credit:
        streams = tuple(1.0 + np.arange(len(e.tokens), dtype=np.float32) for e in group.episodes)
        return Credit("by_place", advantage=streams, weight=streams, imitation=streams)


@pytest.mark.parametrize("swapped", [False, True], ids=["same context", "other training context"])
@pytest.mark.parametrize("level", ["turn", "token"])
def test_streams_stay_with_their_tokens_wherever_the_context_moves_them(
    episodes: list[Episode], renderer: Renderer, level: Level, swapped: bool
) -> None:
    interventions: list[Intervention] = [ByPlace()]
    plain = assign(episodes, renderer, level=level, values=by_token).samples
    if swapped:
        contexts = Contexts(Context(), Context("take what you can .", "permissive"))
        episodes = [replace(e, contexts=contexts) for e in episodes]
        interventions.append(Recontextualization())
    found = assign(episodes, renderer, *interventions, level=level, values=by_token).samples
    for sample, before in zip(found, plain, strict=True):
        assert (len(sample) != len(before)) == swapped
        assert sample.imitation is not None and sample.critic is not None and before.critic is not None
        inside, usual = sample.mask, before.mask
        # these episodes' tokens are their places in the sampling sequence, so a token says where it comes from
        places = sample.tokens[inside].astype(np.float32)
        assert_array_equal(places, np.flatnonzero(usual))
        assert_array_equal(sample.imitation[inside], 1 + places)
        assert_array_equal(sample.weight[inside], 1 + places)
        assert_allclose(sample.advantage[inside], before.advantage[usual] + 1 + places, rtol=1e-6)
        for name in ("old", "targets", "mask"):
            assert_array_equal(getattr(sample.critic, name)[inside], getattr(before.critic, name)[usual])
        for stream in (sample.imitation, sample.advantage, sample.weight, sample.critic.mask):
            assert not stream[~inside].any()


def by_token(samples: Sequence[Sample]) -> list[tuple[np.ndarray, np.ndarray]]:
    """A critic that looks at the sampled token alone, whatever the context."""
    return [(np.cos(s.tokens[s.mask])[:, None], np.cos(s.tokens[-1:])) for s in samples]


@pytest.mark.parametrize("options", [{"critic": None}, {"level": "episode"}])
def test_credit_without_a_critic_or_without_steps_is_refused(
    episodes: list[Episode], renderer: Renderer, options: dict[str, Any]
) -> None:
    rewards = [np.array(r) for r in REWARDS]
    given = {"critic": Critic(opinions(1)), "level": "token", **options}
    with pytest.raises(ValueError, match="ppo needs a critic, and advantages per turn or token"):
        assign_credit(episodes, rewards, compose("arm", []), renderer, algorithm="ppo", **given)


def test_settings_that_do_not_go_together_say_what_to_set() -> None:
    with pytest.raises(ValueError, match="ppo estimates advantages over steps: set advantage_level to turn or token"):
        LearnerConfig(algorithm="ppo")
    with pytest.raises(ValueError, match="advantage_level=token needs a critic: algorithm ppo, not grpo"):
        LearnerConfig(advantage_level="token")


ARMS = (65, 70)
"""The replies of a bandit, one token each; every other token is masked. The second, at first the rarer, is paid."""


def bandit(make_episode: MakeEpisode, policy: Policy, renderer: Renderer, rng: np.random.Generator) -> list[Episode]:
    """Eight on-policy episodes of two turns, in two groups."""
    banned = ((0, tuple(i for i in range(320) if i not in ARMS)),)
    head = renderer.open("", "turn 1 / 4 .")
    more = renderer.extend("turn 2 / 4 .", finished=True)
    frame = make_episode((0.0, 0.0))
    episodes = []
    for n in range(8):
        tokens, turns, mask, logprobs = list(head), [], [False] * len(head), [0.0] * len(head)
        index = [0] * len(head)
        for number in range(2):
            if number:
                tokens, mask, logprobs = tokens + more, mask + [False] * len(more), logprobs + [0.0] * len(more)
                index += [1] * len(more)
            chances = [chance(policy, tokens, arm) for arm in ARMS]
            pick = int(rng.random() > chances[0])
            tokens, mask, logprobs = [*tokens, ARMS[pick]], [*mask, True], [*logprobs, float(np.log(chances[pick]))]
            index.append(number)
            turns.append(
                replace(
                    frame.turns[0],
                    reward=5.0 + pick,
                    tokens=np.array([ARMS[pick]], np.int32),
                    logprobs=np.array(logprobs[-1:], np.float32),
                    policy_versions=np.zeros(1, np.int32),
                    masked_tokens=banned,
                )
            )
        arrays: dict[str, Any] = {
            "tokens": np.array(tokens, np.int32),
            "loss_mask": np.array(mask),
            "logprobs": np.array(logprobs, np.float32),
            "turn_index": np.array(index, np.int16),
            "span_kind": np.zeros(len(tokens), np.int8),
        }
        episodes.append(replace(frame, turns=tuple(turns), group=n // 4, seed=n // 4, head=len(head), **arrays))
    return episodes


def chance(policy: Policy, prefix: Sequence[int], arm: int) -> float:
    with torch.no_grad():
        logits = policy.model(torch.tensor([list(prefix)])).logits[0, -1, list(ARMS)]
    return float(torch.softmax(logits, 0)[ARMS.index(arm)])


@pytest.mark.parametrize(
    "options",
    [
        {"algorithm": "grpo"},
        {"algorithm": "grpo", "advantage_level": "turn"},
        {"algorithm": "ppo", "advantage_level": "turn", "critic": {"warmup": 5}},
        {"algorithm": "ppo", "advantage_level": "token", "epochs": 2},
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_a_bandit_is_learned(
    make_policy: Callable[..., Policy], make_episode: MakeEpisode, options: dict[str, Any]
) -> None:
    own = make_policy()
    policy = Policy(own.model, own.tokenizer, critics=1)
    config = LearnerConfig(lr=1e-3, **options)
    learner, renderer, rng = Learner(policy, config), Renderer(policy.tokenizer), np.random.default_rng(0)
    head = renderer.open("", "turn 1 / 4 .")
    assert chance(policy, head, ARMS[1]) < 0.3
    for _ in range(16):
        episodes = bandit(make_episode, policy, renderer, rng)
        rewards = [np.array([t.reward for t in e.turns]) for e in episodes]
        critic = Critic(learner.values, config.critic.gamma, config.critic.gae_lambda)
        credited = assign_credit(
            episodes,
            rewards,
            compose("arm", []),
            renderer,
            algorithm=config.algorithm,
            level=config.advantage_level,
            critic=critic if config.algorithm == "ppo" else None,
        )
        row = learner.update(credited.samples)
        assert row["mismatch_kl"] < 1e-4
    assert chance(policy, head, ARMS[1]) > 0.9


@pytest.mark.parametrize("level", ["turn", "token"])
def test_overlong_completions_leave_the_critics_loss_too(
    episodes: list[Episode], renderer: Renderer, level: Level
) -> None:
    first = replace(episodes[0], turns=(replace(episodes[0].turns[0], overlong=True), *episodes[0].turns[1:]))
    some = [first, *episodes[1:]]
    whole = assign(some, renderer, level=level).samples[0]
    masked = assign(some, renderer, level=level, overlong="mask").samples[0]
    kept = first.turn_index != 0
    assert whole.critic is not None and masked.critic is not None and kept.any()
    assert masked.mask.tolist() == (whole.mask & kept).tolist()
    assert masked.critic.mask.tolist() == (whole.critic.mask & kept).tolist()
    assert masked.critic.targets.tolist() == whole.critic.targets.tolist()
    assert masked.advantage.tolist() == whole.advantage.tolist()
