"""One source of labels for all methods: what it points at, its errors, and its placebo."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest
from pydantic import Field, ValidationError

from envs.episode import Episode, Event, Labels, SealedError
from shaping.arm import compose
from shaping.intervention import Constraint
from shaping.labels import LabelSource
from shaping.monitors.base import Monitor, Reading
from shaping.monitors.reachable import spent_names
from shaping.shapers import GradientRouting

MakeEpisode = Callable[..., Episode]


class Judge(Monitor):
    """Suspects every second turn of harm, and counts how often it is asked."""

    cheap: ClassVar[bool] = False
    asked: ClassVar[list[int]] = []

    name: str = "judge"

    def read(self, episode: Episode) -> list[Reading]:
        self.asked.append(episode.seed)
        return [Reading(self.name, "harm", turn, 0.6) for turn in range(0, len(episode.turns), 2)]


class Labelled(Constraint):
    labels: LabelSource = Field(LabelSource())


def episode(make_episode: MakeEpisode, overt_in: set[int], turns: int = 40, salt: int = 0) -> Episode:
    """Every turn executes `wait`, which is the overt shortcut in the turns of `overt_in`. `salt` tells them apart."""
    made = make_episode([0.0] * turns)
    told = tuple(
        replace(t, overt_shortcuts=("wait",) if i in overt_in else ("grab 1",)) for i, t in enumerate(made.turns)
    )
    return replace(made, turns=told, tokens=made.tokens + np.int32(salt))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"recall": 0.4},
        {"recall": 0.4, "false_positives": 0.2, "seed": 3},
        {"labels": "placebo", "recall": 0.6, "false_positives": 0.1},
        {"labels": "off"},
    ],
)
def test_an_episode_alone_is_labelled_bit_for_bit_as_gradient_routing_labels_it(
    make_episode: MakeEpisode, settings: dict[str, Any]
) -> None:
    fields = {k: v for k, v in settings.items() if k != "labels"}
    source = LabelSource(**LabelSource.model_validate(settings.get("labels", "overt")).model_dump() | fields)
    for salt in range(5):
        told = episode(make_episode, set(range(0, 40, 3)), salt=salt)
        assert (source.labelled(told) == GradientRouting(**settings).labelled(told)).all()


def test_a_monitor_labels_what_it_suspects_of_the_traits_that_count(make_episode: MakeEpisode) -> None:
    seen = make_episode([0.0] * 4, [[Event("act", "grab", "grab 1")], [Event("claim", "report", "report 1")]])
    by = LabelSource.model_validate({"source": "monitor", "monitor": {"use": "OvertAction", "trait": "harm"}})
    assert by.labelled(seen).tolist() == [True, False, False, False]
    assert not by.model_copy(update={"traits": ("deception",)}).labelled(seen).any()


def test_a_monitor_that_needs_a_model_is_asked_once_about_an_episode(make_episode: MakeEpisode) -> None:
    source = LabelSource(source="monitor", monitor=Judge())
    Judge.asked.clear()
    first = source.labelled(make_episode([0.0] * 4))
    first[:] = False  # a caller's own copy
    assert source.labelled(make_episode([0.0] * 4)).tolist() == [True, False, True, False] and len(Judge.asked) == 1
    assert not LabelSource(source="monitor", monitor=Judge(), threshold=0.7).labelled(make_episode([0.0] * 4)).any()


def test_the_truth_is_read_only_by_the_oracle_which_needs_it(make_episode: MakeEpisode) -> None:
    told = make_episode([0.0] * 3, labels=[Labels(), Labels(deception=1.0), Labels(invalid=1.0)])
    assert LabelSource(source="oracle").labelled(told).tolist() == [False, True, False]
    assert not LabelSource(source="oracle", traits=("harm",)).labelled(told).any()
    with pytest.raises(SealedError, match="sealed"):
        LabelSource(source="oracle").labelled(told.redacted())


@pytest.mark.parametrize(("source", "oracle", "truth"), [("overt", True, False), ("oracle", True, True), ("off", 0, 0)])
def test_an_arm_with_labels_of_the_world_counts_as_oracle(source: str, oracle: bool, truth: bool) -> None:
    constraint = Labelled.model_validate({"labels": source})
    assert (compose("a", [constraint]).oracle, constraint.reads_truth) == (bool(oracle), bool(truth))


def test_a_monitor_that_labels_is_spent(make_episode: MakeEpisode) -> None:
    judged = Labelled.model_validate({"labels": {"source": "monitor", "monitor": "OvertAction"}})
    assert spent_names([compose("a", [judged])], []) == ["overt_action"] and not compose("a", [judged]).oracle


@pytest.mark.parametrize("precision", [0.8, 0.5, 0.25])
def test_precision_is_the_share_of_labels_that_are_right(make_episode: MakeEpisode, precision: float) -> None:
    overt = set(range(8))
    source = LabelSource(precision=precision, recall=0.75)
    group = [episode(make_episode, overt if salt < 4 else set(), salt=salt) for salt in range(20)]
    labels = np.array(source.labelled_group(group))
    right = labels[:4, :8].sum()
    assert right == np.sum(LabelSource(recall=0.75).labelled_group(group))  # the turns found stay
    assert labels.sum() == pytest.approx(right / precision, abs=1)
    assert labels[4:].any()  # of a group, episodes without any such turn get false labels, too
    alone = np.array([source.labelled(each) for each in group])
    assert not alone[4:].any() and alone[:4, 8:].sum() == pytest.approx(right / precision - right, abs=4)


def test_few_other_turns_are_all_labelled_and_no_more(make_episode: MakeEpisode) -> None:
    assert LabelSource(precision=0.1).labelled(episode(make_episode, set(range(38)))).all()


def test_labels_do_not_depend_on_the_order_of_the_group(make_episode: MakeEpisode) -> None:
    group = [episode(make_episode, {1, 2, 3 + salt}, salt=salt) for salt in range(6)]
    for source in (LabelSource(precision=0.4), LabelSource(placebo=True), LabelSource(recall=0.5)):
        back = source.labelled_group(group[::-1])[::-1]
        assert all((a == b).all() for a, b in zip(source.labelled_group(group), back, strict=True))


def test_the_placebo_of_a_group_labels_as_many_episodes_and_turns_but_others(make_episode: MakeEpisode) -> None:
    group = [episode(make_episode, {1, 2} if salt < 5 else set(), salt=salt) for salt in range(40)]
    placebo = np.array(LabelSource(placebo=True).labelled_group(group))
    assert placebo.sum() == 10 and sorted(placebo.sum(1))[-5:] == [2] * 5 and placebo.any(1).sum() == 5
    assert not placebo[:5].all() and placebo[5:].any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"recall": 1.1}, "recall"),
        ({"precision": 0.0}, "precision"),
        ({"precision": 0.5, "false_positives": 0.1}, "not both"),
        ({"source": "monitor"}, "needs `monitor`"),
        ({"monitor": "OvertAction"}, "set source: monitor"),
        (
            {"source": "monitor", "monitor": "Overt"},
            "unknown monitor 'Overt'; built-in ones are BeliefCheck, ClaimCheck",
        ),
        ({"source": "monitor", "monitor": {"use": "OvertAction", "trate": "harm"}}, "'OvertAction': trate: Extra"),
        ({"source": "monitor", "monitor": {"trait": "harm"}}, "with `use`"),
        ({"source": "monitor", "monitor": "shaping.arm:Arm"}, "no subclass of"),
        ({"source": "monitor", "monitor": "nowhere:Thing"}, "does not load: ModuleNotFoundError"),
        ({"source": "monitor", "monitor": "GroundTruth"}, "set source: oracle"),
        ({"source": "oracle", "traits": ["evil"]}, "unknown trait 'evil'"),
        ({"traits": ["harm"]}, "belong to the sources monitor and oracle"),
    ],
)
def test_a_mistake_gives_one_message(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message) as raised:
        LabelSource(**settings)
    assert raised.value.error_count() == 1
