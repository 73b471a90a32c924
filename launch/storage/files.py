"""Every write below a study goes through here: atomic, flushed to disk, and never through a link that leads out."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from launch.errors import DiskFullError, RunDirectoryError

STUDY, RUN = "study.json", "run.json"
"""Their presence marks the directory of a study and of a run."""


def safe(path: Path) -> Path:
    """`path`, if a write to it stays inside its study (or, outside of any study, inside its run).

    Raises `RunDirectoryError` if a link on the way leads out.
    """
    root, real = _root(path), os.path.realpath(path)
    inside = os.path.realpath(root)
    if real != inside and not real.startswith(os.path.join(inside, "")):
        link = next((p for p in (path, *path.parents) if p.is_symlink()), path)
        raise RunDirectoryError(
            f"{path} would be written to {real}, since {link} is a link that leads out of {root}; remove the link, or "
            "set `output` to where the files should be"
        )
    return path


def _root(path: Path) -> Path:
    """The directory of the study that `path` is in, else that of its run, else its folder."""
    above = path.absolute().parents
    for marker in (STUDY, RUN):
        for folder in above:
            if (folder / marker).exists():
                return folder
    return path.absolute().parent


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file atomically: a reader sees the old file or the new one."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(data)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside `path`, which takes its place at the end of the block and is removed after an error."""
    temporary = safe(path).with_name(f".tmp-{os.getpid()}-{path.name}")
    remove(temporary)
    try:
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def append_text(path: Path, text: str) -> None:
    """Append UTF-8 text. What was written stays when the process is killed."""
    with safe(path).open("a", encoding="utf-8") as file:
        file.write(text)


def make_directory(path: Path) -> Path:
    """Create a directory and those above it, if they are missing."""
    safe(path).mkdir(parents=True, exist_ok=True)
    return path


def fresh_directory(path: Path) -> Path:
    """An empty directory in place of what was there."""
    remove(safe(path))
    return make_directory(path)


def remove(path: Path) -> None:
    """Remove a file, a link, or a folder with its contents, if it is there. Links are not followed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Flush a file, or the entries of a directory, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # EINVAL: the file system cannot flush directories
            raise
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn the errors "no space left" and "permission denied" into messages with a remedy."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFullError(
                f"no space left while writing {path}; finished runs are intact: free some space and repeat the "
                "command to resume"
            ) from None
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
            raise RunDirectoryError(f"cannot write {path}: {error.strerror}; choose another `output`") from None
        raise


def check_space(path: Path, needed: int) -> None:
    """Raise `DiskFullError` if the file system of `path` has fewer than `needed` bytes free."""
    existing = next(p for p in [path.absolute(), *path.absolute().parents] if p.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise DiskFullError(
            f"{path} needs about {needed / 1e6:.0f} MB and {existing} has {free / 1e6:.0f} MB free; free some space "
            "or set `output` to another disk"
        )
