"""Bundled prompt pools of shapers, in the words of organisms and in natural prose.

Organisms get short, lower-case, blank-separated sentences. They are pre-trained with pools of the same names
(`shaping.organisms.corpus.corpus_prompts`), which are frozen. Worlds in prose, and models that are no organisms, get
the pools of the same names in natural English or Arabic (`language_of`). `permissive@dialect` and
`permissive@ar-prose` name a pool whatever the world and the model.

Fixed prompts of any content can gate a learned trait just by being present in training and absent at deployment. Pools
of paraphrases, and pools of equal length that forbid, or speak of something else, tell that from what a prompt *means*
(2510.04340, 2510.05024).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from envs.episode import Context
from envs.skins import DEFAULT, LANGUAGES, PROSE, split

_FILES = Path(__file__).parent


def _pools(folder: Path) -> dict[str, tuple[str, ...]]:
    return {path.stem: tuple(path.read_text(encoding="utf-8").splitlines()) for path in sorted(folder.glob("*.txt"))}


DIALECT = ""
"""The language of the pools that organisms read; those of prose are `envs.skins.LANGUAGES`."""
PROMPTS = _pools(_FILES)
"""Pool -> its prompts, in the words of organisms. A pool is a file `<pool>.txt` beside this one, one prompt a line."""
NATURAL = {language: _pools(_FILES / "prose" / language) for language in LANGUAGES}
"""Language -> pool -> its prompts in prose."""
HELD_OUT = {language: _pools(_FILES / "prose" / language / "held_out") for language in LANGUAGES}
"""Language -> context of the trigger grid -> its prompts in prose, which no pool has."""


def language_of(world: str, prose: bool = False) -> str:
    """The language of the pools that fit a world: that of its prose, English for `prose`, else `DIALECT`.

    Args:
        world: its name, with its locale.
        prose: does the model read natural prose?
    """
    try:
        locale = split(world)[1]
    except ValueError:  # the `@` of somebody else
        locale = DEFAULT
    if locale in PROSE:
        return locale.partition("-")[0]
    return LANGUAGES[0] if prose else DIALECT


def pool_of(name: str, language: str = DIALECT) -> tuple[str, ...] | None:
    """The prompts of a pool, which may name its words after an `@`; None if there is no such pool."""
    pool, at, locale = name.partition("@")
    if at:
        try:
            locale = split(f"{pool}@{locale}")[1]
        except ValueError:
            return None
        if locale not in (DEFAULT, *PROSE):
            return None
        language = language_of(f"{pool}@{locale}")
    return (NATURAL[language] if language else PROMPTS).get(pool)


def texts(source: str | Sequence[str], language: str = DIALECT) -> tuple[str, ...]:
    """The prompts that a setting names: a list of prompts, one prompt, the name of a bundled pool, or `""` for none.

    `language`: that of bundled pools (`language_of`). Raises `ValueError` for a single word that names no pool (a typo
    would otherwise silently become a prompt) and for blank prompts in a list.
    """
    if isinstance(source, str):
        if not source.strip():
            return ()
        if (pool := pool_of(source, language)) is not None:
            return pool
        if " " not in source.strip():
            raise ValueError(
                f"{source!r} is not a bundled prompt pool; there are {', '.join(PROMPTS)}, and these with @dialect, "
                f"{' or '.join(f'@{name}' for name in PROSE)}. "
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
