"""What the learner is given of answered episodes: cross-entropy of the answers, and the signed weights of DPO."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_expit

from envs.episode import Episode
from shaping.arm import Arm
from shaping.learning.samples.build_samples import Streams, to_samples
from shaping.learning.samples.contexts import with_own_contexts
from shaping.learning.samples.sample import Sample
from shaping.sampling.text.render import Renderer

Array = NDArray[np.float64]


def imitated(episodes: Sequence[Episode], arm: Arm, renderer: Renderer, *, gated: bool = True) -> list[list[Sample]]:
    """Per episode its samples: cross-entropy with weight one on the tokens of answers, and no policy gradient.

    They are in the policy loss with advantage and weight 0, so that auxiliary losses of interventions see them. Gates
    split an episode as they split a sampled one. `gated=False`: whatever the gates, one sample per sequence.
    """
    found = []
    for number, episode in enumerate(with_own_contexts(episodes, arm, renderer)):
        nothing = np.zeros(len(episode.tokens), np.float32)
        weight = episode.loss_mask.astype(np.float32)
        streams = Streams([nothing], [nothing], [weight], [None], [episode.loss_mask])
        made = to_samples(episode, streams, arm, renderer, gated=gated, number=number)
        found.append([replace(sample, ratio="none", on_policy=False) for sample in made])
    return found


def scaled(samples: Sequence[Sample], weight: float) -> list[Sample]:
    """The samples with the imitation weights of their tokens times `weight`; with 0 none of them is imitated."""
    if weight == 1:
        return list(samples)
    factor = np.float32(weight)
    return [s if s.imitation is None else replace(s, imitation=s.imitation * factor) for s in samples]


@dataclass(frozen=True, slots=True)
class Preferences:
    """Direct preference optimisation of pairs (Rafailov et al., arXiv:2305.18290, eq. 7). Arrays have shape [pairs].

    h = beta * [(log p(chosen) - log p_ref(chosen)) - (log p(rejected) - log p_ref(rejected))], loss = -log sigma(h).
    """

    beta: float
    """Strength of the tie to the reference."""
    margin: Array
    """h of each pair, in nats."""

    @classmethod
    def of(cls, policy: Array, reference: Array, beta: float) -> Preferences:
        """Args: summed log-probs of (chosen, rejected) under the policy and the reference, shape [pairs, 2]."""
        gained = policy - reference
        return cls(beta, beta * (gained[:, 0] - gained[:, 1]))

    @property
    def loss(self) -> float:
        """Mean over pairs, in nats."""
        return float(-log_expit(self.margin).mean())

    @property
    def accuracy(self) -> float:
        """Share of pairs whose chosen answer has gained more than the rejected one."""
        return float((self.margin > 0).mean())

    def weights(self) -> Array:
        """-d loss / d (log p(chosen), log p(rejected)) of the mean over pairs, shape [pairs, 2].

        Cross-entropy with these weights on every token of an answer has the gradient of the loss.
        """
        pull = self.beta * expit(-self.margin) / len(self.margin)
        return np.stack([pull, -pull], axis=1)


def weighted(answers: Sequence[Sequence[Sample]], weights: Array) -> list[Sample]:
    """The samples of answers [n] with imitation weights [n] on their loss tokens, as sums and not as means.

    The learner divides by the number of tokens with a weight, which is therefore multiplied in.
    """
    flat = [(sample, weights[place]) for place, samples in enumerate(answers) for sample in samples]
    used = [np.float32(weight) for _, weight in flat]
    tokens = sum(len(sample.loss_positions) for (sample, _), weight in zip(flat, used, strict=True) if weight)
    return [
        replace(sample, imitation=np.where(sample.mask, np.float32(weight * tokens), np.float32(0.0)))
        for (sample, weight) in flat
    ]
