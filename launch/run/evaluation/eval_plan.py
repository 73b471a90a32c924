"""What an evaluation plays: plain data, which any process that samples with the policy can play."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from envs.episode import Contexts, Episode
from launch.config.study import RunConfig
from launch.run.episodes import DEPLOYED, episode_request
from launch.run.seats.games import EvalGame
from launch.run.seats.seating import on_a_seat
from shaping.arm import Arm
from shaping.audits.played import CELLS
from shaping.hooks import ActivationEdit, AdapterSpec, Prefill
from shaping.learning.snapshots import is_past
from shaping.sampling.play import EpisodeRequest

EvalPolicy = Literal["sampling", "quarantined", "quarantine", "frozen", "deployed", "base"]
"""Which parts of the policy play:

- `sampling`: what the arm samples with while it trains, with its adapters, edits, masks and filters;
- `quarantined`: the same adapters, and nothing else;
- `quarantine`, `frozen`: the adapters of that role alone, in whichever phase they are active;
- `deployed`: the kept adapters alone;
- `base`: no adapter at all.
"""


@dataclass(frozen=True, slots=True)
class EvalEpisode:
    """One episode. With the run's config it determines world, seeds and contexts, whatever else is played beside it."""

    use: Literal["eval", "access", "rows"]
    """What its seeds are derived from."""
    world: str
    """What the config calls the world."""
    options: Mapping[str, Any]
    """Those of the config, and the cues."""
    number: int
    """Episodes of one number have the same seeds in all conditions."""
    contexts: Contexts = Contexts()
    """The system prompt."""
    cells: tuple[str, ...] = ()
    """The cells of the evaluation that it counts in; they are recorded with its options."""
    member: int = 0
    """Which of several episodes of the same number: each has sampling noise of its own."""
    prefill: Prefill | None = None
    """What opens its completions."""

    def request(self, run: RunConfig) -> EpisodeRequest:
        """The episode, ready to be played."""
        request = episode_request(
            run,
            self.world,
            dict(self.options),
            self.use,
            self.number,
            contexts=self.contexts,
            member=self.member,
            group=self.number if self.use == "access" else 0,
        )
        request = on_a_seat(run, replace(request, prefill=self.prefill), self.number)
        return replace(request, options={**request.options, CELLS: list(self.cells)}) if self.cells else request


@dataclass(frozen=True, slots=True)
class EvalPart:
    """Episodes that one policy plays, for one question of an evaluation."""

    policy: EvalPolicy
    """Who plays them."""
    episodes: tuple[EvalEpisode | EvalGame, ...]
    """In the order in which they are returned: episodes, or games, of which each has several."""


@dataclass(frozen=True, slots=True)
class EvalRequest:
    """Some episodes of an evaluation, which one rollout worker plays together."""

    number: int
    """Its number among the requests of one batch."""
    policy: EvalPolicy
    """Who plays them."""
    episodes: tuple[EvalEpisode | EvalGame, ...]
    """In their order."""

    def __str__(self) -> str:
        first, *_, last = (self.episodes[0], *self.episodes)
        return (
            f"episodes {first.number} to {last.number} of the evaluation ({self.policy}, world {first.world!r}, "
            f"options {dict(first.options)})"
        )


@dataclass(frozen=True, slots=True)
class EvalBatch:
    """Parts of an evaluation that share the engine, since they are played with the same weights, adapters and edits."""

    policy: EvalPolicy
    """Whose adapters and edits are on; those of the other parts are the same."""
    members: list[int] = field(default_factory=list)
    """Numbers of its parts."""


def batches(parts: Sequence[EvalPart], adapters: Iterable[AdapterSpec], arm: Arm) -> list[EvalBatch]:
    """The fewest batches in which all parts can be played."""
    specs, found = list(adapters), list[tuple[object, EvalBatch]]()
    for number, part in enumerate(parts):
        if not part.episodes:
            continue
        # only one policy has edits: that there are any says which
        wanted = ([spec.name for spec in active_adapters(specs, part.policy)], bool(active_edits(arm, part.policy)))
        known = next((batch for key, batch in found if key == wanted), None)
        if known is None:
            known = EvalBatch(part.policy)
            found.append((wanted, known))
        known.members.append(number)
    return [batch for _, batch in found]


def requests_of(parts: Sequence[EvalPart], batch: EvalBatch, size: int | None = None) -> list[tuple[int, EvalRequest]]:
    """(Number of the part, request) for all episodes of a batch, `size` of them in each; none: a part in each.

    What is played together depends on nothing else, so that results do not depend on who plays it.
    """
    found: list[tuple[int, EvalRequest]] = []
    for member in batch.members:
        policy, episodes = parts[member].policy, parts[member].episodes
        step = size or len(episodes)
        for start in range(0, len(episodes), step):
            found.append((member, EvalRequest(len(found), policy, episodes[start : start + step])))
    return found


_ROLES: Mapping[EvalPolicy, str] = {"deployed": "kept", "quarantine": "quarantine", "frozen": "frozen"}
"""Policies with the adapters of one role."""


def active_adapters(adapters: Iterable[AdapterSpec], policy: EvalPolicy) -> list[AdapterSpec]:
    """Those of the policy's adapters that are on."""
    if policy == "base":
        return []
    if (role := _ROLES.get(policy)) is not None:
        return [spec for spec in adapters if spec.role == role and not is_past(spec)]
    return [spec for spec in adapters if "sampling" in spec.phases]


def active_edits(arm: Arm, policy: EvalPolicy) -> list[ActivationEdit]:
    """The activation edits that are on."""
    return list(arm.edits("sampling")) if policy == "sampling" else []


def playing_arm(arm: Arm, policy: EvalPolicy) -> Arm:
    """Whose masks and filters apply."""
    return arm if policy == "sampling" else DEPLOYED


Played = list[list[Episode]]
"""The episodes of each part, in their order."""
