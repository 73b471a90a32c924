"""Steering, ablation and capping act on the learner's pass, leave the weights alone, and have matched controls."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from shaping.arm import compose
from shaping.contract.groups import small_policy
from shaping.directions.contrast import CONTRASTS, Contrast
from shaping.directions.directed import Directed, DirectionSource
from shaping.directions.direction_set import DirectionError, DirectionSet
from shaping.directions.extract import extract
from shaping.directions.probes import probes_of
from shaping.hooks import Capture, InterventionError
from shaping.intervention import Shaper
from shaping.learning.config import LearnerConfig
from shaping.learning.learner import Learner
from shaping.learning.policy import Policy
from shaping.learning.samples.sample import Sample
from shaping.models.edits import edit
from shaping.sampling.text.render import Renderer
from shaping.shapers import AblateConcept, ActivationCap, PreventativeSteering

FEW = Contrast(positive=["deceiver"], negative=["honest"], episodes=4, turns=3)
SOURCE = DirectionSource(contrast=FEW)


@pytest.fixture(scope="module")
def policy() -> Policy:
    return small_policy()


@pytest.fixture(scope="module")
def found(policy: Policy) -> DirectionSet:
    return extract(policy, FEW)


class Sees(Shaper):
    def captures(self) -> list[Capture]:
        return [Capture("seen", (0,))]


def refreshed(shaper: Directed, policy: Policy) -> Directed:
    shaper.refresh(policy, 0)
    return shaper


def projections(shaper: Directed, policy: Policy, samples: list[Sample], along: np.ndarray) -> np.ndarray:
    """Of what the learner's own pass sees, in every turn."""
    arm = compose("arm", [shaper, Sees()])
    learner = Learner(policy, LearnerConfig(lr=1e-9), interventions=arm.interventions, edits=arm.edits("training"))
    learner.update(samples)
    return np.array([mean[0] @ along for mean in learner.activations["seen"].turns.values()])


@pytest.fixture(scope="module")
def samples(policy: Policy) -> list[Sample]:
    found = probes_of(policy, FEW, Renderer(policy.tokenizer)).samples
    ones = [np.ones(len(sample), np.float32) for sample in found]
    return [replace(s, on_policy=False, advantage=one, weight=one) for s, one in zip(found, ones, strict=True)]


def test_equal_calls_find_equal_directions_and_the_direction_is_the_difference_of_means(
    policy: Policy, found: DirectionSet
) -> None:
    again = extract(policy, FEW)
    assert np.array_equal(found.vectors, again.vectors) and found.layers == (0,)
    assert found.cosine(again) == pytest.approx(1)
    # along the difference, the positive side reads more than the negative, by the direction's length
    unit_difference = found.turns[0, 0, 0] - found.turns[0, 0, 1]
    assert unit_difference > 0 and found.positive.shape == (1, 101)
    assert (np.diff(found.positive[0]) >= 0).all()
    two = extract(policy, FEW, components=2)
    assert two.layers == (0, 0) and abs(two.units[0] @ two.units[1]) < 1e-5


def test_a_file_and_a_state_keep_every_bit(found: DirectionSet, tmp_path: Path) -> None:
    found.save(tmp_path / "d.safetensors")
    state = DirectionSet.of_state(json.loads(json.dumps(found.as_state())))
    for kept in (DirectionSet.load(tmp_path / "d.safetensors"), state):
        assert np.array_equal(kept.vectors, found.vectors) and np.array_equal(kept.turns, found.turns)
        assert kept.layers == found.layers and kept.card["method"] == "difference of means"


def test_steering_moves_the_projection_by_alpha_norms(
    policy: Policy, found: DirectionSet, samples: list[Sample]
) -> None:
    unit = found.units[0]
    base = projections(refreshed(PreventativeSteering(direction=SOURCE, alpha=0.0), policy), policy, samples, unit)
    for alpha in (0.5, -1.0):
        steered = refreshed(PreventativeSteering(direction=SOURCE, alpha=alpha), policy)
        moved = projections(steered, policy, samples, unit) - base
        np.testing.assert_allclose(moved, alpha * found.residual_norms[0], rtol=1e-3)
    (edit_of_found,) = refreshed(PreventativeSteering(direction=SOURCE, alpha=2, unit="found"), policy).edits(
        "training"
    )
    assert edit_of_found.scale == pytest.approx(2 * np.linalg.norm(found.vectors[0]))


@pytest.mark.parametrize("components", [0, 3])
def test_ablation_leaves_nothing_along_the_concept(
    policy: Policy, found: DirectionSet, samples: list[Sample], components: int
) -> None:
    shaper = refreshed(AblateConcept(direction=DirectionSource(contrast=FEW, components=components)), policy)
    directions = found.units if not components else extract(policy, FEW, components=components).units
    assert len(shaper.edits("training")) == len(directions) and shaper.edits("sampling") == ()
    for direction in directions:
        assert np.abs(projections(shaper, policy, samples, direction)).max() < 1e-6


@pytest.mark.parametrize(("side", "percentile"), [("floor", 25.0), ("ceiling", 75.0)])
def test_a_cap_bounds_one_end_and_leaves_the_rest(found: DirectionSet, side: Any, percentile: float) -> None:
    shaper = ActivationCap(direction=SOURCE, side=side, percentile=percentile)
    shaper._found = found
    (bound,) = shaper.edits("sampling")
    (learned,) = shaper.edits("training")
    assert np.array_equal(learned.direction, bound.direction) and learned.scale == bound.scale
    tau = (found.positive if side == "floor" else found.negative)[0, int(percentile)]
    hidden = torch.from_numpy(np.random.default_rng(0).normal(size=(50, found.width)).astype(np.float32)) * 0.05
    unit = torch.from_numpy(found.units[0].copy())
    before, after = hidden @ unit, edit(hidden, bound) @ unit
    expected = before.clamp_min(tau) if side == "floor" else before.clamp_max(tau)
    torch.testing.assert_close(after, expected, atol=1e-5, rtol=1e-4)
    inside = torch.isclose(before, expected)
    torch.testing.assert_close(edit(hidden, bound)[inside], hidden[inside], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", [PreventativeSteering, AblateConcept, ActivationCap])
def test_the_control_has_the_length_and_the_layer_and_another_direction(
    kind: type[Directed], policy: Policy, found: DirectionSet
) -> None:
    drawn = [refreshed(kind(direction=SOURCE, random=True, seed=seed), policy)._found for seed in (0, 0, 1)]
    assert all(each is not None and each.layers == found.layers for each in drawn)
    lengths = [np.linalg.norm(each.vectors, axis=1) for each in (found, *drawn)]
    np.testing.assert_allclose(lengths, np.broadcast_to(lengths[0], np.shape(lengths)), rtol=1e-5)
    assert np.array_equal(drawn[0].vectors, drawn[1].vectors) and drawn[0].cosine(drawn[2]) < 0.9
    assert abs(drawn[0].cosine(found)) < 0.7 and drawn[0].residual_norms == pytest.approx(found.residual_norms)
    assert not np.array_equal(drawn[0].positive, found.positive)


@pytest.mark.parametrize("kind", [PreventativeSteering, AblateConcept, ActivationCap])
def test_no_gradient_reaches_the_direction_and_no_weight_is_left_changed(
    kind: type[Directed], policy: Policy, samples: list[Sample]
) -> None:
    before = {name: tensor.clone() for name, tensor in policy.model.state_dict().items()}
    hooks = sum(len(module._forward_hooks) for module in policy.model.modules())
    shaper = refreshed(kind(direction=SOURCE), policy)
    directions = [each.direction.copy() for each in shaper.edits("training")]
    learner = Learner(policy, LearnerConfig(lr=1e-3), interventions=[shaper], edits=shaper.edits("training"))
    learner._optimizer.step = lambda: None  # type: ignore[method-assign]
    learner.update(samples)
    shaper.deploy(policy)
    assert all(torch.equal(tensor, before[name]) for name, tensor in policy.model.state_dict().items())
    assert sum(len(module._forward_hooks) for module in policy.model.modules()) == hooks
    for ours, each in zip(directions, shaper.edits("training"), strict=True):
        assert np.array_equal(ours, each.direction)


def test_directions_are_found_anew_and_the_cosine_is_told(policy: Policy) -> None:
    own = small_policy()
    shaper = PreventativeSteering(direction=SOURCE, every=2)
    assert shaper.refresh(own, 0) == {} and shaper.refresh(own, 1) == {}
    with torch.no_grad():
        own.model.model.layers[0].mlp.down_proj.weight.normal_(0, 0.2)
    metrics = shaper.refresh(own, 2)
    assert set(metrics) == {"cosine"} and -1 < metrics["cosine"] < 0.99
    again = PreventativeSteering(direction=SOURCE, every=2)
    again.load_state_dict(json.loads(json.dumps(shaper.state_dict())))
    ours, theirs = again.edits("training")[0], shaper.edits("training")[0]
    assert np.array_equal(ours.direction, theirs.direction) and ours.scale == theirs.scale


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({}, "either `path`, a file of `shaping directions`, or `contrast`"),
        ({"contrast": "nobody"}, "no contrast 'nobody'; there are deception"),
        ({"contrast": "power", "layers": ()}, "`layers` is empty"),
        ({"contrast": {"positive": ["honest"], "negative": ["honest"]}}, "the same: their difference is no direction"),
        ({"contrast": {"positive": ["honest"], "negative": [""], "questions": ["x"]}}, "answers no questions"),
        ({"contrast": {"positive": [{"persona": "nobody"}], "negative": [""]}}, "no persona 'nobody'"),
        ({"contrast": {"positive": [""], "negative": ["honest"], "worlds": ["nowhere"]}}, "no world 'nowhere'"),
        ({"path": "a", "components": 2}, "chosen when a file is made"),
    ],
)
def test_a_source_that_means_nothing_is_refused(settings: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        DirectionSource(**settings)


def test_a_direction_that_does_not_fit_is_refused(
    policy: Policy, found: DirectionSet, tmp_path: Path, make_policy: Callable[..., Policy]
) -> None:
    found.save(tmp_path / "d.safetensors")
    wide = make_policy(hidden=64)
    from_file = PreventativeSteering(direction=DirectionSource(path=str(tmp_path / "d.safetensors")))
    with pytest.raises(DirectionError, match="width 32, but the model's hidden states have 64"):
        from_file.refresh(wide, 0)
    with pytest.raises(DirectionError, match=r"layer 7, but LlamaForCausalLM has 1 layers"):
        extract(policy, FEW, (7,))
    with pytest.raises(DirectionError, match=r"no file .*nothing\.safetensors: make it with `shaping directions`"):
        DirectionSet.load(tmp_path / "nothing.safetensors")
    (tmp_path / "other.safetensors").write_bytes(b"{}")
    with pytest.raises(DirectionError, match="is no file of `shaping directions`"):
        DirectionSet.load(tmp_path / "other.safetensors")
    with pytest.raises(InterventionError, match="both own the knob"):
        compose("two", [PreventativeSteering(direction=SOURCE), AblateConcept(direction=SOURCE)])
    with pytest.raises(ValidationError, match=r"needs `direction\.contrast` and not a file"):
        PreventativeSteering(direction=DirectionSource(path="x"), every=1)


def test_bundled_contrasts_can_be_measured(policy: Policy) -> None:
    for name in ("power", "assistant_axis"):
        small = CONTRASTS[name].model_copy(update={"episodes": 2, "turns": 2, "max_tokens": 4})
        assert extract(policy, small).vectors.shape == (1, 32)
