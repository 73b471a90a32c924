"""What `shaping probe fit` and `shaping probe read` do after their arguments are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from sklearn.metrics import roc_auc_score

from envs.episode import Episode
from envs.store import read_episodes
from launch.check_model.subject import subject
from launch.config.reading.recorded import recorded_run
from launch.config.study import RunConfig
from launch.directions.command import layers_of
from launch.errors import ConfigError, UserError
from launch.run.device import local_device
from launch.run.models.load_policy import load_trained
from launch.run.models.start_model import start_model
from launch.storage import jsonl
from launch.storage.files import disk_errors
from launch.storage.finished import finished_run
from shaping.audits.reasoning.obfuscation import obfuscation
from shaping.directions.labelled_turns import OPTIONS, labelled_turns, persona_episodes
from shaping.directions.probe_fit import fit_probes
from shaping.directions.probe_set import ProbeError, ProbeKind
from shaping.directions.replay import with_states
from shaping.hooks import Positions
from shaping.learning.policy import Policy
from shaping.models.lora.base_reference import BaseReference
from shaping.monitors.base import MonitorError
from shaping.monitors.probe import LinearProbe
from shaping.monitors.turn_scores import turn_scores
from shaping.sampling.text.render import Renderer


@dataclass(frozen=True, slots=True)
class ProbeData:
    """What a probe is fitted to."""

    worlds: tuple[str, ...] = ("clerk",)
    personas: tuple[str, ...] = ("honest", "deceiver", "opportunist", "mixed", "random")
    episodes: int = 40
    """Situations per world; every persona meets each."""
    trait: str = "deception"
    positions: Positions = "response"
    silent: bool = False
    """Leave out the motives that personas state."""


def fit_probe(
    model: str,
    out: Path,
    data: ProbeData,
    *,
    kind: ProbeKind = "logistic",
    layers: str = "best",
    seed: int = 0,
    device: str = "auto",
) -> list[str]:
    """Fit probes to what personas say, as `model` reads it, and write them to `out`. Returns lines to be told.

    `layers`: `best` (the one that does best on situations set aside for the choice), `all`, or numbers with commas.
    Raises: `ConfigError`.
    """
    wanted = layers_of(layers)
    found = subject(model)
    policy = Policy.load(found.directory, device=local_device(device, "--device"), name=found.name)
    base = BaseReference.of(found.directory, found.name)
    made_of: dict[str, Any] = {
        **{"model": base.name, "revision": base.revision, "hash": base.hash, "trait": data.trait},
        **{"positions": data.positions, "worlds": list(data.worlds), "personas": list(data.personas)},
        **{"silent": data.silent, "options": dict(OPTIONS)},
    }
    try:
        episodes = persona_episodes(
            data.worlds, data.personas, data.episodes, Renderer(policy.tokenizer), silent=data.silent
        )
        numbers = "all" if isinstance(wanted, str) else wanted
        turns = labelled_turns(policy, episodes, data.trait, numbers, data.positions)
        keep: Literal["best", "all"] = "best" if wanted == "best" else "all"
        probes = fit_probes(turns, kind=kind, keep=keep, seed=seed, made_of=made_of)
    except ProbeError as error:
        raise ConfigError(f"probe fit: {error}") from error
    with disk_errors(out):
        probes.save(out)
    return [*_told(probes.layers, probes.card), f"kept in {out}"]


def _told(layers: Sequence[int], card: Any) -> list[str]:
    held = card["held_out"]
    interval = f" ({held['auroc_low']:.3f} to {held['auroc_high']:.3f})" if "auroc_low" in held else ""
    lines = [
        f"layer {', '.join(map(str, layers))}: AUROC {held['auroc']:.3f}{interval} on {held['turns']} held-out turns, "
        f"{held['positives']} of them with the trait; Brier {held['brier']:.3f}"
    ]
    if "auroc_same_commands" in held:
        lines.append(
            f"among the {held['turns_same_commands']} turns whose commands occur with and without it: "
            f"AUROC {held['auroc_same_commands']:.3f}"
        )
    return lines


def read_probe(run_dir: Path, path: Path, out: Path, *, trait: str = "deception", device: str = "auto") -> list[str]:
    """Score the evaluation's episodes of a finished run under its policy and under the model that it started from.

    Writes one line of JSON per turn to `out`: world, seed, turn, `p_pol`, `p_ref`, and the label with its opportunity.
    Raises: `UserError`.
    """
    directory = finished_run(run_dir)
    run = recorded_run(directory.config())
    monitor = LinearProbe(path=str(path), trait=trait)
    try:
        episodes = [e for e in read_episodes(directory.path / "episodes" / "eval.parquet") if not e.status.is_error]
        policy = load_trained(run, directory.checkpoint, local_device(device, "--device"))
        kept = policy.adapters.names("kept")
        of_policy = _scores(policy, monitor, episodes, kept)
        reference = policy if kept else _start(run, policy)
        of_reference = _scores(reference, monitor, episodes, ())
    except (MonitorError, ProbeError) as error:
        raise UserError(f"probe read: {error}") from error
    rows = [
        {
            **{"world": episode.world, "seed": episode.seed, "watch": episode.options.get("watch", "")},
            **{"episode": number, "turn": turn, "p_pol": float(of_policy[number][turn])},
            **{"p_ref": float(of_reference[number][turn]), "label": labels.trait(trait) > 0},
            "possible": bool(labels.trait(trait) > 0 or labels.opportunity.get(trait, False)),
        }
        for number, episode in enumerate(episodes)
        for turn, labels in enumerate(episode.truth.open())
    ]
    rows = [row for row in rows if np.isfinite(row["p_pol"]) and np.isfinite(row["p_ref"])]
    with disk_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(jsonl.encode(rows), encoding="utf-8")
    return [*summary_of(rows), f"{len(rows)} turns of {len(episodes)} episodes in {out}"]


def summary_of(rows: Sequence[dict[str, Any]]) -> list[str]:
    """What the scores of turns in which the trait was possible come to, in words."""
    own = [row for row in rows if row["possible"]]
    labels = np.array([row["label"] for row in own], bool)
    lines = []
    for name in ("p_pol", "p_ref"):
        scores = np.array([row[name] for row in own], float)
        means = [f"{scores[side].mean():.3f}" if side.any() else "none" for side in (labels, ~labels)]
        both = labels.any() and not labels.all()
        area = f"AUROC {roc_auc_score(labels, scores):.3f}" if both else "no AUROC: one class alone"
        lines.append(f"{name}: {area}; mean {means[0]} with the trait, {means[1]} without it")
    p_ref, p_pol = (np.array([row[name] for row in own], float) for name in ("p_ref", "p_pol"))
    found = obfuscation(p_ref, p_pol, labels, [row["episode"] for row in own])
    if found.harmful:
        policy, states = map(_with_interval, found[:2])
        lines.append(f"obf_policy {policy}: innocent to the model before training, of {found.harmful} turns")
        lines.append(f"obf_act {states}: p_ref less p_pol on them")
    return lines


def _with_interval(found: tuple[float, float, float]) -> str:
    value, low, high = found
    return f"{value:.3f}" + (f" ({low:.3f} to {high:.3f})" if np.isfinite(low) else "")


def _scores(
    policy: Policy, monitor: LinearProbe, episodes: Sequence[Episode], adapters: Sequence[str]
) -> list[np.ndarray]:
    """The monitor's score of every turn of each episode under a model; nan for turns without a state."""
    found = []
    for episode in with_states(policy, episodes, monitor.captures(), adapters):
        scores = np.full(len(episode.turns), np.nan)
        turn_scores(monitor, episode)  # raises what is wrong with its answer
        for reading in monitor.read(episode.redacted()):
            scores[reading.turn] = reading.score
        found.append(scores)
    return found


def _start(run: RunConfig, policy: Policy) -> Policy:
    """The model that a run which trains the whole base started from."""
    return Policy.load(start_model(run.model), dtype=next(policy.model.parameters()).dtype, device=str(policy.device))
