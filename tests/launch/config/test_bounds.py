"""Every number of a study has a smallest and a largest value: found by walking all models that a config can reach."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from launch_fakes import study
from pydantic import BaseModel

from launch.config.plugins import KINDS, builtins
from launch.config.study import StudyConfig
from shaping.organisms.warm_start import WarmStartConfig
from shaping.sampling.vllm.config import VLLMConfig

CHECKED_ELSEWHERE = {("StudyConfig", "seeds"), ("RunConfig", "seed")}


def roots() -> list[type[BaseModel]]:
    plugins = [found for kind in KINDS for found in builtins(kind).values()]
    options = [getattr(plugin, "Options", plugin) for plugin in plugins]
    models = [each for each in options if inspect.isclass(each) and issubclass(each, BaseModel)]
    return [StudyConfig, VLLMConfig, WarmStartConfig, *models]


def members(annotation: Any) -> Iterator[Any]:
    yield annotation
    for inner in get_args(annotation):
        yield from members(inner)


def reachable(models: list[type[BaseModel]]) -> set[type[BaseModel]]:
    seen: set[type[BaseModel]] = set()
    pending = list(models)
    while pending:
        model = pending.pop()
        if model in seen:
            continue
        seen.add(model)
        parts = [part for info in model.model_fields.values() for part in members(info.annotation)]
        pending += [part for part in parts if inspect.isclass(part) and issubclass(part, BaseModel)]
    return seen


def test_every_number_has_a_smallest_and_a_largest_value() -> None:
    unbounded, bounded = [], 0
    for model in reachable(roots()):
        for name, info in model.model_fields.items():
            numbers = {int, float} & {part for part in members(info.annotation) if inspect.isclass(part)}
            if not numbers or (model.__name__, name) in CHECKED_ELSEWHERE:
                continue
            text = repr(info.metadata) + repr([getattr(p, "__metadata__", "") for p in members(info.annotation)])
            sides = ("ge=" in text or "gt=" in text), ("le=" in text or "lt=" in text)
            bounded += all(sides)
            if not all(sides):
                unbounded.append(f"{model.__module__}.{model.__name__}.{name}")
    assert not unbounded
    assert bounded > 60, "the walk has missed the models"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"seeds": 10**9}, "seeds: at most 10,000 seeds are possible, not 1,000,000,000"),
        ({"seeds": [0, 2**32]}, "seeds: seeds are whole numbers from 0 to 4,294,967,295"),
        ({"seeds": [-1]}, "seeds: seeds are whole numbers from 0"),
        ({"learner": {"lr": 1e300}}, "learner.lr: Input should be less than or equal to 10 (got 1e+300)"),
        ({"axes": {f"learner.{key}": [1, 2, 3, 4, 5, 6, 7] for key in ("lr", "kl", "clip_low", "clip_high", "epochs")}},
         "axes, points, arms and seeds make 33,614 runs; at most 10,000 are possible"),
        ({"train": {"worlds": {"steward": {}}, "updates": 1, "groups": 100_000, "group_size": 10_000}},
         "train: groups x group_size is 1,000,000,000 episodes per update"),
    ],
)  # fmt: skip
def test_products_of_numbers_are_bounded_too(tmp_path: Any, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(Exception, match="test:") as raised:
        study(tmp_path, {"arm": ""}, **changes)
    assert told in str(raised.value)
