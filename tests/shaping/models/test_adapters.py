"""Adapters add up, train apart, go without a trace, and are written so that other libraries read them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from shaping.hooks import AdapterSpec
from shaping.learning.config import LearnerConfig
from shaping.learning.learner import Learner
from shaping.learning.policy import Policy
from shaping.learning.samples.sample import Sample
from shaping.models.lora.adapters import AdapterError, Adapters
from shaping.sampling.transfer.weights import checksum

MakePolicy = Callable[..., Policy]
KEPT = AdapterSpec("kept", "kept", rank=4, alpha=8.0)
QUARANTINE = AdapterSpec("quarantine", "quarantine", rank=2, alpha=4.0)
TRAIT = AdapterSpec("trait", "frozen", rank=2, targets=("q_proj", "down_proj"))
ALL = (KEPT, QUARANTINE, TRAIT)
IDS = torch.tensor([[7, 8, 9, 40, 41, 42, 7, 8]])


@pytest.fixture
def policy(make_policy: MakePolicy) -> Policy:
    """A fresh one for every test: here weights change."""
    return make_policy()


@torch.no_grad()
def disturb(adapters: Adapters, seed: int = 0) -> None:
    """Adapters start without effect; give each of them a strong one."""
    generator = torch.Generator().manual_seed(seed)
    for role in ("kept", "quarantine", "frozen"):
        for parameter in adapters.parameters(role):
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))


@torch.no_grad()
def logits(model: nn.Module) -> Tensor:
    return model(IDS).logits.float()


def close(a: Tensor, b: Tensor) -> bool:
    """Up to rounding, whatever the size of the numbers."""
    return float((a - b).abs().max()) <= 1e-5 * float(b.abs().max())


def frozen_names(adapters: Adapters) -> set[str]:
    return {n for n, p in adapters.model.named_parameters() if not p.requires_grad}


def digest(directory: Path) -> str:
    return hashlib.sha256((directory / "adapter_model.safetensors").read_bytes()).hexdigest()


def test_fresh_adapters_change_nothing_and_active_ones_add_up(policy: Policy) -> None:
    before, plain = logits(policy.model), {n: t.clone() for n, t in policy.model.state_dict().items()}
    adapters = Adapters(policy.model, ALL)
    assert torch.equal(logits(policy.model), before)
    disturb(adapters)

    def delta(*active: str) -> dict[str, Tensor]:
        with adapters.using(active):
            return {name: tensor - plain[name] for name, tensor in adapters.merge().weights.items()}

    single, together = [delta(spec.name) for spec in ALL], delta("kept", "quarantine", "trait")
    for name, total in together.items():
        torch.testing.assert_close(total, sum((d[name] for d in single), torch.zeros(())), atol=1e-5, rtol=1e-5)
    assert all(float(d["model.layers.0.self_attn.q_proj.weight"].abs().max()) > 0.1 for d in single)
    layer = policy.model.get_submodule("model.layers.0.self_attn.q_proj")
    x = torch.randn(3, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = (
            x @ (plain["model.layers.0.self_attn.q_proj.weight"] + together["model.layers.0.self_attn.q_proj.weight"]).T
        )
        torch.testing.assert_close(layer(x), expected, atol=1e-4, rtol=1e-4)


def test_the_effect_of_one_is_rank_times_scale_as_in_its_paper(policy: Policy) -> None:
    adapters = Adapters(policy.model, (KEPT,))
    disturb(adapters)
    name = "model.layers.1.mlp.up_proj"
    a, b = (adapters.tensors("kept")[f"base_model.model.{name}.lora_{m}.weight"] for m in "AB")
    base = policy.model.get_submodule(name).base_layer.weight.detach()
    torch.testing.assert_close(adapters.merge().weights[f"{name}.weight"], base + (8.0 / 4) * b @ a)


def test_roles_say_what_is_trained(make_policy: MakePolicy) -> None:
    own = make_policy()
    policy = Policy(own.model, own.tokenizer, adapters=ALL)
    groups = policy.groups()
    trained = {p for parameters in groups.values() for p in parameters}
    by_name = dict(policy.model.named_parameters())
    assert {n for n, p in by_name.items() if p.requires_grad} == {n for n, p in by_name.items() if p in trained}
    assert {n for n in by_name if ".kept." in n} == {n for n, p in by_name.items() if p in set(groups["kept"])}
    assert {n for n in by_name if ".quarantine." in n} == {
        n for n, p in by_name.items() if p in set(groups["quarantine"])
    }
    assert not any(p.requires_grad for n, p in by_name.items() if ".trait." in n or ".lora_" not in n)
    assert len([n for n in by_name if ".trait." in n]) == 2 * 2 * 2, "two targets in two layers, A and B"
    assert not any("lm_head" in n or "embed" in n for n in by_name if ".lora_" in n)


def test_without_a_kept_adapter_the_base_is_trained(make_policy: MakePolicy) -> None:
    own = make_policy()
    policy = Policy(own.model, own.tokenizer, adapters=(QUARANTINE, TRAIT))
    base = {p for n, p in policy.model.named_parameters() if ".lora_" not in n}
    assert set(policy.groups()["kept"]) == base and all(p.requires_grad for p in base)
    assert frozen_names(policy.adapters) == {n for n, _ in policy.model.named_parameters() if ".trait." in n}


@pytest.mark.parametrize("specs", [ALL, ALL[1:]], ids=["kept", "base"])
def test_activating_never_changes_what_is_trained(make_policy: MakePolicy, specs: tuple[AdapterSpec, ...]) -> None:
    own = make_policy()
    adapters = Policy(own.model, own.tokenizer, adapters=specs).adapters
    disturb(adapters)
    frozen, everything, bare = frozen_names(adapters), logits(own.model), None
    for active in [(), ("trait",), ("quarantine",), ("trait", "quarantine"), ()]:
        with adapters.using(active):
            assert frozen_names(adapters) == frozen and adapters.active == active
            if not active:
                bare = logits(own.model) if bare is None else bare
                assert torch.equal(logits(own.model), bare), "no adapter: always the same bare model"
            else:
                assert not torch.equal(logits(own.model), everything)
        assert adapters.active == tuple(s.name for s in specs) and torch.equal(logits(own.model), everything)
    with pytest.raises(RuntimeError, match="inside"), adapters.using(()):
        raise RuntimeError("inside")
    assert torch.equal(logits(own.model), everything), "also after an exception"


def test_names_by_role_and_phase(policy: Policy) -> None:
    adapters = Adapters(policy.model, (KEPT, replace(QUARANTINE, phases=frozenset({"training"})), TRAIT))
    assert adapters.names() == ("kept", "quarantine", "trait")
    assert adapters.names("kept", "frozen") == ("kept", "trait")
    assert adapters.names(phase="sampling") == ("kept", "trait")
    assert adapters.names("quarantine", phase="sampling") == ()


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        ((KEPT, replace(QUARANTINE, name="kept")), "two adapters are called 'kept'; give one of them another name"),
        ((replace(KEPT, name="a.b"),), "'a.b' is no name for an adapter: letters, digits and underscores only"),
        (
            (replace(KEPT, targets=("q_proj", "w_pack")),),
            r"'kept': LlamaForCausalLM has no .*'w_pack'; it has down_proj",
        ),
        ((KEPT, replace(TRAIT, targets=("w_pack",))), "'trait': LlamaForCausalLM has no linear module"),
        ((replace(KEPT, path="/nowhere"),), "'kept': /nowhere holds no adapter_model.safetensors"),
    ],
)
def test_what_cannot_be_injected_is_refused_by_name_and_leaves_the_model_alone(
    policy: Policy, specs: tuple[AdapterSpec, ...], message: str
) -> None:
    before = dict(policy.model.named_modules())
    with pytest.raises(AdapterError, match=message):
        Adapters(policy.model, specs)
    assert dict(policy.model.named_modules()) == before


def test_unknown_adapters_cannot_be_activated_or_dropped(policy: Policy) -> None:
    adapters = Adapters(policy.model, (KEPT,))
    for use in (adapters.activate, adapters.drop):
        with pytest.raises(AdapterError, match="no adapter is called 'kpet'; there is 'kept'"):
            use(("kpet",))
    assert adapters.active == ("kept",)


@pytest.fixture
def saved(make_policy: MakePolicy, tmp_path: Path) -> Path:
    """A kept adapter with an effect, on the disk."""
    adapters = Adapters(make_policy().model, (KEPT,))
    disturb(adapters)
    adapters.save("kept", tmp_path / "kept")
    return tmp_path / "kept"


def test_a_saved_adapter_is_loaded_again_under_any_name_and_role(make_policy: MakePolicy, saved: Path) -> None:
    source = Adapters(make_policy().model, (KEPT,))
    disturb(source)
    again = make_policy()
    loaded = Adapters(again.model, (AdapterSpec("other", "frozen", rank=4, alpha=8.0, path=str(saved)),))
    assert torch.equal(logits(again.model), logits(source.model))
    loaded.save("other", saved.parent / "again")
    assert digest(saved.parent / "again") == digest(saved)


def test_peft_loads_what_is_saved_and_computes_the_same(make_policy: MakePolicy, saved: Path) -> None:
    from peft import PeftModel

    ours = make_policy()
    Adapters(ours.model, (replace(KEPT, path=str(saved)),))
    theirs = PeftModel.from_pretrained(make_policy().model, str(saved)).eval()
    assert close(logits(theirs), logits(ours.model))
    assert not torch.allclose(logits(ours.model), logits(make_policy().model), atol=1e-2)


def edited(directory: Path, **changes: Any) -> None:
    config = json.loads((directory / "adapter_config.json").read_text())
    (directory / "adapter_config.json").write_text(json.dumps({**config, **changes}))


@pytest.mark.parametrize(
    ("spec", "changes", "message"),
    [
        ({"rank": 8}, {}, "has rank 4.*set `rank` to 4"),
        ({"alpha": 16.0}, {}, "has alpha 8.*set `alpha` to 8"),
        ({}, {"target_modules": ["w_pack"]}, "no linear module called 'w_pack'"),
        ({}, {"target_modules": ".*proj"}, "target_modules.*list of names"),
        ({"targets": ("q_proj",)}, {}, "these targets: only one has 'base_model.model.model.layers"),
        ({}, {"use_rslora": True}, "use_rslora"),
        ({}, {"peft_type": "IA3"}, "peft_type"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_with_the_remedy(
    policy: Policy, saved: Path, spec: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    edited(saved, **changes)
    before = dict(policy.model.named_modules())
    with pytest.raises(AdapterError, match=f"(?s)'mine'.*{message}"):
        Adapters(
            policy.model, (AdapterSpec("mine", "frozen", **{"rank": 4, "alpha": 8.0, "path": str(saved), **spec}),)
        )
    assert dict(policy.model.named_modules()) == before


def test_an_adapter_of_a_larger_model_is_refused(make_policy: MakePolicy, saved: Path) -> None:
    with pytest.raises(AdapterError, match=r"has shape .* it was trained on a model of another size"):
        Adapters(make_policy(hidden=48).model, (replace(KEPT, path=str(saved)),))


@pytest.mark.parametrize("missing", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_directory_without_one_of_the_files_is_refused(policy: Policy, saved: Path, missing: str) -> None:
    (saved / missing).unlink()
    with pytest.raises(AdapterError, match=f"'kept': .*{missing}"):
        Adapters(policy.model, (replace(KEPT, path=str(saved)),))


def test_dropping_all_gives_back_the_very_modules(policy: Policy) -> None:
    modules = dict(policy.model.named_modules())
    attributes, before = set(vars(policy.model)), checksum(policy.model.state_dict())
    adapters = Adapters(policy.model, ALL)
    disturb(adapters)
    adapters.drop(("quarantine",))
    assert adapters.names() == adapters.active == ("kept", "trait")
    adapters.drop(("kept", "trait"))
    assert dict(policy.model.named_modules()) == modules and not adapters
    assert set(vars(policy.model)) == attributes and checksum(policy.model.state_dict()) == before
    again = Adapters(policy.model, ALL)  # names are free again
    assert again.active == ("kept", "quarantine", "trait")


@pytest.fixture
def make_samples() -> Callable[[int], list[Sample]]:
    def make(seed: int) -> list[Sample]:
        rng = np.random.default_rng(seed)
        ones, none = np.ones(20, np.float32), np.zeros((0, 2), np.int64)
        mask = np.arange(20) > 3
        return [
            Sample(
                rng.integers(0, 250, 20), mask, ones, rng.normal(size=20).astype(np.float32), ones, none, "none", False
            )
            for _ in range(3)
        ]

    return make


def test_training_adapters_never_writes_the_base(
    make_policy: MakePolicy, make_samples: Callable[[int], list[Sample]]
) -> None:
    own = make_policy()
    before = checksum(own.model.state_dict())
    policy = Policy(own.model, own.tokenizer, adapters=ALL)
    start = {name: {k: t.clone() for k, t in policy.adapters.tensors(name).items()} for name in policy.adapters.specs}
    learner = Learner(policy, LearnerConfig(lr=1e-2, kl=0.1))
    for update in range(3):
        learner.update(make_samples(update))
    moved = {n: any(not torch.equal(t, start[n][k]) for k, t in policy.adapters.tensors(n).items()) for n in start}
    assert moved == {"kept": True, "quarantine": True, "trait": False}
    policy.adapters.drop(policy.adapters.names())
    assert checksum(policy.model.state_dict()) == before


def untied() -> LlamaForCausalLM:
    torch.manual_seed(0)
    sizes = {"vocab_size": 320, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    return LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=4, tie_word_embeddings=False)).eval()


@pytest.mark.parametrize("tied", [True, False])
def test_merged_weights_compute_what_the_active_adapters_do(policy: Policy, tied: bool) -> None:
    model = policy.model if tied else untied()
    adapters = Adapters(model, ALL)
    disturb(adapters)
    everything, state = logits(model), {n: t.clone() for n, t in model.state_dict().items()}
    for active in [(), ("kept",), ("kept", "quarantine", "trait")]:
        with adapters.using(active):
            expected, merged = logits(model), adapters.merge().weights
        plain = type(model)(model.config).eval()
        plain.load_state_dict(merged)
        assert close(logits(plain), expected)
    assert torch.equal(logits(model), everything)
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("tied", [True, False])
def test_a_deployed_policy_is_its_base_and_the_kept_adapter(policy: Policy, tied: bool, tmp_path: Path) -> None:
    model = policy.model if tied else untied()
    trained = Policy(model, policy.tokenizer, adapters=ALL, critics=1)
    disturb(trained.adapters)
    with trained.adapters.using(("kept",)):
        kept = logits(model)
    with_everything = logits(model)
    trained.deploy()
    assert trained.value_head is None and trained.adapters.names() == ("kept",)
    assert torch.equal(logits(model), kept) and not torch.allclose(kept, with_everything, atol=1e-2)
    trained.save(tmp_path / "adapters")
    folder = tmp_path / "adapters" / "adapters"
    assert [path.name for path in folder.iterdir()] == ["kept"] and not list(tmp_path.glob("*/*.safetensors"))
    trained.adapters.drop(("kept",))
    beside = Adapters(model, (replace(KEPT, path=str(folder / "kept")),))
    assert torch.equal(logits(model), kept), "bit for bit"
    assert beside.active == ("kept",)


def test_adapters_are_float32_on_a_bfloat16_base(policy: Policy) -> None:
    policy.model.to(torch.bfloat16)
    before = checksum(policy.model.state_dict())
    trained = Policy(policy.model, policy.tokenizer, adapters=(KEPT, TRAIT))
    disturb(trained.adapters)
    parameters = trained.adapters.parameters("kept") + trained.adapters.parameters("frozen")
    assert {p.dtype for p in parameters} == {torch.float32}
    assert policy.model(IDS).logits.dtype == torch.bfloat16
    policy.model(IDS).logits.float().sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in trained.adapters.parameters("kept"))
    merged = trained.adapters.merge().weights
    assert {t.dtype for t in merged.values()} == {torch.bfloat16}
    trained.adapters.drop(("kept", "trait"))
    assert checksum(policy.model.state_dict()) == before
