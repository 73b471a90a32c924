"""What every built-in shaper and constraint keeps, with every choice of its settings. What each does is tested apart.

The hooks themselves are judged by `shaping.contract`, the same check that `shaping check` runs for anyone's plug-in.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import scripted_episodes
import torch
from plugin_settings import check_settings, every_choice

from envs.discovery import subclasses
from envs.episode import Context, Episode
from shaping.arm import compose
from shaping.contract.answers import fingerprint
from shaping.contract.interventions import check_intervention
from shaping.hooks import PASS, Gates, Group, GroupInfo, Knob, TurnContext
from shaping.intervention import Constraint, Intervention, Shaper

BUILT_IN: list[type[Intervention]] = [
    *subclasses("shaping.shapers", Shaper).values(),
    *subclasses("shaping.constraints", Constraint).values(),
]
EVERY_CHOICE = every_choice(BUILT_IN)
INFO = GroupInfo("steward", seed=3, group=1, update=0)


@pytest.fixture(scope="module")
def groups() -> list[Group]:
    """Groups of scripted episodes in two worlds, with their truth."""
    return [_group(members) for members in scripted_episodes.groups("clerk", "steward")]


def _group(members: Sequence[Episode]) -> Group:
    returns = np.array([episode.proxy_return for episode in members])
    return Group(tuple(members), returns, returns - returns.mean())


def shown(plugin: Intervention, group: Group) -> Group:
    """The group as this intervention sees it."""
    return group if plugin.oracle else replace(group, episodes=tuple(e.redacted() for e in group.episodes))


def answers(plugin: Intervention, groups: Sequence[Group]) -> dict[str, Any]:
    """What every hook says about the groups."""
    told: dict[str, Any] = {"ratio_mode": plugin.ratio_mode(), "adapters": list(plugin.adapters())}
    told["edits"] = [list(plugin.edits(phase)) for phase in ("sampling", "training")]
    for number, group in enumerate(shown(plugin, group) for group in groups):
        rng = np.random.default_rng(number)
        drawn = plugin.sampling_context(INFO, rng)
        told[f"prefill/{number}"] = plugin.prefill(INFO, 4, rng)
        told[f"contexts/{number}"] = [drawn, plugin.training_context(INFO, drawn, rng)]
        told[f"credit/{number}"] = plugin.credit(group)
        if isinstance(plugin, Constraint):
            told[f"cost_group/{number}"] = plugin.cost_group(group.episodes)
        for member, episode in enumerate(group.episodes):
            told[f"gates/{number}/{member}"] = plugin.gates(episode)
            told[f"readings/{number}/{member}"] = dict(plugin.readings(episode))
            told[f"episode_context/{number}/{member}"] = plugin.episode_context(episode)
            if isinstance(plugin, Constraint):
                told[f"cost/{number}/{member}"] = plugin.cost(episode)
                told[f"allow/{number}/{member}"] = [
                    plugin.allow(turn, action) for turn in _turns(episode) for action in (None, *turn.overt_shortcuts)
                ]
    return told


def _turns(episode: Episode) -> list[TurnContext]:
    return [
        TurnContext(episode.world, episode.seed, number, turn.observation, turn.overt_shortcuts)
        for number, turn in enumerate(episode.turns)
    ]


@pytest.mark.parametrize("kind", BUILT_IN)
def test_its_settings_are_documented_frozen_and_strict(kind: type[Intervention]) -> None:
    check_settings(kind)


@pytest.mark.parametrize(("kind", "settings"), EVERY_CHOICE)
def test_it_keeps_the_rules_of_interventions(kind: type[Intervention], settings: dict[str, Any]) -> None:
    results = check_intervention(partial(kind, **settings), seeds=1, worlds=("clerk",)).results
    assert [each for each in results if not each.ok] == []


@pytest.mark.parametrize(("kind", "settings"), EVERY_CHOICE)
def test_knobs_that_it_does_not_own_stay_neutral(
    kind: type[Intervention], settings: dict[str, Any], groups: list[Group]
) -> None:
    plugin, drawn, rng = kind(**settings), Context("c", "c"), np.random.default_rng(0)
    episode = shown(plugin, groups[0]).episodes[2]
    turn = next(turn for turn in _turns(episode) if turn.overt_shortcuts)
    neutral = {
        Knob.SAMPLING_CONTEXT: lambda: plugin.sampling_context(INFO, rng) == Context(),
        Knob.TRAINING_CONTEXT: lambda: plugin.training_context(INFO, drawn, rng) is drawn,
        Knob.PREFILL: lambda: plugin.prefill(INFO, 4, rng) is None,
        Knob.EPISODE_CONTEXT: lambda: plugin.episode_context(episode) is None,
        Knob.RATIO: lambda: plugin.ratio_mode() == "sampler",
        Knob.GATES: lambda: plugin.gates(episode) == Gates(),
        Knob.ACTIONS: lambda: not isinstance(plugin, Constraint) or plugin.allow(turn, turn.overt_shortcuts[0]) == PASS,
        Knob.SAMPLING_EDITS: lambda: list(plugin.edits("sampling")) == [],
        Knob.TRAINING_EDITS: lambda: list(plugin.edits("training")) == [],
    }
    assert set(neutral) == set(Knob)
    assert [knob for knob in Knob if knob not in kind.owns and not neutral[knob]()] == []
    trained = [spec for spec in plugin.adapters() if spec.role == "kept" and spec.phases]
    alone = len(trained) == len(list(plugin.adapters()))
    assert not trained or not alone or Knob.GATES in kind.owns, "an adapter without a gate is learner.lora"


@pytest.mark.parametrize(("kind", "settings"), EVERY_CHOICE)
def test_it_answers_alike_in_another_process_and_touches_no_global_generator(
    kind: type[Intervention], settings: dict[str, Any], groups: list[Group]
) -> None:
    plugin = kind(**settings)
    generators = np.random.get_state()[1].tobytes(), torch.get_rng_state()  # type: ignore[union-attr, index]
    here = answers(plugin, groups)
    assert np.random.get_state()[1].tobytes() == generators[0]  # type: ignore[union-attr, index]
    assert torch.equal(torch.get_rng_state(), generators[1])
    there = answers(pickle.loads(pickle.dumps(kind(**settings))), groups)
    assert [name for name in here if fingerprint(here[name]) != fingerprint(there[name])] == []


@pytest.mark.parametrize("kind", BUILT_IN)
def test_it_refuses_state_that_is_not_its_own(kind: type[Intervention]) -> None:
    arm = compose("a", [kind(**every_choice([kind])[0].values[1])])
    with pytest.raises(ValueError, match="the checkpoint holds state for"):
        arm.load_state_dict({"0.Other": {"count": 1}})
    arm.load_state_dict(arm.state_dict())


@pytest.mark.parametrize("kind", [Shaper, Constraint])
def test_a_plug_in_that_overrides_nothing_does_nothing(kind: type[Intervention], groups: list[Group]) -> None:
    said = answers(type("Nothing", (kind,), {})(), groups)
    assert said.pop("ratio_mode") == "sampler"
    neutral = (None, {}, [], Gates(), [Context(), Context()], [[], []])
    assert [
        name for name, answer in said.items() if not any(answer == each for each in neutral) and set(answer) != {PASS}
    ] == []
