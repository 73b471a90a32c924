"""A price on stated reasons: a monitor reads the chain of thought, and what it suspects is charged."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field

from envs.episode import Episode, Span, Turn
from shaping.constraints.monitor_penalty import MonitorPenalty
from shaping.controls import ControlKind
from shaping.labels.inline_monitor import InlineMonitor
from shaping.monitors.motive_check import MotiveCheck


class ThoughtPenalty(MonitorPenalty):
    """A `MonitorPenalty` whose monitor sees what the agent thinks before it acts, and nothing that it does.

        motive spans alone -> monitor -> score per turn -> cost per turn

    Baker et al. (arXiv:2503.11926): a monitor of the chain of thought finds 95 % of hacks where one of actions finds
    60 %; put into the reward it helps for a while, then hacks go on under innocent reasons and its recall collapses.
    They recommend to leave thoughts unoptimised. This is the adversary that shows why: compare hacks and stated reasons
    over training, with `verbalised` reasons read by a monitor that was not trained on.

    The monitor reads episodes whose turns hold the observation and the text of the motive, without commands, events and
    rewards. The cost falls on the whole turn, so that acts are selected by what is said about them.

    Controls: `reads: action` gives the same monitor the actions alone; `reads: both`; `placebo: true`; a penalty of 0
    measures and leaves every bit.
    """

    needs: ClassVar[tuple[ControlKind, ...]] = (ControlKind.PLACEBO, ControlKind.NO_LOOPHOLE, ControlKind.BASE)

    monitor: InlineMonitor = Field(MotiveCheck(role="train"), description="the monitor, as under eval.monitors")
    reads: Literal["thought", "action", "both"] = Field("thought", description="what the monitor is shown of a turn")

    def shown(self, episode: Episode) -> Episode:
        if self.reads == "both":
            return episode
        return replace(episode, turns=tuple(map(_thought if self.reads == "thought" else _action, episode.turns)))


def _thought(turn: Turn) -> Turn:
    """A turn without what was done in it."""
    text = turn.motive_text
    nothing_done = Span(len(text), len(text))
    return replace(
        turn,
        completion=text,
        motive=Span(0, len(text)),
        action=nothing_done,
        executed="",
        reward=0.0,
        events=(),
        overt_shortcuts=(),
    )


def _action(turn: Turn) -> Turn:
    """A turn without the thoughts before it."""
    text = turn.action_text
    return replace(turn, completion=text, motive=Span(0, 0), action=Span(0, len(text)))
