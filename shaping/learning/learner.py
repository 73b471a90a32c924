"""The algorithm-blind learner: it sums loss components over per-token streams and steps the optimiser."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shaping.arm import asked_all
from shaping.hooks import ActivationEdit, Activations
from shaping.intervention import Intervention
from shaping.learning.apart import Apart, by_player, objectives, owners, seen_together
from shaping.learning.config import LearnerConfig
from shaping.learning.host_memory import give_back
from shaping.learning.losses.objective import MetricSums, Objective, TokenCounts
from shaping.learning.losses.staleness import StaleReader
from shaping.learning.mode import without_dropout
from shaping.learning.policy import Policy
from shaping.learning.ranks.parallel import SINGLE, Ranks
from shaping.learning.ranks.sharding import release
from shaping.learning.reference import Reference
from shaping.learning.refresh import refreshed
from shaping.learning.samples.forced import ForcedReader
from shaping.learning.samples.packing import Batch, pack
from shaping.learning.samples.reading import summed_logprobs
from shaping.learning.samples.sample import Sample, critic_metrics, not_finite, value_targets
from shaping.learning.snapshots import Snapshots
from shaping.learning.steps.adapter_norms import AdapterNorms
from shaping.learning.steps.optimizer import GatedOptimizer
from shaping.learning.steps.rates import default_lr, unusual_lr
from shaping.models.edits import applied
from shaping.models.value_head import Regression

log = logging.getLogger(__name__)


class LearnerError(RuntimeError):
    """Training cannot continue: log-probs, credit or gradients are wrong."""


class Learner:
    """Updates `policy` from samples.

    Args:
        policy: the policy to train.
        config: settings of the update.
        interventions: their auxiliary losses are called once per micro-batch.
        edits: activation edits of the learner's forward pass, or what is asked for them at each update.
        updates: number of updates of the run, over which `lr_schedule` falls; later ones keep its end.
        seed: seed of the order in which samples make up minibatches, and of the rounding of bfloat16 states.
        ranks: the processes that train `policy` together. Each must get the same samples in every update, and an
            auxiliary loss must run equally many passes for every micro-batch. All return the same metrics.
        start: `policy` as it is now, loaded apart, for the KL; none: it is copied where it must be.
        apart: interventions that are about one player alone (`shaping.learning.apart`).
        snapshots: which past policies are kept as opponents.
    """

    def __init__(
        self,
        policy: Policy,
        config: LearnerConfig,
        *,
        interventions: Sequence[Intervention] = (),
        edits: Sequence[ActivationEdit] | Callable[[], Sequence[ActivationEdit]] = (),
        updates: int | None = None,
        seed: int = 0,
        ranks: Ranks = SINGLE,
        start: Policy | None = None,
        apart: Apart = MappingProxyType({}),
        snapshots: Snapshots | None = None,
    ) -> None:
        self.policy, self._snapshots = policy, snapshots
        self.config = config
        self._lr = _rate(policy, config, warn=ranks.rank == 0)
        self._updates = updates
        self._seed = seed
        config.lr_share(0, updates)  # a schedule without a number of updates is refused before anything is trained
        self._ranks = ranks
        self._reference = Reference(policy, start) if config.kl > 0 else None
        if self._reference is not None:
            self._reference.distribute(ranks)
        policy.distribute(ranks)
        self._interventions, self._apart = tuple(interventions), apart
        self._edits = edits
        self._objectives = objectives(policy, config, self._reference, self._interventions, self._edits_now(), apart)
        self.activations: Mapping[str, Activations] = {}
        """Means per turn of the captured states of the last update, by the names of the captures."""
        lrs = {"value": config.critic.lr} if config.critic.lr else {}
        self._optimizer = GatedOptimizer(
            policy.groups(),
            lr=self._lr,
            weight_decay=config.weight_decay,
            lrs=lrs,
            ranks=ranks,
            states=config.optimizer_states,
            seed=seed,
            confined=policy.adapters.confined,
        )
        self._norms = AdapterNorms(policy, self._optimizer, ranks)
        if config.activation_checkpointing:
            policy.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        self._bad_steps = 0
        self.version = 0

    def update(self, samples: Sequence[Sample]) -> dict[str, float]:
        """Train `config.epochs` passes over `samples`, each in `config.minibatches` optimiser steps.

        An update with non-finite streams is skipped, and so is a step with a non-finite gradient.

        Returns: metrics, as means per token.
        Raises: `LearnerError` after `max_bad_steps` skips in a row; and, before any training, if the sampler's
        log-probs differ from the learner's by more than `max_mismatch_kl` per token.
        """
        self.activations = {}
        if not samples:
            return {}
        if broken := not_finite(samples):
            self._skip(broken)
            self._next_version()
            return {"skipped_steps": 1.0}
        without_dropout(self.policy.model)
        self._set_edits()
        if self.policy.value_head is not None:
            self.policy.value_head.observe(value_targets(samples, self.policy.device))
        sums = MetricSums()
        norms: list[float | None] = []
        for objective in self._objectives.values():
            objective.recorder.clear()
        self._norms.remember()
        share = self.config.lr_share(self.version, self._updates)
        self._optimizer.set_lr_share(share)
        passes = 1 if self._warming_up else self.config.epochs
        for player, own in by_player(samples, self.policy):
            with self.policy.playing(player):
                norms += self._train(own, sums)
        self.activations = seen_together([each.recorder.means(self._ranks) for each in self._objectives.values()])
        self._next_version()
        sums = sums.summed(self._ranks)
        looked = self.refresh()
        if self.policy.device.type == "cpu":
            give_back()
        taken = [norm for norm in norms if norm is not None]
        return {
            **sums.means(),
            **critic_metrics(samples),
            **self._norms.measure(),
            "grad_norm": float(np.mean(taken)) if taken else 0.0,
            "loss_tokens": sums.tokens / passes,
            "skipped_steps": float(len(norms) - len(taken)),
            **looked,
        } | ({"lr": share * self._lr} if self.config.lr_changes else {})

    def _train(self, samples: Sequence[Sample], sums: MetricSums) -> list[float | None]:
        """All optimiser steps of an update with these samples. Returns their gradient norms."""
        if not self._warming_up:
            edits = [edit for i in self._interventions for edit in asked_all(i, "edits", ActivationEdit, "sampling")]
            stale = StaleReader(self.policy, self._ranks, edits, self.config, self._packed)
            samples = stale.applied(samples, sums)
        with self.policy.phase("training"):
            if self._warming_up:
                self._fit_critic(samples, sums)
                return []
            cap = self.config.mismatch_cap
            read = ForcedReader(self.policy, self._ranks, self._objective.edits, cap, self._packed)
            samples = self._with_recomputed(read.applied(samples, sums), sums)
            whole = self.config.minibatches == 1
            return [
                self._step(b, sums, first=n == 0 and whole, collect=n < self.config.minibatches)
                for n, b in enumerate(self._minibatches(samples))
            ]

    def _next_version(self) -> None:
        self.version += 1
        if self._snapshots is not None:
            self._snapshots.take(self.policy.adapters, self.version)

    @property
    def _objective(self) -> Objective:
        """That of the present player."""
        return self._objectives[self.policy.player]

    def refresh(self) -> dict[str, float]:
        """Let the interventions look at the policy as it is. Call it once before the first update. Returns metrics.

        Those that are about one player alone look at that one.
        """
        looking = [i for i in self._interventions if type(i).refresh is not Intervention.refresh]
        return refreshed(looking, self.policy, self.version, owners(self._apart))

    @torch.no_grad()
    def values(self, samples: Sequence[Sample]) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """Per sample (values before each loss token [loss tokens, heads], values after the last [heads])."""
        values: dict[int, tuple[NDArray[np.float64], NDArray[np.float64]]] = {}
        index = {id(sample): number for number, sample in enumerate(samples)}
        without_dropout(self.policy.model)
        self._set_edits()
        with self.policy.phase("training"):
            for batch, _ in self._ranks.share(self._packed(samples), lambda _: "read", lambda b: b.ids.numel()):
                before, after = self.policy.values(batch, self._objective.edits)
                for number, sample in enumerate(batch.samples):
                    of_sample = before[batch.sequence == number].double().cpu().numpy()
                    values[index[id(sample)]] = of_sample, after[number].double().cpu().numpy()
        for of_rank in self._ranks.gather(values):
            values |= of_rank
        return [values[number] for number in range(len(samples))]

    def logprobs(self, samples: Sequence[Sample]) -> list[float]:
        """Per sample the sum of the log-probs of its loss tokens, under the training edits."""
        without_dropout(self.policy.model)
        self._set_edits()
        with self.policy.phase("training"):
            return summed_logprobs(self.policy, samples, self._packed(samples), self._ranks, self._objective.edits)

    def state_dict(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The state that the next update depends on: (CPU tensors by flat name, JSON-serialisable values)."""
        moments, values = self._optimizer.state_dict()
        tensors = {f"policy.{name}": tensor for name, tensor in self.policy.state_dict().items()}
        tensors |= {f"optimizer.{name}": tensor for name, tensor in moments.items()}
        if self._reference is not None:
            tensors |= {f"reference.{name}": tensor for name, tensor in self._reference.state_dict().items()}
        return tensors, {"version": self.version, "bad_steps": self._bad_steps, "optimizer": values}

    def load_state_dict(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned. Raises: `PolicyError` if it does not fit the policy."""
        parts: dict[str, dict[str, Tensor]] = {"policy": {}, "optimizer": {}, "reference": {}}
        for name, tensor in tensors.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = tensor
        self.policy.load_state_dict(parts["policy"])
        self._optimizer.load_state_dict(parts["optimizer"], values["optimizer"])
        if self._reference is not None:
            self._reference.load_state_dict(parts["reference"])
        release(self.policy.model)
        self.version, self._bad_steps = int(values["version"]), int(values["bad_steps"])

    def _set_edits(self) -> None:
        edits = self._edits_now()
        for objective in self._objectives.values():
            objective.edits = edits

    def _edits_now(self) -> tuple[ActivationEdit, ...]:
        """The edits of the forward pass: those of interventions can change from update to update."""
        return tuple(self._edits() if callable(self._edits) else self._edits)

    @torch.no_grad()
    def _with_recomputed(self, samples: Sequence[Sample], sums: MetricSums) -> Sequence[Sample]:
        """With several steps, read what compares with the policy before the first: later it has moved.

        These are the old log-probs of ratio `recomputed`, mismatch weights, which become part of `weight`, and with
        several minibatches the mismatch of all of them.

        Raises: `LearnerError` if sampler and learner differ too much.
        """
        if not self.config.several_steps:
            return samples
        corrects, guarded = self._objective.corrects, self.config.minibatches > 1
        index = {id(sample): number for number, sample in enumerate(samples)}
        read = [s for s in samples if s.ratio == "recomputed" or corrects(s) or (guarded and s.on_policy)]
        changed: dict[int, Sample] = {}
        for batch, real in self._ranks.share(self._packed(read), lambda _: "read", lambda b: b.ids.numel()):
            logprobs, _ = self.policy.logprobs(batch, self._objective.edits)
            into = sums if real else MetricSums()
            if guarded:
                self._objective.compare(batch, logprobs, into)
            corrected = any(map(corrects, batch.samples))
            weights = self._objective.mismatch(logprobs, batch, into) if corrected else torch.ones_like(logprobs)
            for number, sample in enumerate(batch.samples):
                own, places = batch.sequence == number, sample.loss_positions
                if corrects(sample):
                    weight = sample.weight.copy()
                    weight[places] *= weights[own].cpu().numpy()
                    changed[index[id(sample)]] = sample = replace(sample, weight=weight)
                if batch.ratio == "recomputed":
                    old = sample.old_logprobs.copy()
                    old[places] = logprobs[own].cpu().numpy()
                    changed[index[id(batch.samples[number])]] = replace(sample, old_logprobs=old)
        if guarded:
            self._refuse_mismatch(sums.summed(self._ranks).mean("mismatch_kl"))
        for of_rank in self._ranks.gather(changed):
            changed |= of_rank
        return [changed.get(number, sample) for number, sample in enumerate(samples)]

    def _minibatches(self, samples: Sequence[Sample]) -> Iterator[list[Batch]]:
        """Yield the micro-batches of every optimiser step of an update, in order."""
        order = np.arange(len(samples))
        for epoch in range(self.config.epochs):
            if self.config.minibatches > 1:  # the same on all ranks, and in a resumed run
                order = np.random.default_rng([self._seed, self.version, epoch]).permutation(len(samples))
            for part in np.array_split(order, self.config.minibatches):
                yield self._packed([samples[i] for i in part])

    def _packed(self, samples: Sequence[Sample], budget: int = 0) -> list[Batch]:
        budget = budget or self.config.token_budget
        policy, shared = self.policy, self.config.shared_prefixes and self.policy.shares
        return pack(samples, budget, policy.device, ranks=self._ranks.size, padded=policy.padded, shared=shared)

    def _step(self, batches: Sequence[Batch], sums: MetricSums, *, first: bool, collect: bool) -> float | None:
        """Take one optimiser step. Returns the gradient norm, or None if it is not finite and the step is skipped.

        `collect`: it is the first pass over these samples, whose captured states are the update's.
        """
        counts = TokenCounts.of(batches)
        self._optimizer.clear()
        for batch, real in self._ranks.share(batches, self._passes, self._cost):
            gates = {"kept": batch.kept_gate, "quarantine": batch.quarantine_gate}
            with self._optimizer.gated(gates, freeze=self._ranks.strategy != "fsdp"):
                with torch.set_grad_enabled(self._objective.needs_gradient(batch)):
                    into = sums if real else MetricSums()
                    loss = self._objective.loss(batch, counts, into, first=first, collect=real and collect)
                if loss.requires_grad:
                    # Activation checkpointing runs layers again in the backward pass, so the edits must be in place.
                    with applied(self.policy.model, self._objective.edits):
                        (loss if real else 0.0 * loss).backward()
            into.tokens += batch.loss_tokens * batch.policy
        if first:
            self._refuse_mismatch(sums.summed(self._ranks).mean("mismatch_kl"))
        norm = self._optimizer.norm(self.config.max_grad_norm, {"value": self.config.critic.max_grad_norm})
        if not np.isfinite(norm):
            self._skip("the gradient norm is not finite")
            return None
        self._bad_steps = 0
        self._optimizer.step()
        release(self.policy.model)
        return norm

    @property
    def _warming_up(self) -> bool:
        return self.config.algorithm == "ppo" and self.version < self.config.critic.warmup

    @torch.no_grad()
    def _fit_critic(self, samples: Sequence[Sample], sums: MetricSums) -> None:
        """Run an update of the critic's warm-up: fit the value head by least squares, and only measure the policy.

        Gradient steps would need longer to reach the level of each turn. Until then, advantages favour early actions
        of an episode, because more reward is still to come there.
        """
        head = self.policy.value_head
        assert head is not None
        fitted = Regression(head.linear.in_features, head.linear.out_features, self.policy.device)
        batches = self._packed(samples)
        counts = TokenCounts.of(batches)
        for batch, real in self._ranks.share(batches, lambda _: "read", lambda b: b.ids.numel()):
            into = sums if real else MetricSums()
            self._objective.loss(batch, counts, into, first=True, warm_up=True, collect=real)
            into.tokens += batch.loss_tokens * batch.policy
            states, targets = self.policy.critic_steps(batch, self._objective.edits)
            if real:
                fitted.add(states, targets)
        self._refuse_mismatch(sums.summed(self._ranks).mean("mismatch_kl"))
        self._ranks.add_up(fitted.gram, fitted.moment)
        head.fit(fitted)

    def _passes(self, batch: Batch) -> tuple[object, ...]:
        """Kind of a batch: all batches of one kind run the same forward and backward passes."""
        parts = batch.policy, batch.kl, batch.critic is None, batch.imitation is None
        return (self._objective.needs_gradient(batch), batch.kept_gate, batch.quarantine_gate, *parts)

    def _cost(self, batch: Batch) -> int:
        """Relative time of a batch: a backward pass takes about twice the time of a forward pass."""
        return batch.ids.numel() * (3 if self._objective.needs_gradient(batch) else 1)

    def _refuse_mismatch(self, kl: float) -> None:
        if not kl <= self.config.max_mismatch_kl:
            raise LearnerError(
                f"the sampler's log-probs differ from the learner's by KL {kl:.4g} per token (learner.max_mismatch_kl="
                f"{self.config.max_mismatch_kl}): sampler and learner do not hold the same policy, mask or edits"
            )

    def _skip(self, reason: str) -> None:
        self._optimizer.clear()
        self._bad_steps += 1
        log.warning("version %d: %s; this step is skipped", self.version, reason)
        if self._bad_steps >= self.config.max_bad_steps:
            raise LearnerError(
                f"{reason}, {self._bad_steps} times in a row (learner.max_bad_steps): lower learner.lr, or check the "
                "arm's rewards and credits"
            )


def _rate(policy: Policy, config: LearnerConfig, *, warn: bool) -> float:
    """The learning rate: the config's, or else the one that fits the size of the model."""
    size, lora = sum(p.numel() for p in policy.model.parameters()), bool(policy.adapters.names("kept"))
    if config.lr is None:
        return default_lr(size, lora=lora)
    if warn and (warning := unusual_lr(config.lr, size, lora=lora)):
        log.warning("%s", warning)
    return config.lr
