"""What the threads of a process are doing: for the log, when something has been waited for too long."""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Sequence
from types import FrameType


def other_threads() -> list[tuple[str, FrameType]]:
    """(name, innermost frame) of every thread of this process but the one that asks."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    own = threading.get_ident()
    # not a public name, but what faulthandler offers writes to files only
    return [(names.get(i, str(i)), frame) for i, frame in sys._current_frames().items() if i != own]


def dump(threads: Sequence[tuple[str, FrameType]]) -> str:
    """Their stacks as text, outermost call first."""
    return "\n".join(f"{name}:\n" + "".join(traceback.format_stack(frame)) for name, frame in threads)
