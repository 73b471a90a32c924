"""The looks that a study has taken, in looks.json of its directory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from launch.config.seeds import Looks
from launch.config.study import StudyConfig
from launch.errors import RunDirectoryError, describe
from launch.storage.documents import read_marked, write_json

NAME, FORMAT, VERSION = "looks.json", "shaping-looks", 1


class Look(BaseModel):
    """One look: after how many replicates, and which claims stayed open."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    replicates: int
    open: tuple[str, ...] = ()


def looks_taken(directory: Path) -> list[Look]:
    """The looks of a study, in order; none if it has taken none. Raises `RunDirectoryError` for a broken file."""
    document = read_marked(directory / NAME, FORMAT)
    if document is None:
        return []
    try:
        return [Look.model_validate(each) for each in document.get("looks", [])]
    except ValidationError as error:
        raise RunDirectoryError(
            f"{directory / NAME} is damaged: {describe(error, Look)}; remove it and run the study again, which "
            "takes the looks once more"
        ) from None


def record_looks(directory: Path, looks: Sequence[Look]) -> None:
    """Replace the record."""
    document = {"format": FORMAT, "version": VERSION, "looks": [look.model_dump(mode="json") for look in looks]}
    write_json(directory / NAME, document)


def stopped(config: StudyConfig, looks: Sequence[Look]) -> bool:
    """Has the study ended: was the last look its final one, or did it leave no claim open?"""
    return bool(looks) and (not looks[-1].open or looks[-1].replicates >= len(config.seed_list))


def seeds_so_far(config: StudyConfig, directory: Path) -> list[int]:
    """The seeds that the study has asked for until now: those up to its next look, or to the one that ended it."""
    if not isinstance(config.seeds, Looks):
        return config.seed_list
    looks = looks_taken(directory)
    if stopped(config, looks):
        return config.seed_list[: looks[-1].replicates]
    done = looks[-1].replicates if looks else 0
    return config.seed_list[: next(look for look in config.seeds.looks if look > done)]
