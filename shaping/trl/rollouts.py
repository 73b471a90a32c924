"""Episodes of an arm as rows for TRL: requests, per-token credit, and refusals. Imports no TRL.

One row is one episode. Its prompt is the first prompt, and its completion is everything after it; a mask separates
the sampled tokens from the world's observations.
"""

from __future__ import annotations

import inspect
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from envs.core import TextEnv
from envs.episode import Contexts, Episode, by_group
from rewards.base import Reward, scored_groups
from shaping.arm import Arm, asked_all
from shaping.hooks import ActivationEdit, AdapterSpec, GroupInfo, InterventionError, Knob, Phase, TurnContext
from shaping.intervention import Constraint, Intervention, Shaper
from shaping.learning.config import SPREAD_FLOOR, AdvantageLevel, Algorithm
from shaping.learning.credit.advantages import zero_variance
from shaping.learning.credit.credit import Credited, assign_credit
from shaping.learning.samples.sample import Sample
from shaping.readings import readings
from shaping.sampling.play import EpisodeRequest
from shaping.sampling.text.render import Renderer

Worlds = Mapping[str, Callable[[], TextEnv]]

#: Hooks that work here. Every other hook, future ones included, is refused if it has an effect.
HONOURED = frozenset(
    {
        "sampling_context",
        "training_context",
        "ratio_mode",
        "allow",
        "cost",
        "cost_group",
        "credit",
        "readings",
        "state_dict",
        "load_state_dict",
        *("example", "control_fields", "reads_truth", "knows_truth"),  # what is told of it, and no hook
    }
)


@dataclass(frozen=True, slots=True)
class Row:
    """One episode in TRL's form. Arrays have shape [completion tokens]."""

    prompt: tuple[int, ...]
    """Token ids of the first prompt."""
    completion: tuple[int, ...]
    """Token ids of everything after it."""
    mask: NDArray[np.int64]
    """1 on sampled tokens, 0 on observations."""
    logprobs: NDArray[np.float32]
    """The sampler's log-probs."""
    credit: NDArray[np.float32]
    """Advantage times weight."""
    returned: float | None
    """Return of the episode; None for a failed episode, which has no token in the loss."""


def prompts(worlds: Worlds, seeds: Sequence[int]) -> list[dict[str, str]]:
    """Rows of a data set: one prompt for each world and seed. `episode_requests` reads them back."""
    return [{"prompt": json.dumps({"world": world, "seed": int(seed)})} for seed in seeds for world in worlds]


def refuse_unsupported(arm: Arm, worlds: Worlds) -> None:
    """Raise `InterventionError` for an arm that TRL's trainer cannot honour.

    Contexts, masks and credits can depend on the episode, so `rows` checks played episodes again.
    """
    for intervention in arm.interventions:
        base = Constraint if isinstance(intervention, Constraint) else Shaper
        for hook in sorted(_hooks() - HONOURED):
            changed = getattr(type(intervention), hook, None) is not getattr(base, hook, None)
            if changed and not _neutral(intervention, hook):
                raise _refusal(arm, intervention, f"uses the hook {hook}(), which TRL's trainer cannot call")
    if arm.ratio_mode() == "none":
        raise _refusal(arm, arm.owner.get(Knob.RATIO), "asks for ratio mode 'none', but TRL's losses take a ratio")
    for world in worlds:
        sampling, training = arm.contexts(GroupInfo(world, 0, 0, 0), np.random.default_rng(0))
        _refuse_contexts(arm, Contexts(sampling, training))
        if arm.allow(TurnContext(world, 0, 0, "", overt_shortcuts=("grab 1",)), None).kind == "mask":
            raise _refusal(arm, arm.owner.get(Knob.ACTIONS), _MASKS)


_MASKS = (
    "masks tokens in sampling, and TRL's learner cannot apply the same mask, so that the policy gradient would be "
    "wrong; let it resample or replace actions instead"
)


def _hooks() -> frozenset[str]:
    """The names of all methods that an intervention may define."""
    return frozenset(
        name
        for kind in (Intervention, Constraint)
        for name, value in vars(kind).items()
        if inspect.isfunction(value) and not name.startswith(("_", "model_"))
    )


def _neutral(intervention: Intervention, hook: str) -> bool:
    """True if an overridden hook returns nothing with effect."""
    if hook == "edits":
        return not any(asked_all(intervention, "edits", ActivationEdit, phase) for phase in get_args(Phase))
    return hook == "adapters" and not asked_all(intervention, "adapters", AdapterSpec)


def _refuse_contexts(arm: Arm, contexts: Contexts) -> None:
    if contexts.sampling.system != contexts.training.system:
        raise _refusal(
            arm,
            arm.owner.get(Knob.TRAINING_CONTEXT),
            f"trains under the context {contexts.training.name!r} on episodes sampled under "
            f"{contexts.sampling.name!r}, but TRL's trainer has one prompt for both",
        )


def _refusal(arm: Arm, intervention: Intervention | None, why: str) -> InterventionError:
    return InterventionError(
        f"arm {arm.name!r}: {type(intervention).__name__} {why}. Run this arm with the project's own learner"
    )


def episode_requests(
    texts: Sequence[str], group_size: int, arm: Arm, worlds: Worlds, *, update: int, entropy: Sequence[int]
) -> list[EpisodeRequest]:
    """One request per prompt. Prompts of a group are neighbours and share one draw of contexts.

    Args:
        texts: prompts, as `prompts` writes them.
        group_size: prompts per group.
        arm: draws the contexts.
        worlds: by name, functions that make a world.
        update: number of the update.
        entropy: seed of contexts and completions.
    Raises: ValueError if `texts` are not whole groups.
    """
    out: list[EpisodeRequest] = []
    for group, first in enumerate(range(0, len(texts), group_size)):
        members = texts[first : first + group_size]
        if len(members) < group_size or len(set(members)) > 1:
            raise ValueError(
                f"TRL gave {len(texts)} prompts that are not whole groups of {group_size} equal ones: every process "
                "must get whole groups, so make per_device_train_batch_size * steps_per_generation a multiple of "
                "num_generations"
            )
        task = json.loads(members[0])
        rng = np.random.default_rng([*entropy, group])
        drawn = Contexts(*arm.contexts(GroupInfo(task["world"], task["seed"], group, update), rng))
        out += [
            EpisodeRequest(worlds[task["world"]], task["seed"], group, drawn, sampling_seed=int(seed))
            for seed in rng.integers(2**62, size=group_size)
        ]
    return out


def rows(
    episodes: Sequence[Episode],
    arm: Arm,
    renderer: Renderer,
    reward: Reward,
    *,
    algorithm: Algorithm,
    level: AdvantageLevel,
    spread_floor: float = SPREAD_FLOOR,
) -> tuple[list[Row], dict[str, float]]:
    """Turn episodes into rows. Failed episodes, and episodes alone in their group (no baseline), have no credit.

    Returns: (one row per episode, in order; metrics).
    Raises: RuntimeError if most episodes failed, `InterventionError` for credit that TRL's trainer cannot honour.
    """
    sound = [e for e in episodes if not e.status.is_error and e.turns]
    sizes = Counter(e.group for e in sound)
    usable = [e for e in sound if sizes[e.group] > 1]
    if len(sound) * 2 < len(episodes) or not usable:
        first = next((e.error for e in episodes if e.error), "no episode had a turn")
        raise RuntimeError(f"{len(episodes) - len(sound)} of {len(episodes)} episodes failed; the first error: {first}")
    paid: dict[int, NDArray[np.float64]] = {}
    groups = [[usable[i] for i in members] for members in by_group(usable).values()]
    for members, amounts in zip(groups, scored_groups(reward, groups), strict=True):
        paid |= {id(e): r for e, r in zip(members, amounts, strict=True)}
    credited = assign_credit(
        usable,
        [paid[id(e)] for e in usable],
        arm,
        renderer,
        algorithm=algorithm,
        level=level,
        spread_floor=spread_floor,
    )
    trained = {
        id(e): _row(e, sample, arm, float(returned))
        for e, sample, returned in zip(usable, credited.samples, credited.returns, strict=True)
    }
    metrics = _metrics(credited, list(trained.values()))
    metrics |= {"failed": float(len(episodes) - len(sound)), "filtered": float(len(sound) - len(usable))}
    metrics |= readings(arm.interventions, usable)
    return [trained.get(id(e)) or _untrained(e, renderer) for e in episodes], metrics


def _row(episode: Episode, sample: Sample, arm: Arm, returned: float) -> Row:
    """The row of an episode, up to its last sampled token: later observations are in no loss."""
    _refuse_contexts(arm, episode.contexts)
    if len(sample.masked_tokens):
        raise _refusal(arm, arm.owner.get(Knob.ACTIONS), _MASKS)
    if not sample.on_policy or sample.imitation is not None or (sample.weight < 0).any():
        raise InterventionError(
            f"arm {arm.name!r}: TRL's trainer cannot honour credit with imitation or a negative weight, nor edits in "
            "only one phase. Run this arm with the project's own learner"
        )
    head, stop = episode.head, int(np.flatnonzero(sample.mask)[-1]) + 1
    return Row(
        prompt=tuple(sample.tokens[:head].tolist()),
        completion=tuple(sample.tokens[head:stop].tolist()),
        mask=sample.mask[head:stop].astype(np.int64),
        logprobs=sample.old_logprobs[head:stop],
        credit=(sample.advantage * sample.weight * sample.mask)[head:stop],
        returned=returned,
    )


def _untrained(episode: Episode, renderer: Renderer) -> Row:
    """A row without credit, because TRL needs one per prompt: one end-of-turn token, which is not in the loss."""
    zero = np.zeros(1, np.float32)
    return Row(tuple(episode.tokens[: episode.head].tolist()), (renderer.eos,), zero.astype(np.int64), zero, zero, None)


def _metrics(credited: Credited, trained: Sequence[Row]) -> dict[str, float]:
    credits = np.concatenate([row.credit[row.mask == 1] for row in trained])
    return {
        "return": float(credited.returns.mean()),
        "cost": float(credited.costs.mean()),
        "advantage_abs": float(np.abs(credited.advantages).mean()),
        "credit_abs": float(np.abs(credits).mean()),
        "credit_added": float(np.abs(credited.credit - credited.advantages).mean()),
        "zero_variance": zero_variance(credited.returns, credited.groups) or 0.0,
    }
