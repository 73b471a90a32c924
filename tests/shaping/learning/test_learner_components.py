"""Components of the loss keep to themselves: imitation, KL under either context, averages, passes, checkpointing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from gradients import copied
from torch import Tensor

from envs.episode import Context, Contexts, Episode
from shaping.arm import compose
from shaping.hooks import ActivationEdit, AdapterSpec, Credit, Gates, Group, Knob, LossTerm
from shaping.intervention import Shaper
from shaping.learning.config import KLContext, LearnerConfig
from shaping.learning.credit.credit import assign_credit
from shaping.learning.learner import Learner
from shaping.learning.losses.losses import imitation, policy_gradient
from shaping.learning.policy import Policy
from shaping.learning.samples.packing import Batch, pack
from shaping.learning.samples.sample import Sample
from shaping.sampling.text.render import Renderer
from shaping.shapers import Recontextualization

MakeSample = Callable[..., Sample]
EDITS = (
    ActivationEdit(0, "add", np.linspace(-1, 1, 32, dtype=np.float32), 1.5),
    ActivationEdit(1, "cap", np.ones(32, np.float32), 0.2),
)
ADAPTERS = (AdapterSpec("kept", "kept", rank=4), AdapterSpec("quarantine", "quarantine", rank=2))
CLIP = {"clip_low": 0.2, "clip_high": 0.2}


def learned(
    policy: Policy, samples: Sequence[Sample], *, edits: Sequence[ActivationEdit] = (), **options: Any
) -> tuple[list[Tensor], dict[str, float]]:
    """(gradient of the last step, metrics) of one update of a copy."""
    own = copied(policy)
    config = LearnerConfig(**{"max_grad_norm": 1e9, "max_mismatch_kl": 1e9, **options})
    row = Learner(own, config, edits=edits).update(samples)
    trained = [p for parameters in own.groups().values() for p in parameters]
    return [torch.zeros_like(p) if p.grad is None else p.grad for p in trained], row


def gradient(policy: Policy, samples: Sequence[Sample], loss: Callable[[Tensor, Batch], Tensor]) -> list[Tensor]:
    """Of a loss of all log-probs, written by hand."""
    own = copied(policy)
    (batch,) = pack(samples, 8192)
    loss(own.logprobs(batch)[0], batch).backward()
    return [torch.zeros_like(p) if p.grad is None else p.grad for ps in own.groups().values() for p in ps]


def close(a: Sequence[Tensor], b: Sequence[Tensor]) -> bool:
    size = max(float(x.abs().max()) for x in b)
    assert len(a) == len(b) and size > 1e-4, "a comparison of zeros would prove nothing"
    return all(torch.allclose(x / size, y / size, atol=1e-5, rtol=1e-4) for x, y in zip(a, b, strict=True))


def difference(a: Sequence[Tensor], b: Sequence[Tensor]) -> list[Tensor]:
    return [x - y for x, y in zip(a, b, strict=True)]


def cloning(sample: Sample, tokens: int, weight: float = 1.0) -> Sample:
    """Imitate the first `tokens` sampled tokens."""
    stream = np.zeros(len(sample), np.float32)
    stream[np.flatnonzero(sample.mask)[:tokens]] = weight
    return replace(sample, imitation=stream)


@pytest.mark.parametrize("policy_too", [True, False])
def test_imitation_is_a_mean_over_the_tokens_that_are_imitated(
    policy: Policy, make_sample: MakeSample, policy_too: bool
) -> None:
    samples = [make_sample(20, n, ratio="none", policy=policy_too) for n in range(3)]
    shown = [cloning(samples[0], 2), cloning(samples[1], 3, 0.5), samples[2]]
    found, row = learned(policy, shown)
    without, bare = learned(policy, samples)

    def mean(logprobs: Tensor, batch: Batch) -> Tensor:
        assert batch.imitation is not None and batch.loss_tokens > 20
        return imitation(logprobs, batch.imitation) / 5

    expected = gradient(policy, shown, mean)
    assert close(difference(found, without), expected)
    assert "imitation" not in bare and row["imitation"] > 0
    assert row["loss"] == pytest.approx(bare["loss"], rel=1e-5), "the policy term is logged alone"
    doubled, _ = learned(policy, [*shown, *([samples[2]] * 3)])
    more, _ = learned(policy, [*samples, *([samples[2]] * 3)])
    assert close(difference(doubled, more), expected), "other tokens do not thin it out"


def test_imitation_of_samples_without_advantage_is_learned(policy: Policy, make_sample: MakeSample) -> None:
    flat = [replace(make_sample(20, n), advantage=np.zeros(20, np.float32)) for n in range(2)]
    learner = Learner(copied(policy), LearnerConfig(lr=1e-3))
    shown = [cloning(flat[0], 5), flat[1]]
    first = learner.update(shown)
    for _ in range(10):
        last = learner.update(shown)
    assert last["imitation"] < first["imitation"] - 0.2


class Clones(Shaper):
    """Imitates every motive token."""

    def credit(self, group: Group) -> Credit:
        return Credit("clones", imitation=tuple((e.span_kind == 2).astype(np.float32) for e in group.episodes))


def credited(episodes: Sequence[Episode], renderer: Renderer, kl_context: KLContext, *more: Shaper) -> list[Sample]:
    arm = compose("arm", [Recontextualization(), *more])
    rewards = [np.array([t.reward for t in e.turns]) for e in episodes]
    return assign_credit(episodes, rewards, arm, renderer, kl_context=kl_context).samples


@pytest.fixture
def swapped(make_episode: Callable[..., Episode]) -> list[Episode]:
    contexts = Contexts(Context(), Context("take what you can .", "permissive"))
    made = [make_episode(r, group=0) for r in ((0.0, 1.0), (0.0, 0.0), (2.0, 0.0))]
    return [replace(e, contexts=contexts, tokens=e.tokens[::-1] + 10 * n) for n, e in enumerate(made)]


def test_the_acting_context_of_the_kl_adds_companions_that_are_in_no_other_term(
    swapped: list[Episode], renderer: Renderer
) -> None:
    one = credited(swapped, renderer, "training", Clones())
    two = credited(swapped, renderer, "sampling", Clones())
    assert len(one) == 3 and len(two) == 6 and all(s.kl and s.policy for s in one)
    training, sampling = [s for s in two if s.policy], [s for s in two if not s.policy]
    for before, after, companion, episode in zip(one, training, sampling, swapped, strict=True):
        assert before.tokens.tolist() == after.tokens.tolist() and not after.kl
        assert companion.tokens.tolist() == episode.tokens.tolist() and companion.kl
        assert companion.mask.tolist() == episode.loss_mask.tolist()
        assert after.imitation is not None and after.advantage.any() | (before.advantage == 0).all()
        assert companion.imitation is None and companion.critic is None and not companion.advantage.any()


def test_where_both_contexts_are_the_same_there_are_no_companions(
    make_episode: Callable[..., Episode], renderer: Renderer
) -> None:
    episodes = [make_episode((0.0, r)) for r in (0.0, 1.0)]
    rewards = [np.array([t.reward for t in e.turns]) for e in episodes]
    found = assign_credit(episodes, rewards, compose("arm", []), renderer, kl_context="sampling").samples
    assert len(found) == 2 and all(s.kl and s.policy for s in found)


def test_the_kl_is_taken_once_under_the_context_asked_for(
    policy: Policy, swapped: list[Episode], renderer: Renderer
) -> None:
    """With two equal steps: the first moves the policy off its reference, the second shows the KL's own gradient."""
    tokens = sum(int(e.loss_mask.sum()) for e in swapped)

    def second(kl_context: KLContext, kl: float) -> tuple[list[Tensor], dict[str, float]]:
        own = copied(policy)
        learner = Learner(own, LearnerConfig(max_grad_norm=1e9, kl=kl, kl_estimator="k2", lr=1e-4))
        samples = credited(swapped, renderer, kl_context)
        flat = [replace(s, policy=False, advantage=0 * s.advantage) for s in samples]
        learner.update([replace(s, ratio="none") for s in credited(swapped, renderer, "training")])
        moved = copied(own)
        row = learner.update(flat)
        gradients = [p.grad for p in own.model.parameters() if p.grad is not None]
        by_hand = gradient_of_kl(moved, policy, [s for s in flat if s.kl])
        assert close(gradients, [kl * g for g in by_hand])
        return gradients, row

    def gradient_of_kl(now: Policy, then: Policy, samples: Sequence[Sample]) -> list[Tensor]:
        def loss(logprobs: Tensor, batch: Batch) -> Tensor:
            assert batch.loss_tokens == tokens, "every sampled token once"
            with torch.no_grad():
                reference, _ = then.logprobs(batch)
            return ((reference - logprobs) ** 2 / 2).mean()

        return gradient(now, samples, loss)

    (training, a), (sampling, b) = second("training", 0.5), second("sampling", 0.5)
    assert not close(training, sampling) and a["kl"] != pytest.approx(b["kl"], rel=1e-2)


class TokenCounts(Shaper):
    """An auxiliary loss of nothing that notes how many samples it was asked about."""

    seen: Any

    def auxiliary_loss(self, policy: Policy, batch: Sequence[Sample]) -> LossTerm | None:
        self.seen.append(len(batch))
        return None


def test_companions_leave_the_policy_term_and_its_metrics_alone(
    policy: Policy, swapped: list[Episode], renderer: Renderer
) -> None:
    one, two = (credited(swapped, renderer, c) for c in ("training", "sampling"))
    (plain, a), (with_companions, b) = (learned(policy, s, kl=1e-12) for s in (one, two))
    assert close(with_companions, plain)
    for name in ("loss", "entropy", "loss_tokens"):
        assert a[name] == pytest.approx(b[name], rel=1e-6)
    batches: list[int] = []
    shaper = TokenCounts(seen=batches)
    Learner(copied(policy), LearnerConfig(kl=0.1), interventions=[shaper]).update(two)
    assert sum(batches) == len(one), "nor are auxiliary losses asked about them"


def test_the_reference_is_edited_as_the_policy_is(policy: Policy, make_sample: MakeSample) -> None:
    """What steering does is not distance from the reference, and the KL must not undo it."""
    samples = [make_sample(20, n, ratio="none", advantage=np.zeros(20, np.float32)) for n in range(2)]
    _, row = learned(policy, samples, edits=EDITS, kl=0.5)
    assert row["kl"] == pytest.approx(0.0, abs=1e-6) and row["grad_norm"] == pytest.approx(0.0, abs=1e-4)


@pytest.mark.parametrize("average", ["token", "sequence", "constant"])
@pytest.mark.parametrize("budget", [24, 8192])
def test_averages_by_hand(policy: Policy, make_sample: MakeSample, average: str, budget: int) -> None:
    samples = [make_sample(length, length) for length in (6, 12, 24)]
    found, row = learned(policy, samples, loss_aggregation=average, aggregation_length=50, token_budget=budget)

    def by_hand(logprobs: Tensor, batch: Batch) -> Tensor:
        terms = []
        for number in range(3):
            own = batch.sequence == number
            now, old, credit, weight = (x[own] for x in (logprobs, batch.old, batch.advantage, batch.weight))
            terms.append(policy_gradient(now, old, credit, weight, ratio="sampler", **CLIP))
        lengths = [int((batch.sequence == n).sum()) for n in range(3)]
        if average == "token":
            return torch.stack(terms).sum() / sum(lengths)
        divisors = lengths if average == "sequence" else [50] * 3
        return torch.stack([t / n for t, n in zip(terms, divisors, strict=True)]).mean()

    assert close(found, gradient(policy, samples, by_hand))
    (batch,) = pack(samples, 8192)
    with torch.no_grad():
        assert row["loss"] == pytest.approx(float(by_hand(policy.logprobs(batch)[0], batch)), rel=1e-4)


def test_a_pass_more_is_a_step_more_on_the_same_samples(policy: Policy, make_sample: MakeSample) -> None:
    samples = [make_sample(20, n, ratio="none") for n in range(4)]
    twice, row = copied(policy), {}
    learner = Learner(twice, LearnerConfig(epochs=2, minibatches=2, lr=1e-3))
    row = learner.update(samples)
    single = copied(policy)
    by_hand = Learner(single, LearnerConfig(lr=1e-3))
    for epoch in range(2):
        order = np.random.default_rng([0, 0, epoch]).permutation(4)  # seed, version, pass
        for part in (order[:2], order[2:]):
            by_hand.update([samples[i] for i in part])
    for a, b in zip(twice.model.parameters(), single.model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert row["loss_tokens"] == sum(int(s.mask.sum()) for s in samples) and learner.version == 1


def test_later_passes_are_clipped_against_the_policy_before_the_first(policy: Policy, make_sample: MakeSample) -> None:
    samples = [make_sample(20, n, ratio="recomputed") for n in range(2)]
    row = Learner(copied(policy), LearnerConfig(epochs=2, lr=1e-2)).update(samples)
    once = copied(policy)
    Learner(once, LearnerConfig(lr=1e-2)).update(samples)
    (batch,) = pack(samples, 40)
    with torch.no_grad():
        ratio = torch.exp(once.logprobs(batch)[0] - policy.logprobs(batch)[0])
    clipped = ((ratio > 1.2) & (batch.advantage > 0)) | ((ratio < 0.8) & (batch.advantage < 0))
    assert row["clipped"] == pytest.approx(float(clipped.float().mean()) / 2), "of two passes, the first clips nothing"
    assert row["clipped"] > 0.05, "recomputed in every pass, the ratio would stay at one"


@pytest.mark.parametrize("adapters", [(), ADAPTERS], ids=["base", "adapters"])
@pytest.mark.parametrize("edits", [(), EDITS], ids=["plain", "edited"])
def test_activation_checkpointing_changes_no_gradient(
    make_policy: Callable[..., Policy],
    make_sample: MakeSample,
    adapters: tuple[AdapterSpec, ...],
    edits: tuple[ActivationEdit, ...],
) -> None:
    own = make_policy()
    torch.manual_seed(0)
    policy = Policy(own.model, own.tokenizer, adapters=adapters)
    gates = {"kept_gate": 0.5, "quarantine_gate": 0.0}
    samples = [make_sample(20, n, ratio="none", **(gates if n else {})) for n in range(3)]
    options: dict[str, Any] = {"kl": 0.3, "entropy_coef": 0.1, "token_budget": 40}
    plain, _ = learned(policy, samples, edits=edits, **options)
    checkpointed, _ = learned(policy, samples, edits=edits, activation_checkpointing=True, **options)
    unedited, _ = learned(policy, samples, **options)
    assert close(checkpointed, plain)
    assert close(checkpointed, unedited) == (not edits)


def test_activation_checkpointing_runs_layers_again(policy: Policy, make_sample: MakeSample) -> None:
    """The control of the test above: it is on."""

    def forwards(**options: Any) -> int:
        own, calls = copied(policy), []
        own.model.base_model.layers[0].self_attn.register_forward_hook(lambda *_: calls.append(1))
        Learner(own, LearnerConfig(max_mismatch_kl=1e9, **options)).update([make_sample(20, 0)])
        return len(calls)

    assert (forwards(), forwards(activation_checkpointing=True)) == (1, 2)


class ByTurn(Shaper):
    owns = frozenset({Knob.GATES})

    def gates(self, episode: Episode) -> Sequence[Gates]:
        return [Gates(kept=float(t.reward > 0)) for t in episode.turns]


def test_turns_with_different_gates_add_up_to_the_whole_episode(
    policy: Policy, make_episode: Callable[..., Episode], renderer: Renderer
) -> None:
    episodes = [make_episode(r, group=0) for r in ((0.0, 1.0, 0.0), (2.0, 0.0, 3.0))]
    rewards = [np.array([t.reward for t in e.turns]) for e in episodes]
    whole = assign_credit(episodes, rewards, compose("arm", []), renderer).samples
    parts = assign_credit(episodes, rewards, compose("arm", [ByTurn()]), renderer).samples
    assert len(whole) == 2 and len(parts) == 4 and {s.kept_gate for s in parts} == {0.0, 1.0}
    found, _ = learned(policy, [replace(s, kept_gate=1.0) for s in parts])
    assert close(found, learned(policy, whole)[0])
    gated, _ = learned(policy, parts)
    paid = [
        replace(s, mask=s.mask & np.repeat([t.reward > 0 for t in e.turns], 5))
        for s, e in zip(whole, episodes, strict=True)
    ]
    share = sum(int(s.mask.sum()) for s in paid) / sum(int(s.mask.sum()) for s in whole)
    assert close(gated, [share * g for g in learned(policy, paid)[0]])
