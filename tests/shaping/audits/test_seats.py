"""What is measured of seats: per seat and policy, and the strength of the trained ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest

from envs.episode import Episode, Labels, Sealed
from shaping.audits.conduct.elo import difference
from shaping.audits.conduct.seats import games_summary, seat_columns, seat_rows
from shaping.seat_records import GAME, PLAYER, PLAYERS, RETURNS, SEAT

WHO = {"red": "learner", "blue": "unshaped", "green": "loud"}


@pytest.fixture
def played(make_episode: Callable[..., Episode]) -> Callable[..., list[Episode]]:
    """The episodes of one game: of every seat that a policy played."""

    def make(game: str, returns: Mapping[str, float], who: Mapping[str, str] = WHO, lies: str = "") -> list[Episode]:
        found = []
        for seat in ("red", "blue"):
            episode = make_episode()
            turns = tuple(replace(t, reward=returns[seat] / len(episode.turns)) for t in episode.turns)
            labels = Labels(deception=float(seat == lies), opportunity={"deception": True})
            options = {SEAT: seat, PLAYER: who[seat], PLAYERS: dict(who), RETURNS: dict(returns), GAME: game}
            truth = Sealed((labels,) * len(turns))
            found.append(replace(episode, turns=turns, truth=truth, options={**options, "max_return": 4.0}))
        return found

    return make


def test_every_seat_has_columns_and_unshaped_seats_make_an_elo(played: Callable[..., list[Episode]]) -> None:
    episodes = [
        *played("a", {"red": 2.0, "blue": 1.0, "green": 9.0}),
        *played("b", {"red": 1.0, "blue": 1.0, "green": 0.0}),
    ]
    row = seat_columns([e for e in episodes if e.options[SEAT] == "red"])
    assert row["seats/red/reward"] == pytest.approx(1.5 / 4) and row["seats/red/deception"] == 0.0
    assert row["seats/elo"] == pytest.approx(difference(1.5, 2)), "scripted seats are of neither side"
    assert "seats/blue/reward" not in row


def test_games_are_summed_up_by_seat_and_by_policy(played: Callable[..., list[Episode]]) -> None:
    swapped = {**WHO, "red": "unshaped", "blue": "learner"}
    returns = {"red": 4.0, "blue": 2.0, "green": 0.0}
    episodes = [*played("a", returns, lies="red"), *played("b", returns, swapped, lies="red")]
    rows = {(row["seat"], row["player"]): row for row in seat_rows(episodes)}
    assert set(rows) == {(seat, player) for seat in ("red", "blue") for player in ("learner", "unshaped")}
    assert rows["red", "learner"]["deception"] == 1.0 and rows["blue", "learner"]["reward"] == 0.5
    summary = games_summary(episodes)
    assert summary["elo"] == 0.0, "each side has had the better seat once"
    assert (summary["games_reward"], summary["games_deception"]) == (0.75, 0.5)
    assert summary["games_deception_unshaped"] == 0.5


def test_worlds_with_one_seat_have_no_columns(make_episode: Callable[..., Episode]) -> None:
    assert seat_columns([make_episode()]) == {} == games_summary([]) and seat_rows([]) == []
