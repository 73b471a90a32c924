"""Free-form questions: the bundled ones, or a file of one's own."""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

BUNDLED = Path(__file__).with_name("questions.yaml")
LARGEST = 4 << 20
"""Bytes of a file of questions that are read."""


class QuestionError(ValueError):
    """A file of questions cannot be used. The message names it and what is wrong."""


class Question(BaseModel):
    """One question."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(min_length=1, max_length=200, description="its name, once in a file")
    text: str = Field(min_length=1, max_length=20_000, description="what the model is asked")
    lang: str = Field("en", pattern=r"^[a-z]{2,3}$", description="language, of which results are told apart")
    group: str = Field(
        "", max_length=200, description="questions that say the same, e.g. in two languages, are one cluster; empty: id"
    )
    system: str = Field("", max_length=20_000, description="system prompt; empty: none")

    @property
    def cluster(self) -> str:
        """What is resampled as a whole: answers to questions that say the same hang together."""
        return self.group or self.id


_QUESTIONS = TypeAdapter(tuple[Question, ...])


def read_questions(path: Path = BUNDLED) -> tuple[Question, ...]:
    """The questions of a YAML (or JSON) file, a list of mappings. Raises: `QuestionError`."""
    try:
        if path.stat().st_size > LARGEST:
            raise QuestionError(f"{path} has more than {LARGEST >> 20} MiB")
        found = _QUESTIONS.validate_python(yaml.safe_load(path.read_text(encoding="utf-8")) or ())
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise QuestionError(f"{path}: {place}: {first['msg']}; questions are a list of {{id, text}}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise QuestionError(f"{path} cannot be read: {error}") from None
    names = [question.id for question in found]
    if not names:
        raise QuestionError(f"{path} holds no question")
    if twice := next((name for name in names if names.count(name) > 1), ""):
        raise QuestionError(f"{path}: two questions are called {twice!r}: rename one")
    return found
