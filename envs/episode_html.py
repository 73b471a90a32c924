"""An episode for a reader of notebooks. Everything that a world or a model said is escaped."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

from envs.escaping import on_one_line, on_terminal

LONGEST = 700
"""Characters of one text that are shown."""
MOST_TURNS = 200
_BOX = "font-size:90%;border-left:3px solid #bbb;padding-left:.7em;margin:.6em 0"
_GREY = "color:#777"
_SAID = "font-family:monospace;white-space:pre-wrap"


def episode_html(episode: Any, truth: Sequence[Any] | None, traits: Sequence[str]) -> str:
    """A transcript: context, then per turn what the world said, motive, command, reward, and what was true.

    Args:
        episode: an `envs.episode.Episode`, which cannot be named here, as it uses this module.
        truth: `Labels` of the turns; None: they are sealed, and the transcript says so.
        traits: the labelled traits.
    """
    facts = [
        f"seed {episode.seed}",
        f"group {episode.group}",
        f"arm {episode.arm}",
        episode.status.value.replace("_", " "),
        f"return {episode.proxy_return:+.3g}",
        *([f"true return {sum(each.true_reward for each in truth):+.3g}"] if truth is not None else ["labels sealed"]),
        f"{len(episode.tokens)} tokens",
    ]
    context = episode.contexts.sampling
    parts = [f"<b>{_line(episode.world)}</b> <span style='{_GREY}'>{_line(', '.join(facts))}</span>"]
    if context.system:
        parts.append(f"<div style='{_SAID}'>{_text(context.system)} <i>(context {_line(context.name)})</i></div>")
    for number, turn in enumerate(episode.turns[:MOST_TURNS]):
        labels = truth[number] if truth is not None and number < len(truth) else None
        parts.append(_turn(number, turn, labels, traits))
    if (more := len(episode.turns) - MOST_TURNS) > 0:
        parts.append(f"<i>{more} more turns</i>")
    if episode.error:
        parts.append(f"<div>{_text(episode.error)}</div>")
    return f"<div style='{_BOX}'>{''.join(parts)}</div>"


def _turn(number: int, turn: Any, labels: Any, traits: Sequence[str]) -> str:
    found = [trait.replace("_", " ") for trait in traits if labels is not None and labels.trait(trait) > 0]
    marks = "".join(f" <b style='color:#a63603'>{_line(trait)}</b>" for trait in found)
    forced = f"<i>{_text(turn.completion[: turn.forced.length])}</i> " if turn.forced.length else ""
    command = turn.action_text or turn.completion
    sent = f" (the world got: {_line(turn.executed)})" if turn.executed not in (command.lower(), command, "") else ""
    return (
        f"<div style='margin-top:.4em'><span style='{_GREY}'>{number}</span> "
        f"<span style='{_SAID};{_GREY}'>{_text(turn.observation)}</span></div>"
        f"<div style='{_SAID}'>{forced}{_text(turn.motive_text)} → <b>{_text(command)}</b>{sent} "
        f"<span style='{_GREY}'>{turn.reward:+.3g}</span>{marks}</div>"
    )


def _text(text: str) -> str:
    return html.escape(on_terminal(text, LONGEST, LONGEST))


def _line(text: str) -> str:
    return html.escape(on_one_line(text, LONGEST))
