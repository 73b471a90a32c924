"""The contexts of groups, and training contexts of single episodes, where an intervention sets them apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from envs.episode import Contexts, Episode
from shaping.arm import Arm
from shaping.hooks import InterventionError, Knob
from shaping.sampling.text.render import Renderer


def check_contexts(episodes: Sequence[Episode]) -> None:
    """Refuse groups with several contexts: their baseline would mix the contexts' effects into the advantage."""
    drawn: dict[int, object] = {}
    for episode in episodes:
        if drawn.setdefault(episode.group, episode.contexts) != episode.contexts:
            raise InterventionError(f"group {episode.group} mixes contexts; one draw per group is required")


def with_own_contexts(episodes: Sequence[Episode], arm: Arm, renderer: Renderer) -> Sequence[Episode]:
    """The episodes with the training contexts that `Knob.EPISODE_CONTEXT` gives them.

    Raises: `InterventionError` for a context that takes more room than was kept when the episode was played.
    """
    if Knob.EPISODE_CONTEXT not in arm.owner:
        return episodes
    return [_with_own_context(episode, arm, renderer) for episode in episodes]


def _with_own_context(episode: Episode, arm: Arm, renderer: Renderer) -> Episode:
    own, (sampling, training) = arm.episode_context(episode), (episode.contexts.sampling, episode.contexts.training)
    if own == training or not episode.turns:
        return episode
    if own.system not in (sampling.system, training.system):
        first = episode.turns[0].observation
        kept = max(len(renderer.open(context.system, first)) for context in (sampling, training))
        if (needed := len(renderer.open(own.system, first))) > kept:
            raise InterventionError(
                f"arm {arm.name!r}: {type(arm.owner[Knob.EPISODE_CONTEXT]).__name__}.episode_context() returned "
                f"{own.name!r}, with which the first prompt takes {needed} tokens, but room was kept for {kept}: draw "
                "the longest context in training_context(), and choose among it and shorter ones here"
            )
    return replace(episode, contexts=Contexts(sampling, own))
