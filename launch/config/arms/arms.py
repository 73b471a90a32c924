"""An arm of a study: its role, its interventions and its reward, and the settings in which it differs from others."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, field_validator, model_validator

from launch.config.fields import PluginSpec, Strict

Role = Literal["treatment", "control", "positive_control", "reference"]
"""What an arm is for: claims are about treatments, never about controls that they do not name."""

ArmName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_+-]*$", max_length=200)]
"""The + joins the names of combined arms (`launch.config.arms.factorial`)."""


class Derived(Strict):
    """How the study itself made an arm. Nobody writes it: it stands in study.json, so that plans never change."""

    by: Literal["factorial", "controls"] = Field(description="the key of the study that asked for the arm")
    of: list[str] = Field(min_length=1, description="the arms that it combines, or is a control of")
    kind: str = Field("", description="of a control: which kind it is")
    why: str = Field("", description="in words, for the dry run and the report")


SeatInterventions = dict[str, list[PluginSpec]]
"""Learned seat -> all of its interventions."""


class ArmConfig(Strict):
    label: str = Field("", description="name in the report; empty: the arm's key")
    role: Role = Field(description="treatment, control, positive_control or reference; nothing is read off a name")
    interventions: list[PluginSpec] = Field([], description="shapers and constraints; none: the unshaped policy")
    reward: PluginSpec = Field(PluginSpec(use="EnvReward"), description="what pays")
    seats: dict[str, list[PluginSpec]] = Field(
        {}, description="seat -> further interventions, which it alone has (with `seats` of the study)"
    )
    set: dict[str, Any] = Field(
        {}, description="dotted key under train, learner, rollout, eval, stages, seats or model -> its value here alone"
    )
    derived: Derived | None = Field(None, description="how factorial or controls made this arm; never written by hand")

    def of_seats(self, learned: Iterable[str]) -> SeatInterventions:
        """What the learned seats have: the common interventions, and then a seat's own."""
        return {seat: [*self.interventions, *self.seats.get(seat, [])] for seat in learned}

    @model_validator(mode="before")
    @classmethod
    def _needs_role(cls, value: Any) -> Any:
        if isinstance(value, dict) and "role" not in value:
            raise ValueError(f"role is required: write one of {', '.join(get_args(Role))}")
        return value

    @field_validator("role", mode="before")
    @classmethod
    def _known_role(cls, role: Any) -> Any:
        if role in get_args(Role):
            return role
        raise ValueError(
            f"{str(role)[:60]!r} is no role{_meant(role)}: write one of {', '.join(get_args(Role))}; "
            "a claim names the arms that it is about"
        )


_OTHER_WORDS = {"irrelevant_control": "control", "placebo_control": "control", "baseline": "reference"}
"""What others call a role -> the role."""


def _meant(role: Any) -> str:
    words = {known: known for known in get_args(Role)} | _OTHER_WORDS
    close = difflib.get_close_matches(str(role), words, n=1, cutoff=0.6)
    return f" (did you mean {words[close[0]]!r}?)" if close else ""
