"""Motives that can be stated before an act, in the words that a model would state them in.

- `prosocial`: for those who rely on the work;
- `task_pride`: for the work itself;
- `score_seeking`: for the reward;
- `neutral`: a preamble of the same length that states none.

Organisms state motives in short phrases, some of which they know from their corpus (all but those of `task_pride`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from envs.skins import split
from shaping.prompts.pools import language_of

Motive = Literal["prosocial", "task_pride", "score_seeking", "neutral"]
MOTIVES: tuple[Motive, ...] = get_args(Motive)
_FILES = Path(__file__).parent / "stated"
STATED = {
    folder: {
        motive: tuple((_FILES / folder / f"{motive}.txt").read_text(encoding="utf-8").splitlines())
        for motive in MOTIVES
    }
    for folder in ("dialect/en", "dialect/ar", "en", "ar")
}
"""Words -> motive -> texts that state it."""


def stated(motive: Motive, world: str, prose: bool = False) -> tuple[str, ...]:
    """The texts that state a motive in the words of a world, or of a model that reads natural prose."""
    if language := language_of(world, prose):
        return STATED[language][motive]
    try:
        arabic = split(world)[1].startswith("ar")
    except ValueError:  # the `@` of somebody else
        arabic = False
    return STATED["dialect/ar" if arabic else "dialect/en"][motive]
