"""What a learner is made of: state that continues bit for bit, float32 masters, and a policy that the engine shares."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from shaping.hooks import ActivationEdit, AdapterSpec
from shaping.learning.config import LearnerConfig
from shaping.learning.learner import Learner, LearnerError
from shaping.learning.policy import Policy, PolicyError
from shaping.learning.ranks.parallel import SINGLE
from shaping.learning.samples.packing import pack
from shaping.learning.samples.sample import CriticTargets, Sample
from shaping.learning.steps.optimizer import GatedOptimizer
from shaping.sampling.embedded.transformers_engine import TransformersEngine
from shaping.sampling.engine import Completion, SamplingParams, Session
from shaping.sampling.text.render import Renderer

MakePolicy = Callable[..., Policy]
MakeSample = Callable[..., Sample]
ADAPTERS = (
    AdapterSpec("kept", "kept", rank=4),
    AdapterSpec("quarantine", "quarantine", rank=2),
    AdapterSpec("trait", "frozen", rank=2),
)
PPO: dict[str, Any] = {"algorithm": "ppo", "advantage_level": "token", "critic": {"warmup": 1}}


def samples(make_sample: MakeSample, update: int) -> list[Sample]:
    """With every stream, and gates."""
    found = []
    for n in range(4):
        sample = make_sample(16, 10 * update + n, ratio=("sampler", "recomputed", "none", "none")[n])
        rng = np.random.default_rng(10 * update + n)
        old, targets = rng.normal(size=(2, 16, 2)).astype(np.float32)
        kept, quarantine = ((1.0, 1.0), (0.5, 0.0), (0.0, 1.0), (1.0, 0.3))[n]
        critic = CriticTargets(0.1 * old, 2.0 + 3.0 * targets, sample.mask)
        found.append(replace(sample, critic=critic, imitation=sample.mask.astype(np.float32)))
        found[-1] = replace(found[-1], kept_gate=kept, quarantine_gate=quarantine)
    return found


CASES: dict[str, tuple[dict[str, Any], dict[str, Any], torch.dtype]] = {
    "base": ({"kl": 0.1, "epochs": 2, "minibatches": 2}, {}, torch.float32),
    "adapters": ({"kl": 0.1, "weight_decay": 0.01, **PPO}, {"adapters": ADAPTERS, "critics": 2}, torch.float32),
    "quarantine": ({"kl": 0.1, **PPO}, {"adapters": ADAPTERS[1:], "critics": 2}, torch.float32),
    "bfloat16": ({"kl": 0.1, "dtype": "bfloat16", **PPO}, {"critics": 2}, torch.bfloat16),
    "rounded": (
        {"kl": 0.1, "dtype": "bfloat16", "optimizer_states": "bfloat16", **PPO},
        {"adapters": ADAPTERS[1:], "critics": 2},
        torch.bfloat16,
    ),
}


def make_learner(make_policy: MakePolicy, case: str, seed: int) -> Learner:
    options, parts, dtype = CASES[case]
    own = make_policy()
    own.model.to(dtype)
    torch.manual_seed(seed)  # adapters start at random: a resumed run must not depend on where it started
    policy = Policy(own.model, own.tokenizer, **parts)
    return Learner(policy, LearnerConfig(lr=1e-2, max_mismatch_kl=1e9, **options))


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[n], b[n]) and a[n].dtype == b[n].dtype for n in a)


@pytest.mark.parametrize("case", CASES)
def test_a_restored_learner_continues_bit_for_bit(
    make_policy: MakePolicy, make_sample: MakeSample, case: str, tmp_path: Path
) -> None:
    through = make_learner(make_policy, case, 0)
    for update in range(3):
        through.update(samples(make_sample, update))
    tensors, values = through.state_dict()
    save_file(tensors, tmp_path / "state.safetensors")
    stored = json.dumps(values)
    kinds = {name.partition(".")[0] for name in tensors}
    assert kinds == {"policy", "optimizer"} | (set() if case == "adapters" else {"reference"})
    assert any(n.startswith("policy.value_head.") for n in tensors) == (case != "base")
    assert any(n.endswith(".master") for n in tensors) == (case == "bfloat16")

    resumed = make_learner(make_policy, case, 1)
    if case in ("adapters", "quarantine"):
        assert not equal(resumed.policy.state_dict(), make_learner(make_policy, case, 0).policy.state_dict())
    resumed.update(samples(make_sample, 99))  # whatever was there before is replaced
    resumed.load_state_dict(load_file(tmp_path / "state.safetensors"), json.loads(stored))
    assert resumed.version == 3
    assert equal(resumed.state_dict()[0], tensors) and resumed.state_dict()[1] == values
    for update in range(3, 6):
        rows = [learner.update(samples(make_sample, update)) for learner in (through, resumed)]
        assert rows[0] == rows[1] and rows[0]["kl"] > 0
    assert equal(resumed.state_dict()[0], through.state_dict()[0])
    assert resumed.state_dict()[1] == through.state_dict()[1]
    probe = pack([make_sample(20, 7)], 20)[0]
    assert torch.equal(*(learner.policy.logprobs(probe)[0].detach() for learner in (through, resumed)))


def test_a_state_is_a_copy_and_counts_bad_steps(make_policy: MakePolicy, make_sample: MakeSample) -> None:
    learner = make_learner(make_policy, "base", 0)
    learner.update(samples(make_sample, 0))
    tensors, values = learner.state_dict()
    before = {n: t.clone() for n, t in tensors.items()}
    broken = [replace(s, advantage=np.full(16, np.nan, np.float32)) for s in samples(make_sample, 1)]
    for _ in range(2):
        learner.update(broken)
    learner.update(samples(make_sample, 1))
    assert equal(tensors, before)
    learner.load_state_dict(tensors, {**values, "bad_steps": 2})
    with pytest.raises(LearnerError, match="3 times in a row"):
        learner.update(broken)


def test_a_state_of_another_policy_is_refused_and_nothing_is_loaded(make_policy: MakePolicy) -> None:
    tensors, values = make_learner(make_policy, "adapters", 0).state_dict()
    for case, odd in (("base", "lora_A.*missing here"), ("quarantine", "lora_A.kept.*missing here")):
        other = make_learner(make_policy, case, 1)
        before = other.state_dict()[0]
        with pytest.raises(PolicyError, match=f"the state does not fit this policy: .*({odd}|missing in the state)"):
            other.load_state_dict(tensors, values)
        assert equal(other.state_dict()[0], before)
    own = make_policy()
    lacking = Learner(Policy(own.model, own.tokenizer, critics=1), LearnerConfig())
    with pytest.raises(PolicyError, match=r"value_head.* is \(1,?\) here and \(2,?\) in the state"):
        lacking.load_state_dict(*make_learner(make_policy, "bfloat16", 0).state_dict())
    with pytest.raises(PolicyError, match=r"value_head.* is missing here"):
        Learner(make_policy(), LearnerConfig()).load_state_dict(*lacking.state_dict())


def test_steps_below_the_resolution_of_bfloat16_add_up() -> None:
    def after(masters: bool) -> Tensor:
        weight = nn.Parameter(torch.ones(64, dtype=torch.bfloat16))
        if masters:
            optimizer = GatedOptimizer({"kept": [weight]}, lr=1e-4)
            for _ in range(200):
                with optimizer.gated({}):
                    weight.sum().backward()
                optimizer.norm(1e9)
                optimizer.step()
                optimizer.clear()
        else:
            adam = torch.optim.AdamW([weight], lr=1e-4, weight_decay=0.0)
            for _ in range(200):
                adam.zero_grad()
                weight.sum().backward()
                adam.step()
        return weight.detach().float()

    assert torch.equal(after(masters=False), torch.ones(64)), "the control: each step alone is rounded away"
    torch.testing.assert_close(after(masters=True), torch.full((64,), 0.98), atol=0.003, rtol=0)


def test_a_bfloat16_policy_learns_with_tiny_steps(make_policy: MakePolicy, make_sample: MakeSample) -> None:
    policy = make_policy()
    policy.model.to(torch.bfloat16)
    start = {n: p.detach().clone() for n, p in policy.model.named_parameters()}
    learner = Learner(policy, LearnerConfig(lr=2e-6, dtype="bfloat16"))
    batch = [make_sample(16, 0, ratio="none")]

    def moved() -> float:
        changed = [int((p != start[n]).sum()) for n, p in policy.model.named_parameters()]
        return sum(changed) / sum(p.numel() for p in start.values())

    learner.update(batch)
    first = moved()
    for _ in range(199):
        learner.update(batch)
    assert first < 0.02 and moved() > 0.1
    assert {p.dtype for p in policy.model.parameters()} == {torch.bfloat16}
    masters = {n: t for n, t in learner.state_dict()[0].items() if n.endswith(".master")}
    assert {t.dtype for t in masters.values()} == {torch.float32} and len(masters) == len(start)
    for number, parameter in enumerate(learner.policy.groups()["kept"]):
        assert torch.equal(parameter, masters[f"optimizer.{number}.master"].to(torch.bfloat16))


def test_gradients_of_bfloat16_weights_are_summed_in_float32() -> None:
    weight = nn.Parameter(torch.ones(1, dtype=torch.bfloat16))
    optimizer = GatedOptimizer({"kept": [weight]}, lr=1e-4)
    for _ in range(1000):
        with optimizer.gated({"kept": 0.5}):
            weight.sum().backward()
    assert optimizer.gradients()[weight].item() == 500.0, "bfloat16 would stop at 256 halves"


@pytest.mark.parametrize("scale", [0.3, -0.5])
def test_capped_activations_are_the_same_where_tokens_are_sampled_and_learned(
    make_policy: MakePolicy, scale: float
) -> None:
    policy = make_policy()
    renderer = Renderer(policy.tokenizer)
    caps = tuple(ActivationEdit(n, "cap", np.linspace(-1, 1, 32, dtype=np.float32), scale) for n in (0, 1))
    engine = TransformersEngine(policy.model, renderer, slots=4)
    prompts = [renderer.open("", text) for text in ("turn 1 / 4 .", "did you use grab ?", "wait")]

    def sampled(edits: Sequence[ActivationEdit]) -> list[Completion]:
        async def all_of_them() -> list[Completion]:
            sessions = [Session(n, None) for n in range(len(prompts))]  # type: ignore[arg-type]
            for session in sessions:
                engine.open(session)
            try:
                params = [SamplingParams(max_tokens=12, seed=n) for n in range(len(prompts))]
                jobs = zip(sessions, prompts, params, strict=True)
                return await asyncio.gather(*(engine.complete(s, p, q) for s, p, q in jobs))
            finally:
                for session in sessions:
                    engine.close(session)

        engine.set_edits(edits)
        return asyncio.run(all_of_them())

    found = sampled(caps)
    learned, unedited = [], []
    for prompt, completion in zip(prompts, found, strict=True):
        tokens = np.array([*prompt, *completion.tokens], np.int64)
        mask, none = np.arange(len(tokens)) >= len(prompt), np.zeros(len(tokens), np.float32)
        old = none.copy()
        old[mask] = completion.logprobs
        sample = Sample(tokens, mask, old, mask * np.float32(1), mask * np.float32(1), np.zeros((0, 2), np.int64))
        learned.append(sample)
        with torch.no_grad():
            own = policy.logprobs(pack([sample], 99)[0], caps)[0].numpy()
            unedited.append(np.abs(policy.logprobs(pack([sample], 99)[0])[0].numpy() - completion.logprobs).max())
        np.testing.assert_allclose(own, completion.logprobs, atol=1e-4)
    assert max(unedited) > 0.05, "the control: the caps bind"
    assert Learner(copy.deepcopy(policy), LearnerConfig(), edits=caps).update(learned)["mismatch_kl"] < 1e-6
    with pytest.raises(LearnerError, match="do not hold the same policy, mask or edits"):
        Learner(copy.deepcopy(policy), LearnerConfig(max_mismatch_kl=1e-4)).update(learned)


def test_an_engine_that_shares_a_checkpointed_model_samples_as_before(
    make_policy: MakePolicy, make_sample: MakeSample
) -> None:
    """The learner leaves the module in training mode, in which layers are checkpointed: sampling must not notice."""
    policy = make_policy()
    renderer = Renderer(policy.tokenizer)
    plain, batch = make_policy(), [make_sample(16, 0, ratio="none")]

    def sampled(own: Policy, **options: Any) -> Completion:
        Learner(own, LearnerConfig(**options)).update(batch)
        engine = TransformersEngine(own.model, renderer, slots=1)
        session = Session(0, None)  # type: ignore[arg-type]
        engine.open(session)
        return asyncio.run(engine.complete(session, renderer.open("", "wait"), SamplingParams(max_tokens=12, seed=3)))

    found, expected = sampled(policy, activation_checkpointing=True), sampled(plain)
    assert found.tokens.tolist() == expected.tokens.tolist()
    np.testing.assert_allclose(found.logprobs, expected.logprobs, atol=1e-4)


def test_one_process_alone_has_adapters_and_critic_where_its_policy_is(make_policy: Callable[..., Policy]) -> None:
    plain = make_policy()
    adapters = [AdapterSpec("kept", "kept", rank=2, alpha=4.0)]
    policy = Policy(plain.model, plain.tokenizer, adapters=adapters, critics=1)
    policy.model.to("meta")  # stands for a GPU: what a process alone has stays on it
    assert policy.value_head is not None
    policy.value_head.to("meta")
    policy.distribute(SINGLE)
    tensors = [*policy.model.parameters(), *policy.value_head.parameters(), *policy.value_head.buffers()]
    assert {tensor.device.type for tensor in tensors} == {"meta"}
