"""One LoRA request per player, with a stand-in for vLLM's AsyncLLM: no engine is started."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from play_worlds import Counting

from launch.config.rollout import RolloutConfig
from launch.distributed.weights import tensors_of_player, weights_of_players, write_adapter
from shaping.hooks import AdapterSpec
from shaping.learning.policy import Policy
from shaping.sampling.engine import EngineError, SamplingParams, Session
from shaping.sampling.text.render import Renderer
from shaping.sampling.vllm import engine as module
from shaping.sampling.vllm.config import VLLMConfig
from shaping.sampling.vllm.start import Serving

SPECS = [AdapterSpec(name, "kept", 2, player=name) for name in ("red", "blue")]
ON = {"red": ("red",), "blue": ("blue",), "unshaped": ()}


class LoRARequest(NamedTuple):
    """As vllm.lora.request.LoRARequest of vLLM 0.2x: name, id, path."""

    lora_name: str
    lora_int_id: int
    lora_path: str


class StandIn:
    """The calls of AsyncLLM that adapters need."""

    output_handler = None

    def __init__(self) -> None:
        self.loaded: dict[int, str] = {}
        self.asked: list[str] = []
        self.hold = asyncio.Event()
        self.hold.set()

    async def add_lora(self, request: LoRARequest) -> None:
        assert request.lora_int_id not in self.loaded and Path(request.lora_path).is_dir()
        self.loaded[request.lora_int_id] = request.lora_name

    async def remove_lora(self, number: int) -> None:
        del self.loaded[number]

    async def update_weight_version(self, version: str) -> None: ...

    async def generate(self, prompt: Any, params: Any, name: str, *, lora_request: LoRARequest | None) -> Any:
        self.asked.append(lora_request.lora_name if lora_request else "")
        await self.hold.wait()
        assert lora_request is None or lora_request.lora_int_id in self.loaded, "an adapter in use was removed"
        logprobs = SimpleNamespace(start_indices=[0, 1], logprobs=[-1.0, -1.0])
        one = SimpleNamespace(token_ids=[5, 2], logprobs=logprobs, weight_versions=[])
        yield SimpleNamespace(outputs=[one], num_cached_tokens=0)

    def shutdown(self, timeout: float) -> None: ...


@pytest.fixture
def policy(make_served: Callable[..., Policy]) -> Policy:
    plain = make_served()
    policy = Policy(plain.model, plain.tokenizer, adapters=SPECS)
    with torch.no_grad():
        for tensor in policy.adapters.parameters("kept"):
            tensor.normal_()
    return policy


@pytest.fixture
def engine(policy: Policy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    async def start(files: Any, config: Any, serving: list[Serving], template: Any = None) -> None:
        serving.append(Serving(StandIn(), torch.float32, 400, True))

    for name, contents in (("vllm.lora.request", {"LoRARequest": LoRARequest}), ("vllm.inputs.engine", {})):
        fake = ModuleType(name)
        vars(fake).update(contents or {"tokens_input": lambda tokens: tokens})
        monkeypatch.setitem(sys.modules, name, fake)
    for parent in ("vllm", "vllm.lora", "vllm.inputs"):
        monkeypatch.setitem(sys.modules, parent, ModuleType(parent))
    monkeypatch.setattr(module, "start", start)
    monkeypatch.setattr(module, "vllm_request", lambda params, ends: params)
    policy.adapters.activate(())
    policy.model.config.save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").write_bytes(b"")
    engine = module.VLLMEngine(
        tmp_path / "model", Renderer(policy.tokenizer), VLLMConfig(enable_lora=True, max_loras=6)
    )
    yield engine
    engine.shutdown()


def directories(policy: Policy, folder: Path) -> dict[str, Path | None]:
    tensors = weights_of_players(policy, ON)
    found: dict[str, Path | None] = {}
    for spec in SPECS:
        found[spec.name] = folder / spec.name
        write_adapter(tensors_of_player(tensors, spec.name), [spec], folder / spec.name)
    return {**found, "unshaped": None}


async def complete(engine: Any, player: str, number: int = 0) -> Any:
    session = Session(number, Counting(), player)
    engine.open(session)
    try:
        return await engine.complete(session, [1, 2, 3], SamplingParams(4))
    finally:
        engine.close(session)


def test_every_player_has_a_request_of_its_own_and_all_tokens_the_version(
    engine: Any, policy: Policy, tmp_path: Path
) -> None:
    asyncio.run(engine.load_players(directories(policy, tmp_path / "1"), 7))
    for player in ("red", "blue", "unshaped"):
        assert asyncio.run(complete(engine, player)).policy_versions.tolist() == [7, 7]
    red, blue, unshaped = engine._llm.asked
    assert red != blue and red.startswith("policy-7") and unshaped == ""
    with pytest.raises(EngineError, match="no player is called 'green'; there are 'red', 'blue', 'unshaped'"):
        asyncio.run(complete(engine, "green"))


def test_only_adapters_that_have_changed_are_loaded_again(engine: Any, policy: Policy, tmp_path: Path) -> None:
    asyncio.run(engine.load_players(directories(policy, tmp_path / "1"), 1))
    first = dict(engine._llm.loaded)
    with torch.no_grad():
        for tensor in policy.adapters.tensors("red").values():
            tensor.add_(1.0)
    asyncio.run(engine.load_players(directories(policy, tmp_path / "2"), 2))
    blue = next(number for number, name in first.items() if number in engine._llm.loaded)
    assert len(engine._llm.loaded) == 2 and engine._llm.loaded[blue] == first[blue]
    assert asyncio.run(complete(engine, "blue")).policy_versions.tolist() == [2, 2], "kept, at the new version"


def test_completions_under_way_keep_their_adapter_until_they_end(engine: Any, policy: Policy, tmp_path: Path) -> None:
    first, second = directories(policy, tmp_path / "1"), None
    asyncio.run(engine.load_players(first, 1))
    with torch.no_grad():
        for tensor in policy.adapters.tensors("red").values():
            tensor.add_(1.0)
    second = directories(policy, tmp_path / "2")

    async def both() -> Any:
        engine._loop.block(_clear(engine._llm.hold))
        running = asyncio.create_task(complete(engine, "red"))
        while not engine._llm.asked:
            await asyncio.sleep(0.001)
        await engine.load_players(second, 2)
        assert len(engine._llm.loaded) == 3, "the old one is in use"
        engine._loop.block(_set(engine._llm.hold))
        return await running

    assert asyncio.run(both()).policy_versions.tolist() == [1, 1]
    engine._loop.block(asyncio.sleep(0.01))
    assert len(engine._llm.loaded) == 2


async def _clear(event: asyncio.Event) -> None:
    event.clear()


async def _set(event: asyncio.Event) -> None:
    event.set()


def test_there_is_room_for_the_adapters_of_all_players() -> None:
    rollout = RolloutConfig(engine="vllm", workers=1, sync="lora", max_staleness=1)
    assert rollout.vllm_config(4, players=3).max_loras == 9 and rollout.vllm_config(4).max_loras == 3
