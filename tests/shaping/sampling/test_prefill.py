"""Text that opens completions: what is sampled behind it, what an episode keeps, and what the learner makes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from envs import make_world
from envs.episode import Episode, Forced, SpanKind
from envs.store import read_episodes, write_episodes
from launch.isolation.wire import encoded, receive
from shaping.arm import Arm, compose
from shaping.hooks import ActionDecision, GroupInfo, InterventionError, Knob, Prefill, RatioMode, TurnContext
from shaping.intervention import Constraint, Shaper
from shaping.learning.config import LearnerConfig
from shaping.learning.credit.credit import assign_credit
from shaping.learning.learner import Learner
from shaping.learning.policy import Policy
from shaping.learning.samples.packing import pack
from shaping.learning.samples.sample import Sample
from shaping.sampling.embedded.transformers_engine import TransformersEngine
from shaping.sampling.play import EpisodeRequest, Limits, play
from shaping.sampling.text.render import Renderer

TEXT = "finish it honestly ."
INFO = GroupInfo("steward", 0, 0, 0)


class Opens(Shaper):
    """Opens completions of every other member."""

    owns: ClassVar[frozenset[Knob]] = frozenset({Knob.PREFILL, Knob.RATIO})
    loss: str = "masked"
    proposal: float | None = None
    mode: RatioMode = "sampler"
    answer: Any = None

    def prefill(self, info: GroupInfo, members: int, rng: np.random.Generator) -> Any:
        if self.answer is not None:
            return self.answer
        text = Prefill(TEXT, "honest", self.loss, self.proposal)  # type: ignore[arg-type]
        return [text if n % 2 else None for n in range(members)]

    def ratio_mode(self) -> RatioMode:
        return self.mode


class Masks(Constraint):
    """Masks a command."""

    owns: ClassVar[frozenset[Knob]] = frozenset({Knob.ACTIONS})
    command: str = "grab 3"

    def allow(self, turn: TurnContext, action: str | None) -> ActionDecision:
        return ActionDecision("mask", (self.command,)) if action is None else ActionDecision()


@pytest.fixture(scope="module")
def policy(make_policy: Callable[..., Policy]) -> Policy:
    return make_policy(context=1024)


Plays = Callable[..., list[Episode]]


@pytest.fixture(scope="module")
def played(policy: Policy) -> Plays:
    """Four episodes of an arm, of which the second and the fourth have the text."""
    renderer = Renderer(policy.tokenizer)

    def run(arm: Arm, context: int | None = None) -> list[Episode]:
        engine = TransformersEngine(policy.model, renderer, slots=4, context_length=1024)
        texts: Sequence[Prefill | None] = arm.prefills(INFO, 4, np.random.default_rng(0)) or (None,) * 4
        requests = [
            EpisodeRequest(lambda: make_world("steward", {"size": 1}), 3, prefill=text, sampling_seed=n)
            for n, text in enumerate(texts)
        ]
        limits = Limits(max_tokens=8, max_turns=2, context=context)
        return asyncio.run(play(requests, engine, renderer, arm, limits=limits))

    return run


def samples_of(episodes: Sequence[Episode], arm: Arm, policy: Policy, **options: Any) -> list[Sample]:
    rewards = [np.linspace(n, n + 1.0, len(e.turns)) for n, e in enumerate(episodes)]
    return assign_credit(episodes, rewards, arm, Renderer(policy.tokenizer), **options).samples


def logprobs(policy: Policy, sample: Sample) -> np.ndarray:
    """The policy's log-prob of every token of a sample but the first."""
    whole = replace(sample, mask=np.arange(len(sample)) > 0, critic=None)
    (batch,) = pack([whole], 4096)
    with torch.no_grad():
        return np.concatenate([[0.0], policy.logprobs(batch)[0].double().numpy()])


def test_a_completion_begins_with_the_text_and_goes_on_from_it(policy: Policy, played: Plays) -> None:
    renderer = Renderer(policy.tokenizer)
    plain, opened = played(compose("a", [])), played(compose("a", [Opens()]))
    for number, (before, after) in enumerate(zip(plain, opened, strict=True)):
        if number % 2 == 0:
            assert np.array_equal(before.tokens, after.tokens) and not after.forced_tokens.any()
            continue
        ids = renderer.plain(TEXT)
        for n, turn in enumerate(after.turns):
            inside = after.turn_index == n
            assert after.tokens[inside & after.forced_tokens].tolist() == ids
            assert after.tokens[inside & after.loss_mask].tolist() == turn.tokens.tolist()
            assert turn.forced == Forced("honest", len(TEXT)) and turn.completion.startswith(TEXT)
            assert turn.completion == renderer.text([*ids, *turn.tokens.tolist()])
        sampled = after.loss_mask
        assert not (sampled & after.forced_tokens).any() and (after.logprobs[sampled] < 0).all()
        (sample,) = samples_of([after, before], compose("a", [Opens()]), policy)[:1]
        assert np.allclose(logprobs(policy, sample)[sample.mask], sample.old_logprobs[sample.mask], atol=1e-4)


def test_an_episode_with_forced_text_is_stored_and_sent_bit_for_bit(played: Plays, tmp_path: Path) -> None:
    episodes = played(compose("a", [Opens(loss="in", proposal=-1.25)]))
    write_episodes(tmp_path / "e.parquet", episodes)
    for old, new in zip(episodes, read_episodes(tmp_path / "e.parquet"), strict=True):
        assert [t.forced for t in old.turns] == [t.forced for t in new.turns]
        assert np.array_equal(old.span_kind, new.span_kind)
    assert {t.forced for e in episodes for t in e.turns} == {Forced(), Forced("honest", 20, False, True, -1.25)}
    sent = encoded([episodes[1].redacted(), Prefill(TEXT)])

    class Pipe:
        def read(self, size: int, /) -> bytes:
            nonlocal sent
            part, sent = sent[:size], sent[size:]
            return part

    episode, prefill = receive(Pipe())
    assert prefill == Prefill(TEXT) and episode.turns[0].forced == episodes[1].turns[0].forced


def test_text_in_the_loss_starts_at_the_policys_own_log_prob(policy: Policy, played: Plays) -> None:
    arm = compose("a", [Opens(loss="in")])
    samples = samples_of(played(arm), arm, policy)
    opened = [s for s in samples if s.forced is not None]
    assert len(opened) == 2 and all(s.mask[s.forced.tokens].all() for s in opened if s.forced)
    assert all(s.on_policy and not (s.drawn & s.forced.tokens).any() for s in opened if s.forced)
    learner = Learner(policy, LearnerConfig(lr=1e-12, clip_low=1e-3, clip_high=1e-3))
    expected = np.concatenate([logprobs(policy, s)[s.forced.tokens] for s in opened if s.forced])
    row = learner.update(samples)
    assert row["clipped"] == 0.0 and abs(row["mismatch_kl"]) < 1e-6
    assert row["forced_logprob"] == pytest.approx(expected.mean(), abs=1e-5)


@pytest.mark.parametrize("loss", ["in", "masked"])
def test_a_proposal_is_corrected_by_the_ratio_of_the_two_probabilities(
    policy: Policy, played: Plays, loss: str
) -> None:
    arm = compose("a", [Opens(loss=loss, proposal=-60.0)])
    samples = samples_of(played(arm), arm, policy)
    learner = Learner(policy, LearnerConfig(lr=1e-12, mismatch_cap=1e9))
    seen: list[Sample] = []
    learner._with_recomputed = lambda given, sums: seen.extend(given) or given  # type: ignore[method-assign, func-returns-value]
    row = learner.update(samples)
    for before, after in zip(samples, seen, strict=True):
        if before.forced is None:
            assert after is before
            continue
        own = logprobs(policy, before)
        for turn in before.forced.proposal:
            inside = before.forced.turn == turn
            ratio = np.exp(own[inside & before.forced.tokens].sum() + 60.0)
            assert np.allclose(after.weight[inside], ratio * before.weight[inside], rtol=1e-3)
    assert row["proposal_weight"] > 0


def test_the_weight_of_a_corrected_turn_is_capped(policy: Policy, played: Plays) -> None:
    arm = compose("a", [Opens(proposal=-1e4)])
    row = Learner(policy, LearnerConfig(lr=1e-12, mismatch_cap=2.0)).update(samples_of(played(arm), arm, policy))
    assert row["proposal_weight"] == pytest.approx(2.0)


def test_a_stripped_text_is_neither_in_the_sequence_nor_in_the_ratio(policy: Policy, played: Plays) -> None:
    arm = compose("a", [Opens(loss="stripped", mode="recomputed"), Masks()])
    episodes = played(arm)
    for kl_context in ("training", "sampling"):
        samples = [s for s in samples_of(episodes, arm, policy, kl_context=kl_context, version=1) if s.policy]
        for episode, sample in zip(episodes, samples, strict=True):
            end = int(np.flatnonzero(episode.loss_mask).max()) + 1
            kept = ~episode.forced_tokens[:end]
            assert np.array_equal(sample.tokens, episode.tokens[:end][kept]) and sample.forced is None
            assert np.array_equal(sample.mask, episode.loss_mask[:end][kept])
            assert sample.on_policy is False, "the version is an older one"
            assert np.array_equal(
                sample.tokens[sample.masked_tokens[:, 0]],
                episode.tokens[[p for p, ids in episode.masked_tokens() for _ in ids]],
            )
            assert sample.sampled is not None
            assert np.array_equal(sample.sampled.tokens[sample.sampled.mask], sample.tokens[sample.mask])
            assert np.array_equal(sample.sampled.tokens, episode.tokens[:end])
    only_kl = [s for s in samples_of(episodes, arm, policy, kl_context="sampling") if not s.policy]
    assert len(only_kl) == 2 and all(s.forced is not None for s in only_kl)
    assert [s.on_policy for s in samples_of(episodes, arm, policy)] == [True, False, True, False]


def test_masks_stand_where_they_were_behind_forced_text(policy: Policy, played: Plays) -> None:
    arm = compose("a", [Opens(loss="in"), Masks()])
    for episode in played(arm):
        for position, _ in episode.masked_tokens():
            assert episode.span_kind[position] in (SpanKind.MOTIVE, SpanKind.ACTION)
    row = Learner(policy, LearnerConfig(lr=1e-12)).update(samples_of(played(arm), arm, policy))
    assert abs(row["mismatch_kl"]) < 1e-5


def test_room_is_kept_for_the_text(played: Plays) -> None:
    long = Opens(answer=Prefill(f"{TEXT} " * 12))
    for episode in played(compose("a", [long]), context=200):
        assert len(episode.tokens) <= 200


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((" ",), "needs text"),
        (("go on . ACTION: wait",), "holds an action"),
        (("<tool_call>{",), "holds an action"),
        ((TEXT, "x", "out"), "loss in, masked or stripped"),
        ((TEXT, "x", "in", 0.5), "give a number <= 0"),
        ((TEXT, "x", "in", float("-inf")), "give a number <= 0"),
        ((TEXT, "x", "stripped", -1.0), "leave `proposal` out"),
    ],
)
def test_a_prefill_that_is_none_is_refused(arguments: Any, message: str) -> None:
    with pytest.raises(InterventionError, match=message):
        Prefill(*arguments)


def test_what_a_hook_may_answer(played: Plays) -> None:
    arm = compose("a", [Opens(answer=Prefill(TEXT))])
    assert arm.prefills(INFO, 3, np.random.default_rng(0)) == (Prefill(TEXT),) * 3
    for answer, message in (("x", "return Prefill, a list"), ([None], "returned 1 for a group of 3")):
        with pytest.raises(InterventionError, match=message):
            compose("a", [Opens(answer=answer)]).prefills(INFO, 3, np.random.default_rng(0))
    bare = type("Bare", (Opens,), {"owns": frozenset({Knob.PREFILL}), "ratio_mode": Shaper.ratio_mode})
    with pytest.raises(InterventionError, match="learned without the text that opens them"):
        compose("a", [bare(loss="stripped")]).prefills(INFO, 3, np.random.default_rng(0))
    with pytest.raises(InterventionError, match="masks the command 'please grab 3', and the text 'please grab'"):
        played(compose("a", [Opens(answer=Prefill("please grab")), Masks(command="please grab 3")]))
