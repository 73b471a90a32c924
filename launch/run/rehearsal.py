"""One turn in a world before anything starts, with every call under the time limit that it has in play."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from envs.answers import WorldContractError, opened, positive_number, step_result
from envs.limits import NoAnswerError
from envs.text import message_of
from launch.config.plugins import PluginError, build_world
from launch.errors import UserError
from shaping.sampling.watchdog import watched

T = TypeVar("T")
ACTION = "ACTION: wait"
"""A command that many worlds know, and that none may fail at."""


def rehearse(name: str, options: Mapping[str, Any], where: str, seconds: float) -> None:
    """Build a world, play its first turn and close it.

    Args:
        name: what the config calls the world.
        options: its options.
        where: dotted key for messages, e.g. `eval.worlds`.
        seconds: the limit of each call, `train.step_timeout`.

    Raises:
        UserError: The world cannot be built with these options, raises, hangs or breaks its contract.
    """
    shown = f" with {', '.join(f'{k}={v}' for k, v in options.items())}" if options else ""
    place = f"{where}.{name}{shown}"

    def call(made: Callable[[], T], hook: str) -> T:
        return _limited(made, f"{place}: {hook}", seconds)

    world = call(lambda: build_world(name, options, where), "its constructor")
    kind = f"{type(world).__module__}:{type(world).__qualname__}"
    try:
        opened(call(lambda: world.reset(seed=0), f"{kind}.reset()"), f"{place}: {kind}.reset()")
        positive_number(getattr(world, "max_return", 1.0), "max_return", f"{place}: {kind}")
        step_result(call(lambda: world.step(ACTION), f"{kind}.step()"), f"{place}: {kind}.step()")
    except WorldContractError as error:
        raise PluginError(str(error)) from error
    call(world.close, f"{kind}.close()")


def _limited(call: Callable[[], T], what: str, seconds: float) -> T:
    try:
        return watched(what, seconds, call)
    except (UserError, KeyboardInterrupt):
        raise
    except NoAnswerError:
        raise PluginError(f"{what} has not returned within {seconds:g} s (train.step_timeout): does it hang?") from None
    except BaseException as error:  # sys.exit() of a world, too
        raise PluginError(f"{what} raised {type(error).__name__}: {message_of(error)}") from error
