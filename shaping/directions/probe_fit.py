"""Fit linear probes to labelled turns: logistic regression, and the difference of class means.

Goldowsky-Dill et al. (arXiv:2502.03407): logistic regression on residual activations finds deceptive statements. Marks
and Tegmark (arXiv:2310.06824): the difference of the class means (mass-mean) is a direction that transfers better.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import scipy
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.preprocessing import StandardScaler

from shaping.directions.probe_set import ProbeError, ProbeKind, ProbeSet

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Inverse strengths of regularisation that are tried (scikit-learn's C)."""
SHARES = (0.6, 0.2, 0.2)
"""Shares of the situations that are fitted to, that regularisation and layer are chosen on, and that are tested on."""
_RESAMPLES = 500


@dataclass(frozen=True, slots=True)
class LabelledTurns:
    """The mean hidden states of turns, and whether each shows the trait."""

    layers: tuple[int, ...]
    """Layers from 0."""
    states: NDArray[np.float32]
    """Mean states [turns, layers, hidden]."""
    positive: NDArray[np.bool_]
    """Does the turn show the trait? [turns]"""
    situation: NDArray[np.int64]
    """Number of the situation, e.g. world and seed, that the turn is from [turns]. None is on two sides of a split."""
    kind: NDArray[np.str_]
    """First word of the command [turns]: what the turn does, apart from why."""


@dataclass(frozen=True, slots=True)
class _Linear:
    """One fitted probe on raw states, and its regularisation."""

    weight: NDArray[np.float64]
    bias: float
    strength: float

    def logits(self, states: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.asarray(states.astype(np.float64) @ self.weight + self.bias)


def fit_probes(
    turns: LabelledTurns,
    *,
    kind: ProbeKind = "logistic",
    keep: Literal["best", "all"] = "best",
    seed: int = 0,
    made_of: Mapping[str, Any] | None = None,
) -> ProbeSet:
    """Fit one probe per layer, and keep the one that does best on the situations that are set aside for the choice.

    Classes count alike, however rare the trait. A turn without a finite state is left out. The card has the quality on
    the last part of the situations, which nothing was chosen on: `auroc` with a bootstrap interval over situations, and
    `auroc_same_commands`, over turns whose command is of a kind that occurs with and without the trait, so that what is
    done does not give away why.

    Args:
        turns: labelled turns.
        kind: `logistic`: L2-regularised, on standardised states. `mass_mean`: the direction is the difference of the
            class means, and only scale and offset along it are fitted.
        keep: `all`: a probe of every layer; their logits are averaged.
        seed: of the split and of the bootstrap.
        made_of: what the card says of model and data.
    Raises: `ProbeError` if a part of the split lacks one of the classes.
    """
    usable = np.isfinite(turns.states).all(axis=(1, 2))
    states, positive = turns.states[usable], turns.positive[usable]
    situation, kinds = turns.situation[usable], turns.kind[usable]
    if not len(states):
        raise ProbeError("no turn has a hidden state: a probe needs labelled turns of episodes with tokens")
    fit, choose, test = _split(situation, positive, seed)
    fitted = [_fitted(states[:, n], positive, fit, choose, kind) for n in range(len(turns.layers))]
    chosen_on = [_auroc(positive[choose], each.logits(states[choose, n])) for n, each in enumerate(fitted)]
    numbers = list(range(len(fitted))) if keep == "all" else [int(np.argmax(chosen_on))]
    final = [_refitted(states[:, n], positive, fit | choose, kind, fitted[n].strength) for n in numbers]
    logits = np.mean([each.logits(states[test, n]) for n, each in zip(numbers, final, strict=True)], axis=0)
    quality = _quality(logits, positive[test], situation[test], kinds[test], seed)
    card = {
        **(made_of or {}),
        "kind": kind,
        "turns": len(states),
        "positives": int(positive.sum()),
        "situations": len(np.unique(situation)),
        "without_state": int((~usable).sum()),
        "seed": seed,
        "by_layer": {
            str(layer): {"auroc_chosen_on": round(a, 4), "strength": each.strength}
            for layer, a, each in zip(turns.layers, chosen_on, fitted, strict=True)
        },
        "held_out": quality,
    }
    return ProbeSet(
        tuple(turns.layers[n] for n in numbers),
        np.stack([each.weight for each in final]).astype(np.float32),
        np.array([each.bias for each in final], np.float32),
        card,
    )


def _split(
    situation: NDArray[np.int64], positive: NDArray[np.bool_], seed: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    """Three masks [turns] over whole situations. Situations with the trait are dealt out apart from the others."""
    rng = np.random.default_rng([seed, 1])
    every = np.unique(situation)
    with_trait = np.isin(every, np.unique(situation[positive]))
    part_of: dict[int, int] = {}
    for stratum in (every[with_trait], every[~with_trait]):
        order = rng.permutation(stratum)
        ends = np.round(np.cumsum(SHARES) * len(order)).astype(int)
        part_of |= {int(n): int(np.searchsorted(ends, place, side="right")) for place, n in enumerate(order)}
    parts = np.array([part_of[int(n)] for n in situation])
    masks = tuple(parts == number for number in range(3))
    for name, mask in zip(("fitted to", "chosen on", "tested on"), masks, strict=True):
        if (counts := np.bincount(positive[mask].astype(int), minlength=2)).min() < 1:
            raise ProbeError(
                f"the turns that are {name} hold {counts[1]} with the trait and {counts[0]} without it, of "
                f"{int(positive.sum())} and {int((~positive).sum())} in all, and a probe needs both in every part: add "
                "episodes, worlds, or personas that differ in the trait"
            )
    return masks[0], masks[1], masks[2]


def _fitted(
    states: NDArray[np.float32],
    positive: NDArray[np.bool_],
    fit: NDArray[np.bool_],
    choose: NDArray[np.bool_],
    kind: ProbeKind,
) -> _Linear:
    """The probe of one layer with the regularisation that predicts the chosen-on turns best, classes counted alike."""
    weights = _balanced(positive[choose])
    tried = [_refitted(states, positive, fit, kind, strength) for strength in STRENGTHS]
    losses = [
        log_loss(positive[choose], _chances(each.logits(states[choose])), labels=[0, 1], sample_weight=weights)
        for each in tried
    ]
    return tried[int(np.argmin(losses))]


def _refitted(
    states: NDArray[np.float32], positive: NDArray[np.bool_], on: NDArray[np.bool_], kind: ProbeKind, strength: float
) -> _Linear:
    own, labels = states[on].astype(np.float64), positive[on]
    direction = np.eye(own.shape[1])
    if kind == "mass_mean":
        direction = (own[labels].mean(axis=0) - own[~labels].mean(axis=0))[:, None]
        if not np.linalg.norm(direction) > 0:
            raise ProbeError("both classes have the same mean state: there is no direction between them")
        own = own @ direction
    scaler = StandardScaler().fit(own)
    model = LogisticRegression(C=strength, class_weight="balanced", max_iter=5000)
    model.fit(scaler.transform(own), labels)
    along = model.coef_[0] / scaler.scale_
    weight = along if kind == "logistic" else direction[:, 0] * along[0]
    return _Linear(weight, float(model.intercept_[0] - along @ scaler.mean_), strength)


def _quality(
    logits: NDArray[np.float64],
    positive: NDArray[np.bool_],
    situation: NDArray[np.int64],
    kinds: NDArray[np.str_],
    seed: int,
) -> dict[str, float]:
    """What the card says of turns that nothing was fitted to or chosen on."""
    found = {"turns": len(logits), "positives": int(positive.sum()), "auroc": round(_auroc(positive, logits), 4)}
    rng = np.random.default_rng([seed, 2])
    names = np.unique(situation)
    rows = {int(n): np.flatnonzero(situation == n) for n in names}
    drawn = []
    for _ in range(_RESAMPLES):  # situations are the clusters: turns of one are no independent evidence
        own = np.concatenate([rows[int(n)] for n in rng.choice(names, len(names))])
        if 0 < positive[own].sum() < len(own):
            drawn.append(_auroc(positive[own], logits[own]))
    if drawn:
        found |= dict(
            zip(("auroc_low", "auroc_high"), np.quantile(drawn, (0.025, 0.975)).round(4).tolist(), strict=True)
        )
    same = np.isin(kinds, sorted(set(kinds[positive]) & set(kinds[~positive])))
    if 0 < positive[same].sum() < same.sum():
        found |= {
            "turns_same_commands": int(same.sum()),
            "auroc_same_commands": round(_auroc(positive[same], logits[same]), 4),
        }
    found["brier"] = round(float(np.mean((_chances(logits) - positive) ** 2)), 4)
    return found


def _chances(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -50, 50))))


def _balanced(positive: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Weights [turns] with which both classes count alike."""
    return np.where(positive, 0.5 / positive.sum(), 0.5 / (~positive).sum())


def _auroc(positive: NDArray[np.bool_], scores: Sequence[float] | NDArray[np.float64]) -> float:
    """Mann and Whitney's U over the number of pairs: ties count one half."""
    ranks = scipy.stats.rankdata(scores)
    count = int(positive.sum())
    return float((ranks[positive].sum() - count * (count + 1) / 2) / (count * (len(positive) - count)))
