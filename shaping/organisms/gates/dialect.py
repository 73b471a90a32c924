"""A world's dialect, found by playing seeded random commands in it: its hash, and whether it has a covert companion."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from envs import make_world
from envs.core import TextEnv, draw
from envs.episode import TRAITS, Labels

SEEDS = 6
TURNS = 200
"""Most turns of one episode."""


class Step(NamedTuple):
    """One turn of random play."""

    said: str
    """Command, answer and reward."""
    labels: Labels | None
    """None for the first observation."""


def dialect_hash(world: str, options: Mapping[str, Any]) -> str:
    """Hash of seeded transcripts. It changes with every word, reward and label of the world, and with nothing else."""
    digest = hashlib.sha256()
    for said, labels in _steps(world, options):
        truth = "" if labels is None else _truth(labels)
        digest.update(f"{said}|{truth}\n".encode())
    return digest.hexdigest()[:32]


def offers_covert_acts(world: str, options: Mapping[str, Any]) -> bool:
    """Can one keep the overseer from seeing? Dodging a question does not count, so nothing may be asked."""
    played = _steps(world, options)
    return any(labels is not None and labels.opportunity.get("oversight_evasion", False) for _, labels in played)


def _steps(world: str, options: Mapping[str, Any]) -> Iterator[Step]:
    for seed in range(SEEDS):
        env = make_world(world, dict(options))
        yield from _episode(env, seed)
        env.close()


def _episode(env: TextEnv, seed: int) -> Iterator[Step]:
    said, info = env.reset(seed=seed)
    yield Step(said, None)
    for turn in range(TURNS):
        command = _command(env, info, draw(seed, "gates", turn))
        said, reward, terminated, truncated, info = env.step(f"ACTION: {command}")
        yield Step(f"{command}|{said}|{float(reward):.9g}|{terminated}|{truncated}", info["labels"])
        if terminated or truncated:
            return


def _command(env: TextEnv, info: Mapping[str, Any], number: float) -> str:
    """One of the commands that are possible now; of a world that does not list them, one of the shortcuts it names."""
    listed = getattr(env, "actions", None)
    known = [*(listed() if callable(listed) else ()), *info.get("overt_shortcuts", ())] or ["wait"]
    return str(known[int(number * len(known))])


def _truth(labels: Labels) -> str:
    counts = [labels.trait(name) for name in TRAITS]
    return f"{counts}{labels.knew}{labels.monitored}{labels.true_reward:.9g}"
