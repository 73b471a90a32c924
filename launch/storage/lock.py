"""One process per study: a lock that is released when its holder ends."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from launch.errors import RunDirectoryError
from launch.storage.files import disk_errors, make_directory, safe


@contextlib.contextmanager
def study_lock(directory: Path, note: Callable[[str], None]) -> Iterator[None]:
    """Hold `study.lock`, which names this process and host. The lock of a dead process is taken over.

    Raises `RunDirectoryError` if another process holds it.
    """
    path = directory / "study.lock"
    with disk_errors(directory):
        make_directory(directory)
        file = _locked(safe(path))
    try:
        previous = _holder(file)
        if previous:
            _refuse_living(path, previous)
            note(
                f"taking over the lock of process {previous['pid']} on {previous['host']}, which ended without "
                "releasing it"
            )
        with disk_errors(directory):
            file.seek(0)
            file.truncate()
            file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}) + "\n")
            file.flush()
    except BaseException:
        file.close()
        raise
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        file.close()


def try_lock(descriptor: int) -> bool:
    """Take an advisory lock, released when the process ends. Always True on file systems without locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
            raise
    return True


def _locked(path: Path) -> IO[str]:
    """Open and lock the file. If its last holder has just unlinked it, try again with the new file."""
    while True:
        file = path.open("a+", encoding="utf-8")
        if not try_lock(file.fileno()):
            holder = _holder(file) or {"pid": "?", "host": "?"}
            file.close()
            raise RunDirectoryError(_in_use(path, holder))
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()


def _holder(file: IO[str]) -> dict[str, Any] | None:
    file.seek(0)
    try:
        document = json.loads(file.read())
        return {"pid": int(document["pid"]), "host": str(document["host"])}
    except (ValueError, KeyError, TypeError):
        return None


def _refuse_living(path: Path, holder: dict[str, Any]) -> None:
    """Check that the holder is dead, for file systems on which `try_lock` always succeeds."""
    if holder["host"] != socket.gethostname() or holder["pid"] == os.getpid():
        return
    try:
        os.kill(holder["pid"], 0)
    except OSError:
        return
    if "shaping" in _command(holder["pid"]):  # otherwise another program has got this pid since
        raise RunDirectoryError(_in_use(path, holder))


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def _in_use(path: Path, holder: dict[str, Any]) -> str:
    return (
        f"{path.parent} is being run by process {holder['pid']} on {holder['host']}; wait for it, stop it, or run this "
        "study under another `name`"
    )
