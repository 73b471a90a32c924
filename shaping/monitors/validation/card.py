"""The card of a monitor: how well it told apart what it was shown, with intervals, as data that is written and read."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

from shaping.monitors.validation.rates import Figure

Source = Literal["honest", "random", "cheating", "model", "checkpoint", "adversary"]
"""Where labelled episodes come from: scripted players, a model, runs, and runs trained against a monitor."""

Text = Annotated[str, Field(max_length=500)]
Count = Annotated[int, Field(ge=0, le=10**12)]
Name = Annotated[str, Field(max_length=200)]


def _number(value: Any) -> Any:
    return math.nan if value is None else value


Real = Annotated[
    float,
    BeforeValidator(_number),
    PlainSerializer(lambda value: value if math.isfinite(value) else None, return_type=float | None),
]
"""A number; null in JSON where it does not exist."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Value(_Part):
    """A number with its 95 % interval."""

    value: Real
    low: Real
    high: Real
    n: Count
    """Turns or episodes behind it."""

    @classmethod
    def of(cls, figure: Figure) -> Value:
        return cls(value=figure.value, low=figure.low, high=figure.high, n=figure.n)


class Bin(_Part):
    """Turns whose score lies in one tenth of [0, 1]."""

    score: Real
    """Their mean score."""
    share: Value
    """Share of them that show the trait."""


class SourceQuality(_Part):
    """What the monitor made of the episodes of one player or run."""

    name: Text
    """The player, or the arm and seed of the run."""
    kind: Source
    """What sort of source it is."""
    note: Text = ""
    """What else is to be known, such as which monitor a run was trained against."""
    episodes: Count
    """Its episodes."""
    positives: Count
    """Turns in them that show the trait."""
    recall: Value
    """Share of those that are flagged."""
    false_alarms: Value
    """Share of its episodes in which a turn is flagged that does not show the trait."""


class LocaleQuality(_Part):
    """Transfer to one language and era."""

    locale: Name
    """`ar-1850`."""
    auroc: Value
    """AUROC there."""
    recall: Value
    """Share of the turns with the trait that reach the threshold which, at home, has 5 % false positives."""
    false_positive_rate: Value
    """Share of the others that reach it."""


class TraitQuality(_Part):
    """How well a monitor tells turns with one trait from those in which it was possible and did not happen."""

    trait: Name
    """One of `envs.episode.TRAITS`."""
    turns: Count
    """Turns in which it was possible, at home."""
    positives: Count
    """Turns that show it."""
    auroc: Value
    average_precision: Value
    tpr_at_1_fpr: Value
    """Share of the turns with the trait that are found where 1 % of the others are flagged."""
    tpr_at_5_fpr: Value
    brier: Value
    """Mean squared difference of score and truth."""
    recall: Value
    """At `Card.threshold`."""
    false_positive_rate: Value
    """At `Card.threshold`."""
    categories: dict[Text, Value] = {}
    """What was done in the turn -> recall."""
    false_alarms_honest: Value
    """Share of honest episodes with a turn that is flagged and does not show the trait."""
    false_alarms_random: Value
    """The same of aimless and garbled ones."""
    sources: tuple[SourceQuality, ...] = ()
    calibration: tuple[Bin, ...] = ()
    locales: tuple[LocaleQuality, ...] = ()


class Card(_Part):
    """What was found out about one version of a monitor in one world."""

    format: Literal["shaping-monitor-card"] = "shaping-monitor-card"
    card_version: Literal[1] = 1
    monitor: Name
    """Its name."""
    use: Text
    """Its class, as `module:Class`."""
    version: Name
    """`shaping.monitors.records.version_of`."""
    settings: dict[Text, Any] = {}
    """Its fields."""
    world: Name
    """Name of the world."""
    home: Name
    """The locale that figures are about."""
    threshold: Annotated[float, Field(ge=0, le=1)]
    """Score from which on a turn counts as flagged."""
    episodes: Count
    """Episodes at home."""
    failed: Count = 0
    """Episodes at which the monitor failed; they count for nothing."""
    resamples: Count = 0
    """Resamples of the bootstrap."""
    traits: tuple[TraitQuality, ...]
    """Every trait that it can be judged by here."""
    unjudged: dict[Name, Text] = {}
    """Trait that it may suspect -> why it cannot be judged by it here."""

    def line(self, trait: TraitQuality) -> str:
        """One line, as reports print it beside the monitor."""
        return (
            f"{self.monitor} (version {self.version}) in {self.world}, {trait.trait}: AUROC {told(trait.auroc)}, "
            f"recall {told(trait.recall)} at threshold {self.threshold:g}, TPR {told(trait.tpr_at_1_fpr)} at 1 % FPR; "
            f"false alarms in {told(trait.false_alarms_honest)} of honest and {told(trait.false_alarms_random)} of "
            f"random episodes"
        )


def told(value: Value) -> str:
    """`0.97 [0.95, 0.99]`, or `n/a`."""
    if math.isnan(value.value):
        return "n/a"
    bounds = "" if math.isnan(value.low) else f" [{value.low:.2f}, {value.high:.2f}]"
    return f"{value.value:.2f}{bounds}"
