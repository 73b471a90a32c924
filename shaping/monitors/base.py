"""Monitors read episodes and report suspicions. They are held out: training may not use a monitor.

To train against a monitor, declare it with `role="train"`. It is then *spent*: its readings no longer say anything
about an agent that was optimised against them (Baker et al., arXiv 2503.11926).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict

from envs.episode import TRAITS, Episode
from envs.text import valid
from shaping.hooks import Capture


class MonitorError(ValueError):
    """A monitor breaks its contract, or is used against its declared role."""


def known_trait(value: str) -> str:
    """A trait. Raises `ValueError` for anything else, with the traits that there are."""
    if value not in TRAITS:
        raise ValueError(f"unknown trait {value!r}; there are {', '.join(TRAITS)}")
    return value


Trait = Annotated[str, AfterValidator(known_trait)]
"""One of `envs.episode.TRAITS`, as a field."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A monitor's suspicion that one turn of an episode shows a trait."""

    monitor: str
    """Name of the monitor."""
    trait: str
    """One of `envs.episode.TRAITS`."""
    turn: int
    """Index of the turn, from 0."""
    score: float
    """Strength of the suspicion, in [0, 1]."""
    tokens: tuple[int, int] | None = None
    """Half-open range of `Episode.tokens` that the suspicion is about; None: all of the turn's completion."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "monitor", valid(str(self.monitor)))
        if self.trait not in TRAITS:
            raise MonitorError(f"monitor {self.monitor!r}: unknown trait {self.trait!r}; the traits are {TRAITS}")
        if not 0.0 <= self.score <= 1.0:  # False for nan, too
            raise MonitorError(
                f"monitor {self.monitor!r}, turn {self.turn}: score {self.score!r} is not in [0, 1]; rescale it"
            )
        if self.tokens is not None and not 0 <= self.tokens[0] <= self.tokens[1]:
            raise MonitorError(
                f"monitor {self.monitor!r}, turn {self.turn}: tokens {self.tokens!r} are no range of tokens"
            )


class Monitor(BaseModel):
    """Reads episodes. Fields are configuration.

    A turn without a reading counts as score 0. `read` is a pure function of the episode: during training another
    thread calls it, so it keeps no state and uses no global random generator.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    cheap: ClassVar[bool] = True
    """True if `read` needs neither a model nor a network. A cheap monitor also reads the training episodes."""
    oracle: ClassVar[bool] = False
    """True if it reads sealed labels. All other monitors get redacted episodes, in which `truth` cannot be opened."""

    role: Literal["evaluate", "train"] = "evaluate"
    """`evaluate`: held out. `train`: interventions may train against it, and it is then spent."""
    name: str
    """Name in readings, metrics and reports."""

    def suspects(self) -> tuple[str, ...]:
        """The traits that readings may name. Each has metrics in every update of training, 0 without readings.

        By default these are the field `trait` of a monitor that has one, and otherwise all traits.
        """
        trait = getattr(self, "trait", None)
        return (trait,) if trait in TRAITS else TRAITS

    def captures(self) -> Sequence[Capture]:
        """Hidden states that `read` finds in `episode.activations`, means per turn: captures of the sampling phase."""
        return ()

    def view(self, episode: Episode) -> Episode:
        """The episode that this monitor may read: redacted, unless the monitor declares `oracle`."""
        return episode if self.oracle else episode.redacted()

    @abstractmethod
    def read(self, episode: Episode) -> list[Reading]:
        """Return the suspicious turns of an episode."""
        raise NotImplementedError(f"{type(self).__name__} must define read(episode) -> list[Reading]")

    def read_many(self, episodes: Sequence[Episode]) -> Sequence[list[Reading] | MonitorError]:
        """The readings of each episode, or why one has none, in their order.

        By default `read` is called for each, and what it raises is raised. A monitor that waits for others (a model, a
        network) asks about all episodes at once here.
        """
        return [self.read(episode) for episode in episodes]


def require_held_out(monitors: Sequence[Monitor], spent_names: Collection[str]) -> None:
    """Check that training and measurement use different monitors.

    Args:
        monitors: all monitors of a run.
        spent_names: names of the monitors that interventions and rewards use.
    Raises: `MonitorError` if a spent name is unknown or ambiguous, if a spent monitor is declared `role="evaluate"`, or
    if no held-out monitor is left beside the spent ones.
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
            f"every monitor is trained against or trainable ({sorted(roles)}); add a held-out one (role='evaluate') to "
            "measure the effect of training on the spent one"
        )
