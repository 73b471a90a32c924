"""Gradient routing: labelled turns teach the quarantine adapter alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from envs.episode import Episode, SealedError
from shaping.arm import compose
from shaping.hooks import Gates, Group
from shaping.intervention import Shaper
from shaping.labels import LabelSource
from shaping.shapers import GradientRouting

MakeEpisode = Callable[..., Episode]


def episode(make_episode: MakeEpisode, overt_in: set[int], turns: int = 40, salt: int = 0) -> Episode:
    """Every turn executes `wait`, which is the overt shortcut in the turns of `overt_in`. `salt` tells them apart."""
    made = make_episode([0.0] * turns)
    told = tuple(
        replace(t, overt_shortcuts=("wait",) if i in overt_in else ("grab 1",)) for i, t in enumerate(made.turns)
    )
    return replace(made, turns=told, tokens=made.tokens + np.int32(salt))


def test_a_labelled_turn_teaches_quarantine_alone_and_all_others_teach_both(make_episode: MakeEpisode) -> None:
    gates = GradientRouting().gates(episode(make_episode, {1, 3}, turns=5).redacted())
    assert list(gates) == [Gates(), Gates(kept=0.0), Gates(), Gates(kept=0.0), Gates()]


def test_it_is_a_shaper_with_a_kept_and_a_quarantine_adapter_that_is_shown_no_sealed_labels() -> None:
    arm = compose("a", [GradientRouting(rank=4, alpha=8.0, targets=("q_proj",))])
    assert arm.family == "motivation" and isinstance(arm.interventions[0], Shaper)
    assert arm.oracle and not arm.interventions[0].reads_truth, "the overt list is the world's own knowledge"
    assert [(s.name, s.role, s.rank, s.alpha, s.targets) for s in arm.adapters()] == [
        ("retain", "kept", 4, 8.0, ("q_proj",)),
        ("forget", "quarantine", 4, 8.0, ("q_proj",)),
    ]


def test_recall_and_false_positives_are_shares_of_turns(make_episode: MakeEpisode) -> None:
    half = set(range(0, 400, 2))
    shaper = GradientRouting(recall=0.25, false_positives=0.1)
    labelled = shaper.labelled(episode(make_episode, half, turns=400))
    found = np.array([i in half for i in range(400)])
    assert labelled[found].mean() == pytest.approx(0.25, abs=0.08)
    assert labelled[~found].mean() == pytest.approx(0.1, abs=0.06)


def test_a_missed_turn_teaches_both_adapters_and_of_recall_zero_all_turns_do(make_episode: MakeEpisode) -> None:
    told = episode(make_episode, set(range(40)))
    missed = ~GradientRouting(recall=0.5).labelled(told)
    gates = GradientRouting(recall=0.5).gates(told)
    assert missed.any() and all(gates[t] == Gates() for t in np.flatnonzero(missed))
    assert GradientRouting(recall=0.0).gates(told) == GradientRouting(labels="off").gates(told)
    assert GradientRouting(recall=1.0).gates(told) == [Gates(kept=0.0)] * 40


def test_a_higher_recall_labels_every_turn_that_a_lower_one_does(make_episode: MakeEpisode) -> None:
    told = episode(make_episode, set(range(40)))
    few, many = (GradientRouting(recall=recall).labelled(told) for recall in (0.25, 0.75))
    assert few.any() and (many & ~few).any() and not (few & ~many).any()


def test_labels_are_a_function_of_the_episode_and_differ_between_members_of_a_group(make_episode: MakeEpisode) -> None:
    shaper, all_turns = GradientRouting(recall=0.5), set(range(40))
    one, other = (shaper.labelled(episode(make_episode, all_turns, salt=salt)) for salt in (0, 1))
    assert (one == shaper.labelled(episode(make_episode, all_turns))).all()
    assert (one != other).any()
    assert (one != GradientRouting(recall=0.5, seed=1).labelled(episode(make_episode, all_turns))).any()


def test_the_placebo_labels_as_many_turns_of_each_episode_but_others(make_episode: MakeEpisode) -> None:
    overt = set(range(10))
    made = [episode(make_episode, overt, salt=salt) for salt in range(20)]
    placebo = np.array([GradientRouting(labels="placebo").labelled(e) for e in made])
    assert (placebo.sum(1) == 10).all()
    assert placebo[:, :10].mean() == pytest.approx(10 / 40, abs=0.1), "no more often where the shortcut was taken"


def test_without_labels_the_same_adapters_train_together(make_episode: MakeEpisode) -> None:
    shaper = GradientRouting(labels="off")
    assert len(shaper.adapters()) == 2
    assert set(shaper.gates(episode(make_episode, {0, 1, 2}))) == {Gates()}
    assert shaper.readings(episode(make_episode, {0}))["routed_turns"].sum() == 0


def test_fields_beside_labels_are_those_of_the_labels(make_episode: MakeEpisode) -> None:
    told = episode(make_episode, set(range(20)))
    short = GradientRouting(labels="placebo", recall=0.5, false_positives=0.1, seed=3)
    whole = GradientRouting(labels=LabelSource(placebo=True, recall=0.5, false_positives=0.1, seed=3))
    assert short == whole == GradientRouting.model_validate(short.model_dump())
    assert (short.labelled(told) == whole.labelled(told)).all() and short.labelled(told).any()
    with pytest.raises(ValidationError, match="recall is given beside `labels` and in it"):
        GradientRouting(labels={"recall": 0.5}, recall=0.5)


def test_with_every_turn_labelled_the_quarantine_absorbs_everything(make_episode: MakeEpisode) -> None:
    told = episode(make_episode, {1})
    assert set(GradientRouting(labels={"false_positives": 1.0}).gates(told)) == {Gates(kept=0.0)}


def test_the_sealed_truth_as_labels_is_shown_and_named(make_episode: MakeEpisode) -> None:
    shaper = GradientRouting(labels="oracle")
    assert compose("a", [shaper]).oracle and shaper.reads_truth
    with pytest.raises(SealedError):
        shaper.gates(episode(make_episode, {1}).redacted())


def test_the_baseline_of_unlabelled_episodes_moves_all_members_alike(make_episode: MakeEpisode) -> None:
    episodes = tuple(episode(make_episode, overt, turns=4, salt=n) for n, overt in enumerate([{0}, set(), set()]))
    group = Group(episodes, np.array([3.0, 1.0, 0.0]), np.array([1.5, -0.5, -1.0]))
    assert GradientRouting().credit(group) is None
    credit = GradientRouting(normalise="unlabelled").credit(group)
    assert credit is not None and [set(a.tolist()) for a in credit.advantage] == [{0.75}] * 3
    assert GradientRouting(normalise="unlabelled", labels="off").credit(group) is None, "no label, nothing to leave out"


@pytest.mark.parametrize(
    "fields", [{"recall": 1.5}, {"labels": "nobody"}, {"rank": 0}, {"false_positives": -0.1}, {"normalise": "none"}]
)
def test_bad_settings_are_named(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(fields))):
        GradientRouting(**fields)
