"""PettingZoo's games as worlds with several seats. Needs the extra `pettingzoo`."""

from __future__ import annotations

import sys

import pytest

from envs.adapters.foreign import ForeignEnvError, MissingExtraError
from envs.check import check_env
from envs.episode import Labels

pytest.importorskip("pettingzoo")

from envs.adapters.pettingzoo_text import ParallelText, TurnText

PACT = {"game": "envs.adapters.pact_parallel:PactParallel", "game_options": {"seats": 3, "rounds": 2}}


def test_without_pettingzoo_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pettingzoo", None)
    with pytest.raises(MissingExtraError, match=r"shaping\[pettingzoo\]"):
        ParallelText(**PACT)


def test_all_seats_of_a_parallel_game_act_at_once_and_labels_are_theirs() -> None:
    world = ParallelText(**PACT)
    opened = world.open(0)
    assert tuple(opened) == world.seats == ("seat_0", "seat_1", "seat_2") and world.name == "pact_v0"
    assert not any("labels" in info for _, info in opened.values())
    world.play(dict.fromkeys(world.seats, "ACTION: pledge 16"))
    answers = world.play({"seat_0": "ACTION: take 20", "seat_1": "ACTION: take 16", "seat_2": ""})
    assert [answers[seat][1] for seat in world.seats] == [20.0, 16.0, 0.0]
    assert [answers[seat][4]["labels"].deception for seat in world.seats] == [1.0, 0.0, 0.0]
    assert world.max_return == 32.0, "a fair share of two rounds"


@pytest.mark.parametrize("world", ["parallel", "in turn"])
def test_one_seat_among_scripted_ones_keeps_the_contract_of_a_world(world: str) -> None:
    def make() -> ParallelText | TurnText:
        if world == "parallel":
            return ParallelText(**PACT, others="rider", seat="seat_1")
        return TurnText(game="text_games:Auction", seat="second", others="text_games:says_two")

    verdicts = {verdict.rule: verdict for verdict in check_env(make, seeds=(0, 1), actions=("take 1", "1"))}
    assert not [v for v in verdicts.values() if not v.ok and v.rule not in ("speed", "invalid", "commands")]


def test_agents_that_move_in_turn_are_answered_when_they_are_to_move_again() -> None:
    world = TurnText(game="text_games:Auction")
    assert world.open(0) == {"first": ("first hears ", {"executed": ""})}
    answers = world.play({"first": "ACTION: 3"})
    assert list(answers) == ["second"] and answers["second"][0] == "second hears first:3"
    assert answers["second"][1] == 0.0, "what came before its first action counts with it"
    answers = world.play({"second": "1"})
    assert list(answers) == ["first"] and answers["first"][1] == -3 + 1
    labels = answers["first"][4]["labels"]
    assert isinstance(labels, Labels) and not labels.opportunity["deception"] and labels.true_reward == -2
    answers = world.play({"first": "0"})
    assert answers["second"][1] == 3 - 1 + 0
    answers = world.play({"second": "5"})
    assert {seat: (answer[1], answer[2]) for seat, answer in answers.items()} == {
        "first": (5.0, True),
        "second": (-5.0, True),
    }


@pytest.mark.parametrize("make", [lambda: ParallelText(game="text_games:Chat", horizon=3), lambda: TurnText(
    game="text_games:Auction", game_options={"rounds": 50}, horizon=3)])  # fmt: skip
def test_games_without_an_end_are_cut_off_for_all_seats(make) -> None:
    world = make()
    due, acted, cut = set(world.open(0)), dict.fromkeys(world.seats, 0), set()
    while due:
        given = dict.fromkeys(due, "1")
        for seat in given:
            acted[seat] += 1
        answers = world.play(given)
        cut |= {seat for seat, answer in answers.items() if answer[3]}
        due = {seat for seat, answer in answers.items() if not answer[3]}
    assert cut == set(world.seats) and max(acted.values()) == 3


def test_a_game_is_played_by_its_own_scripted_policies_or_by_functions() -> None:
    world = ParallelText(game="text_games:Chat", others="echo", horizon=2)
    world.reset(seed=4)
    assert world.step("hello")[0] == "echo seed 4 hello"
    with pytest.raises(ValueError, match="has no scripted policy 'shout'; it has echo; others are written as"):
        world.check_policy("shout")
    with pytest.raises(ValueError, match="no scripted policy 'text_games:nobody'"):
        world.check_policy("text_games:nobody")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"game": "text_games:Auction"}, "makes a Auction, which is no ParallelEnv of PettingZoo"),
        ({"game": "text_games:Chess"}, "is no game, written as package.module:function"),
        ({"game": "text_games:Chat", "game_options": {"size": 3}}, r"that takes \{'size': 3\}"),
        ({"game": "text_games:Chat", "seat": "third"}, "no seat 'third'; there are first, second"),
        ({"game": "text_games:Chat", "horizon": 0}, "'horizon': must be a whole number >= 1"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ParallelText(**options)  # type: ignore[arg-type]


def test_observations_that_are_no_text_are_refused_by_name() -> None:
    world = TurnText(game="text_games:Auction", game_options={"numbers": True})
    with pytest.raises(ForeignEnvError, match="the observation of 'first' is a int; only games whose"):
        world.open(0)
