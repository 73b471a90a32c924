"""Worlds: the cost of `step`, `reset` and a copy by pickle, and steps/s beside TextWorld and TextArena."""

from __future__ import annotations

import pickle
import time
from collections.abc import Sequence
from statistics import median
from typing import Any, NamedTuple

import gymnasium

from benchmarks.table import Row, interleaved, main
from benchmarks.worlds_peers import Peer, peers
from envs import WORLDS
from envs.core import AnyText
from envs.personas.persona import POLICIES, persona, play_scripted
from shaping.organisms.corpus.corpus_options import SIZES

OPTIONS: dict[str, Any] = {"inquiry": 0.2, "oversight": 0.1}
PERSONAS = ("honest", "opportunist", "deceiver", "random")
"""Who plays the episodes, in turn; in a world without a file in `envs.personas` the last plays them all."""


class Bare(gymnasium.Env[str, str]):
    """A text environment that does nothing: the least that any environment costs."""

    def __init__(self) -> None:
        self.observation_space = AnyText()
        self.action_space = AnyText()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        return "", {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        return "", 0.0, False, False, {}


class Script(NamedTuple):
    """The actions of one episode. They are replayed, so that only the world is timed."""

    seed: int
    actions: tuple[str, ...]


def scripts(name: str, count: int) -> list[Script]:
    """`count` episodes of the personas, by their actions."""
    players = PERSONAS if name in POLICIES else PERSONAS[-1:]
    replays = []
    for seed in range(count):
        env = WORLDS[name](**OPTIONS)
        played = play_scripted(env, persona(players[seed % len(players)])(env, seed), seed)
        replays.append(Script(seed, tuple(completion for _, completion, _, _ in played)))
    return replays


def step_times(env: gymnasium.Env[str, str], scripts: Sequence[Script]) -> list[float]:
    """Seconds of every step."""
    seconds = []
    for script in scripts:
        env.reset(seed=script.seed)
        for action in script.actions:
            start = time.perf_counter()
            env.step(action)
            seconds.append(time.perf_counter() - start)
    return seconds


def rows_of(name: str, quick: bool) -> list[Row]:
    episodes = scripts(name, 4 if quick else 60)
    world, bare = WORLDS[name](**OPTIONS), Bare()
    ours: list[float] = []
    peer: list[float] = []
    for _ in range(1 if quick else 5):
        ours += step_times(world, episodes)
        peer += step_times(bare, episodes)
    step, nothing = median(ours) * 1e6, median(peer) * 1e6
    resets = interleaved(
        [lambda env=env: [env.reset(seed=s.seed) for s in episodes] for env in (world, bare)],  # type: ignore[misc]
        repetitions=1 if quick else 9,
    )
    reset, bare_reset = (median(seconds) / len(episodes) * 1e6 for seconds in resets)
    copies = copy_times(world, episodes[:1] if quick else episodes[:12])
    return [
        Row(f"{name}: step", step, nothing, "us", nothing / step, "ours < 50"),
        Row(f"{name}: reset", reset, bare_reset, "us", bare_reset / reset, "ours < 1000"),
        Row(f"{name}: copy by pickle", median(copies) * 1e6, None, "us", None, "ours < 1000"),
    ]


def copy_times(env: gymnasium.Env[str, str], scripts: Sequence[Script]) -> list[float]:
    """Seconds to pickle and unpickle the world, in the middle of each episode."""
    seconds = []
    for script in scripts:
        env.reset(seed=script.seed)
        for action in script.actions[: len(script.actions) // 2]:
            env.step(action)
        start = time.perf_counter()
        pickle.loads(pickle.dumps(env))
        seconds.append(time.perf_counter() - start)
    return seconds


def beside(peer: Peer, quick: bool) -> Row:
    """Steps/s of one episode of every world and of one of the peer, alternating."""
    played = [(WORLDS[name](**OPTIONS), scripts(name, 1)) for name in SIZES]
    rates: list[tuple[float, float]] = []
    for _ in range(1 if quick else 30):
        seconds = [second for world, script in played for second in step_times(world, script)]
        steps, taken = peer.episode()
        rates.append((len(seconds) / sum(seconds), steps / taken))
    ours, theirs = (median(column) for column in zip(*rates, strict=True))
    return Row(f"all worlds: {peer.name}", ours, theirs, "steps/s", median(a / b for a, b in rates))


def benchmark(quick: bool) -> list[Row]:
    """Worlds: microseconds per step, reset and copy, beside a gymnasium environment that does nothing; then steps/s."""
    ours = [row for name in SIZES for row in rows_of(name, quick)]
    return ours + [beside(peer, quick) for peer in peers()]


if __name__ == "__main__":
    main(benchmark)
