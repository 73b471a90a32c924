"""The persona subspace: two adapters that together learn all, one of them outside of it, and alarms of the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from rank_samples import sample
from safetensors.torch import load_file
from torch import Tensor, nn

from shaping.arm import compose
from shaping.contract.groups import small_policy
from shaping.contract.interventions import check_intervention
from shaping.hooks import InterventionError
from shaping.learning.config import LearnerConfig
from shaping.learning.learner import Learner
from shaping.learning.policy import Policy
from shaping.learning.steps.adapter_norms import NormAlarmError
from shaping.learning.steps.optimizer import GatedOptimizer
from shaping.models.lora.subspace import Projection, bases_of
from shaping.shapers import PersonaSubspace

CONFIG = LearnerConfig(lr=1e-2, max_mismatch_kl=1e9, weight_decay=0.1)


def learner_of(**fields: Any) -> Learner:
    torch.manual_seed(0)
    shaper = PersonaSubspace(random=True, basis_rank=3, rank=4, persona_rank=4, **fields)
    return Learner(small_policy(shaper.adapters()), CONFIG, interventions=[shaper])


def samples(seed: int) -> list[Any]:
    return [sample(20 + i, 10 * seed + i) for i in range(3)]


def assert_confined(policy: Policy, tensors: dict[str, Tensor], *, inside: bool) -> None:
    basis = bases_of(policy.model, policy.adapters.specs["rest"].subspace)[0]  # type: ignore[arg-type]
    found = [t.double() for key, t in tensors.items() if ".lora_B." in key]
    assert len(found) == 2 and all(float(b.norm()) > 1e-3 for b in found)
    for b in found:
        within = basis @ (basis.T @ b)
        assert float((b - within if inside else within).norm()) < 1e-6 * float(b.norm())


def test_it_is_a_shaper_without_labels_whose_two_adapters_learn_everything() -> None:
    arm = compose("a", [PersonaSubspace(random=True)])
    assert arm.family == "motivation" and not arm.oracle and not arm.owner
    assert [(s.name, s.role, s.subspace and s.subspace.inside) for s in arm.adapters()] == [
        ("rest", "kept", False),
        ("persona", "quarantine", True),
    ]


def test_after_updates_each_adapter_is_where_it_may_write_and_so_is_what_leaves_the_policy(tmp_path: Path) -> None:
    learner = learner_of()
    policy = learner.policy
    plain = {k: t.clone() for k, t in policy.model.state_dict().items() if ".lora_" not in k}
    for n in range(3):
        metrics = learner.update(samples(n))
    assert metrics["adapter_norm/persona"] > 0 and metrics["adapter_norm/rest"] > 0
    for name, inside in (("rest", False), ("persona", True)):
        assert_confined(policy, policy.adapters.tensors(name), inside=inside)
        policy.adapters.save(name, tmp_path / name)
        assert_confined(policy, load_file(tmp_path / name / "adapter_model.safetensors"), inside=inside)
    joint = policy.adapters.combined(("rest", "persona")).tensors  # what vLLM gets
    parts = {name: policy.adapters.tensors(name) for name in ("rest", "persona")}
    for key in (key for key in joint if ".lora_B." in key):
        a = key.replace(".lora_B.", ".lora_A.")
        apart = sum(16 / 4 * parts[name][key] @ parts[name][a] for name in parts)
        torch.testing.assert_close(joint[key] @ joint[a], apart)
    expected = sum(float((4.0 * b @ a).norm()) ** 2 for a, b in pairs(policy, "persona")) ** 0.5
    assert metrics["adapter_norm/persona"] == pytest.approx(expected, rel=1e-5)
    policy.deploy()
    assert not policy.adapters.names("quarantine") and len(policy.adapters.confined) == 2
    assert all(torch.equal(policy.model.state_dict()[k], t) for k, t in plain.items())


def pairs(policy: Policy, name: str) -> list[tuple[Tensor, Tensor]]:
    own = [p.detach() for p in policy.adapters.matrices(name)]
    return list(zip(own[::2], own[1::2], strict=True))


def test_projected_steps_are_those_of_a_free_matrix_behind_the_projector() -> None:
    """B = P C, and C is trained: the same products, with AdamW, weight decay and clipping."""
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(8, 3, generator=generator, dtype=torch.float64))[0]
    project = Projection(basis, False)
    first, target = torch.randn(8, 4, generator=generator), torch.randn(8, 4, generator=generator)
    free, bound = nn.Parameter(first.clone()), nn.Parameter(project(first))
    options: dict[str, Any] = {"lr": 0.05, "weight_decay": 0.1}
    one = GatedOptimizer({"kept": [free]}, **options)
    other = GatedOptimizer({"kept": [bound]}, **options, confined={bound: project})
    for _ in range(5):
        for optimizer, product in ((one, lambda: project(free)), (other, lambda: bound)):
            optimizer.clear()
            with optimizer.gated({}):
                (product() - target).square().sum().backward()
            optimizer.norm(0.5)
            optimizer.step()
    torch.testing.assert_close(project(free), bound)
    assert not torch.equal(free, bound)


def test_a_rewind_undoes_the_update_of_the_persona_adapter_alone_bit_for_bit() -> None:
    learner = learner_of(alarm=1e-6, on_alarm="rewind")
    untouched = learner_of()
    own, moments = learner.policy.adapters, learner._optimizer
    start = {name: {k: t.clone() for k, t in own.tensors(name).items()} for name in ("rest", "persona")}
    metrics = learner.update(samples(0))
    assert metrics["norm_alarm/persona"] == 1 and metrics["adapter_norm/persona"] > 1e-6
    assert all(torch.equal(t, start["persona"][k]) for k, t in own.tensors("persona").items())
    assert all(moments.state_of(p) == ({}, None) for p in own.matrices("persona"))
    untouched.update(samples(0))
    rest = untouched.policy.adapters.tensors("rest")
    assert all(torch.equal(t, rest[k]) for k, t in own.tensors("rest").items()), "the rest has learned as without"
    assert any(not torch.equal(t, start["rest"][k]) for k, t in own.tensors("rest").items())


def test_an_alarm_is_recorded_or_stops_the_run_and_below_it_nothing_changes() -> None:
    plain, quiet = learner_of(), learner_of(alarm=1e6, on_alarm="rewind")
    for n in range(2):
        assert "norm_alarm/persona" not in plain.update(samples(n))
        assert quiet.update(samples(n))["norm_alarm/persona"] == 0
    assert all(map(torch.equal, plain.policy.state_dict().values(), quiet.policy.state_dict().values()))
    loud = learner_of(alarm=1e-6)
    assert loud.update(samples(0))["norm_alarm/persona"] == 1
    with pytest.raises(NormAlarmError, match=r"'persona' has a norm of .*, above its alarm of 1e-06"):
        learner_of(alarm=1e-6, on_alarm="stop").update(samples(0))


def test_a_resumed_learner_goes_on_bit_for_bit() -> None:
    whole, first, second = (learner_of(alarm=0.02, on_alarm="rewind") for _ in range(3))
    for n in range(3):
        whole.update(samples(n))
    first.update(samples(0))
    tensors, values = first.state_dict()
    second.load_state_dict({name: t.clone() for name, t in tensors.items()}, values)
    for n in (1, 2):
        second.update(samples(n))
    assert all(map(torch.equal, whole.policy.state_dict().values(), second.policy.state_dict().values()))


def test_it_keeps_the_contract() -> None:
    verdict = check_intervention(lambda: PersonaSubspace(random=True), seeds=1, worlds=("clerk",))
    assert [found.detail for found in verdict.results if not found.ok] == []
    assert verdict.order.violated == 0


def test_without_directions_there_is_nothing_to_confine_to() -> None:
    with pytest.raises(InterventionError, match="names no file of directions; set `random: true`"):
        compose("a", [PersonaSubspace()]).adapters()


@pytest.mark.parametrize(
    ("fields", "told"), [({"random": True, "alarm": 0}, "alarm"), ({"on_alarm": "cry"}, "on_alarm")]
)
def test_bad_settings_are_named(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        PersonaSubspace(**fields)
