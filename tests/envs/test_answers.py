"""The validator of what worlds answer: good answers come back clean, a wrong one is told with its field."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from envs.answers import WorldContractError, finite_number, opened, step_result
from envs.episode import Event, Labels

GOOD = ("hello", 1.0, False, False, {"labels": Labels()})


def test_a_good_answer_comes_back_with_neutral_values_for_what_is_missing() -> None:
    result = step_result(GOOD, "w")
    assert result == ("hello", 1.0, False, False, Labels(), (), (), "", False)


def test_numpys_numbers_and_truth_values_become_pythons_and_text_becomes_valid() -> None:
    info = {"labels": Labels(), "executed": "a\ud800", "events": [Event("act", "say", "\udfff")]}
    result = step_result(("\ud83d", np.float32(0.5), np.bool_(True), False, info), "w")
    assert type(result.reward) is float and result.terminated is True
    assert (result.observation, result.executed, result.events[0].text) == ("\ufffd", "a\ufffd", "\ufffd")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ((b"hello", 1.0, False, False, {}), "observation is a bytes"),
        (("hello", True, False, False, {}), "reward is a bool"),
        (("hello", math.nan, False, False, {}), "reward is nan"),
        (("hello", 10**400, False, False, {}), "about 400 digits"),
        (("hello", 1.0, 1, False, {}), "terminated is a int"),
        (("hello", 1.0, False, np.zeros(2, bool), {}), "truncated is a ndarray"),
        (("hello", 1.0, False, False, [1]), "info must be a mapping, not a list"),
        (("hello", 1.0, False, False, {"labels": None}), r"info\['labels'\].*NoneType"),
        (("hello", 1.0, False, True, {"labels": Labels(), "cut_off": 1}), r"info\['cut_off'\] is a int"),
        (("hello", 1.0, False), "five values"),
        (None, "five values.*not a NoneType"),
    ],
)
def test_a_wrong_answer_names_the_field(changed: Any, message: str) -> None:
    with pytest.raises(WorldContractError, match=rf"^w.*{message}"):
        step_result(changed, "w")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"deception": math.nan}, "deception is nan"),
        ({"harm": -5.0}, "harm is -5.0"),
        ({"harm": "1"}, "harm is a str"),
        ({"power": 7.0}, "power is 7.0"),
        ({"true_reward": math.inf}, "true_reward"),
        ({"true_reward": 10**400}, "true_reward"),
        ({"knew": 1}, "knew"),
        ({"outcome": None}, "outcome is"),
    ],
)
def test_labels_are_counts_and_shares(labels: dict[str, Any], message: str) -> None:
    with pytest.raises(WorldContractError, match=message):
        step_result((*GOOD[:4], {"labels": replace(Labels(), **labels)}), "w")


@pytest.mark.parametrize(
    "answer", ["hello", ("hello",), ("hello", None), (1, {}), ("hello", {"overt_shortcuts": "no"})]
)
def test_a_reset_is_text_and_a_mapping(answer: Any) -> None:
    with pytest.raises(WorldContractError, match=r"^w"):
        opened(answer, "w")


@pytest.mark.parametrize("value", [None, "1", 1j, math.inf, [1.0]])
def test_a_number_is_finite_and_real(value: Any) -> None:
    with pytest.raises(WorldContractError, match="max_return"):
        finite_number(value, "max_return", "w")
