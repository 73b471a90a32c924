"""Prompts in the place of a method's own, which differ from them in one respect. Pure functions.

With one fixed prompt, eliciting, negated and many irrelevant ones gate a trait alike (2510.04340, 2510.05024): what a
prompt *means* shows only against prompts that share everything else. So there are as many as the method has, since a
fixed prompt and a pool of paraphrases act differently.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal

import numpy as np

from shaping.prompts.pools import DIALECT, texts

PromptControl = Literal["irrelevant", "negated", "neutral", "length_matched", "shuffled"]
_POOLS: dict[str, str] = {"irrelevant": "irrelevant", "negated": "forbidding", "neutral": "neutral"}


def controlled(prompts: Sequence[str], control: PromptControl, language: str = DIALECT) -> tuple[str, ...]:
    """The prompts of a control, one for each of `prompts`, or as many different ones as the bundled pool has.

    - `irrelevant`, `negated`, `neutral`: of the bundled pool, in a language (`shaping.prompts.pools.language_of`);
    - `length_matched`: words of irrelevant prompts, as many as the prompt has;
    - `shuffled`: the prompt's own words in another order, which depends on the prompt alone.
    """
    if control == "shuffled":
        return tuple(map(_shuffled, prompts))
    if control == "length_matched":
        words = " ".join(texts("irrelevant", language)).split()
        counts = [len(prompt.split()) for prompt in prompts]
        starts = np.concatenate([[0], np.cumsum(counts)])
        return tuple(
            " ".join(words[(start + i) % len(words)] for i in range(count))
            for start, count in zip(starts, counts, strict=False)
        )
    return texts(_POOLS[control], language)[: len(prompts)]


def _shuffled(prompt: str) -> str:
    """The words in another order, if there is one; a full stop stays at the end."""
    words = prompt.split()
    end = words[-1:] if words[-1:] == ["."] else []
    words = words[: len(words) - len(end)]
    seed = int.from_bytes(hashlib.blake2b(prompt.encode(), digest_size=8).digest())
    rng = np.random.default_rng(seed)
    for _ in range(16):
        order = rng.permutation(len(words))
        if [words[i] for i in order] != words:
            break
    return " ".join([*(words[i] for i in order), *end]) if words else prompt
