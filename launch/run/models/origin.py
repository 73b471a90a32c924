"""What a run is made of beside its config: the files of the start model, and the code of its plug-ins. In run.json."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from launch.config.plugin_sources import changed_code, plugin_code
from launch.config.study import RunConfig
from launch.errors import RunDirectoryError
from launch.run.finetuning.data import files_of
from launch.run.models.load_policy import start_record
from launch.storage.rundir import RunDirectory, read_record
from launch.storage.studydir import StudyDirectory, protected
from launch.storage.versions import source_hash
from shaping.models import model_files

SHOWN = 12
"""Most lines of differences in a message."""


def origin(run: RunConfig, model: Path) -> dict[str, Any]:
    """For run.json: which model it starts from, and the hashes of its files and of the plug-ins' code."""
    hub = {"commit": run.commit} if run.commit else {}
    whole, first = (run.within.run, Path(run.within.start)) if run.within else (run, model)
    data, rows = files_of(whole), run.within.rows if run.within else ""
    return {
        "start": start_record(whole, first),
        "model": model_files.hashes(first),
        "plugins": plugin_code(whole),
        **hub,
        **({"data": data} if data else {}),
        **(
            {"written": model_files.content_hash(Path(rows))} if (rows := run.within.rows if run.within else "") else {}
        ),
    }


def changes(record: Mapping[str, Any], run: RunConfig, model: Path | None) -> list[str]:
    """How the start model and the plug-ins differ from those of run.json. Nothing is said of what is not recorded.

    `model` is None if it is not on this machine: then it is not compared.
    """
    lines = []
    if (within := run.within) is not None:  # what it starts from itself, the run has made
        if within.rows and record.get("written", "") != model_files.content_hash(Path(within.rows)):
            lines.append("the rows that a policy of the run has written for it have other contents")
        run, model = within.run, Path(within.start)
    if model is not None and "model" in record:
        lines += [f"start model: {line}" for line in model_files.changed(record["model"], model_files.hashes(model))]
    if "plugins" in record:
        lines += changed_code(record["plugins"], plugin_code(run))
    before, now = record.get("data", {}), files_of(run)
    lines += [f"data {name} has other contents" for name in sorted(before) if before[name] != now.get(name)]
    return lines


def check_origin(directory: RunDirectory, run: RunConfig, model: Path) -> None:
    """Raise `RunDirectoryError` if a half-written run was begun with another start model or other plug-ins."""
    record = read_record(directory.path)
    if record is not None and (lines := changes(record, run, model)):
        raise RunDirectoryError(
            f"{directory.path} was begun with other files than are there now: {'; '.join(lines)}. Put them back, or "
            "start it in another directory"
        )


def settle(
    study: StudyDirectory,
    runs: Sequence[RunConfig],
    models: Mapping[str, Path | None],
    *,
    force: bool,
    note: Callable[[str], None],
) -> bool:
    """Compare what runs were made with and what is there now, so that no study mixes the two.

    Args:
        study: The study.
        runs: Runs to look at. One that has failed is set aside in any case; one without a state starts over.
        models: `model_key` -> directory of the start model, for the models to compare.
        force: Set runs aside that were made with something else.
        note: Receives messages for the user.

    Returns:
        Was any run set aside?

    Raises:
        RunDirectoryError: Runs were made with something else, and `force` is not given.
    """
    found: dict[Path, list[str]] = {}
    failed: list[Path] = []
    for run in runs:
        directory, key = study.run(run), model_key(run)
        record = read_record(directory.path)
        if record is None or key not in models or not (differing := changes(record, run, models[key])):
            continue
        if protected(directory, run.digest):
            found[directory.path] = differing
        elif directory.failure():
            failed.append(directory.path)
    if found and not force:
        shown = [f"  {study.name_of(path)}: {line}" for path, differing in found.items() for line in differing]
        more = f"\n  and {len(shown) - SHOWN} more" if len(shown) > SHOWN else ""
        raise RunDirectoryError(
            f"{study.path}: these runs were made with other files than are there now:\n"
            + "\n".join(shown[:SHOWN])
            + f"{more}\nput the files back, run this study under another name (name=...), or use --force to continue "
            "here: the runs that differ are set aside and made again"
        )
    study.move_aside([*found, *failed], "made with another start model or other plug-ins", note)
    return bool(found)


def tell_other_versions(study: StudyDirectory, kept: Sequence[RunConfig], note: Callable[[str], None]) -> None:
    """Tell how many finished runs the framework's code has made in another state than it is in now."""
    records = [read_record(study.run(run).path) or {} for run in kept]
    sources = [dict(record.get("versions", {})).get("source", source_hash()) for record in records]
    if others := sum(source != source_hash() for source in sources):
        note(
            f"{others} of the finished runs {'was' if others == 1 else 'were'} made by another version of this program"
        )


def model_key(run: RunConfig) -> str:
    """Equal for all runs that start from one model."""
    return json.dumps(run.model_dump(mode="json")["model"], sort_keys=True)
