"""What a run will hold in memory is known before it starts, and what cannot fit is refused with what to set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, MambaConfig, Qwen3Config, Qwen3MoeConfig

from launch.config.loading import load_study
from launch.config.study import RunConfig
from launch.distributed.needs import at_once, check_room
from launch.errors import ConfigError
from launch.run.memory import GIB, TooLargeError, by_device, check_memory, holdings, memory_lines, refusal
from shaping.models.sizes import ModelSizes, sizes_of

EXAMPLES = Path(__file__).resolve().parents[3] / "docs" / "examples"
GPU = 79.2 * GIB
"""What an 80 GB GPU has."""
SHARED: dict[str, Any] = {"head_dim": 128, "vocab_size": 151_936, "max_position_embeddings": 40_960}
SMALL: dict[str, Any] = {"hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36}
LARGE: dict[str, Any] = {"hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 48, "num_experts": 128}
SHAPES = {
    "one_gpu": Qwen3Config(
        **SHARED, **SMALL, num_attention_heads=32, num_key_value_heads=8, tie_word_embeddings=True
    ),
    "eight_gpus": Qwen3MoeConfig(
        **SHARED, **LARGE, num_attention_heads=32, num_key_value_heads=4, moe_intermediate_size=768,
        num_experts_per_tok=8, architectures=["Qwen3MoeForCausalLM"],
    ),
}  # fmt: skip
"""As the models of the examples are published."""


def example(name: str, tmp_path: Path, *overrides: str) -> tuple[RunConfig, ModelSizes]:
    run = load_study(EXAMPLES / f"{name}.yaml", list(overrides)).runs()[0]
    SHAPES[name].save_pretrained(tmp_path)
    return run, sizes_of(tmp_path, run.learner.lora.targets if run.learner.lora else ())


@pytest.mark.parametrize(
    ("name", "weights", "gpus", "devices"), [("one_gpu", 4.02e9, 1, 1), ("eight_gpus", 30.5e9, 8, 6)]
)
def test_the_examples_fit_their_gpus(name: str, weights: float, gpus: int, devices: int, tmp_path: Path) -> None:
    run, sizes = example(name, tmp_path)
    assert sizes.parameters == pytest.approx(weights, rel=0.003)
    machine = [{"CPU": 64.0, "GPU": float(gpus)}]
    check_room([run], machine)
    assert at_once([run], machine) == 1
    assert refusal(run, sizes, GPU, gpu=run.train.device != "cpu") == ""
    found = by_device(holdings(run, sizes, gpu=run.train.device != "cpu", memory=GPU))
    assert len(found) == devices
    assert sum(max(1, h.share) for sharing in found for h in sharing[:1]) == gpus


@pytest.mark.parametrize(
    ("name", "overrides", "told"),
    [
        (
            "one_gpu",
            ["learner.lora=null"],
            r"the run itself and rollout worker need about 10\d\.\d GiB of a GPU with 79\.2 GiB, most of it for "
            r"moments \(30\.0 GiB, the run itself\): change learner\.lora",
        ),
        (
            "one_gpu",
            ["learner.activation_checkpointing=false"],
            r"most of it for activations \(36\.\d GiB, the run itself\): change learner\.token_budget or act",
        ),
        (
            "one_gpu",
            ["rollout.engine=transformers", "rollout.vllm={}", "rollout.slots=64"],
            r"for cache of 64 slots \(72\.0 GiB, rollout worker\): change rollout\.slots or learner\.token_budget",
        ),
        (
            "eight_gpus",
            ["rollout.vllm.gpu_memory_utilization=0.3"],
            r"vLLM needs 2\d\.\d GiB of a GPU for its weights and one episode, and has 23\.8 GiB of 79\.2 GiB: raise",
        ),
    ],
)
def test_what_cannot_fit_is_refused_with_what_to_change(
    name: str, overrides: list[str], told: str, tmp_path: Path
) -> None:
    run, _ = example(name, tmp_path, *overrides)
    with pytest.raises(TooLargeError, match=told):
        check_memory([(run, tmp_path)], GPU)
    (tmp_path / "config.json").write_text('{"model_type": "none that is known"}')
    check_memory([(run, tmp_path)], GPU)  # of unknown size
    assert memory_lines(run, tmp_path)[0].startswith("not estimated: the config in")
    if not torch.cuda.is_available():
        check_memory([(run, tmp_path)])  # of no GPU nothing is known, and nothing refused


def test_a_model_without_attention_has_no_cache_that_grows(tmp_path: Path) -> None:
    MambaConfig(hidden_size=32, num_hidden_layers=2, vocab_size=100).save_pretrained(tmp_path)
    assert sizes_of(tmp_path).cached == 0 < sizes_of(tmp_path).parameters


def test_an_engine_on_several_gpus_reserves_them(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"tensor_parallel_size=2 .* gpus=1 reserves fewer: set gpus to 2"):
        example("eight_gpus", tmp_path, "rollout.gpus=1")


def test_the_table_names_every_process_and_the_learner_s_share(tmp_path: Path) -> None:
    run, _ = example("eight_gpus", tmp_path)
    head, *rows = memory_lines(run, tmp_path, GPU)
    assert head == "30,532.1 M weights; GiB per device at the most, of 79.2 GiB per GPU:"
    assert [row.split("  ")[0] for row in rows] == ["the run itself", "2 x rollout worker", "4 x learner rank"]
    assert "weights 14.2" in rows[2] and "each of 2 GPUs" in rows[1] and "host" in rows[0]


@pytest.mark.parametrize("lora", [None, {"rank": 4}])
def test_the_formula_counts_what_an_optimiser_holds(tmp_path: Path, lora: Any) -> None:
    """Of a model in bfloat16: float32 copies, gradients and two moments of what is trained."""
    shape = LlamaConfig(
        hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, vocab_size=500
    )
    shape.save_pretrained(tmp_path)
    sizes = sizes_of(tmp_path)
    model = AutoModelForCausalLM.from_config(shape)
    assert sizes.parameters == sum(p.numel() for p in model.parameters())
    run, _ = example("one_gpu", tmp_path / "other", f"learner.lora={'null' if lora is None else '{rank: 4}'}")
    parts = {part.what: part.size for part in holdings(run, sizes, gpu=True)[0].parts}
    trained = sizes.parameters
    if lora:
        linear = [m for m in model.model.modules() if isinstance(m, torch.nn.Linear)]
        trained = sum(4 * (m.in_features + m.out_features) for m in linear)
    assert parts["weights"] == 2 * sizes.parameters
    assert parts["moments"] == 2 * parts["gradients"] == 8 * trained
    assert parts.get("float32 copies", 0) == (0 if lora else 4 * trained)


def test_states_in_bfloat16_need_no_float32_copies_and_half_the_moments(tmp_path: Path) -> None:
    def parts(*overrides: str) -> dict[str, float]:
        run, sizes = example("one_gpu", tmp_path, "learner.lora=null", "rollout.sync=full", *overrides)
        return {part.what: part.size for part in holdings(run, sizes, gpu=True)[0].parts}

    long, short = parts(), parts("learner.optimizer_states=bfloat16")
    assert "float32 copies" in long and "float32 copies" not in short
    assert short["moments"] == long["moments"] / 2 == 2 * short["weights"]
    assert short["gradients"] == long["gradients"]
