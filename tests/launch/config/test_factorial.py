"""Factorial arms: every combination of some arms is an arm of the study."""

from __future__ import annotations

import re
from typing import Any

import pytest

from launch.config.loading import load_study, parse_study, parse_yaml, to_yaml
from launch.config.study import StudyConfig
from launch.errors import ConfigError

ARMS: dict[str, Any] = {
    "unshaped": {"role": "reference"},
    "prompt": {"role": "treatment", "interventions": ["Inoculation"]},
    "routing": {"role": "treatment", "interventions": ["GradientRouting"]},
    "price": {"role": "treatment", "interventions": [{"use": "OverseerPenalty", "accuracy": 1.0}]},
}
FACTORS = ["prompt", "routing", "price"]


def study(**keys: Any) -> StudyConfig:
    document = {
        "name": "fact", "seeds": 1, "arms": ARMS, "factorial": FACTORS,
        "train": {"worlds": {"steward": {"size": 4}}, "updates": 2, "groups": 2, "group_size": 4},
        "eval": {"worlds": {"steward": {"size": 4}}},
    }  # fmt: skip
    return parse_study(document | keys, "fact.yaml")


def arms(**changes: Any) -> dict[str, Any]:
    return ARMS | {name: {**ARMS.get(name, {}), **change} for name, change in changes.items()}


def test_every_subset_of_the_factors_is_an_arm_and_the_reference_is_the_empty_one() -> None:
    found = study().arms
    assert list(found) == [
        "unshaped", *FACTORS, "prompt+routing", "prompt+price", "routing+price", "prompt+routing+price",
    ]  # fmt: skip
    for name, arm in list(found.items())[1:]:
        alone = [spec for factor in name.split("+") for spec in found[factor].interventions]
        assert (arm.interventions, arm.role) == (alone, "treatment")
    assert [run.directory_name for run in study().runs()][-1] == "prompt+routing+price/seed-0"


def test_a_change_of_a_factor_reaches_its_combinations(tmp_path: Any) -> None:
    file = tmp_path / "fact.yaml"
    file.write_text(to_yaml(study()))
    assert "prompt+routing" not in file.read_text()  # the printed study is the one that was written
    changed = load_study(file, ["arms.price.interventions.0.accuracy=0.5"])
    assert changed.arms["prompt+price"].interventions[1].fields == {"accuracy": 0.5}
    with pytest.raises(ConfigError, match=re.escape("unknown key arms.prompt+price")):
        load_study(file, ["arms.prompt+price.role=control"])


def test_a_recorded_study_keeps_its_arms() -> None:
    again = StudyConfig.model_validate(study().model_dump(mode="json"))
    assert again == study() and [r.digest for r in again.runs()] == [r.digest for r in study().runs()]


def test_a_combination_runs_where_all_of_its_arms_do() -> None:
    points = {"all": {}, "some": {"arms": ["unshaped", "prompt", "price"]}}
    by_point = {p: [r.arm for r in study(points=points).runs() if r.sweep_point["point"] == p] for p in points}
    assert by_point["some"] == ["unshaped", "prompt", "price", "prompt+price"] and len(by_point["all"]) == 8


def test_a_combination_has_the_reward_and_the_settings_of_its_arms() -> None:
    changed = arms(price={"reward": "RandomReward"}, routing={"set": {"train.updates": 1}})
    found = {run.arm: run for run in study(arms=changed).runs()}
    assert found["prompt+price"].arm_config.reward.use == "RandomReward"
    assert found["prompt+routing"].arm_config.reward.use == "EnvReward"
    assert {name for name, run in found.items() if run.train.updates == 1} == {n for n in found if "routing" in n}


def test_an_axis_over_a_factor_names_its_combinations() -> None:
    own = ["price", "prompt+price", "routing+price", "prompt+routing+price"]
    axis = ", ".join(f"arms.{name}.interventions.{name.count('+')}.accuracy" for name in own)
    found = study(axes={axis: [0.5, 1.0]}).runs()
    assert len(found) == 4 + 2 * 4
    assert all(run.arm_config.interventions[-1].fields["accuracy"] == run.sweep_point["accuracy"] for run in found[-8:]
               if "price" in run.arm)  # fmt: skip


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"factorial": ["prompt", "rooting"]}, "no arm 'rooting' (did you mean 'routing'?)"),
        ({"factorial": ["prompt"]}, "list 2 to 6 different arms"),
        ({"factorial": ["prompt", "prompt"]}, "list 2 to 6 different arms"),
        ({"factorial": ["unshaped", "prompt"]}, "'unshaped' is the reference"),
        ({"arms": arms(price={"role": "control"})}, "have different roles"),
        ({"arms": arms(unshaped={"interventions": ["Identity"]})}, "has interventions or settings of its own"),
        ({"arms": {**ARMS, "a+b": {"role": "control"}}}, "arms.a+b: a + joins"),
        (
            {"arms": arms(price={"interventions": ["Recontextualization"]})},
            "factorial: 'prompt' and 'price' cannot be combined: arm 'prompt+price': Inoculation and "
            "Recontextualization both own the knob",
        ),
        (
            {"arms": arms(price={"reward": "RandomReward"}, prompt={"reward": {"use": "RandomReward", "seed": 1}})},
            "'prompt' and 'price' both change the reward",
        ),
        (
            {"arms": arms(price={"set": {"train.updates": 1}}, prompt={"set": {"train.updates": 3}})},
            "'prompt' and 'price' both set train.updates",
        ),
        ({"axes": {"arms.price.interventions.0.accuracy": [0.5, 1]}}, "reaches the arm 'price' and not 'prompt+price'"),
        ({"arms": arms(price={"set": {"name": "x"}})}, "arms.price.set: 'name' cannot be set"),
    ],
)
def test_what_cannot_be_combined_is_refused_with_the_arms_named(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        study(**keys)


def test_a_claim_about_a_factorial_that_the_study_lacks_is_refused() -> None:
    claim = {"use": "Factorial", "statement": "It is so.", "metrics": ["deception"], "factors": ["prompt", "routing"]}
    assert len(study(claims={"F": claim}).claims) == 1
    with pytest.raises(ConfigError, match=re.escape("claims.F.factors: the study has no arm 'prompt+routing'; write")):
        study(claims={"F": claim}, factorial=[])
    assert parse_yaml(to_yaml(study()), "printed")["factorial"] == FACTORS
