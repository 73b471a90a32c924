"""The algorithm-blind learner: it sums loss components over per-token streams and steps the optimiser."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from shaping.intervention import ActivationEdit, Intervention
from shaping.learning.config import LearnerConfig
from shaping.learning.losses import clipped_fraction, kl, kl_k3, mismatch_weight, policy_gradient, sequence_old
from shaping.learning.packing import Batch, pack
from shaping.learning.policy import Policy
from shaping.learning.sample import Sample


class LearnerError(RuntimeError):
    """Training cannot go on: the numbers are not sound."""


@dataclass(slots=True)
class _Totals:
    """Sums over the micro-batches of one update."""

    sums: dict[str, float]
    tokens: int = 0
    on_policy: int = 0
    corrected: int = 0

    def means(self) -> dict[str, float]:
        """Every sum per token it was taken over."""
        over = {"mismatch_kl": self.on_policy, "mismatch_weight": self.corrected}
        found = {name: value / max(over.get(name, self.tokens), 1) for name, value in self.sums.items()}
        found["mismatch_kl"] = found.pop("mismatch_kl", 0.0)
        return found


class Learner:
    """Updates `policy` from samples.

    Args:
        interventions: asked for auxiliary losses, one call per micro-batch.
        edits: activation edits of the learner's forward pass.
    """

    def __init__(
        self,
        policy: Policy,
        config: LearnerConfig,
        *,
        interventions: Sequence[Intervention] = (),
        edits: Sequence[ActivationEdit] = (),
    ) -> None:
        self.policy = policy
        self.config = config
        self._interventions = tuple(i for i in interventions if _has_auxiliary_loss(i))
        self._edits = tuple(edits)
        self._reference = policy.frozen_copy() if config.kl > 0 else None
        self._parameters = [p for p in policy.model.parameters() if p.requires_grad]
        self._optimizer = torch.optim.AdamW(self._parameters, lr=config.lr, weight_decay=config.weight_decay)
        self._bad_steps = 0
        self.version = 0

    def update(self, samples: Sequence[Sample]) -> dict[str, float]:
        """One pass over `samples` in `config.minibatches` optimiser steps. Returns metrics (means per loss token).

        Raises `LearnerError` if an advantage is not finite, if the sampler's log-probs differ from the learner's by
        more than `max_mismatch_kl` per token, or after `max_bad_steps` non-finite gradients in a row.
        """
        if not samples:
            return {}
        _check_finite(samples)
        self.policy.model.train()
        totals = _Totals(defaultdict(float))
        if self.config.minibatches > 1:
            samples = self._with_recomputed(samples, totals)
        norms = []
        for number, part in enumerate(np.array_split(np.arange(len(samples)), self.config.minibatches)):
            batches = pack([samples[i] for i in part], self.config.token_budget, self.policy.device)
            norms.append(self._step(batches, totals, check_mismatch=number == 0))
        self.version += 1
        return {**totals.means(), "grad_norm": float(np.mean(norms)), "loss_tokens": float(totals.tokens)}

    def _with_recomputed(self, samples: Sequence[Sample], totals: _Totals) -> list[Sample]:
        """With several steps per update, what compares with the policy at its start must be computed before the first.

        These are the old log-probs of `recompute`, and the mismatch weights, which become part of `weight`.
        """
        out: list[Sample] = []
        for sample in samples:
            if sample.ratio != "recompute" and not self._corrects(sample):
                out.append(sample)
                continue
            batch = pack([sample], max(self.config.token_budget, len(sample)), self.policy.device)[0]
            with torch.no_grad():
                logprobs, _ = self.policy.logprobs(batch, self._edits)
            places = (batch.rows + 1).cpu().numpy()
            if self._corrects(sample):
                weight = sample.weight.copy()
                weight[places] *= self._mismatch(logprobs, batch, totals).cpu().numpy()
                sample = replace(sample, weight=weight)
            if sample.ratio == "recompute":
                old = sample.old_logprobs.copy()
                old[places] = logprobs.cpu().numpy()
                sample = replace(sample, old_logprobs=old)
            out.append(sample)
        return out

    def _corrects(self, sample: Sample) -> bool:
        """Is the sampler's mismatch corrected by a weight?

        Not with `cross`, whose ratio is taken against the sampler and holds the mismatch already; and only where
        sampler and learner should agree, since elsewhere the contexts differ, on purpose.
        """
        return self.config.mismatch_correction != "none" and sample.on_policy and sample.ratio != "cross"

    def _mismatch(self, logprobs: Tensor, batch: Batch, totals: _Totals) -> Tensor:
        """Importance weights [m], and their metrics; one for tokens that are not corrected."""
        config = self.config
        weight = mismatch_weight(logprobs, batch.old, mode=config.mismatch_correction, cap=config.mismatch_cap)
        weight = torch.where(batch.on_policy, weight, 1.0)
        totals.sums["mismatch_weight"] += float(weight[batch.on_policy].sum())
        totals.corrected += int(batch.on_policy.sum())
        return weight

    def _step(self, batches: Sequence[Batch], totals: _Totals, *, check_mismatch: bool) -> float:
        tokens = sum(b.loss_tokens for b in batches)
        self._optimizer.zero_grad(set_to_none=True)
        before = totals.sums["mismatch_kl"], totals.on_policy
        for batch in batches:
            # a batch without credit has no gradient: it is only read, for the metrics
            with torch.set_grad_enabled(self._has_gradient(batch)):
                loss = self._loss(batch, tokens, totals, check_mismatch)
            if loss.requires_grad:
                # a gate on every trained parameter is the same as a factor on this micro-batch's loss
                (loss * batch.kept_gate).backward()
        totals.tokens += tokens
        if check_mismatch and totals.on_policy > before[1]:
            self._refuse_mismatch((totals.sums["mismatch_kl"] - before[0]) / (totals.on_policy - before[1]))
        norm = float(torch.nn.utils.clip_grad_norm_(self._parameters, self.config.max_grad_norm))
        if not np.isfinite(norm):
            self._skip(norm)
            return 0.0
        self._bad_steps = 0
        self._optimizer.step()
        return norm

    def _has_gradient(self, batch: Batch) -> bool:
        return (
            batch.has_credit or self._reference is not None or self.config.entropy_coef > 0 or bool(self._interventions)
        )

    def _loss(self, batch: Batch, tokens: int, totals: _Totals, check_mismatch: bool) -> Tensor:
        config, sums = self.config, totals.sums
        bonus = config.entropy_coef > 0
        logprobs, entropy = self.policy.logprobs(batch, self._edits, entropy_gradient=bonus)
        old, weight = self._old_and_weight(batch, logprobs, totals)
        clip = {"clip_low": config.clip_low, "clip_high": config.clip_high}
        policy = policy_gradient(logprobs, old, batch.advantage, weight, ratio=batch.ratio, **clip)
        loss = policy / tokens
        sums["loss"] += float(policy.detach())
        sums["entropy"] += float(entropy.detach().sum())
        if batch.ratio != "none":
            sums["clipped"] += float(clipped_fraction(logprobs, old, batch.advantage, **clip))
        if bonus:
            loss = loss - config.entropy_coef * entropy.sum() / tokens
        if check_mismatch and bool(batch.on_policy.any()):
            sampled = batch.on_policy
            sums["mismatch_kl"] += float(kl_k3(batch.old[sampled], logprobs.detach()[sampled]))
            totals.on_policy += int(sampled.sum())
        if self._reference is not None:
            with torch.no_grad():
                reference, _ = self._reference.logprobs(batch)
            distance = kl(logprobs, reference, config.kl_estimator)
            sums["kl"] += float(distance.detach())
            loss = loss + config.kl * distance / tokens
        for intervention in self._interventions:
            if term := intervention.auxiliary_loss(self.policy, batch.samples):
                sums[f"auxiliary/{term.name}"] += float(term.total.detach())
                loss = loss + term.coefficient * term.total / tokens
        return loss

    def _old_and_weight(self, batch: Batch, logprobs: Tensor, totals: _Totals) -> tuple[Tensor, Tensor]:
        """What the policy ratio is taken against, and the weights of the policy term, both [m]."""
        old, weight = batch.old, batch.weight
        if self.config.minibatches == 1:  # else both were computed before the first step
            if any(self._corrects(sample) for sample in batch.samples):
                weight = weight * self._mismatch(logprobs, batch, totals)
            if batch.ratio == "recompute":
                old = logprobs.detach()
        if self.config.ratio_level == "sequence":
            old = sequence_old(logprobs, old, batch.sequence)
        return old, weight

    def _refuse_mismatch(self, kl: float) -> None:
        if not kl <= self.config.max_mismatch_kl:
            raise LearnerError(
                f"the sampler's log-probs differ from the learner's by KL {kl:.4g} per token (learner.max_mismatch_kl="
                f"{self.config.max_mismatch_kl}): sampler and learner do not hold the same policy, mask or edits"
            )

    def _skip(self, norm: float) -> None:
        self._bad_steps += 1
        if self._bad_steps >= self.config.max_bad_steps:
            raise LearnerError(
                f"the gradient norm was {norm} in {self._bad_steps} steps in a row (learner.max_bad_steps): lower "
                "learner.lr or look at the rewards"
            )


def _check_finite(samples: Sequence[Sample]) -> None:
    for number, sample in enumerate(samples):
        for name in ("advantage", "weight", "old_logprobs"):
            if not np.isfinite(getattr(sample, name)).all():
                raise LearnerError(f"sample {number} has a non-finite {name}: nothing was trained on this update")


def _has_auxiliary_loss(intervention: Intervention) -> bool:
    return type(intervention).auxiliary_loss is not Intervention.auxiliary_loss
