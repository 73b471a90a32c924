"""Where labels of turns come from, how good they are, and the placebo that is as many labels of no particular kind."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator

from envs.core import draw, normalise
from envs.episode import TRAITS, Episode
from shaping.labels.inline_monitor import InlineMonitor, Readings, refuse_oracle

Found = NDArray[np.bool_]
"""True for the turns of an episode that are labelled, shape [turns]."""


class LabelSource(BaseModel):
    """Labels the turns that a method acts on. A bare word is a source without settings: `labels: oracle`.

    - `overt`: the turn takes an overt shortcut that the world lists for it, as an action mask would remove. The list is
      the world's own knowledge of what is wrong, so the report counts such an arm as one that has an oracle.
    - `monitor`: a monitor's score of one of `traits` reaches `threshold`. Training on it spends the monitor.
    - `oracle`: the sealed labels of the world hold one of `traits`. The arm counts as oracle.
    - `off`: no turn is labelled: the control that leaves everything else of a method in place.

    `recall` is the share of those turns that are found. Errors of the other kind are set in one of two ways: by
    `precision`, the share of labels that are right (false ones fall on other turns, so that the number of turns found
    stays), or by `false_positives`, the share of all other turns that are labelled. False labels for a `precision` are
    drawn among the turns that are labelled together: those of a group where a method has the group, else those of the
    episode. Where these are too few, the share that is right is higher.

    `placebo` labels as many turns as would have been labelled, chosen at random: of each episode where episodes are
    labelled alone; of a group, each episode gets the number of another one.

    The same episode always gets the same labels: draws depend on `seed` and the episode's tokens. A higher recall, and
    a lower precision, label a superset.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    source: Literal["overt", "monitor", "oracle", "off"] = Field(
        "overt", description="what tells which turns are meant"
    )
    monitor: InlineMonitor | None = Field(None, description="the monitor, as under eval.monitors; source: monitor")
    traits: tuple[str, ...] = Field(
        (),
        description="traits that count, for `monitor` and `oracle`; none: all of the monitor's, or all but `invalid`",
    )
    threshold: float = Field(0.5, gt=0, le=1, description="score of the monitor from which on a turn is labelled")
    recall: float = Field(1.0, ge=0, le=1, description="share of the turns meant that are labelled")
    precision: float = Field(1.0, gt=0, le=1, description="share of the labels that are right")
    false_positives: float = Field(0.0, ge=0, le=1, description="share of all other turns that are labelled")
    placebo: bool = Field(False, description="label as many turns, chosen at random")
    seed: int = Field(0, ge=0, le=2**32 - 1, description="seed of errors and of the placebo")

    _readings: Readings = PrivateAttr(default_factory=Readings)

    @model_validator(mode="before")
    @classmethod
    def _bare_word(cls, value: Any) -> Any:
        if value == "placebo":
            return {"placebo": True}
        return {"source": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _fits(self) -> LabelSource:
        if (self.source == "monitor") != (self.monitor is not None):
            raise ValueError(
                "source: monitor needs `monitor`, such as {use: OvertAction}"
                if self.monitor is None
                else f"`monitor` is given, but source is {self.source!r}: set source: monitor, or leave it out"
            )
        if self.monitor is not None:
            refuse_oracle(self.monitor, "set source: oracle in its place")
        if unknown := [trait for trait in self.traits if trait not in TRAITS]:
            raise ValueError(f"unknown trait {unknown[0]!r}; the traits are {', '.join(TRAITS)}")
        if self.traits and self.source in ("overt", "off"):
            raise ValueError(f"`traits` belong to the sources monitor and oracle, not to {self.source}")
        if self.precision < 1 and self.false_positives:
            raise ValueError("set precision or false_positives, not both: each says how many labels are wrong")
        return self

    @property
    def sealed(self) -> bool:
        """Does it read the sealed labels, so that it must be shown the episode with its truth?"""
        return self.source == "oracle"

    @property
    def oracle(self) -> bool:
        """Does it know what no overseer outside of a simulation knows? Reports print that in the arm's name."""
        return self.source in ("oracle", "overt")

    def meant(self, episode: Episode) -> Found:
        """The turns that the source points at, before errors, shape [turns].

        Raises: `SealedError` for `oracle` and a redacted episode; `MonitorError` if the monitor breaks its contract.
        """
        turns = len(episode.turns)
        if self.source == "off":
            return np.zeros(turns, bool)
        if self.source == "overt":
            return np.array([normalise(turn.executed) in turn.overt_shortcuts for turn in episode.turns], bool)
        if self.monitor is not None:
            return self._readings.of(self.monitor, episode, self.traits) >= self.threshold
        traits = self.traits or tuple(trait for trait in TRAITS if trait != "invalid")
        return np.array([any(labels.trait(t) > 0 for t in traits) for labels in episode.truth.open()], bool)

    def labelled(self, episode: Episode) -> Found:
        """The labelled turns of an episode, shape [turns]."""
        return self.labelled_group([episode])[0]

    def labelled_group(self, episodes: Sequence[Episode]) -> list[Found]:
        """The labelled turns of each episode of a group, each of shape [turns]."""
        return self._with_errors([self.meant(episode) for episode in episodes], episodes)

    def labelled_episodes(self, episodes: Sequence[Episode], turns: int = 1) -> Found:
        """The labelled episodes of a group, shape [episodes]: those with at least `turns` turns that are meant.

        Recall, precision, false positives and the placebo are then shares of episodes.
        """
        meant = [np.array([self.meant(episode).sum() >= turns]) for episode in episodes]
        return np.array([bool(of[0]) for of in self._with_errors(meant, episodes)], bool)

    def _with_errors(self, meant: Sequence[Found], episodes: Sequence[Episode]) -> list[Found]:
        """What is labelled where these are meant, which are turns, or whole episodes as one."""
        keys = [self._key(episode) for episode in episodes]
        labels = [
            np.where(own, noise < self.recall, noise < self.false_positives)
            for own, noise in ((own, _draws(key, "label", len(own))) for own, key in zip(meant, keys, strict=True))
        ]
        if self.precision < 1:
            self._add_false(labels, meant, keys)
        return self._dealt(labels, keys) if self.placebo else labels

    def _add_false(self, labels: list[Found], meant: Sequence[Found], keys: Sequence[int]) -> None:
        """Label other turns, in place, until the share that is right is `precision` in expectation."""
        wanted = sum(int(each.sum()) for each in labels) * (1 - self.precision) / self.precision
        count = math.floor(wanted + draw(_together(keys), "rounding", 0))
        others = sorted(
            (number, i, t)
            for i, (key, own) in enumerate(zip(keys, meant, strict=True))
            for t, number in enumerate(_draws(key, "false label", len(own)))
            if not own[t]
        )
        for _, i, t in others[:count]:
            labels[i][t] = True

    def _dealt(self, labels: Sequence[Found], keys: Sequence[int]) -> list[Found]:
        """As many labels at random turns, each episode with the number of a random episode."""
        order = sorted(range(len(keys)), key=lambda i: draw(keys[i], "dealt", 0))
        dealt = []
        for own, key, giver in zip(labels, keys, order, strict=True):
            random = np.argsort(_draws(key, "placebo", len(own)), kind="stable")
            dealt.append(np.zeros(len(own), bool))
            dealt[-1][random[: int(labels[giver].sum())]] = True
        return dealt

    def _key(self, episode: Episode) -> int:
        """The seed of an episode's draws. Episodes of a group share a seed; their tokens tell them apart."""
        key = f"{self.seed}|".encode() + episode.tokens.tobytes()
        return int.from_bytes(hashlib.blake2b(key, digest_size=7).digest())


def sources_of(plugin: BaseModel) -> Iterator[LabelSource]:
    """The label sources among the fields of a plug-in."""
    for name in type(plugin).model_fields:
        value = getattr(plugin, name)
        for each in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(each, LabelSource):
                yield each


def _draws(key: int, what: str, turns: int) -> NDArray[np.float64]:
    return np.array([draw(key, what, t) for t in range(turns)], np.float64)


def _together(keys: Sequence[int]) -> int:
    """One seed for several episodes, whatever their order."""
    return int.from_bytes(hashlib.blake2b(repr(sorted(keys)).encode(), digest_size=7).digest())
