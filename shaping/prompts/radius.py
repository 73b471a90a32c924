"""How far the prompts of a pool are from one another: from a fixed prompt to a pool of paraphrases."""

from __future__ import annotations

import functools
import re


def distance(a: str, b: str) -> float:
    """Share of the words of two prompts that only one of them has (Jaccard distance), in [0, 1]."""
    one, other = (set(re.findall(r"\w+", text.lower())) for text in (a, b))
    return len(one ^ other) / len(one | other) if one | other else 0.0


@functools.cache
def within(prompts: tuple[str, ...], radius: float) -> tuple[str, ...]:
    """The prompts within `radius` of the pool's medoid, the prompt that is nearest to all others, in their order.

    0: the medoid alone, a fixed prompt; 1: the whole pool.
    """
    if not prompts or radius == 1:
        return prompts
    centre = min(prompts, key=lambda each: sum(distance(each, other) for other in prompts))
    return tuple(prompt for prompt in prompts if distance(prompt, centre) <= radius)
