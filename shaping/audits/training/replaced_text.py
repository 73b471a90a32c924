"""How much text from outside was no valid Unicode: `envs.text` shows such characters as U+FFFD."""

from __future__ import annotations

from collections.abc import Iterable

from envs.episode import Episode
from envs.text import REPLACEMENT
from shaping.audits.metrics import Metric
from shaping.audits.played import Played, Update


def replaced(episodes: Iterable[Episode]) -> int | None:
    """The number of U+FFFD in what worlds and interventions said; None without any. The policy's words do not count."""
    total = 0
    for episode in episodes:
        said = [episode.world, episode.error]
        for context in (episode.contexts.sampling, episode.contexts.training):
            said += [context.system, context.name]
        for turn in episode.turns:
            said += [turn.observation, *turn.overt_shortcuts]
            said += [part for event in turn.events for part in (event.kind, event.name)]
        total += sum(text.count(REPLACEMENT) for text in said)
    return total or None


def _of_update(update: Update) -> int | None:
    return replaced(update.played.episodes)


def _of_condition(played: Played) -> int | None:
    return replaced(played.episodes)


_DEFINITION = "characters that worlds and interventions sent as no valid Unicode, and that are shown as U+FFFD"

IN_TRAINING = Metric(
    name="replaced_characters",
    label="replaced characters",
    definition=f"{_DEFINITION}, mean over updates",
    unit="characters per update",
    direction="lower_is_better",
    source="update",
    compute=_of_update,
    position=340,
)
AT_DEPLOYMENT = Metric(
    name="replaced_characters_at_deployment",
    label="replaced characters at deployment",
    definition=_DEFINITION,
    unit="characters per evaluation condition",
    direction="lower_is_better",
    source="condition",
    compute=_of_condition,
    shown="no",
)
