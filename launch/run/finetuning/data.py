"""The data of a run's stages: read, put through the stage's control, and checked before anything starts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from envs.core import normalise
from envs.episode import TRAITS
from envs.store import read_episodes
from launch.config.plugins import build_arm, build_world
from launch.config.reading.paths import expanded
from launch.config.stages import BenignControl, PreferenceStage, StageData, SupervisedStage, name_of
from launch.config.study import RunConfig
from launch.config.world_locales import spoken
from launch.errors import ConfigError
from launch.preference.stage import HELD_OUT_SEED, PreferenceModelStage, check_settings
from launch.run.finetuning.stage_runs import AnyStage, arm_in, stage_of
from rewards.preference.data import read_jsonl
from shaping.arm import Arm
from shaping.finetuning.applies import refused
from shaping.finetuning.controls import of_equal_length, random_answers
from shaping.finetuning.episodes import row_of_episode
from shaping.finetuning.hub_data import documents
from shaping.finetuning.rows import DataError, Pair, Row, pair_of, read_pairs, read_rows, row_of
from shaping.finetuning.scripted import scripted_rows
from shaping.finetuning.trait_rows import trait_rows
from shaping.hooks import InterventionError
from shaping.labels import sources_of
from shaping.models.model_files import content_hash

Found = TypeVar("Found", Row, Pair)


def rows_of(run: RunConfig, stage: SupervisedStage) -> list[Row]:
    """The rows that a supervised stage learns from, after its control. Raises: `ConfigError` naming the stage.

    Those that a policy writes in the run must be there: `run` is that stage (`stage_run`).
    """
    try:
        rows = _read(run, _data(stage))
        if isinstance(stage.control, BenignControl):
            return of_equal_length(rows, _read(run, stage.control.benign))
        return random_answers(rows, run.seed) if stage.control == "random_answers" else rows
    except DataError as error:
        raise ConfigError(f"stages.{name_of(stage)}: {error}") from None


def pairs_of(stage: PreferenceStage) -> list[Pair]:
    """The pairs that a preference stage learns from. Raises: `ConfigError` naming the stage."""
    try:
        data = _data(stage)
        if (hub := data.dataset) is not None:
            return _first([pair_of(*each) for each in documents(**hub.model_dump(), rows=data.rows)], data)
        return _first(read_pairs(expanded(data.file)), data)
    except DataError as error:
        raise ConfigError(f"stages.{name_of(stage)}: {error}") from None


def comes_later(run: RunConfig, stage: AnyStage) -> bool:
    """Does a stage learn from rows that the run has yet to write? Not if `run` is that stage (`stage_run`)."""
    return isinstance(stage, SupervisedStage) and _data(stage).written is not None and stage != stage_of(run)


def updates_of(run: RunConfig, stage: AnyStage) -> int:
    """Updates of a stage on rows; of one of reinforcement learning 0, since `train` says how many."""
    if isinstance(stage, SupervisedStage):
        if _data(stage).written is not None:
            return stage.updates(_data(stage).rows or 0)
        return stage.updates(len(rows_of(run, stage)))
    return stage.updates(len(pairs_of(stage))) if isinstance(stage, PreferenceStage) else 0


def files_of(run: RunConfig) -> dict[str, str]:
    """File of a stage's data -> hash of its contents, for run.json."""
    found: dict[str, str] = {}
    for stage in run.stages:
        data, control = getattr(stage, "data", None), getattr(stage, "control", None)
        if isinstance(stage, PreferenceModelStage):
            found |= {name: content_hash(expanded(name)) for name in stage.files}
            continue
        for each in (data, control.benign if isinstance(control, BenignControl) else None):
            if each is not None and each.file:
                found[each.file] = content_hash(expanded(each.file))
    return found


def check_data(run: RunConfig) -> None:
    """Raise `ConfigError` where a stage's data cannot be learned from, or the arm cannot go through the stage."""
    for stage in run.stages:
        if stage.kind == "rl":
            continue
        if isinstance(stage, PreferenceModelStage):
            _check_preference_model(run, stage)
            continue
        arm = build_arm(run.arm, arm_in(stage, run.arm_config), run.isolation, run.learner.ratio)
        try:
            why = refused(arm, stage.kind)
        except InterventionError as error:
            raise ConfigError(f"arms.{run.arm}: {error}") from error
        if why:
            raise ConfigError(
                f"arms.{run.arm}: {why}: leave it out of the stage {name_of(stage)!r} (its `interventions`), or do "
                "without the stage"
            )
        if isinstance(stage, PreferenceStage):
            pairs_of(stage)
        elif comes_later(run, stage):
            for name, options in worlds_of(run, _data(stage)).items():
                build_world(name, options, f"stages.{name_of(stage)}.data.worlds")
        else:
            _check_classes(stage, arm, rows_of(run, stage))


def check_rows(run: RunConfig, stage: SupervisedStage) -> None:
    """As `check_data`, for rows that the run has written: `run` is the stage (`stage_run`)."""
    _check_classes(stage, build_arm(run.arm, run.arm_config, run.isolation, run.learner.ratio), rows_of(run, stage))


def _check_preference_model(run: RunConfig, stage: PreferenceModelStage) -> None:
    """Refuse comparisons of other worlds than the run's, held-out ones in training, and files that are no examples."""
    where = f"stages.{stage.kind}"
    before = stage.pretraining.data if stage.pretraining else None
    for key, own in (("", stage.comparisons), ("pretraining.data.", before.comparisons if before else None)):
        if own is not None and own.seed + run.seed == HELD_OUT_SEED:
            raise ConfigError(
                f"{where}.{key}comparisons.seed is {own.seed}, with which replicate {run.seed} would be trained on the "
                "comparisons that are held out: choose another one"
            )
    try:
        check_settings(stage, run.train, run.rollout)
        for name in before.files if before else ():
            read_jsonl(expanded(name))
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from None


def _check_classes(stage: SupervisedStage, arm: Arm, rows: Sequence[Row]) -> None:
    """Refuse data in which a method that tells rows apart by labels would find them all alike."""
    for intervention in arm.interventions:
        for source in sources_of(intervention):
            traits = source.traits or tuple(trait for trait in TRAITS if trait != "invalid")
            found = {_meant(row, source.source, traits) for row in rows if source.source in ("oracle", "overt")}
            if len(found) == 1:
                which = "all" if found == {True} else "none"
                raise ConfigError(
                    f"stages.{name_of(stage)}: {type(intervention).__name__} tells rows apart by labels "
                    f"({source.source}: {', '.join(traits) if source.source == 'oracle' else 'overt shortcuts'}), and "
                    f"{which} of the {len(rows)} rows has one: give data of both classes, with `labels`"
                )


def _meant(row: Row, source: str, traits: Sequence[str]) -> bool:
    if source == "overt":
        return any(normalise(turn.executed) in turn.overt_shortcuts for turn in row.turns)
    return any(turn.labels.trait(trait) > 0 for turn in row.turns for trait in traits)


def _data(stage: SupervisedStage | PreferenceStage) -> StageData:
    assert stage.data is not None, "the config refuses a stage without data"
    return stage.data


def worlds_of(run: RunConfig, data: StageData) -> dict[str, dict[str, Any]]:
    """The worlds that are played for a stage's data, by the names that their episodes have."""
    return spoken(data.worlds, not run.prose) if data.worlds else run.train.worlds


def _file_of(run: RunConfig) -> str:
    """The file with what a policy of the run has written for the stage that the run is; empty: none."""
    return run.within.rows if run.within else ""


def _read(run: RunConfig, data: StageData) -> list[Row]:
    if data.personas:
        return scripted_rows(data.personas, worlds_of(run, data), data.rows or 0, run.seed)
    if data.written is not None:
        return _written(Path(_file_of(run)), str(data.written))
    if (kit := data.traits) is not None:
        return trait_rows(kit.positive, kit.negative, data.rows or 0, run.seed, share=kit.share)
    if (hub := data.dataset) is not None:
        return _first([row_of(*each) for each in documents(**hub.model_dump(), rows=data.rows)], data)
    return _first(read_rows(expanded(data.file)), data)


def _written(path: Path, source: str) -> list[Row]:
    try:
        return [row_of_episode(episode, source) for episode in read_episodes(path)]
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}; remove it, and start the run again") from error


def _first(found: list[Found], data: StageData) -> list[Found]:
    if data.rows is not None and len(found) < data.rows:
        name = data.dataset.name if data.dataset else Path(data.file).name
        raise DataError(f"{name} has {len(found)} rows, and data.rows asks for {data.rows}")
    return found[: data.rows]
