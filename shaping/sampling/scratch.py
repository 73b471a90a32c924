"""Files that carry weights to another process: in shared memory where there is room, gone when their owner is."""

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
    """Directories of this process, locked as long as it lives; those that killed processes left are removed."""

    def __init__(self, *places: Path) -> None:
        self._places = places or (SHARED_MEMORY, Path(tempfile.gettempdir()))
        self._made: dict[Path, tuple[Path, int]] = {}
        self._count = itertools.count()
        for place in self._places:
            _sweep(place)

    def path(self, name: str, size: int) -> Path:
        """A new path, never given out before, on the first place with room for twice `size` bytes."""
        for place in self._places:
            if os.access(place, os.W_OK) and shutil.disk_usage(place).free > 2 * size:
                return self._directory(place) / f"{next(self._count)}-{name}"
        raise OSError(
            f"no room for {size / 1e9:.2f} GB of weights in {' or '.join(map(str, self._places))}: free some space "
            "there (in a container, give it more shared memory) or point TMPDIR to a larger disk"
        )

    def directories(self) -> list[Path]:
        """Those made so far."""
        return [path for path, _ in self._made.values()]

    def _directory(self, place: Path) -> Path:
        if place not in self._made:
            path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
            lock = os.open(path / ".lock", os.O_CREAT | os.O_RDWR)
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._made[place] = (path, lock)
        return self._made[place][0]

    def remove(self) -> None:
        for path, lock in self._made.values():
            shutil.rmtree(path, ignore_errors=True)
            os.close(lock)
        self._made.clear()


def _sweep(place: Path) -> None:
    """Remove what no living process holds. A lock, unlike a process id, also means something between containers."""
    for lock_file in place.glob(f"{PREFIX}*/.lock"):
        try:
            lock = os.open(lock_file, os.O_RDWR)
        except OSError:  # another user's, or just removed
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock_file.parent, ignore_errors=True)
        except BlockingIOError:
            pass
        finally:
            os.close(lock)
