"""A plug-in can neither change what it is shown, nor write into the columns of another.

Promised: a plug-in that writes into an episode, a group, a batch, labels or a metric's subject gets an error that names
its class and hook, and nothing has changed. Readings and metrics live under the plug-in's own name; a column that two
write is refused.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar, get_args

import numpy as np
import pytest
from plugin_trials import learned, played_group
from writing_plugins import WRITES, Hook, PaysAndWrites, ReadsAndWrites, Writes, WritesLabels

from envs.episode import Episode
from rewards.base import RewardError, scored
from shaping.arm import Arm, compose
from shaping.audits.metrics import Metric, MetricError
from shaping.audits.row import Row
from shaping.audits.training.update import audit_update
from shaping.hooks import GroupInfo, InterventionError, TurnContext
from shaping.intervention import Shaper
from shaping.monitors.base import MonitorError
from shaping.monitors.turn_scores import turn_scores
from shaping.readings import readings

INFO = GroupInfo("clerk", 0, 0, 0)
TURN = TurnContext("clerk", 0, 0, "turn .", ("grab 1",))


@pytest.fixture(scope="module")
def group() -> tuple[Episode, ...]:
    return played_group()


# Writing --------------------------------------------------------------------------------------------------------------

CALLS: dict[str, Callable[[Arm, Sequence[Episode]], Any]] = {
    "sampling_context": lambda arm, group: arm.contexts(INFO, np.random.default_rng(0)),
    "training_context": lambda arm, group: arm.contexts(INFO, np.random.default_rng(0)),
    "allow": lambda arm, group: arm.allow(TURN, "wait"),
    "readings": lambda arm, group: readings(arm.interventions, group),
    **dict.fromkeys(("cost", "credit", "gates", "auxiliary_loss"), learned),
}
"""How the loop calls each hook."""


@pytest.mark.parametrize("hook", [hook for hook in get_args(Hook) if hook != "none"])
def test_a_hook_that_writes_gets_an_error_that_names_it_and_its_class(hook: Hook, group: tuple[Episode, ...]) -> None:
    with pytest.raises(InterventionError, match=rf"Writes\.{hook}\(\) raised .*read-only: work on a copy"):
        CALLS[hook](compose("arm", [Writes(hook=hook)]), group)


@pytest.mark.parametrize("way", [*WRITES, "advantages"])
def test_no_part_of_an_episode_or_a_group_can_be_written(way: str, group: tuple[Episode, ...]) -> None:
    before = pickle.dumps([replace(e, truth=e.truth.redacted()) for e in group])
    with pytest.raises(InterventionError, match=r"Writes\.credit\(\) raised"):
        learned(compose("arm", [Writes(hook="credit", way=way)]), group)
    if way in WRITES:
        with pytest.raises(RewardError, match=r"PaysAndWrites\.score_group\(\) raised"):
            scored(PaysAndWrites(way=way), group)
        with pytest.raises(MonitorError, match=r"ReadsAndWrites\.read\(\) raised"):
            turn_scores(ReadsAndWrites(way=way), group[0])
    assert pickle.dumps([replace(e, truth=e.truth.redacted()) for e in group]) == before


def test_who_may_read_the_truth_may_not_change_it(group: tuple[Episode, ...]) -> None:
    with pytest.raises(InterventionError, match=r"WritesLabels\.cost\(\) raised TypeError.*work on a copy"):
        learned(compose("arm", [WritesLabels()]), group)


def test_an_episode_from_another_process_is_as_closed_as_any(group: tuple[Episode, ...]) -> None:
    again = pickle.loads(pickle.dumps(group[0]))
    for way in WRITES.values():
        with pytest.raises((ValueError, TypeError, AttributeError)):
            way(again)


@pytest.mark.parametrize("part", ["credit", "groups"])
def test_a_metric_cannot_change_what_the_next_one_measures(
    part: str, group: tuple[Episode, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def compute(update: Any) -> float:
        getattr(update, part)[:] = 0
        return 0.0

    use(monkeypatch, metric("greedy", compute))
    with pytest.raises(ValueError, match="read-only") as caught:
        audited(group)
    assert caught.value.__notes__ == ["while computing the metric 'greedy'"]


# Columns --------------------------------------------------------------------------------------------------------------


def metric(name: str, compute: Any = lambda update: 1.0) -> Metric:
    kind: Any = {"label": "x", "definition": "x", "unit": "x", "direction": "neutral", "source": "update"}
    return Metric(name=name, compute=compute, **kind)


def use(monkeypatch: pytest.MonkeyPatch, mine: Metric) -> None:
    """Add a metric to those of an update, as an installed package does."""
    from shaping.audits import metrics

    known = metrics.metrics_of("update")
    monkeypatch.setattr("shaping.audits.training.update.metrics_of", lambda source: [*known, mine])


def audited(group: Sequence[Episode]) -> Row:
    values = np.arange(len(group), dtype=float)
    return audit_update(group, values, values, values, np.zeros(len(group), np.int64))


@pytest.mark.parametrize("column", ["reward", "true_reward", "rate/harm"])
def test_a_metric_cannot_take_a_column_of_ours(
    column: str, group: tuple[Episode, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, metric(column))
    with pytest.raises(
        MetricError, match=rf"column '{column}' is written twice: by .* by the metric '{column}'; rename"
    ):
        audited(group)


@pytest.mark.parametrize("column", ["update", "phase", "trained", "loss"])
def test_nor_one_of_the_trainer(column: str, group: tuple[Episode, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, metric(column))
    row = Row("the trainer", {"phase": "train", "update": 0, "trained": 8, "loss": 0.5})
    with pytest.raises(MetricError, match=f"by the trainer, and by the metric '{column}'"):
        row.add("the audit", audited(group))


class Reads(Shaper):
    said: ClassVar[Any] = None

    def readings(self, episode: Episode) -> Any:
        return type(self).said


@pytest.mark.parametrize("name", ["reward", "update", "../../reward", "readings/other/x", "phase"])
def test_a_reading_lives_under_the_name_of_its_intervention(
    name: str, group: tuple[Episode, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Reads, "said", {name: np.ones(len(group[0].turns))})
    assert readings([Reads()], group[:1]) == {f"readings/reads/{name}": float(len(group[0].turns))}


@pytest.mark.parametrize("values", [np.array([np.nan]), np.ones(99), "seven", None, [10**400]])
def test_a_reading_is_a_finite_number_per_turn(
    values: Any, group: tuple[Episode, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Reads, "said", {"mine": values})
    with pytest.raises(InterventionError, match=r"Reads\.readings\(\), 'mine': .*(one number per turn|must be finite)"):
        readings([Reads()], group[:1])
