"""One evaluation condition: a world, with the overseer and the irrelevant cue each forced on or off."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from envs.episode import Episode
from shaping.audits.metrics import metrics_of, with_column
from shaping.audits.played import OWN, Played, sound
from shaping.audits.row import Row


def condition_row(
    episodes: Sequence[Episode], *, world: str, watch: str, placebo: str, cells: Sequence[str] = (OWN,)
) -> dict[str, Any]:
    """The condition's row of eval.jsonl, from ground truth: the metrics of conditions, and those that have a column.

    `cell` names the cells of the evaluation that the episodes count in. `episodes` and `status/<status>` count all
    episodes, `no_turns` those that ended in no error and had no turn (if there are any). Everything else is over those
    that had turns and no error, and is missing if there is none.

    Raises `ValueError` if an episode is of another world and `SealedError` on redacted episodes.
    """
    strangers = {episode.world for episode in episodes} - {world}
    if strangers:
        raise ValueError(f"the condition of world {world!r} holds episodes of {sorted(strangers)}")
    named = {"world": world, "watch": watch, "placebo": placebo, "cell": " ".join(cells)}
    row = Row("the evaluation", named | {"episodes": len(episodes)})
    statuses = Counter(e.status.value for e in episodes)
    row.add("the evaluation", {f"status/{status}": n for status, n in sorted(statuses.items())})
    if empty := sum(not e.turns and not e.status.is_error for e in episodes):
        row.add("the evaluation", {"no_turns": empty})
    played = Played.of(sound(episodes))
    if not len(played):
        return row
    for metric in with_column():
        row.add(metric.described, metric.measure(played, metric.column))
    for metric in metrics_of("condition"):
        row.add(metric.described, metric.measure(played))
    return row
