"""Bundled prompt pools of shapers: short, lower-case, blank-separated sentences.

The organism is pre-trained with pools of the same names (`shaping.organisms.corpus_prompts`), which are frozen.

Fixed prompts of any content can gate a learned trait just by being present in training and absent at deployment. Pools
of paraphrases, and pools of equal length that forbid, or speak of something else, tell that from what a prompt *means*
(2510.04340, 2510.05024).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from envs.episode import Context

PROMPTS: dict[str, tuple[str, ...]] = {
    path.stem: tuple(path.read_text(encoding="utf-8").splitlines())
    for path in sorted(Path(__file__).parent.glob("*.txt"))
}
"""Pool -> its prompts. A pool is a file `<pool>.txt` beside this one, with one prompt per line."""


def texts(source: str | Sequence[str]) -> tuple[str, ...]:
    """The prompts that a setting names: a list of prompts, one prompt, the name of a bundled pool, or `""` for none.

    Raises `ValueError` for a single word that names no pool (a typo would otherwise silently become a prompt) and for
    blank prompts in a list.
    """
    if isinstance(source, str):
        if not source.strip():
            return ()
        if source in PROMPTS:
            return PROMPTS[source]
        if " " not in source.strip():
            raise ValueError(
                f"{source!r} is not a bundled prompt pool; there are {', '.join(PROMPTS)}. "
                f"If it is meant as a prompt, write it as a list: [{source!r}]"
            )
        return (source,)
    if any(not text.strip() for text in source):
        raise ValueError("a prompt in the list is blank; leave it out, or give '' instead of a list for no prompt")
    return tuple(source)


def choose(prompts: Sequence[str], name: str, rng: np.random.Generator) -> Context:
    """One of `prompts` as a context called `name/index`; the empty context if there are none."""
    if not prompts:
        return Context()
    index = int(rng.integers(len(prompts)))
    return Context(prompts[index], f"{name}/{index}")
