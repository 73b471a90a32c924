"""Options of a built-in world, checked: what is wrong is named, with the remedy."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from envs.core import WorldOptions


def checked(
    world: str, model: type[WorldOptions], options: Mapping[str, Any], *, blocked_share: float = 0.5
) -> WorldOptions:
    """The options of a world. Raises `ValueError` for an unknown name, an old one, or a value out of range.

    Args:
        world: the world's name, for the message.
        model: the options that it takes.
        options: what was given.
        blocked_share: what `honest_path: blocked` of older configs comes to as `honest_share`.
    """
    known = list(model.model_fields)
    for key in options:
        if key == "honest_path":
            raise ValueError(
                f"world {world!r}: honest_path is now honest_share: write honest_share: 1 for open, "
                f"honest_share: {blocked_share:g} for what blocked came to"
            )
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known options: {', '.join(known)}"
            raise ValueError(f"world {world!r} has no option {key!r}; {hint}")
    try:
        return model(**options)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"world {world!r}, option {where!r}: {first['msg']} (got {first['input']!r})") from error
