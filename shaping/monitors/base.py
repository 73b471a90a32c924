"""Monitors read episodes and report what they suspect. They are held out: nothing that trains may use one.

A monitor that is to be trained against has to be declared with `role="train"`; it is then *spent*, and its readings
say nothing any more about an agent that was optimised against them (Baker et al., arXiv 2503.11926).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from envs.episode import TRAITS, Episode


class MonitorError(ValueError):
    """A monitor breaks its contract or is used for what it was not declared for."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A monitor's suspicion, in [0, 1], that `trait` shows in turn `turn` (0-based) of the episode it read."""

    monitor: str
    trait: str
    turn: int
    score: float

    def __post_init__(self) -> None:
        if self.trait not in TRAITS:
            raise MonitorError(f"monitor {self.monitor!r}: unknown trait {self.trait!r}; the traits are {TRAITS}")
        if not 0.0 <= self.score <= 1.0:  # False for nan, too
            raise MonitorError(
                f"monitor {self.monitor!r}, turn {self.turn}: score {self.score!r} is not in [0, 1]; rescale it"
            )


class Monitor(BaseModel):
    """Reads episodes. Fields are configuration.

    `read` returns what is suspicious; a turn without a reading counts as score 0. It is a pure function of the episode:
    during training it is called in a thread of its own, so it keeps no state and uses no global random generator.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    cheap: ClassVar[bool] = True
    """Does `read` work without a model and without a network? A cheap monitor also reads the training episodes."""
    oracle: ClassVar[bool] = False
    """Does it read sealed labels? All other monitors are given redacted episodes, in which `truth` cannot be opened."""

    role: Literal["evaluate", "train"] = "evaluate"
    """`evaluate`: held out. `train`: interventions may train against it, and it is then spent."""
    name: str
    """Name in readings, metrics and reports."""

    def suspects(self) -> tuple[str, ...]:
        """The traits that readings may name. During training each has its metrics in every update, 0 without readings.

        Default: the field `trait` of a monitor that has one, else all traits.
        """
        trait = getattr(self, "trait", None)
        return (trait,) if trait in TRAITS else TRAITS

    def view(self, episode: Episode) -> Episode:
        """The episode as this monitor may see it: redacted, unless the monitor declares `oracle`."""
        return episode if self.oracle else episode.redacted()

    @abstractmethod
    def read(self, episode: Episode) -> list[Reading]:
        raise NotImplementedError(f"{type(self).__name__} must define read(episode) -> list[Reading]")


def require_held_out(monitors: Sequence[Monitor], spent_names: Collection[str]) -> None:
    """Check that what trains (`spent_names`, the monitors that interventions refer to) and what measures are apart.

    Raises `MonitorError` if a spent name is unknown or ambiguous, if a spent monitor was declared `role="evaluate"`,
    or if no held-out monitor is left beside the spent ones.
    """
    roles: dict[str, str] = {}
    for monitor in monitors:
        if monitor.name in roles:
            raise MonitorError(f"two monitors are called {monitor.name!r}; give one of them another `name`")
        roles[monitor.name] = monitor.role
    for name in sorted(spent_names):
        if name not in roles:
            raise MonitorError(f"an intervention refers to the monitor {name!r}, but the monitors are {sorted(roles)}")
        if roles[name] == "evaluate":
            raise MonitorError(
                f"an intervention trains against the monitor {name!r}, which is held out (role='evaluate'); set its "
                "role to 'train', which marks it as spent, and keep another monitor for evaluation"
            )
    if spent_names and "evaluate" not in roles.values():
        raise MonitorError(
            f"every monitor is trained against or trainable ({sorted(roles)}); add a held-out one (role='evaluate'), "
            "or nothing measures what training does to the spent one"
        )
