"""The folder of a local Ray: its sockets lie below, and where their paths are too long, Ray does not start."""

from __future__ import annotations

import os
import sys

from launch.errors import UserError

LIMIT = 103 if sys.platform == "darwin" else 107
"""Bytes of the longest path of a socket."""
_LONGEST = "ray/session_2026-01-31_23-59-59_000000_{pid}/sockets/plasma_store"
"""The longest path of a socket below the folder for temporary files."""


def too_long() -> str:
    """What is wrong with the folder for temporary files, and what to set; empty if Ray's sockets fit."""
    from ray._common.utils import get_default_system_temp_dir

    folder = str(get_default_system_temp_dir())
    room = LIMIT - len(os.path.join("", _LONGEST.format(pid=os.getpid()))) - 1
    if (length := len(os.fsencode(folder.rstrip(os.sep)))) <= room:
        return ""
    variable = "RAY_TMPDIR" if "RAY_TMPDIR" in os.environ else "TMPDIR"
    return (
        f"{variable} is a path of {length} bytes, and Ray's sockets below it must have at most {LIMIT}: set {variable} "
        f"to one of at most {room} bytes, e.g. {variable}=/tmp"
    )


def check_ray_folder() -> None:
    """Raise `UserError` if a Ray that starts here could not open its sockets."""
    if problem := too_long():
        raise UserError(f"Ray cannot start on this machine: {problem}")
