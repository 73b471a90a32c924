"""Checksums, files for weights in transit, and adapters in the embedded engine."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from vllm_serving import complete, relearned, save_adapter, tokens_of

from shaping.hooks import AdapterSpec
from shaping.learning.policy import Policy
from shaping.sampling.embedded.transformers_engine import TransformersEngine
from shaping.sampling.embedded.transformers_engine import checksum as of_model
from shaping.sampling.engine import EngineError, SamplingParams
from shaping.sampling.text.render import Renderer
from shaping.sampling.transfer.scratch import PREFIX, Scratch
from shaping.sampling.transfer.weights import adapter_settings, checksum, combined, digests

STATE = {"a": torch.tensor([1.0, -2.0]), "b": torch.tensor([3, 4])}


def test_a_checksum_is_that_of_names_and_numbers() -> None:
    assert checksum(STATE) == checksum(dict(reversed(STATE.items()))) == combined(digests(STATE))
    assert checksum(STATE) != checksum({"a": STATE["a"], "c": STATE["b"]})
    assert checksum(STATE) != checksum(STATE | {"a": torch.tensor([1.0, -2.0 + 2**-22])})
    assert checksum({"z": torch.tensor([0.0])}) == checksum({"z": torch.tensor([-0.0])})
    transposed = torch.arange(6.0).view(2, 3).T
    assert checksum({"t": transposed}) == checksum({"t": transposed.contiguous()})


def test_a_checksum_in_the_engines_type_is_that_of_what_it_gets() -> None:
    fine = {"a": torch.tensor([1.0, 1.0 + 2**-20]), "n": torch.tensor([5])}
    assert checksum(fine, torch.bfloat16) == checksum({"a": fine["a"].bfloat16(), "n": fine["n"]})
    assert checksum(fine, torch.bfloat16) != checksum(fine)


def test_paths_are_never_given_out_twice_and_vanish_with_their_owner(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path)
    first, second = (scratch.path("1.safetensors", 10) for _ in range(2))
    assert first != second and first.parent == second.parent
    first.write_bytes(b"weights")
    scratch.remove()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_holds_is_not(tmp_path: Path) -> None:
    code = (
        "import sys, os, signal; from pathlib import Path; from shaping.sampling.transfer.scratch import Scratch;"
        "Scratch(Path(sys.argv[1])).path('w', 1).write_bytes(b'x'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    (left,) = tmp_path.glob(f"{PREFIX}*/*-w")
    alive = Scratch(tmp_path)
    kept = alive.path("w", 1)
    kept.write_bytes(b"y")
    assert not left.exists()
    Scratch(tmp_path)
    assert kept.exists()


def test_weights_go_where_there_is_room(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=f"no room for .* GB of weights in {tmp_path}"):
        Scratch(tmp_path).path("w", 1 << 60)
    assert Scratch(tmp_path / "absent", tmp_path).path("w", 1).is_relative_to(tmp_path)


@pytest.fixture
def prompts(renderer: Renderer) -> list[list[int]]:
    return [renderer.open("", text) for text in ("turn 1 / 4 .", "wait")]


def test_the_embedded_engine_serves_adapters_by_version_and_gives_the_model_back(
    make_policy: Callable[..., Policy], prompts: list[list[int]], tmp_path: Path
) -> None:
    own = make_policy()
    before = of_model(own.model)
    engine = TransformersEngine(own.model, Renderer(own.tokenizer), slots=4)
    params = [SamplingParams(9, seed=n) for n in range(2)]
    plain = complete(engine, prompts, params)
    for version in (1, 2):
        adapted = save_adapter(make_policy, version, tmp_path / "adapter")
        asyncio.run(engine.load_adapter(tmp_path / "adapter", version))
        for prompt, completion in zip(prompts, complete(engine, prompts, params), strict=True):
            assert set(completion.policy_versions) == {version}
            np.testing.assert_allclose(completion.logprobs, relearned(adapted, prompt, completion), atol=1e-4)
    with pytest.raises(EngineError, match="an adapter is served"):
        asyncio.run(engine.load_weights({}, 3))
    asyncio.run(engine.load_adapter(None, 3))
    again = complete(engine, prompts, params)
    assert tokens_of(again) == tokens_of(plain) and set(again[0].policy_versions) == {3}
    asyncio.run(engine.load_adapter(tmp_path / "adapter", 4))
    engine.shutdown()
    assert of_model(own.model) == before


def test_an_engine_that_shares_a_learners_model_needs_no_adapter_files(
    make_policy: Callable[..., Policy], tmp_path: Path
) -> None:
    plain = make_policy()
    learner = Policy(plain.model, plain.tokenizer, adapters=[AdapterSpec("kept", "kept")])
    learner.adapters.save("kept", tmp_path)
    engine = TransformersEngine(learner.model, Renderer(plain.tokenizer), slots=1)
    with pytest.raises(EngineError, match="adapters of a learner that shares it"):
        asyncio.run(engine.load_adapter(tmp_path, 1))


def test_a_damaged_adapter_is_named(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="it has no adapter_config"):
        adapter_settings(tmp_path)
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(EngineError, match="it has no adapter_model"):
        adapter_settings(tmp_path)
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(EngineError, match=r"adapter_config.json cannot be read: KeyError\('r'\)"):
        adapter_settings(tmp_path)
