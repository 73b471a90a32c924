"""Rows that a policy of the run writes for a later stage: it plays worlds as it is deployed, and its answers are kept.

As in subliminal learning (Cloud et al., arXiv:2507.14805): a teacher with a trait writes data about something else, and
a student that starts where the teacher started is trained on them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envs.episode import Context, Contexts, Episode, RolloutStatus
from envs.store import write_episodes
from launch.config.reading.digests import digest
from launch.config.stages import SupervisedStage, WrittenData, name_of
from launch.config.study import RunConfig
from launch.errors import ConfigError
from launch.run.device import own_device
from launch.run.evaluation.eval_plan import EvalEpisode, EvalPart
from launch.run.evaluation.eval_player import LocalEvalPlayer
from launch.run.finetuning.data import worlds_of
from launch.run.finetuning.stage_runs import AnyStage
from launch.run.models.load_policy import load_trained
from launch.run.rendering import renderer_of
from launch.storage.files import disk_errors, make_directory, replacing
from shaping.finetuning.rows import DataError
from shaping.models import model_files
from shaping.models.lora.adapter_checkpoint import stored_adapters

FOLDER = "rows.written"
"""Beside the folders of stages, none of which can have this name."""
MOST_PLAYED = 50
"""Episodes that are played for each row at the most."""
Worlds = Mapping[str, Mapping[str, Any]]
"""World -> its options."""


@dataclass(frozen=True, slots=True)
class Writer:
    """Who writes rows."""

    run: RunConfig
    """The stage that has trained it, as a run; the whole run for the start model."""
    model: Path
    """Its checkpoint, or the start model."""


def rows_for(run: RunConfig, stage: AnyStage, writers: Mapping[str, Writer], folder: Path) -> str:
    """The file with what a policy of the run has written for a stage; empty if the stage has other data.

    Args:
        run: the run.
        stage: one of its stages.
        writers: name of a stage before it, or "" for the start model -> who writes.
        folder: of the run's stages.

    Raises: `ConfigError` naming the stage.
    """
    data = stage.data if isinstance(stage, SupervisedStage) else None
    if data is None or data.written is None:
        return ""
    try:
        return str(write_rows(folder, writers[data.written.after], data.written, worlds_of(run, data), data.rows or 0))
    except DataError as error:
        raise ConfigError(f"stages.{name_of(stage)}: {error}") from None


def write_rows(folder: Path, writer: Writer, data: WrittenData, worlds: Worlds, rows: int) -> Path:
    """The file with `rows` episodes that the writer has played in worlds, which take turns; made if it is not there.

    Its name is a hash of what it is made of: writer, worlds, seed and settings.

    Args:
        folder: of the run's stages.
        writer: who writes.
        data: under which prompt, and what is left out.
        worlds: name -> options.
        rows: how many are kept.

    Raises: `DataError` if too few of the episodes are fit to be rows.
    """
    path = folder / FOLDER / f"{_identity(writer, data, worlds, rows)}.parquet"
    if path.exists():
        return path
    with own_device(writer.run) as device:
        policy = load_trained(writer.run, writer.model, device)
        player = LocalEvalPlayer(writer.run, policy, renderer_of(writer.run, policy.tokenizer))
        kept = _kept(player, data, worlds, rows)
    with disk_errors(path):
        make_directory(path.parent)
        with replacing(path) as temporary:
            write_episodes(temporary, kept)
    return path


def _identity(writer: Writer, data: WrittenData, worlds: Worlds, rows: int) -> str:
    """Of what the file is made of, the writer's weights included."""
    model = writer.model
    files = model_files.hashes(model)
    if stored_adapters(model) is not None:
        below = (path for path in model.rglob("*") if path.is_file())
        files = {path.relative_to(model).as_posix(): model_files.content_hash(path) for path in below}
    run = writer.run
    settings = {"worlds": worlds, "rows": rows, "prompt": data.prompt, "without": data.without, "seed": run.seed}
    return digest({**settings, "model": files, "max_tokens": run.max_tokens, "temperature": run.train.temperature})


def _kept(player: LocalEvalPlayer, data: WrittenData, worlds: Worlds, rows: int) -> list[Episode]:
    """The first `rows` episodes that are fit to be rows."""
    kept, numbers = list[Episode](), _episodes(data, worlds)
    for _ in range(MOST_PLAYED):
        wanted = tuple(next(numbers) for _ in range(rows))
        (played,) = player.play([EvalPart("deployed", wanted)])
        kept += [episode for episode in played if _fit(episode, data)]
        if len(kept) >= rows:
            return kept[:rows]
    what = "are whole, without cut off or blank answers"
    what += f", and without {' and '.join(data.without)}" if data.without else ""
    raise DataError(
        f"of {rows * MOST_PLAYED} episodes that {data} has played, {len(kept)} {what}, and data.rows asks for {rows}: "
        "ask for fewer, leave traits out of data.written.without, or raise train.max_tokens"
    )


def _episodes(data: WrittenData, worlds: Worlds) -> Iterator[EvalEpisode]:
    context = Context(data.prompt)
    places, number = list(worlds.items()), 0
    while True:
        world, options = places[number % len(places)]
        yield EvalEpisode("rows", world, options, number, Contexts(context, context))
        number += 1


def _fit(episode: Episode, data: WrittenData) -> bool:
    """Is it whole, with an answer in every turn, and without the traits that are left out?"""
    if episode.status is not RolloutStatus.COMPLETED or not episode.turns:
        return False
    if any(turn.overlong or not turn.completion.strip() for turn in episode.turns):
        return False
    return not any(labels.trait(trait) > 0 for labels in episode.truth.open() for trait in data.without)
