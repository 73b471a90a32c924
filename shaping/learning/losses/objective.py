"""The loss of one micro-batch: a sum of components, each divided by its own token count in the optimiser step."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor

from envs.calls import call
from shaping.hooks import ActivationEdit, Capture, InterventionError, LossTerm
from shaping.intervention import Intervention
from shaping.learning.captures import Recorder
from shaping.learning.config import LearnerConfig
from shaping.learning.losses.losses import (
    clipped_fraction,
    imitation,
    kl,
    kl_k3,
    mismatch_weight,
    policy_gradient,
    sequence_old,
    value_loss,
)
from shaping.learning.policy import Policy, Scores
from shaping.learning.ranks.parallel import Ranks, RanksError
from shaping.learning.reference import Reference
from shaping.learning.samples.packing import Batch
from shaping.learning.samples.sample import Sample


@dataclass(frozen=True, slots=True)
class TokenCounts:
    """Divisors of the loss components of one optimiser step."""

    policy: int
    """Tokens in the policy loss."""
    sequences: float
    """Episodes in the policy loss; a part of an episode counts as its share of the episode's loss tokens."""
    kl: int
    """Tokens in the KL."""
    imitation: int
    """Tokens with an imitation weight."""
    values: int
    """Steps in the value loss."""

    @classmethod
    def of(cls, batches: Iterable[Batch]) -> TokenCounts:
        """Count the micro-batches of one optimiser step."""
        policy = kl = imitated = values = 0
        sequences = 0.0
        for batch in batches:
            if batch.policy:
                policy += batch.loss_tokens
                sequences += sum(sample.share for sample in batch.samples)
            kl += batch.loss_tokens * batch.kl
            if batch.imitation is not None:
                imitated += int(batch.imitation.count_nonzero())
            if batch.critic is not None:
                values += int(batch.critic[2].sum())
        return cls(max(policy, 1), sequences or 1.0, max(kl, 1), max(imitated, 1), max(values, 1))


@dataclass(slots=True)
class MetricSums:
    """Sums of metrics over the micro-batches of one update, and the token counts for their means."""

    sums: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Sum of each metric."""
    counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """Number of tokens in each sum."""
    tokens: int = 0
    """Loss tokens of the update, over all passes."""

    def add(self, name: str, value: Tensor | float, tokens: int) -> None:
        """Add a sum over `tokens` tokens to a metric."""
        self.sums[name] += float(value.detach()) if isinstance(value, Tensor) else value
        self.counts[name] += tokens

    def summed(self, ranks: Ranks) -> MetricSums:
        """The sums over all ranks, the same on each."""
        if ranks.size == 1:
            return self
        sums, counts = ranks.total(self.sums), ranks.total(self.counts)
        tokens = int(ranks.total({"tokens": self.tokens})["tokens"])
        return MetricSums(sums, {name: int(n) for name, n in counts.items()}, tokens)

    def means(self) -> dict[str, float]:
        """Mean per token of every metric; `loss` and `mismatch_kl` are always there."""
        means = {name: value / max(self.counts[name], 1) for name, value in self.sums.items()}
        return {"loss": 0.0, "mismatch_kl": 0.0, **means}

    def mean(self, name: str) -> float:
        """Mean per token of one metric; 0 if it has no tokens."""
        return self.sums.get(name, 0.0) / max(self.counts.get(name, 0), 1)


class Objective:
    """Computes the share of a micro-batch in the loss of one optimiser step.

    Args:
        policy: the policy to train.
        config: settings of the update.
        reference: reference policy of the KL penalty; None without a penalty.
        interventions: the interventions with an auxiliary loss.
        edits: activation edits of the learner's forward pass.
        captures: hidden states that interventions asked for.
    """

    def __init__(
        self,
        policy: Policy,
        config: LearnerConfig,
        reference: Reference | None,
        interventions: Sequence[Intervention],
        edits: Sequence[ActivationEdit],
        captures: Sequence[Capture] = (),
    ) -> None:
        self.policy = policy
        self.config = config
        self.edits = tuple(edits)
        self.recorder = Recorder(policy.model, captures)
        self._reference = reference
        self._interventions = tuple(interventions)
        self._terms: dict[str, Intervention] = {}

    def needs_gradient(self, batch: Batch) -> bool:
        """False if the batch has no credit and no other loss term: it then only gives metrics."""
        regularised = (self._reference is not None and batch.kl) or self.config.entropy_coef > 0
        return batch.has_credit or regularised or (batch.policy and bool(self._interventions))

    def loss(
        self,
        batch: Batch,
        counts: TokenCounts,
        sums: MetricSums,
        *,
        first: bool,
        warm_up: bool = False,
        collect: bool = False,
    ) -> Tensor:
        """The micro-batch's share of the loss.

        Args:
            batch: the micro-batch.
            counts: divisors of the optimiser step.
            sums: the metrics are added to it.
            first: no step has been taken in this update, so the sampler's log-probs can be compared.
            warm_up: measure the terms of critic and policy only; the result is not trained on.
            collect: add the captured states to the update's.
        """
        config = self.config
        scores = self.policy.scores(
            batch,
            self.edits,
            entropy_gradient=config.entropy_coef > 0,
            detach_critic=config.critic.detach,
            wanted=self.recorder.wanted(batch),
        )
        captured = self.recorder.captured(batch, scores.states)
        if collect:
            self.recorder.add(batch, captured)
        if first:
            self.compare(batch, scores.logprobs.detach(), sums)
        loss = self._value(batch, scores, counts, sums)
        policy = self._policy(batch, scores, counts, sums) if batch.policy else loss
        if warm_up:
            return loss
        if batch.policy:
            loss = loss + policy
        self.policy.captured, self.policy.edits = captured, self.edits
        try:
            return loss + self._regularisers(batch, scores, counts, sums)
        finally:
            self.policy.captured = {}

    def compare(self, batch: Batch, logprobs: Tensor, sums: MetricSums) -> None:
        """Add the KL between the sampler's log-probs and the learner's, for the tokens on which they should agree."""
        inside = batch.on_policy
        if batch.policy and bool(inside.any()):
            sums.add("mismatch_kl", kl_k3(batch.old[inside], logprobs[inside]), int(inside.sum()))

    def _policy(self, batch: Batch, scores: Scores, counts: TokenCounts, sums: MetricSums) -> Tensor:
        config, logprobs = self.config, scores.logprobs
        old, weight = self._old_and_weight(batch, logprobs, sums)
        clip = {"clip_low": config.clip_low, "clip_high": config.clip_high}
        dual = config.clip_dual
        scaled = weight if config.loss_aggregation == "token" else weight * self._share(batch, counts)
        total = policy_gradient(logprobs, old, batch.advantage, scaled, ratio=batch.ratio, clip_dual=dual, **clip)
        sums.add("loss", total, batch.loss_tokens)
        sums.add("entropy", scores.entropy.detach().sum(), batch.loss_tokens)
        if batch.ratio != "none":
            sums.add(
                "clipped", clipped_fraction(logprobs, old, batch.advantage, clip_dual=dual, **clip), batch.loss_tokens
            )
        loss = total / counts.policy
        if config.entropy_coef > 0:
            loss = loss - config.entropy_coef * scores.entropy.sum() / counts.policy
        return loss

    def _share(self, batch: Batch, counts: TokenCounts) -> Tensor:
        """Factors [m] that turn the mean over tokens into a mean over episodes, of their own or a constant length.

        The parts of an episode, which gates and broken prefixes make, count together as one.
        """
        lengths = torch.bincount(batch.sequence, minlength=len(batch.samples)).clamp_min(1)
        whole = [0 if sample.episode_tokens is None else sample.episode_tokens for sample in batch.samples]
        lengths = torch.maximum(lengths, lengths.new_tensor(whole))
        if self.config.loss_aggregation == "constant":
            lengths = torch.full_like(lengths, self.config.aggregation_length)
        return (counts.policy / (counts.sequences * lengths))[batch.sequence]

    def _value(self, batch: Batch, scores: Scores, counts: TokenCounts, sums: MetricSums) -> Tensor:
        if batch.critic is None or scores.values is None:
            return scores.logprobs.new_zeros(())
        old, targets, mask = batch.critic
        unit = self.policy.value_head.deviation if self.policy.value_head is not None else 1.0
        error = value_loss(scores.values / unit, old / unit, targets / unit, mask, self.config.critic.clip)
        sums.add("value_loss", error, int(mask.sum()))
        return self.config.critic.coef * error / counts.values

    def _regularisers(self, batch: Batch, scores: Scores, counts: TokenCounts, sums: MetricSums) -> Tensor:
        loss = scores.logprobs.new_zeros(())
        if batch.imitation is not None:
            cloned = imitation(scores.logprobs, batch.imitation)
            sums.add("imitation", cloned, int(batch.imitation.count_nonzero()))
            loss = loss + cloned / counts.imitation
        if self._reference is not None and batch.kl:
            # The reference has the same edits: their effect is no distance of the policy, and training must keep it.
            reference = self._reference.logprobs(batch, self.edits)
            distance = kl(scores.logprobs, reference, self.config.kl_estimator)
            sums.add("kl", distance, batch.loss_tokens)
            loss = loss + self.config.kl * distance / counts.kl
        for intervention in self._interventions if batch.policy else ():
            if term := self._auxiliary(intervention, batch):
                sums.add(f"auxiliary/{term.name}", term.total, batch.loss_tokens)
                loss = loss + term.coefficient * term.total / counts.policy
        return loss

    def _auxiliary(self, intervention: Intervention, batch: Batch) -> LossTerm | None:
        """The intervention's own loss, checked: one that is not finite or has no gradient would train nothing."""
        through = (RanksError, dist.DistError)
        term = call(InterventionError, intervention, "auxiliary_loss", self.policy, batch.samples, through=through)
        if term is None:
            return None
        who = f"{type(intervention).__name__}.auxiliary_loss()"
        if not isinstance(term, LossTerm):
            raise InterventionError(f"{who} returned {type(term).__name__}; return LossTerm, or None")
        if fault := term.fault():
            raise InterventionError(f"{who}, term {term.name!r}: {fault}")
        if self._terms.setdefault(term.name, intervention) is not intervention:
            raise InterventionError(f"{who}: another intervention of the arm has a term {term.name!r}, too; rename one")
        return term

    def _old_and_weight(self, batch: Batch, logprobs: Tensor, sums: MetricSums) -> tuple[Tensor, Tensor]:
        """(old log-probs of the policy ratio, weights of the policy term), both [m]."""
        old, weight = batch.old, batch.weight
        if not self.config.several_steps:  # with several steps, the learner has computed both before the first
            if any(self.corrects(sample) for sample in batch.samples):
                weight = weight * self.mismatch(logprobs, batch, sums)
            if batch.ratio == "recomputed":
                old = logprobs.detach()
        if self.config.ratio_level == "sequence":
            old = sequence_old(logprobs, old, batch.sequence)
        return old, weight

    def corrects(self, sample: Sample) -> bool:
        """True if an importance weight corrects the sampler's mismatch.

        Ratio `sampler` needs none, because it is taken against the sampler and includes the mismatch. Off-policy
        samples get none here, because their contexts differ on purpose.
        """
        return self.config.mismatch_correction != "none" and sample.on_policy and sample.ratio != "sampler"

    def mismatch(self, logprobs: Tensor, batch: Batch, sums: MetricSums) -> Tensor:
        """Importance weights [m], one for tokens without correction. Adds their metric to `sums`."""
        config = self.config
        weight = mismatch_weight(
            logprobs, batch.old, mode=config.mismatch_correction, cap=config.mismatch_cap, sequence=batch.sequence
        )
        weight = torch.where(batch.on_policy, weight, 1.0)
        sums.add("mismatch_weight", weight[batch.on_policy].sum(), int(batch.on_policy.sum()))
        return weight
