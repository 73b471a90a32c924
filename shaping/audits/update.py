"""What one training update did and what it pushed towards: one row of metrics from its episodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from envs.episode import TRAITS, Episode
from shaping.audits.order import order_violations, zero_variance
from shaping.audits.rates import Tally, defined, tally
from shaping.audits.selection import classes, covariances, covariances_within

Vector = NDArray[np.float64]


def audit_update(
    episodes: Sequence[Episode],
    returns: Vector,
    advantages: Vector,
    credit: Vector,
    groups: NDArray[np.int64],
    *,
    classify: Callable[[str], str] | None = None,
) -> dict[str, float]:
    """Metrics of one update; every array has shape [n], one entry per episode.

    `advantages` are the group-normalised ones before any intervention, `credit` the mean per-token advantage that each
    episode is finally trained on. `selection/...` and `selection_within/...` are covariances with `credit`, the whole
    training signal; `selection_reward/<trait>` with `advantages`, the part due to reward, so that their difference is
    what the interventions add. A trait's value in an episode is its events per turn, a motive's the share of turns
    that state it. `classify` names the motive of a text (default: the built-in motive vocabulary). What is not
    defined, such as the rate of a trait without opportunity, is left out.

    Raises `SealedError` on redacted episodes and `ValueError` if an array does not match the episodes.
    """
    arrays = {"returns": returns, "advantages": advantages, "credit": credit, "groups": groups}
    for name, array in arrays.items():
        if np.shape(array) != (len(episodes),):
            raise ValueError(
                f"{name} has shape {np.shape(array)}, expected one entry for each of {len(episodes)} episodes"
            )
    if not len(episodes):
        return {}
    counts = tally([episode.truth.open() for episode in episodes])
    row = outcome_metrics(episodes, counts)
    row |= _selection(episodes, counts, returns, advantages, credit, groups, classify or _built_in_classifier())
    order = order_violations(returns, credit, groups)
    if order.share is not None and order.flattened_share is not None:
        row |= {"order_violations": order.share, "order_flattened": order.flattened_share}
    variance = zero_variance(returns, groups)
    return row if variance is None else row | {"zero_variance": variance}


def outcome_metrics(episodes: Sequence[Episode], counts: Tally) -> dict[str, float]:
    """Rewards (divided by the world's `max_return`), rates and what was held, over all episodes and per world."""
    reward = np.array([episode.proxy_return / max_return(episode) for episode in episodes])
    true_reward = counts.true_return / np.array([max_return(episode) for episode in episodes])
    row = {
        "reward": float(reward.mean()),
        "true_reward": float(true_reward.mean()),
        **counts.holdings(),
        "deceptive_episodes": float((counts.events[:, TRAITS.index("deception")] > 0).mean()),
    }
    row |= {f"rate/{trait}": rate for trait, rate in defined(counts.rates()).items()}
    worlds = np.array([episode.world for episode in episodes])
    for world in sorted(set(worlds.tolist())):
        here = worlds == world
        row |= {f"reward/{world}": float(reward[here].mean()), f"true_reward/{world}": float(true_reward[here].mean())}
        row |= {f"rate/{trait}/{world}": rate for trait, rate in defined(counts.select(here).rates()).items()}
    return row


def max_return(episode: Episode) -> float:
    """The largest honest return of the episode's world. Raises `ValueError` if the sampler did not record it."""
    value = episode.options.get("max_return")
    if not isinstance(value, (int, float)) or not value > 0:
        raise ValueError(
            f"episode of {episode.world!r} (seed {episode.seed}) has options['max_return'] = {value!r}; the sampler "
            "must record the world's positive max_return there"
        )
    return float(value)


def _selection(
    episodes: Sequence[Episode],
    counts: Tally,
    returns: Vector,
    advantages: Vector,
    credit: Vector,
    groups: NDArray[np.int64],
    classify: Callable[[str], str],
) -> dict[str, float]:
    turns = np.maximum(counts.turns, 1.0)[:, None]
    stated = _motive_counts(episodes, classify)
    motives = sorted(stated)
    traits = np.concatenate([counts.events] + [stated[motive][:, None] for motive in motives], axis=1) / turns
    names = [*TRAITS, *(f"motive:{motive}" for motive in motives)]
    total = covariances(credit, traits)
    within = covariances_within(credit, traits, classes(returns, groups))
    reward = covariances(advantages, traits)
    row = {f"selection/{name}": float(total[k]) for k, name in enumerate(names)}
    row |= {f"selection_within/{name}": float(within[k]) for k, name in enumerate(names)}
    return row | {f"selection_reward/{name}": float(reward[k]) for k, name in enumerate(names)}


def _motive_counts(episodes: Sequence[Episode], classify: Callable[[str], str]) -> dict[str, Vector]:
    """Turns that state each motive, an array of shape [n] per motive. Each distinct text is classified once."""
    known: dict[str, str] = {}
    result: dict[str, Vector] = {}
    for index, episode in enumerate(episodes):
        for turn in episode.turns:
            text = turn.motive_text
            motive = known.get(text)
            if motive is None:
                motive = known[text] = classify(text)
            if motive not in result:
                result[motive] = np.zeros(len(episodes))
            result[motive][index] += 1.0
    return result


def _built_in_classifier() -> Callable[[str], str]:
    from envs.personas.persona import classify_motive

    return classify_motive
