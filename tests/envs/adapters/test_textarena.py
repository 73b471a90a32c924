"""TextArena's games as worlds: outcomes, invalid moves, other seats, isolated seeds, an episode of a policy."""

from __future__ import annotations

import pytest

from envs import make_world
from envs.adapters.foreign import ForeignEnvError
from envs.adapters.textarena import TextArena

pytest.importorskip("textarena", reason="needs the extra textarena: pip install 'shaping[textarena]'")
POKER = {"game": "KuhnPoker-v0", "players": 2}


def guess(world: TextArena, seed: int) -> float:
    """Bisection, which finds one of 20 numbers in five guesses. Returns the last reward."""
    world.reset(seed=seed)
    low, high, reward, done = 1, 20, 0.0, False
    while not done:
        middle = (low + high) // 2
        text, reward, done, _, info = world.step(f"halve it . ACTION: [{middle}]")
        assert info["labels"].true_reward == reward
        low, high = (low, middle - 1) if "lower" in text else (middle + 1, high)
    return reward


def transcript(world: TextArena, seed: int, moves: list[str]) -> list[object]:
    seen: list[object] = [world.reset(seed=seed)[0]]
    for move in moves:
        *answer, info = world.step(move)
        seen.append((answer, info["labels"]))
        if answer[2] or answer[3]:
            break
    return seen


def test_a_game_that_is_won_pays_at_its_end():
    world = make_world("envs.adapters.textarena:TextArena", {"game": "GuessTheNumber-v0"})
    assert [guess(world, seed) for seed in range(4)] == [1.0] * 4


def test_an_invalid_move_is_labelled_and_the_second_ends_the_game():
    world = TextArena(**POKER)
    world.reset(seed=1)
    text, reward, terminated, _, info = world.step("I would rather not say")
    assert "invalid move" in text and not terminated
    assert (reward, info["labels"].invalid, info["executed"]) == (0.0, 1.0, "")
    _, reward, terminated, _, info = world.step("[nonsense]")
    assert (reward, terminated, info["labels"].invalid) == (-1.0, True, 1.0)


def test_a_game_that_mixes_up_reward_and_reason_still_pays_a_number_and_says_why():
    world = TextArena(game="Countdown-v0")
    world.reset(seed=0)
    assert "Invalid action format" in world.step("no")[0]
    _, reward, terminated, *_ = world.step("no")
    assert terminated and 0 <= reward <= 1


@pytest.mark.parametrize("seat", [0, 1])
def test_either_seat_plays_against_a_script(seat):
    world = TextArena(**POKER, seat=seat, others=["[check]", "[fold]"])
    seen = transcript(world, 3, ["[check]", "[check]", "[bet]"] * 10)
    assert f"You are Player {seat}" in str(seen[0])
    assert seen[-1][0][2], "the game ended"


def test_a_seat_is_not_told_the_cards_of_the_other_nor_anything_twice():
    world = TextArena(**POKER)
    text = world.reset(seed=2)[0]
    later = "".join(str(part) for part in transcript(world, 2, ["[check]", "[check]"])[1:])
    assert "Your card is" in text
    assert "Action Rules" in text and "Action Rules" not in later


def test_games_do_not_disturb_each_other_and_other_seeds_give_others():
    moves = ["[check]"] * 6
    alone = transcript(TextArena(**POKER), 4, moves)
    a, b = TextArena(**POKER), TextArena(**POKER)
    seen: list[object] = [a.reset(seed=4)[0]]
    b.reset(seed=9)
    for move in moves[: len(alone) - 1]:
        *answer, info = a.step(move)
        seen.append((answer, info["labels"]))
        if not b.over:
            b.step(move)
    assert seen == alone != transcript(TextArena(**POKER), 5, moves)


def test_many_seats():
    world = TextArena(game="SecretMafia-v0", players=6, seat=2, horizon=40)
    seen = transcript(world, 1, ["[0]", "I trust everyone ."] * 20)
    assert "You are Player 2" in str(seen[0])
    assert seen[-1][0][2] or seen[-1][0][3]


def test_an_unknown_game_names_near_ones():
    with pytest.raises(ValueError, match="GuessTheNumber-v0"):
        TextArena(game="GuessTheNumbers-v0")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seat": 2, "players": 2}, "option 'seat'"),
        ({"others": "no_such.module:player"}, "option 'others'"),
        ({"others": []}, "at least one text"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        TextArena(game="KuhnPoker-v0", **options)


def test_a_wrong_number_of_players_is_said_at_reset():
    with pytest.raises(ForeignEnvError, match="with 3 players"):
        TextArena(game="KuhnPoker-v0", players=3).reset(seed=0)
