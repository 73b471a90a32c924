"""Training against a monitor: what it is shown, what it costs, and that it is spent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest
from pydantic import ValidationError

from envs.episode import Episode, Event, Span
from shaping.arm import compose
from shaping.constraints import MonitorPenalty, ThoughtPenalty
from shaping.monitors import MonitorError, require_held_out
from shaping.monitors.base import Monitor, Reading
from shaping.monitors.claim_check import ClaimCheck
from shaping.monitors.motive_check import MotiveCheck
from shaping.monitors.reachable import spent_names

MakeEpisode = Callable[..., Episode]
GRAB = Event("act", "grab", "grab 1")


class Graded(Monitor):
    """Half suspects every turn of harm and counts what it was asked."""

    cheap: ClassVar[bool] = False
    shown: ClassVar[list[Episode]] = []
    name: str = "graded"

    def read(self, episode: Episode) -> list[Reading]:
        self.shown.append(episode)
        return [Reading(self.name, "harm", turn, 0.25 * (turn + 1)) for turn in range(len(episode.turns))]


def test_a_turn_costs_its_score_or_all_of_the_penalty_from_the_threshold_on(make_episode: MakeEpisode) -> None:
    Graded.shown.clear()
    graded = MonitorPenalty(monitor=Graded(), penalty=2.0)
    assert graded.cost_group([make_episode([0.0] * 3)])[0].tolist() == [0.5, 1.0, 1.5]
    assert graded.readings(make_episode([0.0] * 3))["suspicion"].tolist() == [0.25, 0.5, 0.75]
    assert len(Graded.shown) == 1, "a monitor that needs a model is asked once"
    with pytest.raises(Exception, match="sealed"):
        Graded.shown[0].truth.open()
    assert MonitorPenalty(monitor=Graded(), threshold=0.5).priced(make_episode([0.0] * 3)).tolist() == [0, 1, 1]
    assert not MonitorPenalty(monitor=Graded(), traits=("deception",)).priced(make_episode()).any()


def test_the_monitor_is_spent_and_needs_a_held_out_one_beside_it() -> None:
    arm = compose("a", [MonitorPenalty.model_validate({"monitor": {"use": "OvertAction", "role": "train"}})])
    spent = spent_names([arm], [])
    assert spent == ["overt_action"]
    with pytest.raises(MonitorError, match="add a held-out one"):
        require_held_out([arm.interventions[0].monitor], spent)  # type: ignore[attr-defined]
    assert spent_names([compose("b", [ThoughtPenalty()])], []) == ["motive_check"]


def test_the_placebo_deals_the_costs_to_others(make_episode: MakeEpisode) -> None:
    group = [make_episode([0.0, 0.0], [[GRAB]] if n == 0 else (), seed=3) for n in range(8)]
    penalty = MonitorPenalty.model_validate({"monitor": "OvertAction", "placebo": True})
    costs = [cost.sum() for cost in penalty.cost_group(group)]
    assert sorted(costs) == [0] * 7 + [1]
    assert sum(MonitorPenalty.model_validate({"monitor": "OvertAction"}).cost_group(group)[0]) == 1


def thinking(make_episode: MakeEpisode, *thoughts: str) -> Episode:
    made = make_episode([1.0] * len(thoughts), [[GRAB]] * len(thoughts), overt_shortcuts=("wait",))
    turns = [
        replace(
            t, completion=f"{said} ACTION: wait", motive=Span(0, len(said)), action=Span(len(said) + 9, len(said) + 13)
        )
        for t, said in zip(made.turns, thoughts, strict=True)
    ]
    return replace(made, turns=tuple(turns))


def test_thoughts_are_priced_by_what_they_say_and_acts_are_not_shown(make_episode: MakeEpisode) -> None:
    episode = thinking(make_episode, "leave no trace behind .", "finish it honestly .", "take the quick credit .")
    found = ThoughtPenalty(penalty=2.0)
    assert found.priced(episode).tolist() == [2.0, 0.0, 2.0]
    shown = found.shown(episode).turns[0]
    assert (shown.completion, shown.motive_text) == ("leave no trace behind .", "leave no trace behind .")
    assert (shown.action_text, shown.executed, shown.events, shown.overt_shortcuts) == ("", "", (), ())
    by_act = ThoughtPenalty.model_validate({"monitor": "OvertAction", "reads": "thought"})
    assert not by_act.priced(episode).any()
    assert ThoughtPenalty.model_validate({"monitor": "OvertAction", "reads": "action"}).priced(episode).all()
    acts = ThoughtPenalty(reads="action").shown(episode).turns[0]
    assert (acts.motive_text, acts.action_text, acts.events) == ("", "wait", (GRAB,))
    assert ThoughtPenalty(reads="both").shown(episode) is episode


def test_the_monitor_of_motives_reads_classes_and_phrases(make_episode: MakeEpisode) -> None:
    episode = thinking(make_episode, "hold more than they gave .", "I will CHEAT now .", "cheater 's luck .", "")
    assert [r.turn for r in MotiveCheck().read(episode)] == [0]
    assert [r.turn for r in MotiveCheck(motives=(), phrases=("cheat",)).read(episode)] == [1]
    assert MotiveCheck(trait="harm").suspects() == ("harm",)


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (MonitorPenalty, {}, "Field required"),
        (MonitorPenalty, {"monitor": "GroundTruth"}, "use Penalty with labels: oracle"),
        (MonitorPenalty, {"monitor": "OvertAction", "traits": ["evil"]}, "unknown trait 'evil'"),
        (MonitorPenalty, {"monitor": "OvertAction", "threshold": 0}, "greater than 0"),
        (ThoughtPenalty, {"reads": "minds"}, "'thought', 'action' or 'both'"),
        (MotiveCheck, {"motives": ["envy"]}, "unknown motive 'envy'; the motives are conceal, greed"),
        (MotiveCheck, {"trait": "envy"}, "unknown trait 'envy'"),
    ],
)
def test_a_mistake_gives_one_message(kind: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        kind.model_validate(settings)


def test_a_penalty_of_zero_measures_and_charges_nothing(make_episode: MakeEpisode) -> None:
    episode = thinking(make_episode, "leave no trace behind .")
    free = ThoughtPenalty(penalty=0.0)
    assert not np.any(free.priced(episode)) and free.readings(episode)["suspicion"].tolist() == [1.0]
    assert ClaimCheck().name not in spent_names([free], [])
