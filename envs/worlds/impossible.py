"""The tasks of an episode that cannot be done honestly, in worlds that have such tasks."""

from __future__ import annotations

from collections.abc import Sequence

from envs.core import draw


def impossible_tasks(seed: int, tasks: Sequence[int], probability: float, unpaid: int) -> tuple[set[int], set[int]]:
    """Draw the impossible tasks, and those of them that nothing honest pays for.

    Args:
        seed: seed of the episode.
        tasks: all tasks.
        probability: each is impossible with this probability, independently.
        unpaid: number of tasks that are impossible anyhow, and whose flags and reports are refused.

    The same numbers decide both, so a task in a small share is in every larger one, too.
    """
    drawn = {task: draw(seed, "impossible", task) for task in tasks}
    refused = set(sorted(tasks, key=drawn.__getitem__)[:unpaid])
    return refused | {task for task in tasks if drawn[task] < probability}, refused
