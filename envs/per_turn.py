"""What plug-ins answer about the turns of an episode: one finite number each."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def per_turn(values: Any, turns: int, what: str) -> NDArray[np.float64]:
    """`values` as a new array [turns].

    Raises: ValueError that says what is wrong with `what` (a plural): the type, the shape, a value that is not finite,
    or a sum that is not.
    """
    try:
        array = np.asarray(values)
    except Exception as error:
        raise ValueError(f"got {what} that are no array: {type(error).__name__}; return one number per turn") from error
    if array.shape != (turns,):
        raise ValueError(f"got {what} of shape {array.shape} for {turns} turns; it must return one number per turn")
    if array.dtype.kind not in "biuf" and turns:
        raise ValueError(f"got {what} of type {array.dtype}, such as {array[0]!r}; it must return one number per turn")
    numbers: NDArray[np.float64] = np.array(array, np.float64)
    if bad := np.flatnonzero(~np.isfinite(numbers)).tolist():
        raise ValueError(f"turn {bad[0]} of the {what} is {numbers[bad[0]]}; all must be finite")
    with np.errstate(over="ignore"):
        total = np.abs(numbers).sum()
    if not np.isfinite(total):
        raise ValueError(f"the {what} are finite, but their sum is not (the largest is {np.abs(numbers).max():g})")
    return numbers
