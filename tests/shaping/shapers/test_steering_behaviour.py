"""What directions of a real organism tell and do. Slow: each plays or reads a trained model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from launch.check_model.subject import subject
from shaping.arm import compose
from shaping.directions.contrast import CONTRASTS
from shaping.directions.directed import DirectionSource
from shaping.directions.extract import extract
from shaping.directions.probes import Probes, probes_of
from shaping.hooks import Capture
from shaping.intervention import Shaper
from shaping.learning.config import LearnerConfig
from shaping.learning.learner import Learner
from shaping.learning.policy import Policy
from shaping.learning.samples.sample import Sample
from shaping.sampling.text.render import Renderer
from shaping.shapers import AblateConcept, PreventativeSteering

pytestmark = pytest.mark.slow

FOUND_ON = CONTRASTS["opportunism"].model_copy(update={"episodes": 12})
HELD_OUT = FOUND_ON.model_copy(update={"seed": 1000})


class Sees(Shaper):
    def captures(self) -> list[Capture]:
        return [Capture("seen", "all")]


@pytest.fixture(scope="module")
def policy() -> Policy:
    return Policy.load(subject("shipped:0").directory)


@pytest.fixture(scope="module")
def held_out(policy: Policy) -> Probes:
    return probes_of(policy, HELD_OUT, Renderer(policy.tokenizer))


def trained(probes: Probes) -> list[Sample]:
    found = []
    for number, sample in enumerate(probes.samples):
        one = np.where(sample.mask, 1.0, 0.0).astype(np.float32)
        assert sample.origin is not None
        origin = replace(sample.origin, episode=number)
        found.append(replace(sample, on_policy=False, advantage=one, weight=one, origin=origin))
    return found


def seen(policy: Policy, shaper: Shaper | None, samples: list[Sample], lr: float, updates: int) -> np.ndarray:
    """Mean states of turns [turns, layers, hidden] in the last of some updates; the policy stays trained."""
    arm = compose("arm", [Sees(), *([shaper] if shaper else [])])
    learner = Learner(
        policy, LearnerConfig(lr=lr), interventions=arm.interventions, edits=lambda: arm.edits("training")
    )
    learner.refresh()
    for _ in range(updates):
        learner.update(samples)
    return np.stack(list(learner.activations["seen"].turns.values()))


def test_a_direction_tells_personas_apart_in_episodes_that_it_was_not_found_on(
    policy: Policy, held_out: Probes
) -> None:
    found = extract(policy, FOUND_ON)
    states = seen(policy, None, trained(held_out), 1e-12, 1)
    along = states[:, found.layers[0]] @ found.units[0]
    of_turns = [
        [side] * len(np.unique(sample.origin.turn[sample.mask]))
        for sample, side in zip(held_out.samples, held_out.positive, strict=True)
        if sample.origin is not None
    ]
    sides = np.concatenate(of_turns)
    order = np.argsort(np.argsort(along))
    positives, negatives = sides.sum(), (~sides).sum()
    area = (order[sides].sum() - positives * (positives - 1) / 2) / (positives * negatives)
    assert area > 0.75


def test_a_concept_stays_at_zero_in_training_while_weights_change_and_is_back_without_the_hook(
    policy: Policy, held_out: Probes
) -> None:
    own = Policy.load(subject("shipped:0").directory)
    before = {name: tensor.clone() for name, tensor in own.model.state_dict().items()}
    found = extract(own, FOUND_ON)
    shaper = AblateConcept(direction=DirectionSource(contrast=FOUND_ON, layers=found.layers))
    states = seen(own, shaper, trained(held_out)[:4], 1e-4, 3)
    assert np.abs(states[:, found.layers[0]] @ found.units[0]).max() < 1e-3
    assert any(not torch.equal(tensor, before[name]) for name, tensor in own.model.state_dict().items())
    shaper.deploy(own)
    plain = seen(own, None, trained(held_out)[:4], 1e-12, 1)
    assert np.abs(plain[:, found.layers[0]] @ found.units[0]).max() > 1.0


def test_steering_moves_later_layers_more_along_what_they_read_than_a_random_direction_of_its_length_does(
    policy: Policy, held_out: Probes
) -> None:
    last = extract(policy, FOUND_ON, (-1,))
    samples = trained(held_out)[:6]
    base = seen(policy, None, samples, 1e-12, 1)[:, -1] @ last.units[0]
    moved = {}
    for random in (False, True):
        shaper = PreventativeSteering(
            direction=DirectionSource(contrast=FOUND_ON, layers=(0,)), alpha=0.5, unit="found", random=random
        )
        moved[random] = float((seen(policy, shaper, samples, 1e-12, 1)[:, -1] @ last.units[0] - base).mean())
    assert moved[False] > 0 and moved[False] > 2 * abs(moved[True])
