"""The mask removes the overt shortcut and nothing else."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from shaping.constraints import ActionMask
from shaping.hooks import PASS, ActionDecision, TurnContext


def turn(*overt_shortcuts: str, seed: int = 3, number: int = 0) -> TurnContext:
    return TurnContext("steward", seed=seed, turn=number, observation="", overt_shortcuts=overt_shortcuts)


def test_the_overt_commands_are_masked_before_sampling() -> None:
    assert ActionMask().allow(turn("grab 1", "grab 2"), None) == ActionDecision("mask", commands=("grab 1", "grab 2"))


def test_fixed_prefixes_are_masked_too_and_named_once() -> None:
    mask = ActionMask(commands=("Sudo", "grab 1"))
    assert mask.allow(turn("grab 1"), None) == ActionDecision("mask", commands=("grab 1", "sudo"))


def test_a_mask_of_other_commands_alone_leaves_the_shortcuts() -> None:
    mask = ActionMask(commands=("request",), shortcuts=False)
    assert mask.allow(turn("grab 1"), None) == ActionDecision("mask", commands=("request",))
    assert mask.allow(turn("grab 1"), "grab 1") is PASS
    with pytest.raises(ValidationError, match="nothing is removed: name commands"):
        ActionMask(shortcuts=False)


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


TURNS = [turn("grab 1", seed=seed, number=number) for seed in range(50) for number in range(40)]


@pytest.mark.parametrize("recall", [0.1, 0.5, 0.9])
def test_recall_is_the_share_of_turns_in_which_it_acts(recall: float) -> None:
    masked = [ActionMask(recall=recall).allow(each, None) is not PASS for each in TURNS]
    assert sum(masked) / len(masked) == pytest.approx(recall, abs=0.045)  # four standard deviations at most


def test_a_stronger_mask_acts_wherever_a_weaker_one_does() -> None:
    weak, strong = (ActionMask(recall=recall) for recall in (0.3, 0.6))
    assert all(strong.allow(each, None) is not PASS for each in TURNS if weak.allow(each, None) is not PASS)


@pytest.mark.parametrize("mode", ["mask", "resample", "replace"])
def test_of_recall_one_nothing_gets_past_and_of_recall_zero_everything_does(mode: str) -> None:
    full, none = ActionMask(mode=mode, commands=("sudo",)), ActionMask(mode=mode, commands=("sudo",), recall=0.0)
    assert full == ActionMask(mode=mode, commands=("sudo",), recall=1.0)
    for each in TURNS:
        for action in ("grab 1", "sudo on"):
            assert full.allow(each, action).kind == ("replace" if mode == "mask" else mode)
            assert none.allow(each, action) is PASS and none.allow(each, None) is PASS


def test_before_and_after_sampling_it_is_the_same_mask() -> None:
    mask = ActionMask(recall=0.5)
    for each in TURNS:
        assert (mask.allow(each, None) is PASS) == (mask.allow(each, "grab 1") is PASS)


@pytest.mark.parametrize("recall", [-0.1, 1.1, float("nan")])
def test_a_recall_is_a_share(recall: float) -> None:
    with pytest.raises(ValidationError, match="recall"):
        ActionMask(recall=recall)
