"""The tasks of an episode that cannot be done honestly, in worlds that have such tasks."""

from __future__ import annotations

from collections.abc import Sequence

from envs.core import draw


def impossible_tasks(seed: int, tasks: Sequence[int], probability: float, *, half: bool) -> set[int]:
    """Draw each of `tasks` independently with `probability`; with `half`, exactly one half, rounded up, instead.

    The same numbers decide both, so a task in a small share is in every larger one, too.
    """
    drawn = {task: draw(seed, "impossible", task) for task in tasks}
    if half:
        return set(sorted(tasks, key=drawn.__getitem__)[: (len(tasks) + 1) // 2])
    return {task for task in tasks if drawn[task] < probability}
