"""Hidden states that plug-ins asked for are those of a plain forward pass, however the learner computes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from envs.episode import SpanKind
from shaping.arm import captures_of
from shaping.hooks import ActivationEdit, Activations, AdapterSpec, Capture, InterventionError, LossTerm
from shaping.intervention import Shaper
from shaping.learning.config import LearnerConfig
from shaping.learning.credit.credit import Credited
from shaping.learning.learner import Learner
from shaping.learning.policy import Policy
from shaping.learning.samples.sample import Origin, Sample
from shaping.learning.update_report import update_report
from shaping.models.edits import applied, decoder_layers
from shaping.models.forward import layout_of
from shaping.models.shared_prefix import SharedPrefixes

MakeSample = Callable[..., Sample]
MakePolicy = Callable[..., Policy]
EDIT = ActivationEdit(0, "add", np.linspace(-1, 1, 32, dtype=np.float32), 1.5)
KEPT = AdapterSpec("kept", "kept", rank=4)


class Sees(Shaper):
    """Looks at layers, and pulls what it sees towards zero."""

    weight: float = 0.0
    layers: tuple[int, ...] = (0, -1)
    positions: Any = "response"

    def captures(self) -> Sequence[Capture]:
        return [Capture("seen", self.layers, self.positions)]

    def auxiliary_loss(self, policy: Policy, batch: Sequence[Sample]) -> LossTerm | None:
        seen = policy.captured["seen"]
        assert len(seen.states) == len(seen.sample) == len(seen.position) == len(seen.turn)
        assert all(batch[s].mask[p] for s, p in zip(seen.sample, seen.position, strict=True))
        return LossTerm("small", (seen.states**2).sum(), self.weight)


def plain_states(policy: Policy, sample: Sample, layer: int, edits: Sequence[ActivationEdit] = ()) -> Tensor:
    """The output of a layer [tokens, hidden] for one sequence, as the model itself computes it."""
    found: list[Tensor] = []
    with policy.phase("training"), applied(policy.model, edits):
        handle = decoder_layers(policy.model)[layer].register_forward_hook(
            lambda _module, _args, out: found.append(out[0] if isinstance(out, tuple) else out)
        )
        policy.model(torch.tensor(sample.tokens)[None], use_cache=False)
        handle.remove()
    return found[0][0]


def in_turns(sample: Sample, episode: int) -> Sample:
    """Two turns of half of the tokens; the first third of each turn's are its motive."""
    half = len(sample) // 2
    turn = np.repeat([0, 1], [half, len(sample) - half]).astype(np.int16)
    within = np.arange(len(sample)) - half * turn
    kind = np.where(within < half // 3, SpanKind.MOTIVE, SpanKind.ACTION).astype(np.int8)
    mask = sample.mask.copy()
    mask[[half - 1, half]] = False, True
    return replace(sample, mask=mask, origin=Origin(episode, turn, kind))


@pytest.mark.parametrize("how", ["packed", "padded", "prefixes", "adapters", "checkpointing"])
def test_states_and_their_gradients_are_those_of_a_plain_pass(
    how: str, make_policy: MakePolicy, make_sample: MakeSample
) -> None:
    policy = make_policy()
    if how == "adapters":
        policy = Policy(policy.model, policy.tokenizer, adapters=[KEPT])
    if how == "padded":
        policy.model._shaping_layout = replace(layout_of(policy.model), packed=False, shares=False)
        policy.model.set_attn_implementation("eager")
    same = np.random.default_rng(0).integers(0, 250, 12)
    samples = [in_turns(make_sample(n, i), i) for i, n in enumerate((36, 42, 39))]
    if how == "prefixes":
        samples = [
            replace(s, tokens=np.concatenate([same, s.tokens[12:]]), mask=s.mask & (np.arange(len(s)) >= 12))
            for s in samples
        ]
    config = LearnerConfig(token_budget=120, lr=1e-6, activation_checkpointing=how == "checkpointing")
    expected = {(i, t): [] for i in range(3) for t in (0, 1)}
    for i, sample in enumerate(samples):
        states = [plain_states(policy, sample, layer, [EDIT]).detach() for layer in (0, 1)]
        for turn in (0, 1):
            own = torch.from_numpy(sample.mask & (sample.origin.turn == turn))
            expected[i, turn] = torch.stack([s[own].mean(0) for s in states]).numpy()
    learner = Learner(policy, config, interventions=[Sees()], edits=[EDIT])
    assert isinstance(learner._packed(samples)[0].plan, SharedPrefixes) == (how == "prefixes")
    learner.update(samples)
    found = learner.activations["seen"]
    assert found.layers == (0, 1) and set(found.turns) == set(expected)
    for key, mean in found.turns.items():
        np.testing.assert_allclose(mean, expected[key], rtol=1e-5, atol=1e-5)
    assert found.of(1, 3).shape == (3, 2, 32) and np.isnan(found.of(1, 3)[2]).all()


def test_an_auxiliary_loss_trains_through_captured_states(make_policy: MakePolicy, make_sample: MakeSample) -> None:
    """Its gradient is that of the same loss on a plain pass."""
    samples = [in_turns(make_sample(20 + i, i), i) for i in range(3)]
    gradients = []
    for checkpointing in (False, True):
        policy = make_policy()
        config = LearnerConfig(token_budget=50, activation_checkpointing=checkpointing, max_grad_norm=1e9)
        learner = Learner(policy, config, interventions=[Sees(weight=0.5, layers=(0,))])
        silent = [replace(s, advantage=np.zeros_like(s.advantage)) for s in samples]
        learner._optimizer.step = lambda: None  # type: ignore[method-assign]
        learner.update(silent)
        weight = policy.model.model.layers[0].mlp.down_proj.weight
        gradients.append(learner._optimizer._sums[weight].clone())
        policy.model.gradient_checkpointing_disable()
        policy.model.zero_grad()
        total = sum((plain_states(policy, s, 0)[torch.from_numpy(s.mask.copy())] ** 2).sum() for s in samples) / sum(
            int(s.mask[1:].sum()) for s in samples
        )
        (0.5 * total).backward()
        torch.testing.assert_close(gradients[-1], weight.grad, rtol=1e-4, atol=1e-5)


def test_positions_are_those_of_the_turn(make_policy: MakePolicy, make_sample: MakeSample) -> None:
    sample, policy = in_turns(make_sample(24, 3), 0), make_policy()
    states = plain_states(policy, sample, 1).detach()
    for positions, chosen in {
        "motive": lambda turn: sample.mask & (sample.origin.kind == SpanKind.MOTIVE) & (sample.origin.turn == turn),
        "action": lambda turn: sample.mask & (sample.origin.kind == SpanKind.ACTION) & (sample.origin.turn == turn),
    }.items():
        learner = Learner(make_policy(), LearnerConfig(lr=1e-6), interventions=[Sees(layers=(1,), positions=positions)])
        learner.update([sample])
        for turn in (0, 1):
            mean = learner.activations["seen"].turns[0, turn][0]
            np.testing.assert_allclose(mean, states[torch.from_numpy(chosen(turn))].mean(0), rtol=1e-5, atol=1e-5)


def test_what_cannot_be_captured_is_refused_at_the_start(make_policy: MakePolicy) -> None:
    class Twice(Sees):
        pass

    with pytest.raises(InterventionError, match=r"'seen': layer 2, but LlamaForCausalLM has 2 layers: 0 to 1, or -2"):
        Learner(make_policy(), LearnerConfig(), interventions=[Sees(layers=(2,))])
    with pytest.raises(InterventionError, match=r"Sees and Twice capture different states under the name 'seen'"):
        captures_of([Sees(), Twice(layers=(1,))], "training")
    assert len(captures_of([Sees(), Twice()], "training")) == 1 and captures_of([Sees()], "sampling") == []
    for wrong, why in (
        ({"layers": ()}, "at least one"),
        ({"layers": (0.5,)}, "whole numbers"),
        ({"positions": "end"}, "choose one of response, motive, action, prompt_end"),
        ({"phase": "deploy"}, "choose one of sampling, training"),
        ({"name": ""}, "has a name"),
    ):
        with pytest.raises(InterventionError, match=why):
            Capture(**{"name": "x", **wrong})


def test_a_learner_that_captures_trains_bit_for_bit_like_one_that_does_not(
    make_policy: MakePolicy, make_sample: MakeSample
) -> None:
    class Watches(Shaper):
        def captures(self) -> Sequence[Capture]:
            return [Capture("all", "all"), Capture("ends", (0,), "prompt_end")]

    states = []
    for shapers in ([], [Watches()]):
        learner = Learner(make_policy(), LearnerConfig(token_budget=60, lr=1e-3), interventions=shapers)
        learner.update([in_turns(make_sample(25, i), i) for i in range(4)])
        states.append(learner.state_dict()[0])
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_a_report_numbers_states_by_its_own_episodes_also_where_some_were_screened_out(make_episode: Any) -> None:
    episodes = [make_episode(group=group, seed=number) for number, group in enumerate((1, 0, 1, 0))]
    zeros, groups = np.zeros(4), np.array([1, 0, 1, 0])
    kept = np.array([True, False, True, True])
    credited = Credited([], zeros, zeros, zeros, zeros, groups, kept=kept)
    states = {(n, 0): np.full((1, 2), n, np.float32) for n in range(3)}
    report = update_report(0, episodes, credited, {}, {"seen": Activations((0,), states)})
    shown = [episode for group in report.groups for episode in group.episodes]
    found = {shown[place].seed: int(mean[0, 0]) for (place, _), mean in report.activations["seen"].turns.items()}
    assert found == {0: 0, 2: 1, 3: 2}
