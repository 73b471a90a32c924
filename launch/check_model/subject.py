"""The model that the command line names: a directory, a hub id, `organism`, `shipped` or `shipped:2`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from launch.config.model import ModelSource, OrganismModel, ShippedModel, subject_of
from launch.errors import ConfigError
from launch.run.models.start_model import start_model
from shaping.organisms.config import OrganismConfig
from shaping.organisms.organism import Progress
from shaping.organisms.pretrained import PretrainedError, check
from shaping.organisms.shipped import COUNT


@dataclass(frozen=True)
class Subject:
    """A model that can be played with."""

    name: str
    """How tables call it."""
    directory: Path


def subject(model: str, progress: Progress = lambda *_: None) -> Subject:
    """Find, fetch or make the model. Raises `ConfigError` if there is none, or if it cannot be used as it is."""
    source = _source(model)
    directory = start_model(source, progress)
    try:
        check(directory)
    except PretrainedError as error:
        raise ConfigError(f"model: {error}") from error
    return Subject(subject_of(source), directory)


def _source(model: str) -> ModelSource:
    kind, _, number = model.partition(":")
    if model == "organism":
        return OrganismModel(organism=OrganismConfig())
    if kind != "shipped":
        return model
    if number and not (number.isdecimal() and int(number) < COUNT):
        raise ConfigError(
            f"model: there is no organism {model!r}; shipped:0 to shipped:{COUNT - 1} come with the package"
        )
    return ShippedModel(shipped=int(number or 0))
