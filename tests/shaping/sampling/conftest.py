"""What every test of sampling needs."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
import torch

from shaping.learning.policy import Policy
from shaping.sampling.text.render import Renderer
from shaping.sampling.text.template import TemplateSettings

if TYPE_CHECKING:
    from shaping.sampling.vllm.engine import VLLMEngine

#: The organism's template, except that earlier replies lose what stands before their action.
FORGETFUL = (
    "{% for m in messages %}<|{{ m.role }}|>"
    "{% if m.role == 'assistant' %}{{ m.content.split('</think>')[-1].split('ACTION:')[-1] }}"
    "{% else %}{{ m.content }}{% endif %}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@pytest.fixture(scope="session")
def forgetful(make_policy: Callable[..., Policy]) -> Renderer:
    """A renderer whose template breaks the prefix."""
    tokenizer = make_policy().tokenizer
    tokenizer.chat_template = FORGETFUL
    return Renderer(tokenizer, TemplateSettings(thoughts="template"))


@pytest.fixture(scope="session")
def make_served(make_policy: Callable[..., Policy]) -> Callable[..., Policy]:
    """Policies whose attention heads are of a size that vLLM knows on a CPU; `scale` stands for a large update."""

    def build(scale: float = 1.0) -> Policy:
        policy = make_policy(hidden=64, heads=2, kv_heads=1, context=1024)
        with torch.no_grad():
            for name, parameter in policy.model.named_parameters():
                if "proj" in name or "embed" in name:
                    parameter.mul_(scale)
        return policy

    return build


@pytest.fixture(scope="session")
def served(make_served: Callable[..., Policy]) -> Policy:
    """What the vLLM engine serves at the start of a test."""
    return make_served()


@pytest.fixture(scope="session")
def serving() -> Iterator[dict[str, Any]]:
    """The one vLLM engine of the session, once a test has asked for it."""
    held: dict[str, Any] = {}
    yield held
    for engine in held.values():
        engine.shutdown()


@pytest.fixture
def vllm(
    serving: dict[str, Any], served: Policy, renderer: Renderer, tmp_path_factory: pytest.TempPathFactory
) -> VLLMEngine:
    """The engine of the session as it was when it had just started. Starting it takes most of the tests' time."""
    if importlib.util.find_spec("vllm") is None:
        pytest.skip("vLLM is not installed here: docs/engines.md says how")
    from shaping.sampling.vllm.config import VLLMConfig
    from shaping.sampling.vllm.engine import VLLMEngine
    from shaping.sampling.vllm.start import asked_for

    config = VLLMConfig(
        dtype="float32",
        max_num_seqs=8,
        kv_cache_gib=0.25,
        enable_lora=True,
        max_loras=3,
        max_lora_rank=8,
        max_logprobs=asked_for(20),
    )
    if "engine" not in serving:
        directory = tmp_path_factory.mktemp("served")
        served.save(directory)
        serving["engine"] = VLLMEngine(directory, renderer, config)
    engine: VLLMEngine = serving["engine"]
    engine.config = config
    engine.set_edits(())
    asyncio.run(engine.load_adapter(None, 0))
    asyncio.run(engine.load_weights(served.model.state_dict(), 0))
    return engine
