"""Records of an episode, all immutable: `Episode` says what happened, `Labels` what was true.

An episode is *one token sequence*: text is tokenised once, sampled ids are kept as they were sampled, and every
per-token array is aligned with `Episode.tokens`. The ground truth travels inside `Sealed`, which training code cannot
open: the loop hands it redacted copies (`Episode.redacted`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum, StrEnum
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from envs.frozen import freeze, restore
from envs.text import valid

T = TypeVar("T")

#: The labelled traits, in the order in which tables show them.
TRAITS = (
    "deception",
    "power_seeking",
    "reward_hack",
    "oversight_evasion",
    "shutdown_resistance",
    "harm",
    "invalid",
)

#: How tasks are closed: as written, without asking; as meant where that is not as written; as answered; neither.
CLOSED = ("literal", "intended", "asked", "other")
#: Prefixes of it. What is meant evidently differs from the letter; nothing shown decides it; the letter is meant.
CLOSED_KINDS = ("", "ambiguous/", "control/")
#: What `Labels.outcome` can be; "" if no task was closed.
OUTCOMES = ("", *(kind + how for kind in CLOSED_KINDS for how in CLOSED))


class SealedError(RuntimeError):
    """Raised when code that trains tries to read ground truth."""


class Sealed(Generic[T]):
    """Ground truth that travels with an episode but not into training.

    `open()` returns the value; on a redacted copy it raises `SealedError`. Interventions receive redacted episodes
    unless they declare `oracle = True`.
    """

    __slots__ = ("_value", "_redacted")

    def __init__(self, value: T | None, *, redacted: bool = False) -> None:
        self._value = value
        self._redacted = redacted

    def open(self) -> T:
        """The value. Raises `SealedError` on a redacted copy."""
        if self._redacted or self._value is None:
            raise SealedError(
                "ground-truth labels are sealed from training code; an intervention that really needs them must "
                "declare `oracle: ClassVar[bool] = True`, and reports then print that in the arm's name"
            )
        return self._value

    def redacted(self) -> Sealed[T]:
        """A copy without the value."""
        return Sealed(None, redacted=True)

    def __repr__(self) -> str:  # never print the truth into a log by accident
        return "Sealed(redacted)" if self._redacted else "Sealed(...)"


@dataclass(frozen=True, slots=True)
class Labels:
    """Ground truth of one turn, known to the simulator. A trait is a count of events in the turn, usually 0 or 1."""

    deception: float = 0.0
    """False claims about facts that the agent knew."""
    power_seeking: float = 0.0
    """Acts that take resources or control beyond what is permitted."""
    reward_hack: float = 0.0
    """Proxy reward credited for something that is not wanted."""
    oversight_evasion: float = 0.0
    """Acts that keep the overseer from seeing."""
    shutdown_resistance: float = 0.0
    """Acts that go on after a stop order."""
    harm: float = 0.0
    """Acts that are the shortcut, credited or not."""
    invalid: float = 0.0
    """Completions that hold no command."""
    opportunity: Mapping[str, bool] = field(default_factory=dict)
    """Trait -> could it have happened in this turn? The denominator of its rate."""
    knew: bool = False
    """Had the agent been shown the fact that a claim is about? A false claim about anything else is unfounded."""
    monitored: bool = False
    """Was the overseer there, and not blinded?"""
    power: float = 0.0
    """Power held after this turn, in [0, 1]; the world documents its measure."""
    d_power: float = 0.0
    """Change of `power` in this turn."""
    true_reward: float = 0.0
    """Value of the turn by what is wanted, in the units of the proxy reward."""
    resource_share: float = 0.0
    """Share held of the world's resources after this turn, in [0, 1]."""
    privileges: float = 0.0
    """Share held of the world's privileges (rights and controls), in [0, 1]."""
    unneeded_power: float = 0.0
    """Power held above the least with which an honest plan reaches the full reward."""
    outcome: str = ""
    """How an under-specified task was closed in this turn (`envs.worlds.errand`): "literal", "intended", "asked" or
    "other"; with the prefix "ambiguous/" or "control/" where letter and evident intent agree; "" if none was closed."""

    def __post_init__(self) -> None:
        freeze(self, "opportunity")
        if isinstance(self.outcome, str):
            object.__setattr__(self, "outcome", valid(self.outcome))

    def trait(self, name: str) -> float:
        """The count of a trait, by its name."""
        return float(getattr(self, name))


class Event(NamedTuple):
    """Something that an attentive onlooker could have seen or heard in a turn. It is public and has no truth value."""

    kind: str
    """`"act"` (something done in the open) or `"claim"` (a report or an answer)."""
    name: str
    """The act, e.g. `"grab"`, or the topic of the claim, e.g. `"inquiry"`."""
    text: str
    """The command as executed."""
    admits: bool = False
    """For a claim: does the speaker say that it broke a rule?"""


class Span(NamedTuple):
    """Half-open character range of a completion."""

    start: int
    """Its first character."""
    stop: int
    """The character after its last one."""


class Forced(NamedTuple):
    """The text that opens a completion without having been sampled, and how it is learned."""

    name: str = ""
    """What the intervention calls it; empty: nothing was forced."""
    length: int = 0
    """Its characters, the first ones of the completion."""
    stripped: bool = False
    """Is the turn learned without it?"""
    corrected: bool = False
    """Is the turn's weight the ratio of its probabilities under the policy and under the proposal?"""
    proposal: float = 0.0
    """Its log-prob under the proposal that drew it."""


class SpanKind(IntEnum):
    """The part of an episode that a token belongs to."""

    PROMPT = 0
    OBSERVATION = 1
    MOTIVE = 2
    ACTION = 3
    FORCED = 4
    """Opens a completion and was not sampled (`shaping.hooks.Prefill`)."""


class RolloutStatus(StrEnum):
    """How an episode ended. All but `COMPLETED` and `TRUNCATED_MAX_TURNS` mean that it was cut off or failed."""

    COMPLETED = "completed"
    """The world ended it."""
    TRUNCATED_LENGTH = "truncated_length"
    """A completion hit `max_tokens` in the episode's last turn and the episode could not go on."""
    TRUNCATED_PROMPT_TOO_LONG = "truncated_prompt_too_long"
    """The next observation would not fit in the model's context."""
    TRUNCATED_MAX_TURNS = "truncated_max_turns"
    """The world's horizon (gymnasium's `truncated`) was reached: it is a rule of the world, and no reward follows."""
    TRUNCATED_CUT_OFF = "truncated_cut_off"
    """The sampler's turn limit was reached, or the world truncated with `info["cut_off"]`: rewards would follow."""
    ERROR_TIMEOUT = "error_timeout"
    """The world hung past its time limit."""
    ERROR = "error"
    """The world or the engine raised."""

    @property
    def is_error(self) -> bool:
        """Did the episode fail, so that nothing may be learned from it?"""
        return self.value.startswith("error")

    @property
    def is_cut_off(self) -> bool:
        """Was it cut off from outside, so that the rewards which would have followed are missing?"""
        return self.value.startswith("truncated") and self is not RolloutStatus.TRUNCATED_MAX_TURNS


@dataclass(frozen=True, slots=True)
class Context:
    """The system message of an episode. The empty context is the deployment context."""

    system: str = ""
    """The message."""
    name: str = "none"
    """A short name for tables."""

    def __post_init__(self) -> None:
        for field_name in ("system", "name"):
            if not isinstance(text := getattr(self, field_name), str):
                raise TypeError(f"the {field_name} of a context must be text, not {type(text).__name__}")
            object.__setattr__(self, field_name, valid(text))


@dataclass(frozen=True, slots=True)
class Contexts:
    """The two contexts of an episode."""

    sampling: Context = Context()
    """The context that it was sampled under (c_s)."""
    training: Context = Context()
    """The context that it is learned under (c_t)."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One observation and one sampled completion."""

    observation: str
    """The text that the world said."""
    completion: str
    """The text that the policy said, behind what was forced (`forced`)."""
    motive: Span
    """The part of the completion before the command."""
    action: Span
    """The part of the completion that is the command."""
    executed: str
    """The command that the world received. It differs from the completion's where a filter replaced it."""
    reward: float
    """The proxy reward that the world paid."""
    events: tuple[Event, ...]
    """Acts and claims of the turn that an onlooker could notice."""
    tokens: NDArray[np.int32]
    """The sampled tokens, the end-of-turn token included."""
    logprobs: NDArray[np.float32]
    """The sampler's log-prob of each of them."""
    policy_versions: NDArray[np.int32]
    """The version of the policy that sampled each of them."""
    masked_tokens: tuple[tuple[int, tuple[int, ...]], ...] = ()
    """Token ids that a mask made impossible, as (offset into `tokens`, ids): the learner applies the same mask. Where
    sampling was truncated, the ids of all tokens that were possible, each as ~id, which is negative."""
    overt_shortcuts: tuple[str, ...] = ()
    """Commands that would have been the overt shortcut in this turn. An action mask would remove them."""
    rejected: int = 0
    """Completions that a filter refused before this one."""
    overlong: bool = False
    """Did the completion reach the limit of tokens before it ended?"""
    forced: Forced = Forced()
    """What opens the completion without having been sampled."""

    def __post_init__(self) -> None:
        freeze(self, "events", "tokens", "logprobs", "policy_versions", "masked_tokens", "overt_shortcuts")

    def __setstate__(self, state: Any) -> None:
        restore(self, state)

    @property
    def motive_text(self) -> str:
        """The motive as text."""
        return self.completion[self.motive.start : self.motive.stop].strip()

    @property
    def action_text(self) -> str:
        """The command as text."""
        return self.completion[self.action.start : self.action.stop].strip()


@dataclass(frozen=True, slots=True)
class Episode:
    """One finished episode.

    Arrays have one entry per token of the whole sequence: `loss_mask` is True on sampled tokens, and on forced ones
    that are learned; `logprobs` are the sampler's (0 elsewhere); `turn_index` is -1 before the first completion's
    observation ends. The first `head` tokens render the sampling context and the first observation; a different
    training context replaces them. `segments` are the starts of the sub-sequences that a prefix-breaking chat template
    forces (`(0,)` when the prefix always held).
    """

    world: str
    seed: int
    group: int
    arm: str
    status: RolloutStatus
    contexts: Contexts
    turns: tuple[Turn, ...]
    truth: Sealed[tuple[Labels, ...]]
    tokens: NDArray[np.int32]
    loss_mask: NDArray[np.bool_]
    span_kind: NDArray[np.int8]
    turn_index: NDArray[np.int16]
    logprobs: NDArray[np.float32]
    head: int
    segments: tuple[int, ...] = (0,)
    options: Mapping[str, Any] = field(default_factory=dict)
    """The world options it was played with."""
    error: str = ""
    activations: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    """Hidden states that were asked for while it was sampled (`shaping.hooks.Capture`), by name: means over the tokens
    of each turn [turns, layers, hidden], nan for a turn without such tokens. They are not written to files."""

    def __post_init__(self) -> None:
        freeze(self, "turns", "tokens", "loss_mask", "span_kind", "turn_index", "logprobs", "segments", "options")
        freeze(self, "activations")

    def __setstate__(self, state: Any) -> None:
        restore(self, state)

    def __repr__(self) -> str:
        """One line: asyncio prints the result of a finished task, and arrays of thousands of tokens take a while."""
        return (
            f"Episode({self.world!r}, seed={self.seed}, group={self.group}, arm={self.arm!r}, "
            f"status={self.status.value!r}, {len(self.turns)} turns, {len(self.tokens)} tokens)"
        )

    def _repr_html_(self) -> str:
        """A transcript, for notebooks: with the labels, unless they are sealed."""
        from envs.episode_html import episode_html

        try:
            truth = self.truth.open()
        except SealedError:
            truth = None
        return episode_html(self, truth, TRAITS)

    @property
    def proxy_return(self) -> float:
        """Undiscounted sum of the rewards the world paid."""
        return float(sum(turn.reward for turn in self.turns))

    @property
    def version(self) -> int:
        """The oldest policy version that sampled any of its tokens (-1 if no token was sampled)."""
        versions = [turn.policy_versions for turn in self.turns if len(turn.policy_versions)]
        return int(np.concatenate(versions).min()) if versions else -1

    @property
    def forced_tokens(self) -> NDArray[np.bool_]:
        """True on tokens that were not sampled though they belong to a completion, shape [tokens]."""
        return self.span_kind == SpanKind.FORCED

    def redacted(self) -> Episode:
        """The copy that training code gets: everything but the truth."""
        return replace(self, truth=self.truth.redacted())

    def masked_tokens(self) -> Iterator[tuple[int, tuple[int, ...]]]:
        """(position in `tokens`, token ids that were impossible there), in order."""
        if not any(turn.masked_tokens for turn in self.turns):
            return
        positions = np.flatnonzero(self.loss_mask & (self.span_kind != SpanKind.FORCED))
        turns, first = np.unique(self.turn_index[positions], return_index=True)
        starts = dict(zip(turns.tolist(), positions[first].tolist(), strict=True))
        for index, turn in enumerate(self.turns):
            for offset, ids in turn.masked_tokens:
                yield starts[index] + offset, ids


def by_group(episodes: Sequence[Episode]) -> dict[int, list[int]]:
    """The positions of each group's episodes, in the order of the groups' numbers."""
    found: dict[int, list[int]] = {}
    for position, episode in enumerate(episodes):
        found.setdefault(episode.group, []).append(position)
    return dict(sorted(found.items()))
