"""play(): statuses, isolation of failures, order, bookkeeping per token, reproducibility."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from play_worlds import Broken, Counting

from envs.core import TextEnv
from envs.episode import Context, Contexts, Episode, RolloutStatus, SealedError, SpanKind
from shaping.arm import Arm
from shaping.learning.credit.credit import assign_credit
from shaping.learning.policy import Policy
from shaping.learning.samples.packing import pack
from shaping.sampling.embedded.transformers_engine import TransformersEngine
from shaping.sampling.play import EpisodeRequest, Limits, play
from shaping.sampling.scripted_engine import ScriptedEngine
from shaping.sampling.text.render import Renderer

ARM = Arm("test")
LIMITS = Limits(max_tokens=32)
BROKEN = {
    "constructor raises": "raised in its constructor: RuntimeError: no such file",
    "reset raises": "raised in reset: KeyError",
    "reset without info": "reset must return",
    "raises": "raised in step in turn 1: ZeroDivisionError: division by zero",
    "exits": "raised in step in turn 1: SystemExit",
    "nan reward": "turn 1: step: the reward is nan; it must be a finite number",
    "infinite reward": "finite number",
    "reward is text": "the reward is a str; it must be a float",
    "observation is bytes": "the observation is a bytes; it must be text",
    "no labels": "info['labels'] must be envs.episode.Labels, not a NoneType",
    "labels are a dictionary": "info['labels'] must be",
    "no info": "info must be a mapping",
    "four values": "step must return five values, (observation, reward, terminated, truncated, info), "
    "not (str, float, bool, dict)",
}


class Says:
    """An actor that repeats itself."""

    def __init__(self, text: str = "why not . ACTION: work 2") -> None:
        self.text = text

    def act(self) -> str:
        return self.text


def request(make: Callable[[], TextEnv] = Counting, seed: int = 1, **changes: object) -> EpisodeRequest:
    return replace(EpisodeRequest(make, seed, sampling_seed=seed), **changes)  # type: ignore[arg-type]


def scripted(renderer: Renderer, requests: Sequence[EpisodeRequest], limits: Limits = LIMITS) -> list[Episode]:
    engine = ScriptedEngine(lambda env: Says(), renderer)
    return asyncio.run(play(requests, engine, renderer, ARM, limits=limits))


def sampled(
    policy: Policy, renderer: Renderer, requests: Sequence[EpisodeRequest], concurrency: int = 8, context: int = 512
) -> list[Episode]:
    engine = TransformersEngine(policy.model, renderer, slots=8, context_length=context)
    limits = Limits(max_tokens=10)
    return asyncio.run(play(requests, engine, renderer, ARM, limits=limits, concurrency=concurrency))


def test_an_episode_records_what_happened(renderer: Renderer) -> None:
    (episode,) = scripted(renderer, [request(seed=5, group=3, options={"size": 2})])
    assert (episode.world, episode.seed, episode.group, episode.arm) == ("counting", 5, 3, "test")
    assert episode.status is RolloutStatus.COMPLETED and not episode.error
    assert [t.observation for t in episode.turns] == [
        "turn 0 / 3 . seed 5 .",
        "turn 1 . you did 6 letters .",
        "turn 2 . you did 6 letters .",
    ]
    assert [(t.motive_text, t.action_text, t.executed, t.reward) for t in episode.turns] == [
        ("why not .", "work 2", "work 2", 1.0)
    ] * 3
    assert episode.proxy_return == 3.0 and episode.turns[1].events[0].text == "work 2"
    assert episode.options == {"size": 2, "max_return": 3.0}


def test_the_token_streams_are_aligned_with_the_text(renderer: Renderer) -> None:
    (episode,) = scripted(renderer, [request()])
    turns = [renderer.text(episode.tokens[episode.loss_mask & (episode.turn_index == t)].tolist()) for t in range(3)]
    assert turns == ["why not . ACTION: work 2"] * 3
    motive = episode.tokens[episode.span_kind == SpanKind.MOTIVE].tolist()
    assert renderer.text(motive).startswith("why not .")
    assert not episode.loss_mask[: episode.head].any()
    assert set(episode.span_kind[: episode.head].tolist()) == {SpanKind.PROMPT}
    assert (episode.logprobs[~episode.loss_mask] == 0).all()
    sampled_kinds = set(episode.span_kind[episode.loss_mask].tolist())
    assert sampled_kinds == {SpanKind.MOTIVE, SpanKind.ACTION}
    assert episode.tokens[: episode.head].tolist() == renderer.open("", episode.turns[0].observation)


def test_sampled_ids_are_kept_as_they_were_sampled(policy: Policy, renderer: Renderer) -> None:
    """A random policy spells words in ways the tokenizer would not: the ids may not be tokenised again."""
    episodes = sampled(policy, renderer, [request(seed=n) for n in range(6)])
    respelled = 0
    for episode in episodes:
        kept = episode.tokens[episode.loss_mask]
        np.testing.assert_array_equal(kept, np.concatenate([t.tokens for t in episode.turns]))
        np.testing.assert_array_equal(
            episode.logprobs[episode.loss_mask], np.concatenate([t.logprobs for t in episode.turns])
        )
        respelled += any(
            renderer.plain(t.completion) != [i for i in t.tokens.tolist() if i != renderer.eos] for t in episode.turns
        )
    assert respelled


def test_every_reply_is_closed_once_whether_it_ended_or_was_cut_off(policy: Policy, renderer: Renderer) -> None:
    cut_off = 0
    for episode in sampled(policy, renderer, [request(seed=n) for n in range(24)]):
        for number, turn in enumerate(episode.turns[:-1]):
            last = int(np.flatnonzero(episode.loss_mask & (episode.turn_index == number))[-1])
            ended = int(turn.tokens[-1]) == renderer.eos
            closed = episode.tokens[last : last + 3].tolist().count(renderer.eos)
            assert closed == 1 and (episode.tokens[last] == renderer.eos) == ended
            cut_off += not ended
    assert cut_off


def test_the_world_receives_what_was_sampled(policy: Policy, renderer: Renderer) -> None:
    worlds: list[Counting] = []

    def make() -> Counting:
        worlds.append(Counting())
        return worlds[-1]

    (episode,) = sampled(policy, renderer, [request(make)])
    assert worlds[0].received == [t.executed for t in episode.turns]


def test_episodes_are_learned_with_the_logprobs_they_were_sampled_with(policy: Policy, renderer: Renderer) -> None:
    sampling = Contexts(Context("take full control .", "c"), Context("take full control .", "c"))
    episodes = sampled(policy, renderer, [request(seed=n, contexts=sampling) for n in range(4)])
    credited = assign_credit(episodes, [np.arange(len(e.turns)) * 1.0 for e in episodes], ARM, renderer)
    for batch in pack(credited.samples, 700):
        with torch.no_grad():
            relearned, _ = policy.logprobs(batch)
        torch.testing.assert_close(relearned, batch.old, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("how", "message"), BROKEN.items(), ids=BROKEN)
def test_a_world_that_breaks_the_contract_fails_its_own_episode_only(
    renderer: Renderer, how: str, message: str
) -> None:
    good, bad, fine = scripted(renderer, [request(seed=1), request(partial(Broken, how), seed=2), request(seed=3)])
    assert bad.status is RolloutStatus.ERROR and bad.status.is_error
    assert message in bad.error
    assert [(e.seed, e.status, len(e.turns)) for e in (good, fine)] == [
        (seed, RolloutStatus.COMPLETED, 3) for seed in (1, 3)
    ]
    assert len(bad.turns) == len(bad.truth.open()) == (0 if "reset" in how or "constructor" in how else 1)


def test_a_world_that_hangs_times_out(renderer: Renderer) -> None:
    worlds = [request(seed=1), request(partial(Broken, "hangs"), seed=2), request(seed=3)]
    good, bad, fine = scripted(renderer, worlds, Limits(step_seconds=0.2))
    assert bad.status is RolloutStatus.ERROR_TIMEOUT and "no answer within 0.2 s in step in turn 1" in bad.error
    assert good.status is fine.status is RolloutStatus.COMPLETED


def test_a_world_that_hangs_times_out_also_outside_the_main_thread(renderer: Renderer) -> None:
    async def elsewhere() -> list[Episode]:
        requests = [request(partial(Broken, "hangs")), request(partial(Broken, "raises"))]
        return await asyncio.to_thread(scripted, renderer, requests, Limits(step_seconds=0.2))

    hung, raised = asyncio.run(elsewhere())
    assert hung.status is RolloutStatus.ERROR_TIMEOUT
    assert raised.status is RolloutStatus.ERROR and "ZeroDivisionError" in raised.error


def test_numpy_numbers_are_rewards(renderer: Renderer) -> None:
    class Numpy(Counting):
        def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, object]]:
            observation, _, *rest = super().step(action)
            return observation, np.float32(0.5), *rest  # type: ignore[return-value]

    (episode,) = scripted(renderer, [request(Numpy)])
    assert episode.status is RolloutStatus.COMPLETED and episode.proxy_return == 1.5


def test_the_turn_limit_and_the_horizon_truncate(renderer: Renderer) -> None:
    class Endless(Counting):
        def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, object]]:
            observation, reward, _, _, info = super().step(action)
            return observation, reward, False, self.turn == 2, info

    class Stopped(Endless):
        def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, object]]:
            observation, reward, over, truncated, info = super().step(action)
            return observation, reward, over, truncated, {**info, "cut_off": True}

    (limited,) = scripted(renderer, [request()], Limits(max_turns=2))
    (horizon,) = scripted(renderer, [request(Endless)])
    (stopped,) = scripted(renderer, [request(Stopped)])
    assert limited.status is stopped.status is RolloutStatus.TRUNCATED_CUT_OFF
    assert horizon.status is RolloutStatus.TRUNCATED_MAX_TURNS
    assert len(limited.turns) == len(horizon.turns) == len(stopped.turns) == 2
    for cut_off in (limited, stopped):
        np.testing.assert_array_equal(cut_off.tokens, limited.tokens)
        assert not cut_off.loss_mask[len(horizon.tokens) :].any(), "a critic reads after the last observation"
        assert renderer.tokenizer.decode(cut_off.tokens[len(horizon.tokens) :]).count("letters") == 1


def test_an_episode_stops_where_its_next_prompt_would_not_fit(policy: Policy, renderer: Renderer) -> None:
    (episode,) = sampled(policy, renderer, [request(lambda: Counting(50))], context=120)
    assert episode.status is RolloutStatus.TRUNCATED_PROMPT_TOO_LONG and not episode.status.is_error
    assert 1 <= len(episode.turns) < 50 and len(episode.turns) == len(episode.truth.open())
    (never,) = sampled(policy, renderer, [request()], context=20)
    assert never.status is RolloutStatus.TRUNCATED_PROMPT_TOO_LONG and never.turns == ()


def test_episodes_come_back_in_the_order_of_the_tickets(policy: Policy, renderer: Renderer) -> None:
    requests = [request(partial(Counting, 1 + n % 4), seed=n) for n in range(12)]
    assert [e.seed for e in sampled(policy, renderer, requests, concurrency=3)] == list(range(12))


def test_a_seed_gives_one_episode_whatever_the_concurrency(policy: Policy, renderer: Renderer) -> None:
    requests = [request(partial(Counting, 2 + n % 3), seed=n) for n in range(8)]
    alone, together, again = (sampled(policy, renderer, requests, n) for n in (1, 8, 8))
    for a, b, c in zip(alone, together, again, strict=True):
        np.testing.assert_array_equal(a.tokens, b.tokens)
        np.testing.assert_array_equal(b.tokens, c.tokens)
        np.testing.assert_array_equal(b.logprobs, c.logprobs)  # twice the same batches: bit for bit
    assert len({e.tokens.tobytes() for e in alone}) == len(alone)


def test_members_of_a_group_share_the_context_and_differ_by_their_sampling_seed(
    policy: Policy, renderer: Renderer
) -> None:
    shared = Contexts(Context("be frugal .", "frugal"), Context("be frugal .", "frugal"))
    a, b, c = sampled(
        policy,
        renderer,
        [request(seed=4, contexts=shared, sampling_seed=s) for s in (1, 2)] + [request(seed=4, sampling_seed=1)],
    )
    np.testing.assert_array_equal(a.tokens[: a.head], b.tokens[: b.head])
    assert a.tokens.tobytes() != b.tokens.tobytes() and a.contexts == b.contexts == shared
    assert "be frugal ." in renderer.tokenizer.decode(a.tokens[: a.head])
    assert "be frugal ." not in renderer.tokenizer.decode(c.tokens)


def test_the_truth_is_sealed_and_absent_from_everything_else(renderer: Renderer) -> None:
    (episode,) = scripted(renderer, [request()])
    assert [labels.deception for labels in episode.truth.open()] == [0.0, 1.0, 0.0]
    with pytest.raises(SealedError):
        episode.redacted().truth.open()
    assert "deception" not in repr(replace(episode, truth=episode.truth.redacted())) + repr(episode.truth)


def test_a_template_that_breaks_the_prefix_splits_the_episode_and_every_split_is_counted(
    policy: Policy, forgetful: Renderer
) -> None:
    assert not forgetful.stable
    (episode,) = sampled(policy, forgetful, [request()])
    assert len(episode.segments) == len(episode.turns) == 3
    samples = assign_credit([episode], [np.ones(3)], ARM, forgetful).samples
    assert len(samples) == 3 and sum(int(s.mask.sum()) for s in samples) == int(episode.loss_mask.sum())
    for number, sample in enumerate(samples):
        assert sample.tokens[sample.mask].tolist() == episode.turns[number].tokens.tolist()
        (batch,) = pack([sample], 1000)
        with torch.no_grad():
            relearned, _ = policy.logprobs(batch)
        torch.testing.assert_close(relearned, batch.old, atol=1e-4, rtol=0)


def test_a_template_that_forgets_shows_the_policy_what_it_would_show_at_deployment(forgetful: Renderer) -> None:
    (episode,) = scripted(forgetful, [request()])
    last = forgetful.tokenizer.decode(episode.tokens[episode.segments[-1] :])
    assert last.count("why not .") == 1, "earlier motives are stripped, the last is kept"
    assert last.count("work 2") == 3


def test_a_message_that_is_stored_does_not_name_the_home(
    renderer: Renderer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Searching(Counting):
        def step(self, action: str) -> Any:
            raise FileNotFoundError(f"no file {tmp_path}/maps/1.json")

    monkeypatch.setenv("HOME", str(tmp_path))
    (episode,) = scripted(renderer, [request(Searching)])
    assert episode.error.endswith("FileNotFoundError: no file ~/maps/1.json")


def test_completions_that_reach_the_limit_are_marked(policy: Policy, renderer: Renderer) -> None:
    turns = [
        turn for episode in sampled(policy, renderer, [request(seed=n) for n in range(6)]) for turn in episode.turns
    ]
    assert [turn.overlong for turn in turns] == [int(turn.tokens[-1]) != renderer.eos for turn in turns]
    assert any(turn.overlong and len(turn.tokens) == 10 for turn in turns)
    assert not any(turn.overlong for episode in scripted(renderer, [request()]) for turn in episode.turns)
