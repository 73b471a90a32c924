"""The config of a run, as its run.json has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from launch.config.study import RunConfig
from launch.errors import UserError, describe


def recorded_run(document: Mapping[str, Any]) -> RunConfig:
    """Raises `UserError` if it is none of this version."""
    try:
        return RunConfig.model_validate(document)
    except ValidationError as error:
        raise UserError(f"run.json holds no valid config:\n{describe(error, RunConfig)}") from None
