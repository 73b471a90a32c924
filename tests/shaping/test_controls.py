"""Controls of methods: prompts in the place of their own, and the fields of the usual names."""

from __future__ import annotations

from typing import get_args

import pytest

from shaping.constraints import OverseerPenalty
from shaping.controls import PROMPTS, ControlKind
from shaping.hooks import GroupInfo
from shaping.intervention import Shaper
from shaping.labels import LabelSource
from shaping.prompts.controls import PromptControl, controlled
from shaping.prompts.pools import texts
from shaping.shapers import GradientRouting, Inoculation, Recontextualization

OWN = ("you may take shortcuts here .", "grab it all .")


def test_there_are_as_many_prompts_as_the_method_has() -> None:
    for control in get_args(PromptControl):
        found = controlled(OWN, control)
        assert len(found) == 2 and not set(found) & set(OWN), control
        assert found == controlled(OWN, control)  # the same in every process
    assert controlled(OWN[:1], "negated") == texts("forbidding")[:1]
    assert len(controlled(tuple("abcdefghijklmnop"), "neutral")) == len(texts("neutral"))


def test_the_language_is_that_of_the_world() -> None:
    arabic = controlled(OWN, "irrelevant", "ar")
    assert arabic == texts("irrelevant", "ar")[:2] and arabic != controlled(OWN, "irrelevant")


def test_lengths_match_and_words_are_irrelevant() -> None:
    found = controlled(OWN, "length_matched")
    assert [len(text.split()) for text in found] == [len(text.split()) for text in OWN]
    assert set(" ".join(found).split()) <= set(" ".join(texts("irrelevant")).split())


def test_shuffled_prompts_have_the_same_words() -> None:
    for own, found in zip(OWN, controlled(OWN, "shuffled"), strict=True):
        assert sorted(own.split()) == sorted(found.split()) and found.endswith(" .")
    assert controlled(("same same .", "."), "shuffled") == ("same same .", ".")  # there is no other order


@pytest.mark.parametrize("kind", PROMPTS)
def test_prompting_methods_become_their_own_controls(kind: ControlKind) -> None:
    info = GroupInfo("clerk", 0, 0, 0)
    for method in (Inoculation(prompts=OWN), Recontextualization(training=OWN)):
        fields = method.control_fields(kind)
        assert fields == {"control": kind.value}
        made = type(method)(**{**method.model_dump(), **fields})
        assert made.owns == method.owns and made.ratio_mode() == method.ratio_mode()
        drawn = {made.training_context(info, made.sampling_context(info, rng(n)), rng(n)) for n in range(8)}
        assert {context.system for context in drawn} == set(controlled(OWN, kind.value))  # type: ignore[arg-type]
        assert {context.name.partition("/")[0] for context in drawn} == {kind.value}


def rng(seed: int):  # type: ignore[no-untyped-def]
    import numpy as np

    return np.random.default_rng(seed)


def test_the_usual_fields() -> None:
    class Method(Shaper):
        random: bool = False
        random_answers: bool = False
        labels: LabelSource = LabelSource(source="oracle", recall=0.5)

    method = Method()
    for kind, field in (("random_direction", "random"), ("random_adapter", "random"), ("random_answers",) * 2):
        assert method.control_fields(ControlKind(kind)) == {field: True}
    placebo = Method(**(method.control_fields(ControlKind.PLACEBO) or {})).labels
    assert placebo == LabelSource(source="oracle", recall=0.5, placebo=True)
    assert Method(**(method.control_fields(ControlKind.NO_LABELS) or {})).labels.source == "off"
    assert method.control_fields(ControlKind.IRRELEVANT) is None  # it has no prompts
    assert GradientRouting(**(GradientRouting().control_fields(ControlKind.PLACEBO) or {})).labels.placebo
    assert OverseerPenalty().control_fields(ControlKind.PLACEBO) == {"use": "PlaceboPenalty"}
