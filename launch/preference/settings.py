"""Settings of `shaping preference`, in YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from envs.text import message_of
from launch.config.model import Organisms, StudyModel
from launch.config.reading.paths import expanded
from launch.config.reading.yaml_reader import read_yaml
from launch.errors import ConfigError, describe
from rewards.preference.data import Examples, PreferenceError, read_jsonl
from rewards.preference.text import Reads
from rewards.preference.train import PreferenceTraining
from shaping.organisms.corpus.comparisons import Comparisons, comparisons

Settings = TypeVar("Settings", bound=BaseModel)


class BoundedComparisons(Comparisons):
    """Comparisons, no number of which a file can set beyond what can be played."""

    turns: tuple[Annotated[int, Field(ge=1, le=1_000_000)] | None, ...] = Field(
        (None,), min_length=1, description=Comparisons.model_fields["turns"].description
    )
    prices: dict[str, Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False)]] = Field(
        {}, description=Comparisons.model_fields["prices"].description
    )


class Source(BaseModel):
    """Where examples come from: comparisons of scripted personas, files, or both."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    comparisons: BoundedComparisons | None = Field(
        None, description="episodes of scripted personas, ranked by the truth"
    )
    files: tuple[str, ...] = Field((), description="JSONL files of pairs or labels")

    @model_validator(mode="after")
    def _something(self) -> Source:
        if self.comparisons is None and not self.files:
            raise ValueError("give comparisons, or files, or both")
        return self

    def read(self) -> Examples:
        """All of them. Raises: `PreferenceError`."""
        found = [read_jsonl(expanded(name)) for name in self.files]
        if self.comparisons is not None:
            found.append(comparisons(self.comparisons))
        return Examples(
            tuple(pair for each in found for pair in each.pairs),
            tuple(label for each in found for label in each.labelled),
        )


class Pretraining(BaseModel):
    """A stage before the training proper, on other examples (preference-model pre-training)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: Source = Field(description="its examples: other worlds, or text")
    training: PreferenceTraining = Field(PreferenceTraining(objective="binary"), description="its training")

    @field_validator("training")
    @classmethod
    def _has_head(cls, value: PreferenceTraining) -> PreferenceTraining:
        if value.objective == "imitation":
            raise ValueError("imitation has no head to go on with: choose binary or ranked")
        return value


class PreferenceConfig(BaseModel):
    """One preference model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: StudyModel = Field(Organisms(organism="shipped"), description="what it starts from, as in a study")
    data: Source = Field(Source(comparisons=BoundedComparisons()), description="its examples")
    held_out: float = Field(0.2, gt=0, lt=1, description="share of the situations that it is measured on")
    reads: Reads = Field("all", description="all that the agent says, or its actions alone")
    pretraining: Pretraining | None = Field(None, description="a stage on other examples before it; none: none")
    training: PreferenceTraining = Field(PreferenceTraining(), description="its training")
    seed: int = Field(0, ge=0, le=2**32 - 1, description="seed of the split; picks among several organisms, too")

    @model_validator(mode="after")
    def _goes_on(self) -> PreferenceConfig:
        if self.pretraining is not None and self.training.objective == "imitation":
            raise ValueError("imitation cannot go on from pretraining, whose model has a head: choose binary or ranked")
        return self


def bundled_settings() -> dict[str, Path]:
    """Name -> file of the settings that come with the package."""
    return {file.stem: file for file in sorted((Path(__file__).parent / "bundled").glob("*.yaml"))}


def read_settings(given: Path, kind: type[Settings]) -> Settings:
    """The settings in a YAML file, or those that are bundled under this name.

    Raises: `ConfigError` that names the file and the key.
    """
    path = given if given.exists() else bundled_settings().get(str(given), given)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {message_of(error)}") from None
    document = read_yaml(text, str(path)).value
    try:
        return kind.model_validate({} if document is None else document)
    except ValidationError as error:
        raise ConfigError(f"{path}: {describe(error, kind)}") from None
    except PreferenceError as error:
        raise ConfigError(f"{path}: {error}") from None
