"""Which arms a claim is about: by name, by role, or by family and role."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from launch.config.arms.axes import POINT, short_names
from launch.config.study import Role, StudyConfig
from launch.errors import nearest
from launch.report.files.load import ArmInfo


class ArmSelector(BaseModel):
    """Arms of a study. In YAML: a name, a list of names, or `{family: constraint}`, `{role: control}`, or both.

    Arms that are not named count only in their role, which is `treatment` unless the selector says another one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    arms: tuple[str, ...] = Field((), description="arms by name")
    role: Role | None = Field(None, description="arms of this role; where only a family is given: treatment")
    family: Literal["constraint", "motivation", "mixed"] | None = Field(
        None, description="arms of this family, which follows from their interventions"
    )
    at: dict[str, Any] = Field({}, description="axis -> value: only the arms at this value of the axis")

    @model_validator(mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"arms": (value,)}
        if isinstance(value, dict) and isinstance(value.get("arms"), str):
            return {**value, "arms": (value["arms"],)}
        return {"arms": tuple(value)} if isinstance(value, (list, tuple)) else value

    @model_validator(mode="after")
    def _one_way(self) -> ArmSelector:
        if bool(self.arms) == bool(self.role or self.family):
            raise ValueError("give arms by name, or by role and family: one of the two")
        return self

    def fits(self, arm: ArmInfo) -> bool:
        """Is the arm one of these?"""
        if any(arm.sweep_point.get(axis) != value for axis, value in self.at.items()):
            return False
        if self.arms:
            return arm.base in self.arms
        return arm.role == (self.role or "treatment") and self.family in (None, arm.family)

    def may_fit(self, arm: ArmInfo) -> bool:
        """Is the arm one of these, as far as its plan says: its family is known only from its runs?"""
        if any(arm.sweep_point.get(axis) != value for axis, value in self.at.items()):
            return False
        return arm.base in self.arms if self.arms else arm.role == (self.role or "treatment")

    def title(self, found: Sequence[ArmInfo]) -> str:
        """These arms in a table's head; `found` are those that were selected."""
        point = "".join(f" ({axis} = {value})" for axis, value in self.at.items())
        if self.arms or self.role == "reference":
            names = list(dict.fromkeys(arm.base for arm in found)) or list(self.arms) or ["reference"]
            return " and ".join(names) + point
        return f"{self._kind} arms{point}"

    def phrase(self, found: Sequence[ArmInfo]) -> str:
        """These arms within a sentence: `the unshaped arm`, `constraint arms`."""
        if not self.arms and self.role != "reference":
            return self.title(found)
        return f"the {self.title(found)} arm" + ("s" if len({arm.base for arm in found}) > 1 else "")

    @property
    def wanted(self) -> str:
        """What has to be there for this to be more than nothing."""
        if self.arms:
            return f"the arm {' or '.join(self.arms)}" + "".join(f" at {a} = {v}" for a, v in self.at.items())
        return f"a {self._kind} arm"

    def problems(self, study: StudyConfig) -> Iterator[str]:
        """What the study does not have: arms, axes, values of axes."""
        for name in self.arms:
            if name not in study.arms:
                yield f"no arm {name!r}{nearest(name, study.arms)}"
        values = axis_values(study)
        for axis, value in self.at.items():
            if axis not in values:
                yield f"at.{axis}: the study has no such axis{nearest(axis, values)}"
            elif value not in values[axis]:
                yield f"at.{axis}: {value!r} is no value of this axis (values: {values[axis]})"

    @property
    def _kind(self) -> str:
        role = (self.role or "treatment").replace("_", " ")
        if not self.family:
            return role
        return self.family if role == "treatment" else f"{role} {self.family}"


def axis_values(study: StudyConfig) -> dict[str, list[Any]]:
    """The axes of a study under the short names that its runs use, with their values; its points are one of them."""
    names = short_names(list(study.axes))
    points: dict[str, list[Any]] = {POINT: list(study.points)} if study.points else {}
    return points | {names[axis]: values for axis, values in study.axes.items()}
