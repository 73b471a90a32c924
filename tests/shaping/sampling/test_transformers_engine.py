"""The embedded engine: batching, caching, masks and edits change nothing but what they should."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import pytest
import torch
from play_worlds import Counting

from envs.core import parse_action
from shaping.hooks import ActivationEdit
from shaping.learning.policy import Policy
from shaping.learning.samples.packing import pack
from shaping.learning.samples.sample import Sample
from shaping.sampling.embedded.transformers_engine import TransformersEngine, checksum
from shaping.sampling.engine import Completion, SamplingParams, Session
from shaping.sampling.text.render import Renderer

PROMPTS = ["turn 1 / 4 .", "you hold 1 unit . job 1 needs 4 . job 2 needs 7 .", "é😀", "did you use grab ?", "wait"]
LETTERS = tuple("abcdefghijklmnopqrstuvwxyz0123456789")
EDITS = (
    ActivationEdit(0, "add", np.linspace(-1, 1, 32, dtype=np.float32), 2.0),
    ActivationEdit(1, "project", np.eye(32, dtype=np.float32)[3]),
)


def session(number: int) -> Session:
    return Session(number, Counting())


def complete(
    engine: TransformersEngine, prompts: Sequence[Sequence[int]], params: Sequence[SamplingParams]
) -> list[Completion]:
    """One completion per prompt, all at once, each in a session of its own."""

    async def all_of_them() -> list[Completion]:
        for number in range(len(prompts)):
            engine.open(session(number))
        try:
            return await asyncio.gather(
                *(engine.complete(session(n), p, q) for n, (p, q) in enumerate(zip(prompts, params, strict=True)))
            )
        finally:
            for number in range(len(prompts)):
                engine.close(session(number))

    return asyncio.run(all_of_them())


def relearned(
    policy: Policy, prompt: Sequence[int], completion: Completion, edits: Sequence[ActivationEdit] = ()
) -> np.ndarray:
    """The learner's log-probs of a completion, packed behind another sequence."""
    tokens = np.array([*prompt, *completion.tokens], np.int64)
    mask = np.arange(len(tokens)) >= len(prompt)
    pairs = [(len(prompt) + offset, i) for offset, ids in completion.masked_tokens for i in ids]
    zeros = np.zeros(len(tokens), np.float32)
    sample = Sample(tokens, mask, zeros, zeros, zeros, np.array(pairs, np.int64).reshape(-1, 2))
    other = Sample(tokens[::-1].copy(), mask, zeros, zeros, zeros, np.zeros((0, 2), np.int64))
    (batch,) = pack([other, sample], 10_000)
    with torch.no_grad():
        logprobs, _ = policy.logprobs(batch, edits)
    return logprobs[int(mask[1:].sum()) :].numpy()


@pytest.fixture
def engine(policy: Policy, renderer: Renderer) -> TransformersEngine:
    return TransformersEngine(policy.model, renderer, slots=8)


@pytest.fixture
def prompts(renderer: Renderer) -> list[list[int]]:
    return [renderer.open("", text) for text in PROMPTS]


@pytest.mark.parametrize("forbid", [(), LETTERS], ids=["free", "masked"])
@pytest.mark.parametrize("temperature", [1.0, 0.7, 1.6])
@pytest.mark.parametrize("edits", [(), EDITS], ids=["plain", "edited"])
def test_batched_single_and_relearned_logprobs_agree(
    make_policy: Callable[..., Policy],
    prompts: list[list[int]],
    forbid: tuple[str, ...],
    temperature: float,
    edits: tuple[ActivationEdit, ...],
) -> None:
    policy = make_policy(temperature=temperature)
    engine = TransformersEngine(policy.model, Renderer(policy.tokenizer), slots=8)
    engine.set_edits(edits)
    params = [SamplingParams(9, temperature, seed, forbid) for seed in range(len(prompts))]
    batched = complete(engine, prompts, params)
    for prompt, wanted, together in zip(prompts, params, batched, strict=True):
        (alone,) = complete(engine, [prompt], [wanted])
        np.testing.assert_array_equal(alone.tokens, together.tokens)
        np.testing.assert_allclose(alone.logprobs, together.logprobs, atol=1e-4)
        np.testing.assert_allclose(together.logprobs, relearned(policy, prompt, together, edits), atol=1e-4)
        assert alone.masked_tokens == together.masked_tokens and bool(together.masked_tokens) == bool(forbid)


def test_what_a_mask_or_an_edit_does_is_visible_in_the_logprobs(
    policy: Policy, engine: TransformersEngine, prompts: list[list[int]]
) -> None:
    """The control of the test above: had the learner left the mask or the edits out, it would have failed."""
    engine.set_edits(EDITS)
    (masked,) = complete(engine, prompts[:1], [SamplingParams(9, 1.0, 3, LETTERS)])
    assert np.abs(masked.logprobs - relearned(policy, prompts[0], masked)).max() > 0.1
    free = Completion(masked.tokens, masked.logprobs, masked.policy_versions, masked.finished)
    assert np.abs(masked.logprobs - relearned(policy, prompts[0], free, EDITS)).max() > 1e-3


def test_a_seed_gives_one_completion_whatever_else_is_in_the_batch(
    engine: TransformersEngine, prompts: list[list[int]]
) -> None:
    params = [SamplingParams(12, 1.0, 100 + n) for n in range(len(prompts))]
    together = complete(engine, prompts, params)
    backwards = complete(engine, prompts[::-1], params[::-1])[::-1]
    assert [c.tokens.tolist() for c in together] == [c.tokens.tolist() for c in backwards]
    (other,) = complete(engine, prompts[:1], [SamplingParams(12, 1.0, 7)])
    assert other.tokens.tolist() != together[0].tokens.tolist()


def test_temperature_zero_is_greedy(policy: Policy, engine: TransformersEngine, prompts: list[list[int]]) -> None:
    (greedy,) = complete(engine, prompts[:1], [SamplingParams(6, 0.0, 1)])
    tokens = list(prompts[0])
    for token in greedy.tokens.tolist():
        with torch.no_grad():
            assert token == int(policy.model(torch.tensor([tokens])).logits[0, -1].argmax())
        tokens.append(token)


def test_samples_follow_the_distribution_of_the_model(
    policy: Policy, engine: TransformersEngine, prompts: list[list[int]]
) -> None:
    drawn = [
        int(c.tokens[0])
        for start in range(0, 2000, 8)
        for c in complete(engine, prompts[:1] * 8, [SamplingParams(1, 1.0, start + n) for n in range(8)])
    ]
    with torch.no_grad():
        expected = policy.model(torch.tensor([prompts[0]])).logits[0, -1].softmax(-1).numpy()
    counts = np.bincount(drawn, minlength=len(expected))
    assert np.abs(counts / 2000 - expected).max() < 5 * np.sqrt(expected.max() / 2000)


async def turns(engine: TransformersEngine, renderer: Renderer, *, forget: bool) -> list[Completion]:
    """Three turns of one episode, with or without the cache."""
    engine.open(session(0))
    tokens, found = renderer.open("", PROMPTS[1]), []
    for turn in range(3):
        if forget:
            engine.set_version(0)
        completion = await engine.complete(session(0), tokens, SamplingParams(8, 1.0, turn))
        found.append(completion)
        tokens = [*tokens, *completion.tokens.tolist(), *renderer.extend("go on", finished=completion.finished)]
    engine.close(session(0))
    return found


def test_the_prefix_cache_changes_nothing(engine: TransformersEngine, renderer: Renderer) -> None:
    kept = asyncio.run(turns(engine, renderer, forget=False))
    for a, b in zip(kept, asyncio.run(turns(engine, renderer, forget=True)), strict=True):
        np.testing.assert_array_equal(a.tokens, b.tokens)
        np.testing.assert_allclose(a.logprobs, b.logprobs, atol=1e-5)


def test_a_prefix_that_changes_is_read_again(
    engine: TransformersEngine, prompts: list[list[int]], policy: Policy
) -> None:
    async def two() -> Completion:
        engine.open(session(0))
        await engine.complete(session(0), prompts[1], SamplingParams(8, 1.0, 1))
        return await engine.complete(session(0), prompts[3], SamplingParams(8, 1.0, 2))

    second = asyncio.run(two())
    np.testing.assert_allclose(second.logprobs, relearned(policy, prompts[3], second), atol=1e-4)


def test_only_what_has_changed_is_read_again(
    engine: TransformersEngine, prompts: list[list[int]], policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt, read = prompts[3], []
    forward = engine._forward
    monkeypatch.setattr(engine, "_forward", lambda *of: read.append(int(of[1].shape[1])) or forward(*of))
    other = [*prompt[:5], *prompts[1]]

    async def three() -> list[Completion]:
        engine.open(session(0))
        found = []
        for tokens, seed in ((prompt, 1), (prompt, 2), (other, 3)):
            read.append(0)
            found.append(await engine.complete(session(0), tokens, SamplingParams(8, 1.0, seed)))
        return found

    found = asyncio.run(three())
    firsts = [after for before, after in pairwise(read) if not before]
    shared = next(n for n, (a, b) in enumerate(zip(prompt, other, strict=False)) if a != b)
    assert firsts == [len(prompt), 1, len(other) - shared]
    for tokens, completion in zip((prompt, prompt, other), found, strict=True):
        np.testing.assert_allclose(completion.logprobs, relearned(policy, tokens, completion), atol=1e-4)


@pytest.mark.parametrize("how", ["set_version", "load_weights", "set_edits"])
def test_a_stale_cache_is_dropped(make_policy: Callable[..., Policy], prompts: list[list[int]], how: str) -> None:
    policy = make_policy()
    engine = TransformersEngine(policy.model, Renderer(policy.tokenizer), slots=1)

    async def episode() -> tuple[list[int], Completion]:
        engine.open(session(0))
        first = await engine.complete(session(0), prompts[1], SamplingParams(8, 1.0, 1))
        if how == "set_edits":
            engine.set_edits(EDITS)
        else:
            with torch.no_grad():
                policy.model.model.layers[0].self_attn.k_proj.weight.mul_(3.0)
            if how == "set_version":
                engine.set_version(5)
            else:
                await engine.load_weights(policy.model.state_dict(), 5)
        tokens = [*prompts[1], *first.tokens.tolist(), engine.renderer.eos]
        return tokens, await engine.complete(session(0), tokens, SamplingParams(8, 1.0, 2))

    tokens, second = asyncio.run(episode())
    edits = EDITS if how == "set_edits" else ()
    np.testing.assert_allclose(second.logprobs, relearned(policy, tokens, second, edits), atol=1e-4)
    assert set(second.policy_versions.tolist()) == ({0} if how == "set_edits" else {5})


def test_new_weights_in_the_middle_of_a_completion_continue_it(
    make_policy: Callable[..., Policy], prompts: list[list[int]]
) -> None:
    """The tokens before the change keep their version and log-probs; those after it are the new policy's."""
    policy = make_policy()
    engine = TransformersEngine(policy.model, Renderer(policy.tokenizer), slots=2)

    async def change() -> list[Completion]:
        for number in range(2):
            engine.open(session(number))
        waiting = [
            asyncio.create_task(engine.complete(session(n), prompts[n], SamplingParams(20, 1.0, 11 + n)))
            for n in range(2)
        ]
        for _ in range(7):
            await asyncio.sleep(0)
        with torch.no_grad():
            policy.model.model.layers[0].self_attn.k_proj.weight.mul_(3.0)
        engine.set_version(1)
        return await asyncio.gather(*waiting)

    for prompt, completion in zip(prompts, asyncio.run(change()), strict=False):
        new = completion.policy_versions == 1
        assert new.any() and not new[0] and not np.diff(new.astype(int)).min() < 0
        np.testing.assert_allclose(completion.logprobs[new], relearned(policy, prompt, completion)[new], atol=1e-4)


def test_a_forbidden_command_is_never_produced_under_any_tokenisation(
    engine: TransformersEngine, prompts: list[list[int]]
) -> None:
    def first_words(forbid: tuple[str, ...]) -> list[str]:
        found: list[str] = []
        for start in range(0, 400, 8):
            params = [SamplingParams(3, 1.0, start + n, forbid) for n in range(8)]
            texts = [engine.renderer.text(c.tokens.tolist()) for c in complete(engine, prompts[2:3] * 8, params)]
            found += [parse_action(text).partition(" ")[0] for text in texts]
        return found

    assert any(word in LETTERS for word in first_words(())), "without a mask, one-letter commands do come up"
    assert not [word for word in first_words(LETTERS) if word in LETTERS]


def test_a_reply_ends_with_the_end_of_turn_token_or_at_its_longest(
    engine: TransformersEngine, prompts: list[list[int]]
) -> None:
    for start in range(0, 120, 8):
        for completion in complete(engine, prompts[:1] * 8, [SamplingParams(15, 1.0, start + n) for n in range(8)]):
            assert (completion.tokens[-1] == engine.renderer.eos) == completion.finished
            assert completion.finished or len(completion.tokens) == 15
            assert engine.renderer.eos not in completion.tokens[:-1]


def test_no_slot_no_session(policy: Policy, renderer: Renderer, prompts: list[list[int]]) -> None:
    engine = TransformersEngine(policy.model, renderer, slots=2)
    engine.open(session(0))
    engine.open(session(1))
    with pytest.raises(RuntimeError, match="all 2 slots are taken"):
        engine.open(session(2))
    engine.close(session(0))
    engine.open(session(2))
    with pytest.raises(ValueError, match="session 0 is not open"):
        asyncio.run(engine.complete(session(0), prompts[0], SamplingParams()))


def test_a_sequence_longer_than_the_context_is_refused(policy: Policy, renderer: Renderer) -> None:
    engine = TransformersEngine(policy.model, renderer, context_length=20)
    engine.open(session(0))
    with pytest.raises(ValueError, match="do not fit in a context of 20"):
        asyncio.run(engine.complete(session(0), list(range(10)), SamplingParams(max_tokens=11)))
    (full,) = [asyncio.run(engine.complete(session(0), list(range(10)), SamplingParams(max_tokens=10)))]
    assert len(full.tokens) <= 10


def test_weights_are_taken_by_name_and_acknowledged_by_checksum(make_policy: Callable[..., Policy]) -> None:
    policy, other = make_policy(), make_policy(seed=1)
    engine = TransformersEngine(policy.model, Renderer(policy.tokenizer))
    assert checksum(policy.model) != checksum(other.model)
    acknowledged = asyncio.run(engine.load_weights(other.model.state_dict(), 3))
    assert acknowledged == checksum(other.model) == checksum(policy.model) and engine.version == 3
    with pytest.raises(KeyError, match=r"does not have.*lm_tail"):
        asyncio.run(engine.load_weights({"lm_tail.weight": torch.zeros(1)}, 4))
    with pytest.raises(ValueError, match=r"model\.norm\.weight.*shape"):
        asyncio.run(engine.load_weights({"model.norm.weight": torch.zeros(1)}, 4))
    assert checksum(policy.model) == acknowledged and engine.version == 3


def test_weights_of_which_one_does_not_fit_leave_the_model_as_it_was(make_policy: Callable[..., Policy]) -> None:
    policy, other = make_policy(), make_policy(seed=1)
    engine, before = TransformersEngine(policy.model, Renderer(policy.tokenizer)), checksum(policy.model)
    state = dict(other.model.state_dict())
    last = list(state)[-1]  # all others fit, and come before it
    with pytest.raises(ValueError, match=r"shape \(3,\).*the model keeps its weights"):
        asyncio.run(engine.load_weights({**state, last: torch.zeros(3)}, 4))
    assert checksum(policy.model) == before and engine.version == 0


def test_only_the_first_update_is_acknowledged_unless_all_are_to_be(make_policy: Callable[..., Policy]) -> None:
    policy = make_policy()
    state, renderer = policy.model.state_dict(), Renderer(policy.tokenizer)
    first, always = (
        TransformersEngine(policy.model, renderer),
        TransformersEngine(policy.model, renderer, verify="always"),
    )
    assert [bool(asyncio.run(first.load_weights(state, n))) for n in (1, 2, 3)] == [True, False, False]
    assert [bool(asyncio.run(always.load_weights(state, n))) for n in (1, 2)] == [True, True]
    assert first.version == 3


def test_an_error_in_the_forward_pass_reaches_every_caller_and_the_engine_goes_on(
    engine: TransformersEngine, prompts: list[list[int]]
) -> None:
    params = [SamplingParams(5, 1.0, n) for n in range(3)]
    before = complete(engine, prompts[:3], params)
    engine.set_edits([ActivationEdit(9, "add", np.zeros(32, np.float32))])
    with pytest.raises(ValueError, match="the model has 2 layers"):
        complete(engine, prompts[:3], params)
    engine.set_edits(())
    after = complete(engine, prompts[:3], params)
    assert [c.tokens.tolist() for c in after] == [c.tokens.tolist() for c in before]


def test_a_model_whose_numbers_are_not_finite_is_named_as_the_cause(make_policy: Callable[..., Policy]) -> None:
    policy = make_policy()
    engine = TransformersEngine(policy.model, Renderer(policy.tokenizer))
    with torch.no_grad():
        policy.model.model.norm.weight.fill_(float("nan"))
    with pytest.raises(RuntimeError, match="logits are not finite"):
        complete(engine, [[1, 2, 3]], [SamplingParams()])


def test_a_caller_that_gives_up_leaves_the_others_and_later_loops_alone(
    engine: TransformersEngine, prompts: list[list[int]]
) -> None:
    params = [SamplingParams(30, 1.0, n) for n in range(2)]
    undisturbed = complete(engine, prompts[:2], params)

    async def one_gives_up() -> Completion:
        engine.open(session(0))
        engine.open(session(1))
        quitter = asyncio.create_task(engine.complete(session(0), prompts[0], params[0]))
        stays = asyncio.create_task(engine.complete(session(1), prompts[1], params[1]))
        for _ in range(4):
            await asyncio.sleep(0)
        quitter.cancel()
        engine.close(session(0))
        return await stays

    assert asyncio.run(one_gives_up()).tokens.tolist() == undisturbed[1].tokens.tolist()

    async def abandoned() -> None:
        engine.open(session(0))
        task = asyncio.create_task(engine.complete(session(0), prompts[0], params[0]))
        for _ in range(4):
            await asyncio.sleep(0)
        task.cancel()
        engine.close(session(0))

    engine.close(session(1))
    asyncio.run(abandoned())
    assert [c.tokens.tolist() for c in complete(engine, prompts[:2], params)] == [
        c.tokens.tolist() for c in undisturbed
    ]
