"""Samples of what interventions rehearse: cross-entropy on sampled text under another system prompt."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from envs.episode import Episode
from shaping.arm import asked_all
from shaping.hooks import Rehearsal
from shaping.intervention import Intervention
from shaping.learning.samples.sample import Sample
from shaping.sampling.text.render import Renderer


def rehearsed(interventions: Sequence[Intervention], episodes: Sequence[Episode], renderer: Renderer) -> list[Sample]:
    """What each of the interventions rehearses with an update's episodes, which it sees without their truth.

    These samples have imitation weights alone, whose loss the learner divides by the number of such tokens.
    """
    shown = tuple(episode.redacted() for episode in episodes)
    found: list[Sample] = []
    for intervention in interventions:
        if type(intervention).rehearse is not Intervention.rehearse:
            asked = asked_all(intervention, "rehearse", Rehearsal, shown)
            found += [_sample(rehearsal, renderer) for rehearsal in asked if rehearsal.mask.any()]
    return found


def _sample(rehearsal: Rehearsal, renderer: Renderer) -> Sample:
    head = renderer.open(rehearsal.context.system, rehearsal.observation)
    mask = np.concatenate([np.zeros(len(head), bool), rehearsal.mask])
    zeros = np.zeros(len(mask), np.float32)
    return Sample(
        tokens=np.concatenate([np.array(head, np.int64), rehearsal.tokens.astype(np.int64)]),
        mask=mask,
        old_logprobs=zeros,
        advantage=zeros,
        weight=zeros,
        masked_tokens=np.zeros((0, 2), np.int64),
        ratio="none",
        on_policy=False,
        policy=False,
        kl=False,
        imitation=np.where(mask, rehearsal.weight, 0.0).astype(np.float32),
    )
