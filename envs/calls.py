"""Calls of plug-ins: what one raises is told with its class and the hook."""

from __future__ import annotations

from typing import Any

from envs.frozen import refuses_writing
from envs.text import message_of

_PASS = (KeyboardInterrupt, MemoryError)


def call(
    error: type[Exception], plugin: object, hook: str, *arguments: Any, through: tuple[type[BaseException], ...] = ()
) -> Any:
    """The answer of `plugin.hook(*arguments)`.

    Args:
        error: Class of the error that is raised in place of what the hook raises; its message names class and hook.
        plugin: The plug-in.
        hook: Name of the method.
        arguments: Its arguments.
        through: Errors that are raised as they are: others act on their class.
    """
    passed: tuple[type[BaseException], ...] = (*_PASS, *through)
    try:
        return getattr(plugin, hook)(*arguments)
    except passed:
        raise
    except OSError as failure:  # a full disk and a missing file are told by their class
        failure.add_note(f"raised in {type(plugin).__name__}.{hook}()")
        raise
    except BaseException as failure:  # SystemExit, too: a plug-in may not end a run in silence
        name, message = type(plugin).__name__, message_of(failure)
        if isinstance(failure, error) and name in message:
            raise
        advice = "; what plug-ins are shown is read-only: work on a copy" if refuses_writing(failure) else ""
        raise error(f"{name}.{hook}() raised {type(failure).__name__}: {message}{advice}") from failure
