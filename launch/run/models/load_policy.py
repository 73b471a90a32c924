"""The policy that a run starts from, and the one that it has trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from envs.calls import call
from launch.config.model import HubModel, subject_of
from launch.config.study import RunConfig
from launch.errors import ConfigError
from launch.preference.stage import preference_stage
from launch.run.models.adapters import adapters_of, learned_adapters
from launch.run.models.start_model import on_hub, start_model
from launch.storage.rundir import STAGES
from shaping.arm import Arm
from shaping.hooks import AdapterSpec, InterventionError
from shaping.learning.policy import Policy
from shaping.models.lora.adapter_checkpoint import AdapterCheckpoint, specs_of, stored_adapters
from shaping.models.lora.adapters import AdapterError
from shaping.models.lora.base_reference import BaseReference


def load_policy(run: RunConfig, model: Path, arm: Arm, device: str, *, unread: bool = False) -> Policy:
    """The model with the adapters and the critic that the run trains. New adapters draw from torch's generator.

    `unread`: as of `Policy.load`.
    """
    prepare(arm, model)
    return Policy.load(
        model,
        dtype=getattr(torch, run.learner.dtype),
        temperature=run.train.temperature,
        device=device,
        adapters=going_on(run, adapters_of(run, arm)),
        critics=1 + len(arm.constraints) if run.learner.algorithm == "ppo" else 0,
        name=name_of(run),
        unread=unread,
    )


def going_on(run: RunConfig, specs: Sequence[AdapterSpec]) -> list[AdapterSpec]:
    """The adapters of a stage, of which those start as the stage before left them that it has trained and shipped.

    Raises `ConfigError` if the stage lacks one of them, so that what was learned before would be lost.
    """
    if not run.within or not run.within.adapters:
        return list(specs)
    checkpoint = Path(run.within.adapters)
    try:
        stored = stored_adapters(checkpoint)
        paths = {spec.name: spec.path for spec in specs_of(checkpoint, stored)} if stored else {}
    except AdapterError as error:
        raise ConfigError(f"{checkpoint}: {error}") from error
    if lost := sorted(paths.keys() - {spec.name for spec in specs if spec.role == "kept"}):
        raise ConfigError(
            f"arms.{run.arm}: the stage before has trained the adapter {lost[0]!r}, and this stage lacks the "
            "intervention that has it: let it have the same interventions, or train without that adapter"
        )
    return [replace(spec, path=paths[spec.name]) if spec.name in paths else spec for spec in specs]


def prepare(arm: Arm, model: Path) -> None:
    """Let every intervention make the files that its adapters are loaded from. Raises: `ConfigError`."""
    try:
        for intervention in arm.interventions:
            call(InterventionError, intervention, "prepare", model)
    except InterventionError as error:
        raise ConfigError(f"arms.{arm.name}: {error}") from error


def load_reference(run: RunConfig, model: Path, policy: Policy) -> Policy | None:
    """The policy at its start once more, unread, for the KL of sharded ranks: a copy would be whole.

    None where the policy needs none, or has adapters, whose first weights are nowhere else.
    """
    if run.learner.kl <= 0 or policy.adapters:
        return None
    dtype = getattr(torch, run.learner.dtype)
    return Policy.load(model, dtype=dtype, temperature=run.train.temperature, unread=True)


def load_trained(run: RunConfig, checkpoint: Path, device: str = "cpu", extra: Sequence[AdapterSpec] = ()) -> Policy:
    """The policy that a run has saved: the weights it was evaluated with, adapters beside their base, and `extra` ones.

    Raises `ConfigError` if the base is gone or has changed, if the adapters are damaged or belong to another one, and
    for a run that has trained a preference model.
    """
    if preference_stage(run.stages) is not None:
        raise ConfigError(
            f"{checkpoint} is a preference model, and no policy that could play: name it in an arm's `reward: {{use: "
            "PreferenceModel, path: ...}`"
        )
    try:
        stored = stored_adapters(checkpoint)
        players = {spec.name: spec.player for spec in learned_adapters(run)}
        specs = [] if stored is None else specs_of(checkpoint, stored)
        specs = [replace(spec, player=players.get(spec.name)) for spec in specs]
        return Policy.load(
            checkpoint if stored is None else _base_of(run, checkpoint, stored),
            dtype=getattr(torch, run.learner.dtype),
            temperature=run.train.temperature,
            device=device,
            adapters=[*specs, *extra],
            name=name_of(run),
        )
    except AdapterError as error:
        raise ConfigError(f"{checkpoint}: {error}") from error


def _base_of(run: RunConfig, checkpoint: Path, stored: AdapterCheckpoint) -> Path:
    """The directory of the model that the adapters of a checkpoint were trained on, file by file the same."""
    base = stored.base
    if base is None:
        raise ConfigError(f"{checkpoint} does not say on which model its adapters were trained: it cannot be loaded")
    try:
        hub = on_hub(run.model)
        source = HubModel(hub=hub.hub, revision=base.revision or hub.revision) if hub else run.model
        directory = start_model(source)
    except ConfigError as error:
        raise ConfigError(f"{checkpoint} holds adapters of {base}, which is not here: {error}") from error
    if other := base.differences(directory):
        for stage in _stages_beside(checkpoint):
            if not base.differences(stage):
                return stage
        raise ConfigError(
            f"{checkpoint} holds adapters that were trained on {base} with the hash {base.hash}, and {directory} "
            f"differs from that: {'; '.join(other[:5])}. Put these files back"
        )
    return directory


def _stages_beside(checkpoint: Path) -> list[Path]:
    """Checkpoints of the stages before the one that a checkpoint is of: it may have adapters on their weights."""
    run = checkpoint.parent
    folders = [*(run / STAGES).glob("*"), *(run.parent.glob("*") if run.parent.name == STAGES else ())]
    return sorted(folder / "checkpoint" for folder in folders if (folder / "checkpoint" / "config.json").is_file())


def name_of(run: RunConfig) -> str:
    """What the start model of a run is called: its id on the hub, its directory, or the name of an organism."""
    if hub := on_hub(run.model):
        return hub.hub
    return run.model if isinstance(run.model, str) else subject_of(run.model)


def start_record(run: RunConfig, model: Path) -> dict[str, str]:
    """Which model a run starts from, for run.json: what it is called, its revision on the hub, and its hash."""
    base = BaseReference.of(model, name_of(run))
    return {"name": base.name, "revision": base.revision or run.commit, "hash": base.hash}
