"""Screened episodes are in no baseline, no spread and no sample; costs may have a spread and a divisor of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from four_episodes import RETURNS, same
from numpy.testing import assert_allclose

from envs.episode import Episode
from shaping.arm import compose
from shaping.hooks import Group, InterventionError, Pricing
from shaping.intervention import Constraint, Shaper
from shaping.learning.credit.credit import Credited
from shaping.learning.update_report import update_report

MakeEpisode = Callable[..., Episode]


class Screen(Constraint):
    keep: tuple[bool, ...] | None = None

    def screen(self, group: Group) -> Any:
        assert not group.advantages.any(), "there are no statistics yet"
        return None if self.keep is None else np.array(self.keep)


class Priced(Constraint):
    apart: bool = False
    averaged: bool = False
    costs: tuple[float, ...] = (0.0, 4.0, 0.0, 0.0)

    @property
    def pricing(self) -> Pricing:
        return Pricing(self.weight, self.apart, self.averaged)

    def cost(self, episode: Episode) -> Any:
        found = self.costs[RETURNS.index(tuple(t.reward for t in episode.turns))]
        return np.array([0.0, found])


def four(make_episode: MakeEpisode) -> list[Episode]:
    return [make_episode(r, seed=0) for r in RETURNS]


@pytest.mark.parametrize("level", ["episode", "turn"])
@pytest.mark.parametrize("algorithm", ["grpo", "rloo", "reinforce_pp"])
def test_those_that_stay_are_credited_as_if_the_others_had_not_been_played(
    credit: Callable[..., Credited], make_episode: MakeEpisode, level: str, algorithm: str
) -> None:
    played = four(make_episode)
    few = credit(among=[played[0], played[2], played[3]], level=level, algorithm=algorithm)
    found = credit(Screen(keep=(True, False, True, True)), among=played, level=level, algorithm=algorithm)
    assert len(found.samples) == 3 and all(same(a, b) for a, b in zip(found.samples, few.samples, strict=True))
    assert_allclose(found.advantages, [few.advantages[0], 0.0, *few.advantages[1:]])
    assert_allclose(found.returns, [1, 3, 2, 0])
    assert found.credit[1] == 0 and found.kept is not None and found.kept.tolist() == [True, False, True, True]


@pytest.mark.parametrize("keep", [None, (True,) * 4])
def test_a_screen_that_keeps_all_changes_no_bit(
    credit: Callable[..., Credited], make_episode: MakeEpisode, keep: tuple[bool, ...] | None
) -> None:
    plain, kept = credit(among=four(make_episode)), credit(Screen(keep=keep), among=four(make_episode))
    assert all(same(a, b) for a, b in zip(plain.samples, kept.samples, strict=True))
    assert plain.credit.tobytes() == kept.credit.tobytes()


def test_an_episode_stays_if_all_constraints_keep_it(
    credit: Callable[..., Credited], make_episode: MakeEpisode
) -> None:
    two = Screen(keep=(True, True, False, True)), Screen(keep=(False, True, True, True))
    kept = credit(*two, among=four(make_episode)).kept
    assert kept is not None and kept.tolist() == [False, True, False, True]


@pytest.mark.parametrize("answer", [(True,), (0, 1, 1, 1), "yes"])
def test_another_answer_is_refused(credit: Callable[..., Credited], make_episode: MakeEpisode, answer: Any) -> None:
    class Wrong(Constraint):
        def screen(self, group: Group) -> Any:
            return answer

    with pytest.raises(InterventionError, match=r"Wrong\.screen\(\) returned .* True or False for each of the 4"):
        credit(Wrong(), among=four(make_episode))


def test_a_shaper_may_not_screen() -> None:
    class Sly(Shaper):
        def screen(self, group: Group) -> Any:
            return None

    with pytest.raises(InterventionError, match=r"Sly is a Shaper and may not define screen\(\)"):
        compose("arm", [Sly()])


def test_costs_apart_are_divided_by_their_own_spread_and_averaged_rates_count_in_the_divisor(
    credit: Callable[..., Credited], make_episode: MakeEpisode
) -> None:
    played = four(make_episode)
    reward = (np.array([1, 3, 2, 0]) - 1.5) / np.std([1, 3, 2, 0])
    cost = np.array([-1, 3, -1, -1])
    shared = credit(Priced(weight=0.5), among=played)
    assert_allclose(shared.credit, reward - 0.5 * cost / np.std([1, 3, 2, 0]), rtol=1e-6)
    own = credit(Priced(weight=0.5, apart=True), among=played)
    assert_allclose(own.credit, reward - 0.5 * cost / cost.std(), rtol=1e-6)
    averaged = credit(Priced(weight=0.5, apart=True, averaged=True), among=played)
    assert_allclose(averaged.credit, own.credit / 1.5, rtol=1e-6)
    two = credit(Priced(weight=0.5, averaged=True), Priced(weight=0.25), among=played)
    assert_allclose(two.credit, (reward - 0.75 * cost / np.std([1, 3, 2, 0])) / 1.5, rtol=1e-6)
    assert_allclose(two.advantages, reward, rtol=1e-6)
    by_turn = credit(Priced(weight=0.5, apart=True), among=played, level="turn")
    assert np.isfinite(by_turn.credit).all() and not np.allclose(by_turn.credit, credit(among=played).credit)


def test_a_rate_that_is_no_price_is_refused() -> None:
    with pytest.raises(InterventionError, match="rate of a cost must be a finite number"):
        Pricing(float("nan"))


def test_the_report_shows_groups_with_their_truth_to_oracles_alone(
    credit: Callable[..., Credited], make_episode: MakeEpisode
) -> None:
    from adapting_plugins import Adapting

    played = [make_episode(r, group=n // 2, seed=n // 2) for n, r in enumerate(RETURNS)]
    credited = credit(Screen(keep=(True, False)), among=played)
    report = update_report(0, played, credited, {"loss": 0.5})
    assert [len(group.episodes) for group in report.groups] == [2, 2] and report.metrics == {"loss": 0.5}
    assert_allclose(np.concatenate([group.returns for group in report.groups]), [1, 3, 2, 0])
    assert report.groups[0].episodes[0].truth.open() is not None
    assert "redacted" in repr(report.redacted().groups[1].episodes[0].truth)
    arm = compose("arm", [Adapting()])
    arm.after_update(report)
    assert arm.state_dict() == {"0.Adapting": {"told": [1.5]}}
    with pytest.raises(TypeError):
        report.metrics["loss"] = 0.0  # type: ignore[index]


def test_what_a_constraint_adds_is_nothing_to_screened_episodes(
    credit: Callable[..., Credited], make_episode: MakeEpisode
) -> None:
    found = credit(Priced(costs=(0.0, 4.0, 2.0, 0.0)), Screen(keep=(True, False, True, True)), among=four(make_episode))
    added = found.parts[0].added
    assert added.shape == found.credit.shape and added[1] == 0 and added[[0, 2, 3]].any()
    assert_allclose(found.advantages + added, found.credit, atol=1e-6)
