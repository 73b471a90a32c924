"""The cost of a step in TextWorld and TextArena, without our adapters."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from typing import NamedTuple

from envs.adapters.foreign import MissingExtraError, Streams, need

GAMES = {"GuessTheNumber-v0": (1, ("[7]", "[13]", "[2]", "[19]", "[11]")), "KuhnPoker-v0": (2, ("[check]", "[check]"))}
"""TextArena's games: the number of players, and the lines that they say in turn."""


class Peer(NamedTuple):
    """Another library of text environments."""

    name: str
    """Library and game."""
    episode: Callable[[], tuple[int, float]]
    """Plays one episode. Returns the steps, and the seconds spent in them."""


def peers() -> Iterator[Peer]:
    """The installed peers. For each of the others, a line says how to install it."""
    for make in (_textworld, _textarena):
        try:
            yield from make()
        except MissingExtraError as error:
            print(f"left out: {error}")


def _textworld() -> Iterator[Peer]:
    textworld = need("textworld", "textworld")
    from envs.adapters.textworld import TextWorld

    world = TextWorld(horizon=100)
    (path,) = world.prepare([0])
    world.reset(seed=0)
    actions: list[str] = []
    while not world.over and len(actions) < 60:
        command = world.honest_action().removeprefix("ACTION: ")
        actions += ["look", "inventory", command]
        world.step(command)
    world.close()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the interpreter warns that it does not know a generated game
        game = textworld.start(str(path))

    def episode() -> tuple[int, float]:
        game.reset()
        start = time.perf_counter()
        for action in actions:
            game.step(action)
        return len(actions), time.perf_counter() - start

    yield Peer("TextWorld", episode)


def _textarena() -> Iterator[Peer]:
    with Streams(0).swapped():  # the import draws random numbers
        arena = need("textarena", "textarena")

    def play(game: str) -> tuple[int, float]:
        players, lines = GAMES[game]
        env = arena.make(game)
        env.reset(num_players=players, seed=0)
        steps, done, start = 0, False, time.perf_counter()
        while not done and steps < 200:
            env.get_observation()
            done, _ = env.step(lines[steps % len(lines)])
            steps += 1
        return steps, time.perf_counter() - start

    for game in GAMES:
        yield Peer(f"TextArena {game.removesuffix('-v0')}", lambda game=game: play(game))  # type: ignore[misc]
