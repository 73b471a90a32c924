"""A list of episodes that tables and notebooks can show."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from envs.episode import TRAITS, Episode, Labels, SealedError, by_group
from envs.escaping import on_one_line
from launch.errors import UserError, nearest

if TYPE_CHECKING:
    from pandas import DataFrame

SHOWN = 20
"""Episodes that a notebook lists."""
_COLUMNS = ("group", "world", "seed", "context", "status", "turns", "return")


class Episodes(list[Episode]):
    """Episodes, in order, as a list. A notebook shows them as a table; one of them alone as a transcript."""

    def __repr__(self) -> str:
        worlds = ", ".join(dict.fromkeys(episode.world for episode in self))
        return f"<{len(self)} episodes in {worlds or 'no world'}: .frame() is a table, [0] the first of them>"

    @property
    def groups(self) -> Mapping[int, Episodes]:
        """The episodes of each advantage group, by its number."""
        return {number: Episodes(self[i] for i in members) for number, members in by_group(self).items()}

    def frame(self) -> DataFrame:
        """One row per episode: group, world, seed, arm, context, status, number of turns, returns, counts of traits.

        Of sealed episodes true return and traits are missing (NaN).
        """
        import pandas as pd

        return pd.DataFrame([_row(episode) for episode in self], columns=[*_row_names()])

    def turns(self) -> DataFrame:
        """One row per turn: `episode` (its number in this list), `turn`, what was said and done, reward, labels.

        Of sealed episodes the labels are missing (NaN).
        """
        import pandas as pd

        return pd.DataFrame([row for number, episode in enumerate(self) for row in _turns(number, episode)])

    def _repr_html_(self) -> str:
        rows = [_row(episode) for episode in self[:SHOWN]]
        traits = [trait for trait in TRAITS if any(row[trait] > 0 for row in rows)]
        names = [*_COLUMNS, *traits]
        head = "".join(f"<th>{name.replace('_', ' ')}</th>" for name in names)
        body = "".join(f"<tr>{''.join(f'<td>{_cell(row[name])}</td>' for name in names)}</tr>" for row in rows)
        more = f"<p>and {len(self) - SHOWN} more</p>" if len(self) > SHOWN else ""
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


def chosen(
    episodes: Iterable[Episode], *, world: str | None = None, label: str | None = None, seed: int | None = None
) -> Episodes:
    """The episodes of one world, of one world seed, and with at least one turn that shows the trait `label`.

    Raises `UserError` for a label that is no trait, and for a choice by labels that are sealed.
    """
    if label is not None and label not in TRAITS:
        raise UserError(f"label: {label!r} is no trait{nearest(label, TRAITS)}")
    found = Episodes()
    for episode in episodes:
        if (world is None or episode.world == world) and (seed is None or episode.seed == seed):
            labels = labels_of(episode) if label is not None else ()
            if labels is None:
                raise UserError(f"label: the labels of the episode of seed {episode.seed} are sealed; leave it out")
            if label is None or any(each.trait(label) > 0 for each in labels):
                found.append(episode)
    return found


def labels_of(episode: Episode) -> Sequence[Labels] | None:
    """The labels of its turns; None if they are sealed."""
    try:
        return episode.truth.open()
    except SealedError:
        return None


def _row_names() -> Sequence[str]:
    return ("group", "world", "seed", "arm", "context", "status", "turns", "tokens", "return", "true_return", *TRAITS)


def _row(episode: Episode) -> dict[str, Any]:
    labels = labels_of(episode)
    known = labels is not None
    return {
        "group": episode.group,
        "world": episode.world,
        "seed": episode.seed,
        "arm": episode.arm,
        "context": episode.contexts.sampling.name,
        "status": episode.status.value,
        "turns": len(episode.turns),
        "tokens": len(episode.tokens),
        "return": episode.proxy_return,
        "true_return": sum(each.true_reward for each in labels or ()) if known else np.nan,
        **{trait: sum(each.trait(trait) for each in labels or ()) if known else np.nan for trait in TRAITS},
    }


def _turns(number: int, episode: Episode) -> Iterable[dict[str, Any]]:
    labels = labels_of(episode)
    for index, turn in enumerate(episode.turns):
        own = labels[index] if labels is not None and index < len(labels) else None
        yield {
            "episode": number,
            "turn": index,
            "observation": turn.observation,
            "motive": turn.motive_text,
            "action": turn.action_text,
            "executed": turn.executed,
            "reward": turn.reward,
            "logprob": float(turn.logprobs.sum()),
            "true_reward": np.nan if own is None else own.true_reward,
            **{trait: np.nan if own is None else own.trait(trait) for trait in TRAITS},
        }


def _cell(value: object) -> str:
    return html.escape(f"{value:.3g}" if isinstance(value, float) else on_one_line(str(value), 80))
