"""Score routing: episodes are banded by the states they were sampled with, against those of the update before."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file

from envs.episode import Episode
from shaping.arm import compose
from shaping.contract.interventions import check_intervention
from shaping.hooks import Gates, Group, InterventionError, UpdateReport
from shaping.shapers import ScoreRouting
from shaping.shapers.parameters.score_routing import CAPTURE

MakeEpisode = Callable[..., Episode]
CLEAN, MIDDLE, HACK = Gates(quarantine=0.0), Gates(), Gates(kept=0.0)


@pytest.fixture
def file(tmp_path: Path) -> str:
    save_file({"layer.1": torch.tensor([2.0, 0.0, 0.0])}, tmp_path / "d.safetensors")
    return str(tmp_path / "d.safetensors")


def thought(make_episode: MakeEpisode, *along: float) -> Episode:
    """An episode whose turns have these cosines with the first axis, in one layer."""
    states = np.array([[[3 * c, 3 * (1 - c * c) ** 0.5, 0.0]] for c in along], np.float32)
    return replace(make_episode([0.0] * len(along)), activations={CAPTURE: states})


def after(shaper: ScoreRouting, *episodes: Episode) -> ScoreRouting:
    zeros = np.zeros(len(episodes))
    shaper.after_update(UpdateReport(0, (Group(episodes, zeros, zeros),)))
    return shaper


def test_the_score_is_the_mean_cosine_over_turns_that_have_states(file: str, make_episode: MakeEpisode) -> None:
    shaper = ScoreRouting(direction=file)
    episode = thought(make_episode, 0.5, -0.1)
    assert shaper.score(episode) == pytest.approx(0.2, abs=1e-6)
    states = np.concatenate([episode.activations[CAPTURE], np.full((1, 1, 3), np.nan, np.float32)])
    assert shaper.score(replace(episode, activations={CAPTURE: states})) == pytest.approx(0.2, abs=1e-6)
    assert shaper.score(make_episode([0.0])) is None and shaper.gates(make_episode([0.0])) == MIDDLE


def test_bands_are_in_standard_deviations_of_the_update_before(file: str, make_episode: MakeEpisode) -> None:
    shaper = ScoreRouting(direction=file)
    low, mid, high = (thought(make_episode, c) for c in (0.0, 0.1, 0.2))
    assert [shaper.gates(e) for e in (low, mid, high)] == [MIDDLE] * 3, "of nothing is known what is usual"
    after(shaper, low, mid, high)
    assert [shaper.gates(e) for e in (low, mid, high)] == [CLEAN, MIDDLE, HACK]
    assert shaper.readings(high)["hack_turns"].sum() == 1 and shaper.readings(low)["clean_turns"].sum() == 1
    again = ScoreRouting(direction=file)
    again.load_state_dict(json.loads(json.dumps(shaper.state_dict())))
    assert [again.gates(e) for e in (low, mid, high)] == [CLEAN, MIDDLE, HACK]
    assert after(shaper, mid, mid).gates(high) == MIDDLE, "without any spread nothing stands out"


def test_the_control_has_directions_of_its_own_in_the_same_layers(file: str, make_episode: MakeEpisode) -> None:
    real, random, other = (
        ScoreRouting(direction=file, **f) for f in ({}, {"random": True}, {"random": True, "seed": 1})
    )
    assert real.captures() == random.captures() and real.captures()[0].layers == (1,)
    scores = [shaper.score(thought(make_episode, 0.9)) for shaper in (real, random, other)]
    assert len(set(scores)) == 3
    assert ScoreRouting(random=True).captures()[0].layers == (-1,)


def test_it_keeps_the_contract_and_needs_no_label() -> None:
    verdict = check_intervention(lambda: ScoreRouting(random=True), seeds=1, worlds=("clerk",))
    assert [found.detail for found in verdict.results if not found.ok] == []
    assert not compose("a", [ScoreRouting(random=True)]).oracle


def test_bad_directions_are_named(file: str, tmp_path: Path, make_episode: MakeEpisode) -> None:
    with pytest.raises(InterventionError, match="`direction` names no file"):
        compose("a", [ScoreRouting()]).adapters()
    wide = replace(make_episode([0.0]), activations={CAPTURE: np.ones((1, 1, 4), np.float32)})
    with pytest.raises(InterventionError, match="holds directions of 3; hidden states have 4"):
        ScoreRouting(direction=file).score(wide)
    save_file({"layer.0": torch.zeros(3)}, tmp_path / "zero.safetensors")
    with pytest.raises(InterventionError, match="give one finite direction"):
        ScoreRouting(direction=str(tmp_path / "zero.safetensors")).captures()


@pytest.mark.parametrize(
    "fields", [{"clean_below": 1.0, "hack_above": 0.0}, {"clean_below": float("nan")}, {"layers": ()}]
)
def test_bad_settings_are_named(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(fields))):
        ScoreRouting(**fields)
