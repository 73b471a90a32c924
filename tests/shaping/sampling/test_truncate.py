"""Truncated sampling: the drawn distribution is the truncated one, and the learner's log-probs are those of it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from play_worlds import Counting

from launch.config.rollout import RolloutConfig
from shaping.learning.losses.logprobs import token_logprobs
from shaping.learning.policy import Policy
from shaping.learning.samples.packing import pack
from shaping.learning.samples.sample import Sample
from shaping.sampling.embedded.transformers_engine import TransformersEngine
from shaping.sampling.engine import Completion, EngineError, SamplingParams, Session
from shaping.sampling.text.render import Renderer
from shaping.sampling.truncate import recorded, truncate
from shaping.sampling.truncation import Truncation
from shaping.sampling.vllm.start import kept_tokens

PROMPTS = ["turn 1 / 4 .", "you hold 1 unit . job 1 needs 4 . job 2 needs 7 ."]
HOW = [Truncation(top_k=3), Truncation(40, 0.7), Truncation(40, 1.0, 0.2), Truncation(12, 0.9, 0.05)]


def complete(engine: TransformersEngine, prompt: list[int], params: list[SamplingParams]) -> list[Completion]:
    """Completions of one prompt, all at once."""
    sessions = [Session(number, Counting()) for number in range(len(params))]

    async def all_of_them() -> list[Completion]:
        for session in sessions:
            engine.open(session)
        done = await asyncio.gather(*(engine.complete(s, prompt, p) for s, p in zip(sessions, params, strict=True)))
        for session in sessions:
            engine.close(session)
        return done

    return asyncio.run(all_of_them())


def relearned(policy: Policy, prompt: list[int], completion: Completion) -> np.ndarray:
    """The learner's log-probs of a completion."""
    tokens = np.array([*prompt, *completion.tokens], np.int64)
    mask = np.arange(len(tokens)) >= len(prompt)
    pairs = [(len(prompt) + offset, i) for offset, ids in completion.masked_tokens for i in ids]
    zeros = np.zeros(len(tokens), np.float32)
    sample = Sample(tokens, mask, zeros, zeros, zeros, np.array(pairs, np.int64).reshape(-1, 2))
    with torch.no_grad():
        return policy.logprobs(pack([sample], len(tokens))[0])[0].numpy()


def by_definition(logits: np.ndarray, how: Truncation) -> set[int]:
    """The tokens that are kept, one after the other from the likeliest."""
    p = np.exp(logits - logits.max())
    order = [i for i in np.argsort(-p, kind="stable") if p[i] >= how.min_p * p.max()][: how.top_k or None]
    kept, total = [], p[order].sum()
    for token in order:
        if kept and p[kept].sum() >= how.top_p * total:
            break
        kept.append(int(token))
    return set(kept)


@pytest.mark.parametrize("how", HOW)
def test_what_is_kept_is_the_definition_s(how: Truncation) -> None:
    logits = torch.randn(6, 97, generator=torch.Generator().manual_seed(3)) * 3
    logits[:, 5] = -torch.inf
    changed = logits.clone()
    kept = truncate(changed, [1, 4], how)
    assert [set(row) for row in kept] == [by_definition(logits[i].double().numpy(), how) for i in (1, 4)]
    assert torch.equal(changed[[0, 2, 3, 5]], logits[[0, 2, 3, 5]]), "other rows stay"
    for row, tokens in zip((1, 4), kept, strict=True):
        assert torch.isfinite(changed[row]).sum() == len(tokens) and torch.equal(
            changed[row, list(tokens)], logits[row, list(tokens)]
        )


@pytest.mark.parametrize("how", HOW[1:])
def test_samples_follow_the_truncated_distribution(policy: Policy, renderer: Renderer, how: Truncation) -> None:
    engine = TransformersEngine(policy.model, renderer, slots=40)
    prompt = renderer.open("", PROMPTS[0])
    with torch.no_grad():
        logits = policy.model(torch.tensor([prompt])).logits[0, -1].double().numpy()
    expected = np.zeros(len(logits))
    kept = sorted(by_definition(logits, how))
    expected[kept] = np.exp(logits[kept] - logits[kept].max())
    expected /= expected.sum()
    drawn = [
        int(c.tokens[0])
        for start in range(0, 800, 40)
        for c in complete(engine, prompt, [SamplingParams(1, 1.0, start + n, (), how) for n in range(40)])
    ]
    counts = np.bincount(drawn, minlength=len(expected)) / len(drawn)
    assert not counts[expected == 0].any() and np.abs(counts - expected).max() < 5 * np.sqrt(0.25 / len(drawn))


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("forbid", [(), ("a", "wait")])
def test_the_learner_s_log_probs_are_those_of_the_tokens_that_were_kept(
    policy: Policy, renderer: Renderer, how: Truncation, forbid: tuple[str, ...]
) -> None:
    engine = TransformersEngine(policy.model, renderer, slots=8)
    prompt = renderer.open("", PROMPTS[1])
    for completion in complete(engine, prompt, [SamplingParams(8, 0.7, n, forbid, how) for n in range(4)]):
        positions, kept = zip(*completion.masked_tokens, strict=True)
        assert positions == tuple(range(len(completion.tokens)))
        assert all(~int(t) in ids and max(ids) < 0 for t, ids in zip(completion.tokens, kept, strict=True))
        policy.temperature = 0.7
        again = relearned(policy, prompt, completion)
        assert np.abs(again - completion.logprobs).max() < 2e-5
        plain = relearned(
            policy, prompt, Completion(completion.tokens, completion.logprobs, completion.policy_versions, True)
        )
        assert (plain <= again + 1e-5).all() and plain.sum() < again.sum() - 0.01, "over all tokens it is smaller"


def test_chunks_of_the_learner_know_what_was_kept(policy: Policy) -> None:
    """In chunks a plain head has a gradient of its own."""
    model, generator = policy.model, torch.Generator().manual_seed(0)
    vocabulary = model.get_output_embeddings().weight.shape[0]
    hidden = torch.randn(6, model.config.hidden_size, generator=generator)
    targets = torch.randint(0, vocabulary, (6,), generator=generator)
    pairs = [(row, ~int(token)) for row in (1, 4) for token in {3, 8, 11, int(targets[row])}]
    masked = torch.tensor([*pairs, (2, (int(targets[2]) + 1) % vocabulary)])
    found = []
    for chunk in (2, 6):
        states = hidden.clone().requires_grad_()
        logprobs, _ = token_logprobs(model, states, targets, masked, chunk=chunk)
        logprobs.sum().backward()
        found.append((logprobs.detach(), states.grad))
    assert torch.allclose(found[0][0], found[1][0], atol=1e-5) and torch.allclose(found[0][1], found[1][1], atol=1e-5)
    with torch.no_grad():
        logits = model.get_output_embeddings()(hidden[1])
        kept = sorted({3, 8, 11, int(targets[1])})
        expected = logits[kept].log_softmax(-1)[kept.index(int(targets[1]))]
    assert float(found[0][0][1]) == pytest.approx(float(expected), abs=1e-5)


def test_without_a_bound_nothing_could_be_recorded() -> None:
    with pytest.raises(ValueError, match="top_p and min_p need top_k as a bound"):
        RolloutConfig(top_p=0.9)
    asked = RolloutConfig(top_k=50, top_p=0.9, engine="vllm", workers=1).vllm_config()
    assert asked.max_logprobs == 164, "more than are kept, so that none of them can be missing"


def test_vllm_tells_what_it_has_kept_unless_more_tie() -> None:
    flat = SimpleNamespace(start_indices=[0, 4], end_indices=[4, 8])
    flat.token_ids = [7, 2, 7, 9, 3, 3, 4, 5]
    flat.logprobs = [-1.0, -0.5, -1.0, -np.inf, -0.1, -0.1, -3.0, -np.inf]
    assert kept_tokens(flat) == ((0, recorded((2, 7))), (1, recorded((3, 4))))
    with pytest.raises(EngineError, match=r"keeps more than 3 tokens that tie under rollout\.top_k: lower it"):
        kept_tokens(SimpleNamespace(**{**vars(flat), "logprobs": [-1.0] * 8}))
