"""Arms with motives and contexts of single episodes, in the loop: what is played, learned, logged and resumed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from launch.config.loading import parse_study
from launch.run.build import Parts, build
from launch.train import Updated, update

WORLD = {"controller_worlds:Vowels": {}}


def built(model: Path, *interventions: Any, **learner: Any) -> Parts:
    document = {
        "name": "small",
        "seeds": 1,
        "train": {"worlds": WORLD, "updates": 3, "groups": 2, "group_size": 4, "max_tokens": 8},
        "eval": {"worlds": WORLD, "episodes": 1},
        "learner": learner,
        "arms": {
            "unshaped": {"role": "reference"},
            "arm": {"role": "treatment", "interventions": list(interventions) or ["Identity"]},
        },
    }
    (run,) = [run for run in parse_study(document, "test").runs() if run.arm == "arm"]
    return build(run, model)


def weights(parts: Parts) -> dict[str, torch.Tensor]:
    found = parts.trainer.learner.state_dict()[0]
    return {name: tensor for name, tensor in found.items() if name.startswith("policy.")}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a.keys() | b.keys())


def updates(parts: Parts, numbers: Sequence[int]) -> list[Updated]:
    return [update(parts.trainer, number) for number in numbers]


PROPOSAL = {"use": "MotiveProposal", "loss": "importance", "rate": 0.5}
STRIPPED = {"use": "SelfNarration", "loss": "stripped"}


def test_a_proposal_is_played_weighted_adapted_and_resumed(model: Path, tmp_path: Path) -> None:
    parts = built(model, PROPOSAL, kl=0.1)
    first, second = updates(parts, (0,)), None
    tensors, values = parts.trainer.state_in(tmp_path)
    assert set(values["arm"]["0.MotiveProposal"]["values"]) <= {"prosocial", "task_pride", "neutral", "score_seeking"}
    assert values["arm"]["0.MotiveProposal"]["values"], "the bandit has learned"
    second = updates(parts, (1,))[0]
    forced = {turn.forced.name for done in (*first, second) for e in done.episodes for turn in e.turns}
    assert "" not in forced and len(forced) > 1
    assert {"proposal_weight", "forced_logprob", "readings/motive_proposal/motive/prosocial"} <= set(first[0].row)
    assert first[0].row["mismatch_kl"] < 1e-6
    again = built(model, PROPOSAL, kl=0.1)
    again.trainer.restore(tensors, values, tmp_path)
    repeated = updates(again, (1,))[0]
    assert dict(repeated.row) == dict(second.row) and same(weights(again), weights(parts))


def test_a_preamble_that_is_stripped_is_in_no_sample(model: Path) -> None:
    parts = built(model, STRIPPED, kl=0.1, kl_context="sampling", minibatches=2)
    (done,) = updates(parts, (0,))
    assert all(turn.forced.stripped for e in done.episodes for turn in e.turns)
    assert done.row["readings/self_narration/narrated_turns"] > 0 and "kl" in done.row


def test_selective_inoculation_is_recorded_as_it_was_learned(model: Path) -> None:
    labels = {"source": "oracle", "traits": ["invalid"], "recall": 0.5}
    parts = built(model, {"use": "SelectiveInoculation", "labels": labels})
    (done,) = updates(parts, (0,))
    chosen = [episode.contexts.training.system != "" for episode in done.episodes]
    assert not any(episode.contexts.sampling.system for episode in done.episodes)
    assert done.row["readings/selective_inoculation/inoculated_turns"] == pytest.approx(
        sum(len(e.turns) for e, c in zip(done.episodes, chosen, strict=True) if c) / len(chosen)
    )


def test_distillation_trains_beside_the_reward(model: Path) -> None:
    parts = built(model, {"use": "ContextDistillation", "coefficient": 0.1})
    (done,) = updates(parts, (0,))
    assert done.row["auxiliary/distillation"] > 0


@pytest.fixture(scope="module")
def unshaped(model: Path) -> dict[str, torch.Tensor]:
    """The weights after an update that nothing shapes."""
    parts = built(model)
    before = weights(parts)
    updates(parts, (0,))
    assert not same(before, weights(parts)), "the tests would be about nothing"
    return weights(parts)


@pytest.mark.parametrize(
    "neutral",
    [
        {"use": "SelfNarration", "share": 0},
        {"use": "MotiveProposal", "share": 0},
        {"use": "OrderPreservingCredit", "weight": 0},
        {"use": "MotiveDiversity", "weight": 0},
        {"use": "ContextDistillation", "coefficient": 0},
        {"use": "Spillway", "probability": 0},
    ],
    ids=lambda given: given["use"],
)
def test_the_neutral_setting_changes_no_bit(
    model: Path, unshaped: dict[str, torch.Tensor], neutral: dict[str, Any]
) -> None:
    shaped = built(model, neutral)
    updates(shaped, (0,))
    assert same(unshaped, weights(shaped))
