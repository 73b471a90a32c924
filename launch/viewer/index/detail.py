"""One episode as a page shows it: turns, truth, what monitors said, and numbers per token. All of it is plain JSON."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.episode import TRAITS, Episode, Labels, SealedError, SpanKind
from launch.report.transcripts import turn_view
from launch.viewer.index.token_values import FOLDER, channels, pieces, read_token_values
from launch.viewer.sources import EpisodeFile

MAX_TOKENS = 60_000
"""Most tokens of an episode that are shown one by one."""
MAX_TOKENIZER = 64 << 20
"""Largest tokenizer.json that is opened, in bytes."""


def detail(
    file: EpisodeFile, row: int, episode: Episode, readings: Sequence[Mapping[str, Any]], tokenizer: Any
) -> dict[str, Any]:
    """Everything that a page shows of one episode. `readings` are those of the index."""
    labels = _labels(episode)
    problems: list[str] = []
    turns = [_turn(number, episode, labels, readings) for number in range(len(episode.turns))]
    shown = _tokens(file, row, episode, readings, tokenizer, turns, problems)
    return {
        "arm": file.arm or episode.arm,
        "replicate": file.replicate,
        "name": file.name,
        "path": file.path,
        "update": file.update,
        "row": row,
        "world": episode.world,
        "seed": episode.seed,
        "group": episode.group,
        "status": episode.status.value.replace("_", " "),
        "error": episode.error,
        "system": episode.contexts.sampling.system,
        "context": episode.contexts.sampling.name,
        "training_system": episode.contexts.training.system,
        "training_context": episode.contexts.training.name,
        "options": [[str(key), str(value)] for key, value in sorted(episode.options.items())],
        "version": episode.version,
        "reward": episode.proxy_return,
        "sealed": labels is None,
        "true_return": sum(label.true_reward for label in labels) if labels else None,
        "labels": {t: sum(label.trait(t) for label in labels) for t in TRAITS} if labels else {},
        "turns": turns,
        "channels": shown,
        "problems": problems,
    }


def _labels(episode: Episode) -> tuple[Labels, ...] | None:
    try:
        return episode.truth.open()
    except SealedError:
        return None


def _turn(
    index: int, episode: Episode, labels: Sequence[Labels] | None, readings: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    turn, truth = episode.turns[index], labels[index] if labels else Labels()
    found = asdict(turn_view(index + 1, turn, truth))
    found["completion"] = turn.completion
    found["forced"] = turn.completion[: turn.forced.length]
    found["truth"] = found["truth"] if labels else ()
    found["sealed"] = labels is None
    found |= {"true_reward": truth.true_reward, "power": truth.power, "knew": truth.knew, "rejected": turn.rejected}
    found["said"] = [[r["monitor"], r["trait"], r["score"]] for r in readings if r["turn"] == index]
    return found


def _tokens(
    file: EpisodeFile,
    row: int,
    episode: Episode,
    readings: Sequence[Mapping[str, Any]],
    tokenizer: Any,
    turns: list[dict[str, Any]],
    problems: list[str],
) -> list[dict[str, Any]]:
    """Give every turn its tokens: [text, shade per channel, numbers as text]. Returns the channels' legends."""
    counts = [len(turn.tokens) for turn in episode.turns]
    if sum(counts) > MAX_TOKENS:
        problems.append(f"its {sum(counts):,} sampled tokens are not shown one by one: at most {MAX_TOKENS:,} are")
        return []
    stored = {}
    try:
        beside = Path(file.path).parent / FOLDER / f"{file.name}.parquet"
        stored = read_token_values(beside, row, sum(counts))
    except (ValueError, MemoryError) as error:
        problems.append(str(error))
    found = channels(episode, stored, _about(episode, readings))
    at = 0
    for turn, view in zip(episode.turns, turns, strict=True):
        view["tokens"] = [
            [text, [c.levels[at + n] for c in found], " · ".join(f"{c.name} {c.shown[at + n]}" for c in found)]
            for n, text in enumerate(pieces(turn, tokenizer))
        ]
        at += len(turn.tokens)
    keys = ("name", "label", "low", "high", "two_sided")
    return [dict(zip(keys, channel[: len(keys)], strict=True)) for channel in found]


def _about(episode: Episode, readings: Sequence[Mapping[str, Any]]) -> NDArray[np.float64] | None:
    """The highest score of a reading with a range of tokens, for each sampled token; None without such readings."""
    ranged = [r for r in readings if r["first"] is not None and r["stop"] > r["first"]]
    if not ranged:
        return None
    scores = np.zeros(len(episode.tokens))
    for reading in ranged:
        part = scores[reading["first"] : reading["stop"]]
        np.maximum(part, reading["score"], out=part)
    sampled = scores[(episode.loss_mask) & (episode.span_kind != SpanKind.FORCED)]
    count = sum(len(turn.tokens) for turn in episode.turns)
    return sampled if len(sampled) == count else None


def tokenizer_of(file: EpisodeFile) -> Any:
    """The tokenizer in the checkpoint of the file's run, or None."""
    path = file.run / "checkpoint" / "tokenizer.json"
    with contextlib.suppress(Exception):  # its parser raises plain Exceptions
        if path.is_file() and path.stat().st_size <= MAX_TOKENIZER:
            from tokenizers import Tokenizer

            return Tokenizer.from_file(str(path))
    return None
