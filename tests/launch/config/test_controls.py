"""`controls: auto`: arms that tell a method's effect from others, from what the method says that it needs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar

import pytest

from launch.config.arms.controls import control_lines
from launch.config.loading import load_study, parse_study, to_yaml
from launch.config.study import StudyConfig
from launch.errors import ConfigError
from shaping.controls import MEANING, ControlKind
from shaping.intervention import Shaper

ARMS: dict[str, Any] = {
    "unshaped": {"role": "reference"},
    "prompt": {"role": "treatment", "interventions": ["Identity", {"use": "Inoculation", "prompts": ["be kind ."]}]},
    "price": {"role": "treatment", "interventions": [{"use": "OverseerPenalty", "accuracy": 1.0}]},
}


class Needy(Shaper):
    """Says that it needs a control that it has no setting for."""

    needs: ClassVar[tuple[ControlKind, ...]] = (ControlKind.RANDOM_DIRECTION,)


class Misspelt(Shaper):
    """Names a control that there is not."""

    needs = ("irelevant",)  # type: ignore[assignment]


class Steered(Shaper):
    """Has the usual field of a random control."""

    needs: ClassVar[tuple[ControlKind, ...]] = (ControlKind.RANDOM_DIRECTION, ControlKind.BENIGN)

    random: bool = False


def study(arms: Any = ARMS, **keys: Any) -> StudyConfig:
    document = {
        "name": "s", "seeds": 1, "arms": arms, "controls": "auto",
        "train": {"worlds": {"steward": {"size": 4}}, "updates": 2, "groups": 2, "group_size": 4},
        "eval": {"worlds": {"steward": {"size": 4}}},
    }  # fmt: skip
    return parse_study(document | keys, "s.yaml")


def treated(*interventions: Any, **arm: Any) -> dict[str, Any]:
    return {
        "unshaped": {"role": "reference"},
        "own": {"role": "treatment", "interventions": interventions, **arm},
    }


def test_each_method_gets_the_controls_that_it_needs_and_they_are_controls() -> None:
    found = study().arms
    added = {name: arm for name, arm in found.items() if name not in ARMS}
    assert set(added) == {
        "base", "no_loophole", "price-placebo",
        *(f"prompt-{kind}" for kind in (
            "irrelevant", "negated", "neutral", "length_matched", "random_reward", "prompted",
        )),
    }  # fmt: skip
    assert {arm.role for arm in added.values()} == {"control"}
    other = added["prompt-neutral"].interventions
    assert [spec.use for spec in other] == ["Identity", "Inoculation"]
    assert other[1].fields == {"prompts": ["be kind ."], "control": "neutral"}
    assert added["price-placebo"].interventions[0].use == "PlaceboPenalty"
    assert added["price-placebo"].interventions[0].fields == {"accuracy": 1.0}
    assert added["prompt-random_reward"].reward.fields == {"mode": "matched"}


def test_controls_of_a_study_serve_all_arms_and_change_what_their_runs_do() -> None:
    runs = {run.arm: run for run in study().runs()}
    derived = runs["base"].arm_config.derived
    assert derived is not None and derived.of == ["prompt", "price"]
    assert "because prompt uses Identity" in derived.why and "because price uses OverseerPenalty" in derived.why
    assert runs["base"].train.updates == 0 and not runs["base"].arm_config.interventions
    assert runs["prompt-prompted"].train.updates == 0 and runs["prompt-prompted"].eval.prompted
    assert runs["no_loophole"].train.worlds == {"steward": {"size": 4, "loophole": "off"}}
    assert runs["no_loophole"].eval.worlds == {"steward": {"size": 4}}
    assert (runs["price"].train.updates, runs["price"].train.worlds) == (2, {"steward": {"size": 4}})


def test_without_the_setting_there_are_none_and_a_list_names_kinds() -> None:
    assert list(study(controls="written").arms) == list(ARMS)
    listed = study(controls=["shuffled", "benign", "base"]).arms
    assert set(listed) - set(ARMS) == {"prompt-shuffled", "prompt-benign", "price-benign", "base"}
    with pytest.raises(ConfigError, match="no arm of the study can have the control 'random_adapter'"):
        study(controls=["random_adapter"])
    with pytest.raises(ConfigError, match=r"controls: no kind of control 'irelevant' \(did you mean 'irrelevant'\?\)"):
        study(controls=["irelevant"])
    with pytest.raises(ConfigError, match="controls: 'all' is none of auto, written, and a list of kinds"):
        study(controls="all")


def test_a_control_that_stands_in_the_file_is_not_added_again() -> None:
    arms = ARMS | {"before": {"role": "control", "set": {"train.updates": 0}}}
    assert "base" not in study(arms).arms and study(arms).arms["before"].derived is None


def test_the_plan_says_why_and_what_cannot_be_had(tmp_path: Path) -> None:
    lines = list(control_lines(study()))
    assert lines[0] == "controls that were added: 9"
    assert "  price-placebo: because price uses OverseerPenalty, to tell its effect from " in "\n".join(lines)
    paid = study(treated("Inoculation", reward="RandomReward"))
    assert "own-random_reward" not in paid.arms
    assert any("no random_reward for own: RandomReward deals out the world's" in line for line in control_lines(paid))
    assert list(control_lines(study(controls="written"))) == []


def test_points_and_combinations() -> None:
    points = {"near": {"arms": ["unshaped", "prompt"]}, "far": {"arms": ["unshaped", "price"]}}
    found = study(points=points)
    at = {point: {run.arm for run in found.runs() if run.sweep_point["point"] == point} for point in points}
    assert "base" in at["near"] & at["far"] and "price-placebo" in at["far"] - at["near"]
    combined = study(factorial=["prompt", "price"])
    assert not [name for name in combined.arms if name.startswith("prompt+price-")]


def test_a_recorded_study_keeps_its_controls_and_an_override_reaches_them(tmp_path: Path) -> None:
    found = study()
    assert StudyConfig.model_validate(found.model_dump(mode="json")) == found
    (tmp_path / "s.yaml").write_text(to_yaml(found))
    assert "price-placebo" not in (tmp_path / "s.yaml").read_text()
    again = load_study(tmp_path / "s.yaml", ["arms.price.interventions.0.accuracy=0.5"])
    assert again.arms["price-placebo"].interventions[0].fields == {"accuracy": 0.5}


def test_a_method_of_ones_own_says_what_it_needs() -> None:
    arms = study(treated(f"{__name__}:Steered")).arms
    assert arms["own-random_direction"].interventions[0].fields == {"random": True}
    assert arms["own-benign"].set == {"train.worlds.*.loophole": "off"}


@pytest.mark.parametrize(
    ("arms", "message"),
    [
        (treated(f"{__name__}:Needy"), "Needy needs the control 'random_direction', but its control_fields() has no"),
        (
            treated(f"{__name__}:Misspelt"),
            "Misspelt.needs names 'irelevant', which is no kind of control (did you mean",
        ),
        (ARMS | {"base": {"role": "treatment"}}, "controls: 'base' would be the arm 'base', which exists: rename it"),
    ],
)
def test_what_cannot_be_added_is_refused(arms: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        study(arms).runs()


def test_worlds_without_the_option_have_no_such_control() -> None:
    worlds = {"controller_worlds:Vowels": {}}
    found = study(train={"worlds": worlds, "updates": 2, "groups": 2, "group_size": 4}, eval={"worlds": worlds})
    assert "no_loophole" not in found.arms
    assert any("the world controller_worlds:Vowels has no option `loophole`" in line for line in control_lines(found))
    assert "no_loophole" not in study(points={"own": {"set": {"train.worlds": worlds}}, "usual": {}}).arms


def test_every_kind_says_what_it_is() -> None:
    assert set(MEANING) == set(ControlKind)


def test_rewards_can_be_exchanged_between_groups() -> None:
    arms = study(controls=["exchanged_reward"]).arms
    added = arms["prompt-exchanged_reward"]
    assert (added.reward.use, added.reward.fields, added.role) == ("RandomReward", {"mode": "exchange"}, "control")
    assert added.interventions == arms["prompt"].interventions
