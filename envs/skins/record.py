"""Recorded episodes of a skin in the world's own words, for readers of text such as monitors."""

from __future__ import annotations

from dataclasses import replace

from envs.core import parse_action
from envs.episode import Episode, Turn
from envs.skins import Skin, skin_of


def plain(episode: Episode) -> Episode:
    """The episode with observations, executed commands and events in the world's own words (`say` of the data files).

    Completions stay as the model wrote them. An episode of the default locale is returned itself.
    """
    skin = skin_of(episode.world)
    if skin is None:
        return episode
    return replace(episode, turns=tuple(_plain(turn, skin) for turn in episode.turns))


def _plain(turn: Turn, skin: Skin) -> Turn:
    def command(text: str) -> str:
        return skin.read(parse_action(text)) or text

    return replace(
        turn,
        observation=skin.plain(turn.observation),
        executed=command(turn.executed),
        events=tuple(event._replace(text=command(event.text)) for event in turn.events),
        overt_shortcuts=tuple(command(text) for text in turn.overt_shortcuts),
    )
