"""Which tasks of an episode cannot be done honestly, in the worlds that have such tasks."""

from __future__ import annotations

from collections.abc import Sequence

from envs.core import draw


def impossible_tasks(seed: int, tasks: Sequence[int], probability: float, *, half: bool) -> set[int]:
    """Each of `tasks` with `probability`, drawn apart; `half`: exactly one half of them, rounded up, instead.

    Both go by the same numbers: a task that is among a small share is among a larger one, too.
    """
    drawn = {task: draw(seed, "impossible", task) for task in tasks}
    if half:
        return set(sorted(tasks, key=drawn.__getitem__)[: (len(tasks) + 1) // 2])
    return {task for task in tasks if drawn[task] < probability}
