"""`rollout.splitter`: names, classes of one's own, and what is said of a wrong one."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from envs.episode import Span
from launch.config.plugins import PluginError, build_splitter
from launch.config.rollout import RolloutConfig
from launch.errors import describe
from shaping.sampling.text.split import SPLITTERS, Splitter


class Halves(Splitter):
    def __call__(self, completion: str) -> tuple[Span, Span]:
        middle = len(completion) // 2
        return Span(0, middle), Span(middle, len(completion))


class Needy(Halves):
    def __init__(self, model: str) -> None:
        self.model = model


class Foreign:
    pass


def test_the_built_in_ones_go_by_name() -> None:
    assert RolloutConfig().splitter == "marker"
    for name, kind in SPLITTERS.items():
        assert type(build_splitter(RolloutConfig(splitter=name).splitter)) is kind


def test_one_of_ones_own_goes_by_module_and_class() -> None:
    name = RolloutConfig(splitter=f"{__name__}:Halves").splitter
    assert build_splitter(name)("abcd") == (Span(0, 2), Span(2, 4))


@pytest.mark.parametrize(("wrong", "near"), [("think_tag", "think_tags"), ("toolcall", "tool_call"), ("", "marker")])
def test_an_unknown_name_is_refused_with_the_nearest_one(wrong: str, near: str) -> None:
    with pytest.raises(ValidationError) as caught:
        RolloutConfig(splitter=wrong)
    told = describe(caught.value, RolloutConfig, prefix="rollout")
    assert told.startswith(f"rollout.splitter: unknown splitter {wrong!r}; did you mean ")
    assert near in told and "package.module:Class" in told


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (f"{__name__}:Foreign", r"rollout\.splitter: .*Foreign' is no subclass of .*\.text\.split\.Splitter"),
        (f"{__name__}:Halve", r"rollout\.splitter: .*has no class 'Halve' \(did you mean 'Halves'\?\)"),
        ("no_such_module:Split", r"rollout\.splitter: .*does not import"),
        (f"{__name__}:Needy", r"rollout\.splitter \(.*Needy\): it cannot be built: TypeError: .*model"),
    ],
)
def test_a_class_that_does_not_serve_is_refused_under_its_key(name: str, told: str) -> None:
    with pytest.raises(PluginError, match=told):
        build_splitter(name)
