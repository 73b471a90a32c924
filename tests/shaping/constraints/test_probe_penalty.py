"""The probe: what it learns, when it charges, its state, and a run in which the engine shows it the states."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from envs.episode import Episode
from shaping.constraints import ProbePenalty
from shaping.hooks import Group, InterventionError, UpdateReport

MakeEpisode = Callable[..., Episode]
HIDDEN = 6


def seen(make_episode: MakeEpisode, overt: list[bool], salt: int, hidden: int = HIDDEN) -> Episode:
    """An episode in which shortcuts move the first dimension of the states by 4, beside noise."""
    made = make_episode([0.0] * len(overt))
    turns = [replace(t, overt_shortcuts=("wait",) if o else ()) for t, o in zip(made.turns, overt, strict=True)]
    states = np.random.default_rng(salt).normal(size=(len(overt), 1, hidden))
    states[:, 0, 0] += 4.0 * np.array(overt)
    return replace(made, turns=tuple(turns), activations={"probe/-1/response": states.astype(np.float32)})


def report(*episodes: Episode) -> UpdateReport:
    zeros = np.zeros(len(episodes))
    return UpdateReport(0, (Group(episodes, zeros, zeros),))


def learned(make_episode: MakeEpisode, **settings: Any) -> ProbePenalty:
    probe = ProbePenalty(fit=1, **settings)
    probe.after_update(report(*[seen(make_episode, [True, False, False, True], salt) for salt in range(60)]))
    return probe


def test_it_finds_in_states_what_the_labels_have_named(make_episode: MakeEpisode) -> None:
    probe = learned(make_episode, penalty=2.0)
    scores = np.array([probe.scores(seen(make_episode, [True, False], 1000 + n)) for n in range(100)])
    assert scores.mean(0) == pytest.approx([0.85, 0.15], abs=0.07) and (scores[:, 0] > scores[:, 1]).mean() > 0.95
    episode = seen(make_episode, [True, False], 7)
    assert probe.cost(episode).tolist() == (2.0 * probe.scores(episode)).tolist()
    assert learned(make_episode, threshold=0.5).cost(seen(make_episode, [True, False], 1001)).tolist() == [1.0, 0.0]


def test_a_probe_of_the_placebo_finds_little(make_episode: MakeEpisode) -> None:
    probe = learned(make_episode, labels={"placebo": True})
    scores = np.array([probe.scores(seen(make_episode, [True, False], 1000 + n)) for n in range(100)])
    assert abs(scores[:, 0].mean() - scores[:, 1].mean()) < 0.45


def test_it_charges_nothing_before_it_is_learned_and_nothing_without_states(make_episode: MakeEpisode) -> None:
    episode = seen(make_episode, [True, False], 3)
    assert not ProbePenalty().cost(episode).any()
    assert not learned(make_episode).cost(make_episode([0.0, 0.0])).any()
    only_clean = ProbePenalty(fit=1)
    only_clean.after_update(report(seen(make_episode, [False, False], 3)))
    assert not only_clean.cost(episode).any(), "one class is no probe"


@pytest.mark.parametrize("refit", ["never", "always"])
def test_it_is_frozen_after_it_is_learned_unless_it_is_learned_on(make_episode: MakeEpisode, refit: Any) -> None:
    probe = learned(make_episode, refit=refit)
    episode = seen(make_episode, [True, False], 3)
    before = probe.scores(episode)
    probe.after_update(report(*[seen(make_episode, [True, True, False], 500 + n) for n in range(5)]))
    assert (probe.scores(episode) == before).all() == (refit == "never")


def test_a_copy_that_loads_its_state_reads_the_same_bits(make_episode: MakeEpisode) -> None:
    probe, copy = learned(make_episode), ProbePenalty(fit=1)
    copy.load_state_dict(json.loads(json.dumps(probe.state_dict())))
    episode = seen(make_episode, [True, False], 3)
    assert copy.scores(episode).tobytes() == probe.scores(episode).tobytes()
    with pytest.raises(InterventionError, match="states of width 6, but the model's have 4"):
        copy.cost(seen(make_episode, [True], 3, hidden=4))
