"""Several adapters and the one that they are concatenated into compute the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from launch.distributed.weights import write_adapter
from shaping.hooks import AdapterSpec
from shaping.learning.policy import Policy
from shaping.models.lora.adapters import Adapters
from shaping.models.lora.concatenated import LoRAWeights, concatenated

IDS = torch.tensor([[7, 8, 9, 40, 41, 42, 7, 8]])
CASES = {
    "two": [AdapterSpec("a", "kept", 4, 8.0), AdapterSpec("b", "frozen", 4, 8.0)],
    "ranks and alphas": [AdapterSpec("a", "kept", 3, 7.0), AdapterSpec("b", "quarantine", 8, 1.0)],
    "other modules": [
        AdapterSpec("a", "kept", 2, 5.0, ("q_proj", "v_proj")),
        AdapterSpec("b", "quarantine", 5, 16.0, ("down_proj", "v_proj")),
        AdapterSpec("c", "frozen", 1, 3.0),
    ],
}


def llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    sizes = {"vocab_size": 320, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    return LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=4, num_key_value_heads=2)).eval()


def disturbed(specs: list[AdapterSpec]) -> Adapters:
    adapters, generator = Adapters(llama(), specs), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in (p for role in ("kept", "quarantine", "frozen") for p in adapters.parameters(role)):
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    return adapters


@torch.no_grad()
def logits(model: torch.nn.Module) -> Tensor:
    return model(IDS).logits


@pytest.mark.parametrize("case", CASES)
def test_peft_computes_with_one_adapter_what_several_compute(case: str, tmp_path: Path) -> None:
    """Through the files that vLLM reads, in float32."""
    from peft import PeftModel

    specs = CASES[case]
    adapters = disturbed(specs)
    one = adapters.combined([spec.name for spec in specs])
    write_adapter(one.tensors, specs, tmp_path / "one")
    theirs, several = logits(PeftModel.from_pretrained(llama(), str(tmp_path / "one")).eval()), logits(adapters.model)
    torch.testing.assert_close(theirs, several, atol=2e-6, rtol=1e-5)
    with adapters.using((specs[0].name,)):
        assert float((logits(adapters.model) - several).abs().max()) > 1e-2, "the others have an effect"
    stored = load_file(tmp_path / "one" / "adapter_model.safetensors")
    ranks = {t.shape[0 if ".lora_A." in name else 1] for name, t in stored.items()}
    assert ranks == {one.rank} == {sum(spec.rank for spec in specs)} and one.alpha == one.rank


@pytest.mark.parametrize("case", CASES)
def test_every_update_is_the_sum_of_the_updates(case: str) -> None:
    specs = CASES[case]
    adapters = disturbed(specs)
    one = adapters.combined([spec.name for spec in specs])
    for path, module in ((p, m) for p, m in adapters.model.named_modules() if hasattr(m, "lora_A")):
        each = [module.get_delta_weight(s.name).double() for s in specs if s.name in module.lora_A]
        a, b = (one.tensors[f"base_model.model.{path}.lora_{matrix}.weight"].double() for matrix in "AB")
        torch.testing.assert_close(b @ a, sum(each, torch.zeros(())), atol=1e-7, rtol=1e-6)


def test_a_single_adapter_stays_as_it_is(make_policy: Callable[..., Policy]) -> None:
    policy = make_policy()
    adapters = Adapters(policy.model, [AdapterSpec("kept", "kept", 4, 6.0)])
    one, own = adapters.combined(["kept"]), adapters.tensors("kept")
    assert (one.rank, one.alpha) == (4, 6.0) and one.tensors.keys() == own.keys()
    assert all(torch.equal(one.tensors[name], tensor) for name, tensor in own.items())


def test_what_is_no_adapter_is_refused() -> None:
    with pytest.raises(ValueError, match="no adapter to concatenate"):
        concatenated([])
    wrong = LoRAWeights({"m.lora_A.weight": torch.zeros(3, 4), "m.lora_B.weight": torch.zeros(4, 3)}, 2, 4.0)
    with pytest.raises(ValueError, match=r"m.lora_A.weight has shape \(3, 4\), which is not of rank 2"):
        concatenated([wrong])
