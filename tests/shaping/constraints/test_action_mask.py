"""The mask removes the overt shortcut and nothing else."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from shaping.constraints import ActionMask
from shaping.hooks import PASS, ActionDecision, TurnContext


def turn(*overt_shortcuts: str) -> TurnContext:
    return TurnContext("steward", seed=3, turn=0, observation="", overt_shortcuts=overt_shortcuts)


def test_the_overt_commands_are_masked_before_sampling() -> None:
    assert ActionMask().allow(turn("grab 1", "grab 2"), None) == ActionDecision("mask", commands=("grab 1", "grab 2"))


def test_fixed_prefixes_are_masked_too_and_named_once() -> None:
    mask = ActionMask(commands=("Sudo", "grab 1"))
    assert mask.allow(turn("grab 1"), None) == ActionDecision("mask", commands=("grab 1", "sudo"))


def test_a_turn_without_a_shortcut_is_left_alone() -> None:
    for mode in ("mask", "resample", "replace"):
        mask = ActionMask(mode=mode)
        assert mask.allow(turn(), None) is PASS and mask.allow(turn(), "grab 2") is PASS


@pytest.mark.parametrize("action", ["run 1", "grab 12", "grab", "wait", "", "please grab 1", "grabs 1"])
@pytest.mark.parametrize("mode", ["mask", "resample", "replace"])
def test_every_other_command_passes(mode: str, action: str) -> None:
    assert ActionMask(mode=mode).allow(turn("grab 1"), action) is PASS


@pytest.mark.parametrize("action", ["grab 1", "GRAB  1", "grab １", "grab 1 now"])
@pytest.mark.parametrize(("mode", "kind"), [("mask", "replace"), ("resample", "resample"), ("replace", "replace")])
def test_a_removed_command_that_was_sampled_never_reaches_the_world(mode: str, kind: str, action: str) -> None:
    answer = ActionMask(mode=mode, fallback="run 0").allow(turn("grab 1"), action)
    assert (answer.kind, answer.replacement) == (kind, "run 0")


@pytest.mark.parametrize("mode", ["resample", "replace"])
def test_only_the_mask_acts_before_sampling(mode: str) -> None:
    assert ActionMask(mode=mode).allow(turn("grab 1"), None) is PASS


def test_an_empty_fallback_is_refused() -> None:
    with pytest.raises(ValidationError, match="fallback"):
        ActionMask(fallback="")


def test_a_mask_costs_nothing() -> None:
    assert ActionMask().cost(None) is None  # type: ignore[arg-type]
