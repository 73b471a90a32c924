"""What `shaping belief` does after its arguments are read: ask a run's policy what it believes it did."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import scipy

from envs.store import read_episodes
from launch.config.reading.recorded import recorded_run
from launch.errors import UserError
from launch.run.device import local_device
from launch.run.models.load_policy import load_trained
from launch.run.rendering import renderer_of
from launch.storage.files import disk_errors
from launch.storage.finished import finished_run
from shaping.audits.intervals import bootstrap_interval
from shaping.monitors import validate
from shaping.monitors.belief import BeliefCheck
from shaping.monitors.beliefs.elicit import Elicitation, elicit
from shaping.monitors.beliefs.inquiries import inquiries
from shaping.monitors.beliefs.record import OUTCOMES, Belief, write_beliefs
from shaping.sampling.embedded.transformers_engine import TransformersEngine


def ask_run(
    run_dir: Path,
    out: Path,
    *,
    most: int = 200,
    repeats: int = 1,
    opening: str = "",
    seed: int = 0,
    device: str = "auto",
) -> list[str]:
    """Elicit the beliefs of a finished run's policy at the inquiries of its evaluation, and write them to `out`.

    At most `most` episodes are asked about, the first ones. `repeats`, `opening`: as of `Elicitation`. The run does not
    change. Returns lines to be told.
    Raises: `UserError`.
    """
    directory = finished_run(run_dir)
    run = recorded_run(directory.config())
    played = read_episodes(directory.path / "episodes" / "eval.parquet")
    episodes = [e for e in played if not e.status.is_error and inquiries(e)][:most]
    if not episodes:
        raise UserError(
            f"{run_dir}: in none of its {len(played)} evaluation episodes an overseer asks about past conduct: set the "
            "option `inquiry` of the worlds under eval.worlds"
        )
    policy = load_trained(run, directory.checkpoint, local_device(device, "--device"))
    renderer = renderer_of(run, policy.tokenizer)
    how = Elicitation(run.max_tokens, run.train.temperature, seed, repeats=repeats, opening=opening)
    engine = TransformersEngine(policy.model.eval(), renderer, slots=how.concurrency)
    with policy.adapters.using(policy.adapters.names("kept")):
        beliefs = asyncio.run(elicit(episodes, engine, renderer, how))
    with disk_errors(out):
        write_beliefs(out, beliefs)
    monitor = BeliefCheck(path=str(out))
    against = validate(monitor, episodes, "deception")
    compared = [f"{name} {against[name]:.3f}" for name in ("recall", "false_positive_rate", "auroc") if name in against]
    return [
        *summary_of(beliefs),
        f"against the labels of these turns: {', '.join(compared) or 'nothing to compare'}",
        f"{len(beliefs)} inquiries of {len(episodes)} episodes in {out}",
    ]


def summary_of(beliefs: Sequence[Belief]) -> list[str]:
    """How often each outcome occurred, with its 95 % interval, in words."""
    lines = []
    for outcome in OUTCOMES:
        hits = np.array([belief.outcome == outcome for belief in beliefs], float)
        low, high = _interval(hits, [belief.episode for belief in beliefs])
        lines.append(f"{outcome}: {int(hits.sum())} of {len(hits)} inquiries ({low:.1%} to {high:.1%})")
    if dropped := sum(bool(belief.dropped) for belief in beliefs):
        lines.append(f"{dropped} of the inquiries were too long for the model's context")
    return lines


def _interval(hits: np.ndarray, episodes: Sequence[str]) -> tuple[float, float]:
    """By bootstrap over episodes, since inquiries of one are no independent evidence; Wilson's at 0 and at 1."""
    if 0 < hits.sum() < len(hits) and len(set(episodes)) > 1:
        _, low, high = bootstrap_interval(hits, episodes)
        return low, high
    found = scipy.stats.binomtest(int(hits.sum()), len(hits)).proportion_ci(method="wilson")
    return float(found.low), float(found.high)
