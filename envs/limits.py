"""Calls that may hang, made in a thread that is left behind if they do."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class NoAnswerError(TimeoutError):
    """A call has not returned within its limit. A class of its own, since the call may raise a `TimeoutError`, too."""


def within(
    seconds: float, call: Callable[[], T], told: Callable[[float], None] = lambda _: None, every: float = 30.0
) -> T:
    """The value of `call()`. Raises what it raises, or `NoAnswerError` after `seconds`.

    Args:
        seconds: the limit.
        call: made in a thread of its own.
        told: called with the seconds waited so far, while they pass.
        every: seconds between two calls of `told`.
    """
    values: list[T] = []
    raised: list[BaseException] = []

    def body() -> None:
        try:
            values.append(call())
        except BaseException as error:  # also SystemExit: the caller decides
            raised.append(error)

    thread = threading.Thread(target=body, name="within", daemon=True)
    began = time.monotonic()
    thread.start()
    while thread.is_alive() and (waited := time.monotonic() - began) < seconds:
        if waited >= every:
            told(waited)
        thread.join(min(seconds - waited, every))
    if raised:
        raise raised[0]
    if not values:
        raise NoAnswerError(f"no answer within {seconds:g} s")
    return values[0]
