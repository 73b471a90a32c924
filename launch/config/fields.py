"""Types that several sections of a config share."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from launch.config.world_locales import expand_locales

WEEK = 604_800
"""Seconds."""
Worlds = Annotated[dict[str, dict[str, Any]], AfterValidator(expand_locales)]
"""World -> its options. `clerk@ar-1850` is a world in another language and era, `clerk@all` in all of them."""


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class PluginSpec(BaseModel):
    """A plug-in and its fields: `{use: ActionMask, penalty: 2}`. A bare string is a plug-in without fields."""

    model_config = ConfigDict(extra="allow", frozen=True)

    use: str = Field(min_length=1, description="built-in name, entry-point name, or package.module:Class")

    @model_validator(mode="before")
    @classmethod
    def _bare_name(cls, value: Any) -> Any:
        return {"use": value} if isinstance(value, str) else value

    @property
    def fields(self) -> dict[str, Any]:
        return dict(self.model_extra or {})
