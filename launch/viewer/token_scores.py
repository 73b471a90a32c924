"""Values per token of a finished run's episodes, stored beside them for the viewer to colour tokens by.

`policy_logprob`: the log-prob of each sampled token under the run's last checkpoint. The viewer shows its gap to the
sampler's: what training changed since, or where learner and sampler disagree. `advantage`: that of the world's reward,
before interventions, in training episodes whose groups are whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from envs.episode import Contexts, Episode, SpanKind
from envs.store import StoreError, read_episodes
from launch.config.reading.recorded import recorded_run
from launch.config.study import RunConfig
from launch.errors import RunDirectoryError
from launch.run.device import local_device
from launch.run.models.load_policy import load_trained
from launch.run.rendering import renderer_of
from launch.storage.files import disk_errors, safe
from launch.storage.finished import finished_run
from launch.viewer.index.token_values import FOLDER, POLICY, write_token_values
from launch.viewer.sources import find_sources
from shaping.arm import Arm
from shaping.learning.credit.advantages import TurnLevel, estimate
from shaping.learning.policy import Policy
from shaping.learning.samples.build_samples import Streams, to_samples
from shaping.learning.samples.packing import pack
from shaping.sampling.text.render import Renderer

Array = NDArray[np.float64]


def score_run(path: Path, device: str = "auto") -> Iterator[str]:
    """Write `episodes/tokens/<name>.parquet` for every file of a finished run's episodes. Yields a line per file.

    Raises:
        UserError: The run is not finished, or has changed since.
    """
    directory = finished_run(path)
    run = recorded_run(directory.config())
    policy = load_trained(run, directory.checkpoint, local_device(device))
    renderer = renderer_of(run, policy.tokenizer)
    for file in find_sources(path).files:
        try:
            episodes = read_episodes(file.path)
        except StoreError as error:
            raise RunDirectoryError(str(error)) from error
        advantages = advantages_of(episodes, run) if file.update is not None else [None] * len(episodes)
        rows: list[tuple[int, str, Array]] = []
        for row, (episode, advantage) in enumerate(zip(episodes, advantages, strict=True)):
            rows.append((row, POLICY, policy_logprobs(policy, episode, renderer)))
            if advantage is not None:
                turns = [len(turn.tokens) for turn in episode.turns]
                rows.append((row, "advantage", np.repeat(advantage, turns)))
        target = safe(Path(file.path).parent / FOLDER / f"{file.name}.parquet")
        with disk_errors(target):
            write_token_values(target, rows)
        yield f"{file.name}: {len(episodes)} episodes, {target.relative_to(path.absolute())}"


@torch.no_grad()
def policy_logprobs(policy: Policy, episode: Episode, renderer: Renderer) -> Array:
    """Log-probs of the sampled tokens, turn after turn, under the contexts, masks and temperature of sampling."""
    sampling = Contexts(episode.contexts.sampling, episode.contexts.sampling)
    whole = tuple(replace(turn, forced=turn.forced._replace(stripped=False)) for turn in episode.turns)
    shown = replace(episode, contexts=sampling, turns=whole)
    sampled = episode.loss_mask & (episode.span_kind != SpanKind.FORCED)
    streams = replace(Streams.of([shown], [np.zeros(len(shown.tokens))]), loss=[sampled])
    policy.model.eval()
    found = []
    with policy.phase("sampling"):
        for sample in to_samples(shown, streams, Arm("scored"), renderer):
            (batch,) = pack([sample], max(8192, len(sample)), policy.device)
            found.append(policy.logprobs(batch, [])[0].float().cpu().numpy())
    return np.concatenate(found).astype(np.float64) if found else np.zeros(0)


def advantages_of(episodes: Sequence[Episode], run: RunConfig) -> list[Array | None]:
    """Advantages of the world's reward [turns] per episode, by the run's own estimator; None with a critic."""
    learner = run.learner
    if learner.algorithm == "ppo":
        return [None] * len(episodes)
    rewards = [np.array([turn.reward for turn in episode.turns], np.float64) for episode in episodes]
    groups = np.array([episode.group for episode in episodes], np.int64)
    if learner.advantage_level == "episode":
        returns = np.array([amounts.sum() for amounts in rewards])
        whole = estimate(learner.algorithm, returns, groups, floor=learner.spread_floor)
        return [np.full(len(amounts), value) for amounts, value in zip(rewards, whole, strict=True)]
    level = TurnLevel.of(learner.algorithm, rewards, groups, floor=learner.spread_floor)
    return list(level.advantages(rewards))
