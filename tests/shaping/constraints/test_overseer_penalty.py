"""The overseer prices what it sees and what it is told, and knows nothing else."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from envs.core import draw
from envs.episode import Episode, Event, Labels
from shaping.constraints import OverseerPenalty

MakeEpisode = Callable[..., Episode]
GRAB = Event("act", "grab", "grab 2")
LIE = Event("claim", "inquiry", "no , i took nothing .")
ADMISSION = Event("claim", "inquiry", "yes , i took two .", admits=True)
QUIET = ()


def test_a_perfect_overseer_sees_every_act_in_the_open(make_episode: MakeEpisode) -> None:
    episode = make_episode([0, 0, 0], [[GRAB], QUIET, [GRAB, GRAB]])
    assert OverseerPenalty(accuracy=1.0, penalty=0.5).cost(episode).tolist() == [0.5, 0.0, 1.0]


def test_a_blind_overseer_knows_only_what_it_is_told(make_episode: MakeEpisode) -> None:
    episode = make_episode([0, 0, 0], [[GRAB], [ADMISSION], [LIE]])
    assert OverseerPenalty(accuracy=0.0, admission=2.0).cost(episode).tolist() == [0.0, 2.0, 0.0]


def test_a_false_answer_costs_nothing_and_the_true_one_does(make_episode: MakeEpisode) -> None:
    """The imperfection under test: the truth says that both lied about or did the same; only the words differ."""
    deceived = [Labels(), Labels(deception=1.0, knew=True)]
    overseer = OverseerPenalty(accuracy=0.0)
    assert overseer.cost(make_episode([0, 0], [[GRAB], [LIE]], labels=deceived)).sum() == 0.0
    assert overseer.cost(make_episode([0, 0], [[GRAB], [ADMISSION]])).sum() == 1.0


@pytest.mark.parametrize("accuracy", [0.2, 0.7])
def test_it_looks_with_its_accuracy_whatever_is_done(make_episode: MakeEpisode, accuracy: float) -> None:
    overseer = OverseerPenalty(accuracy=accuracy)
    always = [overseer.sightings(make_episode([0] * 20, [[GRAB]] * 20, seed=s)).seen for s in range(200)]
    share = float(np.mean(always))
    assert abs(share - accuracy) < 4 * np.sqrt(accuracy * (1 - accuracy) / 4000)
    for seed in range(20):  # the same turns are seen when less is done: the draw knows the seed and the turn only
        sparse = overseer.sightings(
            make_episode([0] * 20, [[GRAB] if t % 3 == 0 else QUIET for t in range(20)], seed=seed)
        )
        assert sparse.seen.tolist() == [n if t % 3 == 0 else 0 for t, n in enumerate(always[seed])]


def test_its_draw_is_not_the_draw_of_the_worlds_audit(make_episode: MakeEpisode) -> None:
    seen = OverseerPenalty(accuracy=0.5).sightings(make_episode([0] * 64, [[GRAB]] * 64, seed=11)).seen
    assert seen.tolist() != [int(draw(11, "audit", t) < 0.5) for t in range(64)]


@given(kinds=st.lists(st.sampled_from([GRAB, LIE, ADMISSION]), max_size=6), accuracy=st.floats(0, 1))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
def test_the_cost_is_priced_from_the_sightings_and_never_negative(
    make_episode: MakeEpisode, kinds: list[Event], accuracy: float
) -> None:
    overseer = OverseerPenalty(accuracy=accuracy, penalty=2.0, admission=3.0)
    episode = make_episode([0.0] * len(kinds), [[k] for k in kinds])
    seen, admitted = overseer.sightings(episode)
    cost = overseer.cost(episode)
    assert cost.shape == seen.shape == admitted.shape == (len(kinds),)
    assert cost.tolist() == (2.0 * seen + 3.0 * admitted).tolist() and (cost >= 0).all()
    assert admitted.sum() == kinds.count(ADMISSION) and seen.sum() <= kinds.count(GRAB)
