"""The weights that vLLM gets: adapters as one, and merged ones under the names of the files, never in silence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from families import tiny
from safetensors.torch import load_file

from launch.config.arms.seats import SeatsConfig
from launch.config.loading import parse_study
from launch.config.study import RunConfig
from launch.distributed.weights import (
    PolicyWeights,
    merged_weights,
    named_as_in_files,
    sent_adapter,
    served_type,
    tensors_of_player,
    weights_of,
    write_adapter,
)
from launch.errors import UserError
from launch.run.models.adapters import adapters_of
from shaping.arm import Arm
from shaping.hooks import AdapterSpec
from shaping.learning.policy import Policy
from shaping.sampling.transfer.weights import adapter_settings, checksum
from shaping.sampling.vllm.config import ModelFiles

SPECS = [AdapterSpec("kept", "kept", 4, 8.0), AdapterSpec("extra", "quarantine", 2, 3.0)]


def run_with(dtype: str = "bfloat16", **rollout: Any) -> RunConfig:
    world = {"controller_worlds:Vowels": {}}
    document = {
        "name": "small",
        "seeds": 1,
        "train": {"worlds": world, "updates": 1, "groups": 1, "group_size": 2},
        "learner": {"lora": {"rank": 4}, "dtype": dtype},
        "eval": {"worlds": world, "episodes": 1},
        "rollout": {"engine": "vllm", "workers": 1, **rollout},
        "arms": {"arm": {"role": "reference"}},
    }
    return parse_study(document, "test").runs()[0]


@pytest.fixture
def base(make_policy: Callable[..., Policy], tmp_path: Path) -> Path:
    make_policy().save(tmp_path / "base")
    return tmp_path / "base"


def disturb(policy: Policy, scale: float) -> None:
    with torch.no_grad():
        for role in ("kept", "quarantine"):
            for parameter in policy.adapters.parameters(role):
                parameter.normal_(0.0, scale, generator=torch.Generator().manual_seed(2))


def test_the_adapters_of_sampling_are_sent_as_one(base: Path, tmp_path: Path) -> None:
    policy = Policy.load(base, adapters=[*SPECS, AdapterSpec("later", "frozen", 2, phases=frozenset({"training"}))])
    disturb(policy, 0.1)
    sent = weights_of(policy, "adapter")
    write_adapter(sent, SPECS, tmp_path / "sent")
    assert checksum(sent) == checksum(load_file(tmp_path / "sent" / "adapter_model.safetensors"))
    settings = adapter_settings(tmp_path / "sent")
    assert (settings["r"], settings["lora_alpha"]) == (6, 6.0) == sent_adapter(SPECS)
    assert sent_adapter(SPECS[:1]) == (4, 8.0) and sent_adapter([]) == (0, 0.0)


def test_every_player_of_the_seats_is_sent_an_adapter_of_its_own(base: Path) -> None:
    players = {"red": {}, "blue": {"adapter": "rival"}, "green": {"learns": 0, "opponents": {"past": 1}}}
    seats = SeatsConfig.model_validate({"players": players, "snapshots": {"every": 1, "keep": 2}})
    run = run_with(sync="lora").model_copy(update={"seats": seats})
    policy = Policy.load(base, adapters=adapters_of(run, Arm("none")))
    disturb(policy, 0.1)
    source = PolicyWeights(run, policy, base, lambda line: None)
    sent = source.send("adapter").tensors or {}
    past = {f"past_{name}_{slot}" for name in ("kept", "rival") for slot in (0, 1)}
    assert {key.partition("/")[0] for key in sent} == {"", "rival", *past}
    own = policy.adapters.tensors("rival")
    assert {key: checksum({key: t}) for key, t in tensors_of_player(sent, "rival").items()} == {
        key: checksum({key: t}) for key, t in own.items()
    }
    assert source.checksum("adapter", "sampling", None) == checksum(sent)


def test_a_merge_that_loses_the_update_is_told_once_with_the_remedy(base: Path) -> None:
    policy, said = Policy.load(base, dtype=torch.bfloat16, adapters=SPECS), list[str]()
    source = PolicyWeights(run_with(sync="full"), policy, base, said.append)
    source.send("merged")
    assert said == [], "before training there is nothing to lose"
    disturb(policy, 1e-3)
    for _ in range(2):
        source.send("merged")
    (line,) = said
    assert "into bfloat16 weights for vLLM, which loses" in line and "rollout.sync=lora sends" in line


def test_a_merge_is_rounded_to_the_type_that_is_served(base: Path) -> None:
    wide = run_with("bfloat16", sync="full", vllm={"dtype": "float32"})
    assert served_type(wide, base) is torch.float32
    assert served_type(run_with("float32", sync="full", vllm={"dtype": "bfloat16"}), base) is torch.bfloat16
    policy, said = Policy.load(base, dtype=torch.bfloat16, adapters=SPECS), list[str]()
    disturb(policy, 1e-2)
    sent = PolicyWeights(wide, policy, base, said.append).send("merged").tensors or {}
    assert said == [] and {tensor.dtype for tensor in sent.values()} == {torch.float32}


@pytest.mark.parametrize(
    "family", ["qwen3_moe", "mixtral", "olmoe", "granitemoe", "gpt_oss", "llama4_text", "llama", "gpt2"]
)
@pytest.mark.parametrize("adapters", [[], [AdapterSpec("kept", "kept", 2)]])
def test_merged_weights_have_the_names_and_shapes_of_the_models_files(
    family: str, adapters: list[AdapterSpec], make_policy: Callable[..., Policy], tmp_path: Path
) -> None:
    """Experts are one tensor in the model, and one tensor each in the files of many families."""
    Policy(tiny(family), make_policy().tokenizer).save(tmp_path)
    policy = Policy.load(tmp_path, adapters=adapters)
    sent, stored = merged_weights(policy).weights, load_file(tmp_path / "model.safetensors")
    assert set(ModelFiles(tmp_path).checked_weights(sent)) == set(stored)
    assert all(torch.equal(sent[name], tensor) for name, tensor in stored.items()), "nothing is trained yet"
    if family in ("qwen3_moe", "mixtral"):
        assert any(".experts.3." in name for name in sent) and not set(sent) >= set(policy.model.state_dict())


def test_weights_that_cannot_be_named_are_refused(
    make_policy: Callable[..., Policy], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(model: object, state: object) -> None:
        raise NotImplementedError("no way back")

    monkeypatch.setattr("launch.distributed.weights.revert_weight_conversion", fails)
    with pytest.raises(UserError, match=r"sync=full: the weights of Llama.* \(NotImplementedError: no way back\)"):
        named_as_in_files(make_policy(), {})
