"""Which interventions a stage can do without a reward: what cannot apply is refused, and said why."""

from __future__ import annotations

from typing import Literal

import numpy as np

from shaping.arm import Arm
from shaping.hooks import GroupInfo, Knob
from shaping.intervention import Constraint, Intervention

Answered = Literal["supervised", "preference"]
DRAWS = 16
"""Contexts that are drawn to see whether an arm's prompts are there while it learns."""

_REWARDED = {
    "credit": "changes the credit of rewards",
    "cost": "prices actions beside a reward",
    "cost_group": "prices actions beside a reward",
    "screen": "leaves episodes out of the baseline of rewards",
}
_SAMPLED = {
    "allow": "masks or replaces actions while they are sampled",
    "prefill": "opens completions that are sampled",
}
_SUPERVISED_ONLY = {
    "gates": "gates whole rows, and the two answers of a pair need one gradient",
    "rehearse": "repeats answers as they are, of which half are the rejected ones",
    "episode_context": "chooses a prompt by what was answered, and the two answers of a pair need one prompt",
}


def refused(arm: Arm, stage: Answered) -> str:
    """Why an arm cannot go through a stage; empty if it can."""
    for intervention in arm.interventions:
        kind, base = type(intervention), Constraint if isinstance(intervention, Constraint) else Intervention
        hooks = {**_REWARDED, **_SAMPLED} if stage == "supervised" else {**_REWARDED, **_SAMPLED, **_SUPERVISED_ONLY}
        for hook, what in hooks.items():
            if getattr(kind, hook, None) is not getattr(base, hook, None):
                lacks = "" if hook in _SUPERVISED_ONLY else f", and a {stage} stage has no {_lacked(hook)}"
                return f"{kind.__name__} {what}{lacks}"
    return _without_prompts(arm)


def _lacked(hook: str) -> str:
    return "reward" if hook in _REWARDED else "sampling"


def _without_prompts(arm: Arm) -> str:
    """Why an arm's prompts would never be there; empty if they are, or if it has none."""
    if Knob.SAMPLING_CONTEXT not in arm.owner and Knob.TRAINING_CONTEXT not in arm.owner:
        return ""
    infos = [GroupInfo("text", number, number, 0) for number in range(DRAWS)]
    drawn = [arm.contexts(info, np.random.default_rng(number)) for number, info in enumerate(infos)]
    if any(sampling.system for sampling, _ in drawn) and not any(training.system for _, training in drawn):
        owner = type(arm.owner.get(Knob.TRAINING_CONTEXT) or arm.owner[Knob.SAMPLING_CONTEXT]).__name__
        return f"{owner} has its prompts while episodes are sampled alone, and this stage samples none"
    return ""
