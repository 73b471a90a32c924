"""The quickstart study as a workload: its model, its worlds, and episodes of its policy."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

import torch

from envs.episode import Episode
from launch.config.fields import Worlds
from launch.config.loading import load_study
from launch.config.model import OrganismModel, Organisms, OrganismSeries, ShippedModel
from launch.config.plugins import build_world
from launch.config.study import RunConfig, StudyConfig
from launch.run.models.start_model import start_model
from launch.run.seeds import derive
from shaping.arm import Arm
from shaping.hooks import Capture
from shaping.learning.policy import Policy
from shaping.organisms.card import CARD
from shaping.organisms.config import OrganismConfig
from shaping.organisms.organism import ensure
from shaping.organisms.shipped import shipped
from shaping.sampling.embedded.transformers_engine import TransformersEngine
from shaping.sampling.play import EpisodeRequest, Limits, play
from shaping.sampling.text.render import Renderer

UNSHAPED = Arm("unshaped")
QUICK = OrganismConfig(hidden=32, layers=1, heads=2, kv_heads=1, vocabulary=512, episodes=60, steps=2, batch_tokens=512)


def study(quick: bool) -> StudyConfig:
    """The quickstart; `quick` shrinks it to four short episodes."""
    if not quick:
        return load_study("quickstart")
    worlds = "worlds={clerk: {size: 2, horizon: 3}, steward: {size: 2, horizon: 4}}"
    small = ["train.groups=2", "train.group_size=2", "train.max_tokens=4", f"train.{worlds}", f"eval.{worlds}"]
    return load_study("quickstart", small).model_copy(
        update={"model": Organisms(organism=OrganismSeries(**QUICK.model_dump()))}
    )


def unshaped(study: StudyConfig) -> RunConfig:
    """The first run of its reference arm."""
    return next(run for run in study.runs() if run.arm == "unshaped")


def organism_config(study: StudyConfig) -> OrganismConfig:
    """The settings of the organism that its first run starts from."""
    model = unshaped(study).model
    if isinstance(model, OrganismModel):
        return model.organism
    if isinstance(model, ShippedModel):
        card = json.loads((shipped(model.shipped) / CARD).read_text(encoding="utf-8"))
        return OrganismConfig(**card["config"])
    raise TypeError(f"the study {study.name} starts from {model}, not from an organism")


def organism(config: OrganismConfig) -> Path:
    """Directory of the organism. At first use it is pre-trained for a minute or two, which is not timed."""
    return ensure(config, _progress)


def started(run: RunConfig) -> Path:
    """Directory of the model that a run starts from."""
    return start_model(run.model, _progress)


def _progress(done: int, total: int, what: str) -> None:
    if sys.stderr.isatty():
        print(f"\rorganism (kept for next time): {what} {done}/{total}  ", end="", file=sys.stderr)


def episode_requests(run: RunConfig, worlds: Worlds, update: int = 0) -> list[EpisodeRequest]:
    """The episodes of one update, in groups that alternate between `worlds`."""
    return [
        EpisodeRequest(
            make=lambda name=name: build_world(name, worlds[name], "worlds"),  # type: ignore[misc]
            seed=derive(run.seed, "benchmark", update, group),
            group=group,
            sampling_seed=derive(run.seed, "benchmark sample", update, group, member),
        )
        for group, name in zip(range(run.train.groups), cycle(worlds), strict=False)
        for member in range(run.train.group_size)
    ]


class Player:
    """The embedded engine with the policy of a run, set up as in training; completions bring `captures` along."""

    def __init__(self, run: RunConfig, directory: Path, captures: Sequence[Capture] = ()) -> None:
        dtype = getattr(torch, run.learner.dtype)
        self.policy = Policy.load(directory, dtype=dtype, temperature=run.train.temperature)
        self.policy.model.eval()
        self.renderer = Renderer(self.policy.tokenizer)
        self.engine = TransformersEngine(
            self.policy.model,
            self.renderer,
            slots=min(64, run.train.groups * run.train.group_size),
            captures=captures,
        )
        self._limits = Limits(max_tokens=run.max_tokens, temperature=run.train.temperature)

    def play(self, requests: list[EpisodeRequest]) -> list[Episode]:
        return asyncio.run(play(requests, self.engine, self.renderer, UNSHAPED, limits=self._limits))
