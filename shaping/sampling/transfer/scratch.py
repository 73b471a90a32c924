"""Files that carry weights to another process: in shared memory if it has space, and removed after their owner."""

from __future__ import annotations

import fcntl
import itertools
import os
import shutil
import tempfile
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")
PREFIX = "shaping-weights-"


class Scratch:
    """Directories of this process, locked while it lives. Directories of killed processes are removed at the start.

    Args:
        parents: where to make directories, best first; by default shared memory, then the temporary directory.
    """

    def __init__(self, *parents: Path) -> None:
        self._parents = parents or (SHARED_MEMORY, Path(tempfile.gettempdir()))
        self._directories: dict[Path, tuple[Path, int]] = {}
        self._count = itertools.count()
        for parent in self._parents:
            _sweep(parent)

    def path(self, name: str, size: int) -> Path:
        """Return an unused path below the first parent with free space for twice `size` bytes.

        Raises: OSError if no parent has enough space.
        """
        for parent in self._parents:
            if os.access(parent, os.W_OK) and shutil.disk_usage(parent).free > 2 * size:
                return self._directory(parent) / f"{next(self._count)}-{name}"
        raise OSError(
            f"no room for {size / 1e9:.2f} GB of weights in {' or '.join(map(str, self._parents))}: free some space "
            "there (in a container, give it more shared memory) or point TMPDIR to a larger disk"
        )

    def directories(self) -> list[Path]:
        """The directories of this process so far."""
        return [path for path, _ in self._directories.values()]

    def _directory(self, parent: Path) -> Path:
        if parent not in self._directories:
            path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
            lock = os.open(path / ".lock", os.O_CREAT | os.O_RDWR)
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._directories[parent] = (path, lock)
        return self._directories[parent][0]

    def remove(self) -> None:
        """Remove the directories of this process."""
        for path, lock in self._directories.values():
            shutil.rmtree(path, ignore_errors=True)
            os.close(lock)
        self._directories.clear()


def _sweep(parent: Path) -> None:
    """Remove directories that no living process holds. Locks, unlike process ids, also work between containers."""
    for lock_file in parent.glob(f"{PREFIX}*/.lock"):
        try:
            lock = os.open(lock_file, os.O_RDWR)
        except OSError:  # the file belongs to another user, or has just been removed
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock_file.parent, ignore_errors=True)
        except BlockingIOError:
            pass
        finally:
            os.close(lock)
