"""The isolated process: builds one plug-in and answers calls of its hooks, one after the other, until its input ends.

    python guest.py PROJECT    the project's folder; everything else comes through the standard input

The walls are put up before anything but the standard library is imported.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import shutil
import sys
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


def main() -> None:
    """Serve one plug-in."""
    sys.path[0] = sys.argv[1]  # in place of this file's folder
    requests, answers = _own_streams()
    from launch.isolation.sandbox import protect

    start: dict[str, Any] = json.loads(requests.readline())
    walls = protect(start["readable"], [start["folder"]])
    sys.path += [entry for entry in start["search_path"] if entry not in sys.path]
    from launch.isolation.wire import receive, send

    with _limited(start["seconds"]):
        plugin, described = _built(start)
    send(answers, described | {"walls": walls})
    while plugin is not None:
        try:
            hook, seconds, arguments = receive(requests)
        except EOFError:  # the run has ended, perhaps by a kill
            shutil.rmtree(start["folder"], ignore_errors=True)
            return
        with _limited(seconds):
            answer = _answer(plugin, hook, arguments)
        answers.write(answer)
        answers.flush()


def _own_streams() -> tuple[IO[bytes], IO[bytes]]:
    """The pipes, out of the plug-in's way: what it prints goes to the errors, and its own input is empty."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    os.close(nothing)
    return requests, answers


@contextlib.contextmanager
def _limited(seconds: float) -> Any:
    """End the process after `seconds`, with the stack on its errors; also if the plug-in holds the interpreter."""
    faulthandler.dump_traceback_later(seconds, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def _built(start: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The plug-in and its description, or None and why there is none."""
    from envs.text import message_of
    from launch.config.plugins import INTERVENTION, REWARD, load
    from launch.config.study import PluginSpec
    from launch.errors import UserError
    from launch.isolation.describe import describe
    from shaping.arm import compose
    from shaping.intervention import Intervention

    kind = {kind.noun: kind for kind in (INTERVENTION, REWARD)}[start["kind"]]
    try:
        plugin = load(PluginSpec(use=start["use"], **start["fields"]), kind, start["where"])
        if isinstance(plugin, Intervention):
            compose(start["arm"], [plugin])
        return plugin, describe(plugin)
    except (UserError, ValueError) as error:
        return None, {"refused": message_of(error)}
    except BaseException as error:
        return None, {"refused": f"{start['where']}: {type(error).__name__}: {message_of(error)}"}


def _answer(plugin: Any, hook: str, arguments: Sequence[Any]) -> bytes:
    """The message with the answer and the new states of random generators, or with the error."""
    import numpy as np

    from envs.frozen import refuses_writing
    from envs.text import message_of
    from launch.isolation.wire import encoded, generator_state

    try:
        answer = getattr(plugin, hook)(*arguments)
        states = [generator_state(given) for given in arguments if isinstance(given, np.random.Generator)]
        return encoded({"answer": answer, "generators": states})
    except BaseException as error:
        advice = "; what plug-ins are shown is read-only: work on a copy" if refuses_writing(error) else ""
        return encoded({"raised": f"{type(error).__name__}: {message_of(error)}{advice}"})


if __name__ == "__main__":
    main()
