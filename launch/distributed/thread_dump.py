"""Thread dumps of this process, for the log when something takes too long."""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Sequence
from types import FrameType


def other_threads() -> list[tuple[str, FrameType]]:
    """(name, innermost frame) of every thread of this process except the calling one."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    caller = threading.get_ident()
    # A private function: faulthandler, the public way, writes only to files.
    return [(names.get(i, str(i)), frame) for i, frame in sys._current_frames().items() if i != caller]


def dump(threads: Sequence[tuple[str, FrameType]]) -> str:
    """The stacks of `threads` as text, outermost call first."""
    return "\n".join(f"{name}:\n" + "".join(traceback.format_stack(frame)) for name, frame in threads)
