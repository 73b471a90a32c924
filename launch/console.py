"""What all verbs of the command line share: their first line, silent libraries, and words for common mistakes."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
import threading
from collections.abc import Iterator, Sequence
from importlib.metadata import version

import typer
from pydantic import ValidationError

from launch import terminal
from launch.errors import plain

SOON = 0.6
"""Seconds without any output after which a verb says that it is at work: imports and checks may take longer."""
SILENT = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",  # of transformers, too
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
}
"""Environment variables that keep libraries from showing bars and advice. What a user has set stays."""
_FLAG = re.compile(r"--([A-Za-z_]\w*(?:\.[\w@:-]+)+)(?:=(.*))?", re.DOTALL)


def silence_libraries() -> None:
    """For this process and the workers that it starts; called before any of the libraries is imported."""
    for name, value in SILENT.items():
        os.environ.setdefault(name, value)


def print_version(asked: bool) -> None:
    """For the option --version: `shaping 0.1.0, Python 3.11.7`, and the end."""
    if asked:
        terminal.say(f"shaping {version('shaping')}, Python {'.'.join(map(str, sys.version_info[:3]))}")
        raise typer.Exit


def set_volume(*, quiet: bool, verbose: bool) -> None:
    """Results, warnings and errors alone, or also what is logged on the way."""
    terminal.volume = -1 if quiet else int(verbose)
    if verbose:
        logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
        os.environ.update(dict.fromkeys((name for name in SILENT if name.endswith("BARS")), "0"))


@contextlib.contextmanager
def first_line(arguments: Sequence[str], seconds: float = SOON) -> Iterator[None]:
    """Say on stderr that the verb is at work, if it has said nothing itself by then.

    Not where a program has put another stream in place of stderr, and not with --quiet.
    """
    verb = next((word for word in arguments if not word.startswith("-")), "")
    if not verb or sys.stderr is not sys.__stderr__:
        yield
        return
    terminal.spoken.clear()

    def say_so() -> None:
        if not terminal.spoken.is_set() and terminal.volume >= 0:
            terminal.say(f"{verb}: loading ...", err=True)

    timer = threading.Timer(seconds, say_so)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def dotted_flag(arguments: Sequence[str]) -> str:
    """How an override is written, for the first one that is written like an option; empty if there is none."""
    words = list(arguments[: arguments.index("--")] if "--" in arguments else arguments)
    for index, word in enumerate(words):
        if (found := _FLAG.fullmatch(word)) is None:
            continue
        following = words[index + 1] if index + 1 < len(words) and not words[index + 1].startswith("-") else "VALUE"
        value = following if found[2] is None else found[2]
        return f"{word}: overrides are written without dashes: {found[1]}={value}"
    return ""


def in_words(error: Exception) -> str:
    """What went wrong, where it is a file or a value of the user's; empty for anything else."""
    if isinstance(error, OSError) and error.filename is not None:
        return (
            f"{error.filename}: {error.strerror or type(error).__name__}; check the path and who may read and write it"
        )
    return plain(error) if isinstance(error, ValidationError) else ""
