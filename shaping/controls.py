"""The controls that methods need: which kinds there are, why, and by which setting a method becomes its own control.

A method lists kinds in `needs`; `controls: auto` in a study makes the arms. Nothing here knows a method by name. A kind
is of a *method* (one of its settings, or another class, takes its place in the arm), of an *arm* (the same
interventions under another reward or other settings), or of a *study* (one arm for all).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final, Literal, NamedTuple

from pydantic import BaseModel

from shaping.labels import LabelSource

Scope = Literal["method", "arm", "study"]


class ControlKind(StrEnum):
    """What is put in the place of what a method is said to work by."""

    IRRELEVANT = "irrelevant"
    NEGATED = "negated"
    NEUTRAL = "neutral"
    LENGTH_MATCHED = "length_matched"
    SHUFFLED = "shuffled"
    RANDOM_DIRECTION = "random_direction"
    RANDOM_ADAPTER = "random_adapter"
    RANDOM_ANSWERS = "random_answers"
    PLACEBO = "placebo"
    NO_LABELS = "no_labels"
    RANDOM_REWARD = "random_reward"
    SHUFFLED_REWARD = "shuffled_reward"
    EXCHANGED_REWARD = "exchanged_reward"
    PROMPTED = "prompted"
    BENIGN = "benign"
    BASE = "base"
    NO_LOOPHOLE = "no_loophole"


class Meaning(NamedTuple):
    """What a control holds, and what it tells the method's effect from."""

    scope: Scope
    what: str
    apart_from: str


MEANING: Final[Mapping[ControlKind, Meaning]] = {
    ControlKind.IRRELEVANT: Meaning(
        "method",
        "as many prompts about something else",
        "that of any prompt that is gone after training",
    ),
    ControlKind.NEGATED: Meaning(
        "method",
        "as many prompts that forbid the trait",
        "that of a prompt that names the trait at all",
    ),
    ControlKind.NEUTRAL: Meaning("method", "as many prompts that say nothing of the trait", "that of having a prompt"),
    ControlKind.LENGTH_MATCHED: Meaning(
        "method", "irrelevant words, as many as the prompt has", "that of a longer context"
    ),
    ControlKind.SHUFFLED: Meaning(
        "method", "the prompt's own words in random order", "that of the words without their meaning"
    ),
    ControlKind.RANDOM_DIRECTION: Meaning(
        "method", "a random direction of the same norm", "that of any perturbation of this size"
    ),
    ControlKind.RANDOM_ADAPTER: Meaning(
        "method", "a random adapter of the same norm", "that of any perturbation of this size"
    ),
    ControlKind.RANDOM_ANSWERS: Meaning(
        "method", "the imitated answers, dealt out to other prompts", "that of fine-tuning as such"
    ),
    ControlKind.PLACEBO: Meaning(
        "method", "as many labels, or as much cost, at random", "that of the amount, without its content"
    ),
    ControlKind.NO_LABELS: Meaning(
        "method", "the same parts without a label", "that of the method's parts without labels"
    ),
    ControlKind.RANDOM_REWARD: Meaning(
        "arm",
        "returns are noise with the group's mean and spread",
        "that of training as such (2506.10947)",
    ),
    ControlKind.SHUFFLED_REWARD: Meaning(
        "arm", "returns are dealt out again in the group", "that of training as such, at the same rewards"
    ),
    ControlKind.EXCHANGED_REWARD: Meaning(
        "arm",
        "returns are those of another group",
        "that of training as such, where a group's mean says nothing of it",
    ),
    ControlKind.PROMPTED: Meaning(
        "arm", "no training, evaluated under the arm's prompts", "that of the prompt without any learning"
    ),
    ControlKind.BENIGN: Meaning(
        "arm",
        "the same in worlds without their shortcut",
        "that of training as long where nothing tempts",
    ),
    ControlKind.BASE: Meaning("study", "the model before any update", "what was there before training"),
    ControlKind.NO_LOOPHOLE: Meaning(
        "study", "plain training in worlds without their shortcut", "that of training where nothing tempts"
    ),
}
PROMPTS: Final = (
    ControlKind.IRRELEVANT, ControlKind.NEGATED, ControlKind.NEUTRAL, ControlKind.LENGTH_MATCHED, ControlKind.SHUFFLED,
)  # fmt: skip
OF_TRAINING_PROMPTS: Final = (
    ControlKind.IRRELEVANT, ControlKind.NEGATED, ControlKind.NEUTRAL, ControlKind.LENGTH_MATCHED,
    ControlKind.RANDOM_REWARD, ControlKind.PROMPTED, ControlKind.BASE,
)  # fmt: skip
"""What a method needs that trains under prompts and is deployed without."""
_SWITCHES: Final = {
    ControlKind.RANDOM_DIRECTION: "random",
    ControlKind.RANDOM_ADAPTER: "random",
    ControlKind.RANDOM_ANSWERS: "random_answers",
}


def standard_fields(method: BaseModel, kind: ControlKind) -> dict[str, Any] | None:
    """The fields that make a method its own control, by the names that such fields have; None if it has none.

    `control` (prompts of another kind), `random` (direction or adapter), `random_answers`, `placebo`, and `labels`
    (placebo, or off).
    """
    known = type(method).model_fields
    if kind in PROMPTS and "control" in known:
        return {"control": kind.value}
    if (switch := _SWITCHES.get(kind, "")) in known:
        return {switch: True}
    if kind is ControlKind.PLACEBO and "placebo" in known:
        return {"placebo": True}
    if kind in (ControlKind.PLACEBO, ControlKind.NO_LABELS) and "labels" in known:
        labels = getattr(method, "labels")  # noqa: B009
        placebo = kind is ControlKind.PLACEBO
        if isinstance(labels, LabelSource):
            return {"labels": {**labels.model_dump(mode="json"), "placebo": True} if placebo else "off"}
        return {"labels": "placebo" if placebo else "off"}
    return None
