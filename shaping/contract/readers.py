"""Do a reward and a monitor keep their contracts?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from envs.check import RuleResult
from envs.episode import Contexts, Episode
from rewards.base import Reward
from shaping.contract.answers import Asked, result
from shaping.contract.groups import group_keys, groups_of, play_groups, small_policy
from shaping.monitors.base import Monitor, Reading
from shaping.monitors.turn_scores import suspected
from shaping.sampling.text.render import Renderer

#: What each rule demands, in the order of `check_reward`.
REWARD_RULES = {
    "scores": "score_group() gives every episode one finite number per turn",
    "pure": "asked twice about the same, it answers the same",
    "read_only": "it does not change what it is shown",
    "time": "how long a call takes",
}
#: What each rule demands, in the order of `check_monitor`.
MONITOR_RULES = {
    "reads": "read() gives Readings of turns that were played, under its own name and of traits that it suspects",
    "pure": "asked twice about the same, it answers the same",
    "read_only": "it does not change what it is shown",
    "time": "how long a call takes",
}


def check_reward(make: Callable[[], Reward], seeds: int = 2, worlds: Sequence[str] = ()) -> list[RuleResult]:
    """Try what `make` builds on `seeds` scripted groups in each of `worlds` (default: all built-in ones)."""
    asked = Asked(make())

    def faults() -> Iterator[str]:
        for members in groups_of(_episodes(seeds, worlds)):
            shown = [episode.redacted() for episode in members]
            answer = asked.ask("score_group", shown)
            if len(answer) != len(members):
                yield f"score_group() holds {len(answer)} arrays for {len(members)} episodes"
            for values, episode in zip(answer, members, strict=False):
                if np.shape(values) != (len(episode.turns),) or not np.isfinite(values).all():
                    yield f"score_group() holds {values!r} for an episode of {len(episode.turns)} turns"

    return [result("scores", faults()), *asked.results()]


def check_monitor(make: Callable[[], Monitor], seeds: int = 2, worlds: Sequence[str] = ()) -> list[RuleResult]:
    """Try what `make` builds on `seeds` scripted groups in each of `worlds` (default: all built-in ones)."""
    monitor = make()
    asked = Asked(monitor)

    def faults() -> Iterator[str]:
        for episode in _episodes(seeds, worlds):
            answer = asked.ask("read", monitor.view(episode))
            if not isinstance(answer, list) or not all(isinstance(reading, Reading) for reading in answer):
                yield f"read() is {answer!r}; return a list of shaping.monitors.Reading"
                return
            for reading in answer:
                if not 0 <= reading.turn < len(episode.turns):
                    yield f"it read turn {reading.turn} of an episode of {len(episode.turns)} turns"
                if reading.monitor != monitor.name:
                    yield f"a reading is signed {reading.monitor!r}; the monitor's name is {monitor.name!r}"
                if reading.trait not in suspected(monitor):
                    yield f"a reading is of {reading.trait!r}, which suspects() does not name"

    return [result("reads", faults()), *asked.results()]


def _episodes(seeds: int, worlds: Sequence[str]) -> list[Episode]:
    keys = group_keys(seeds, worlds)
    return play_groups(keys, [Contexts()] * len(keys), Renderer(small_policy().tokenizer))
