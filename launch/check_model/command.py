"""What `shaping check-model` does after its arguments are read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from launch.check_model.check import measure_model, needed_of, played, worlds_of
from launch.check_model.page import write_page
from launch.check_model.subject import subject
from launch.check_model.table import HEAD, failures, lines, rows
from launch.config.model import speaks_dialect
from launch.config.study import PROSE_TOKENS
from launch.errors import ConfigError, describe
from launch.storage.documents import write_json
from launch.storage.files import disk_errors, make_directory
from shaping.organisms.gates.record import Gates, Settings, Training

M = TypeVar("M", bound=BaseModel)


def check_gates(
    model: str,
    *,
    worlds: str = "",
    need: str = "",
    settings: Settings,
    max_tokens: int | None = None,
    training: Training | None = None,
    device: str = "auto",
    json_file: Path | None = None,
    out: Path | None = None,
    say: Callable[[str], None],
) -> bool:
    """Measure, print and store the gates of a model. Returns False if a gate of `need` is not passed.

    Args:
        model: directory, hub id, `organism`, `shipped` or `shipped:<number>`.
        worlds, need: comma-separated; empty: the worlds of organisms, and no gate. A model that is no organism reads
            them in prose.
        settings: how it is measured.
        max_tokens: tokens per completion; None: those of `settings`, and 256 in prose, as in a run.
        training: how M6 trains; None: without M6.
        device: of the model.
        json_file, out: a file and a directory to write the result to.
        say: prints a line.
    """
    needed, written = needed_of(need), worlds_of(worlds)
    if "M6" in needed and training is None:
        raise ConfigError("need: M6 is measured only with --train")
    found = subject(model, lambda done, total, what: say(f"{what} ({done} of {total})") if done == total else None)
    dialect = speaks_dialect(str(found.directory))
    names = played(written, dialect)
    room = max_tokens or (settings.max_tokens if dialect else PROSE_TOKENS)
    settings = settings.model_copy(update={"max_tokens": room})
    gates, place = measure_model(found.directory, names, settings, training=training, device=device, note=say)
    for line in lines(HEAD, [row.cells for row in rows(gates)]):
        say(line)
    for line in remarks(gates):
        say(line)
    if json_file is not None:
        with disk_errors(json_file):
            make_directory(json_file.parent)
            write_json(json_file, {"model": found.name, **gates.model_dump(mode="json"), "rows": gates.rows()})
    if out is not None:
        say(f"page: {write_page(out, found.name, gates, remarks(gates))}")
    say(f"kept in {place}")
    missing = failures(gates, needed, names)
    for line in missing:
        say(f"needed, and not passed: {line}")
    return not missing


def remarks(gates: Gates) -> list[str]:
    """What a reader should know beside the table."""
    told = []
    for world, found in gates.worlds.items():
        if found.failed:
            told.append(f"{world}: {found.failed} episodes failed and count nowhere")
        if found.invalid > 0.2:
            told.append(
                f"{world}: {found.invalid:.0%} of the turns have no valid command; longer answers (--max-tokens) may "
                "help, or the model does not know this format"
            )
    return told


def settings_of(**given: Any) -> Settings:
    """Settings from options of the command line. Raises `ConfigError` for values out of range."""
    return _checked(Settings, given)


def training_of(**given: Any) -> Training:
    """The same for M6."""
    return _checked(Training, given)


def _checked(kind: type[M], given: dict[str, Any]) -> M:
    try:
        return kind(**given)
    except ValidationError as error:
        raise ConfigError(describe(error, kind)) from None
