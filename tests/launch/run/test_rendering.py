"""A run's renderer: settings of the study reach the template, and what cannot work is refused before any play."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from launch_fakes import study
from templates import GEMMA_2, LLAMA_3, QWEN_2_5, QWEN_3, R1, tokenizer_of

from envs.episode import Episode, Span
from launch.config.plugins import build_arm
from launch.config.study import RunConfig
from launch.errors import ConfigError
from launch.run.evaluation.thoughts import ThoughtWatch, cut_off_thoughts
from launch.run.rendering import check_templates, check_unbroken, notes, record, renderer_of

PLAIN = {"interventions": []}
SWAPPED = {"interventions": [{"use": "Inoculation", "prompts": ["be bold ."], "at": "training"}]}
SAME = {"interventions": [{"use": "Inoculation", "prompts": ["be bold ."], "at": "both"}]}


def runs(arms: dict[str, Any] | None = None, **changes: Any) -> list[RunConfig]:
    return study(Path("out"), arms or {"plain": PLAIN}, **changes).runs()


def test_settings_of_the_study_reach_the_template_and_the_record() -> None:
    (run, *_) = runs(rollout={"clock": "2026-12-24"})
    renderer = renderer_of(run, tokenizer_of("bytes", LLAMA_3))
    assert "24 Dec 2026" in renderer.tokenizer.decode(renderer.open("", "hello"))
    assert record(renderer)["clock"] == "2026-12-24" and run.model_dump(mode="json")["rollout"]["clock"] == "2026-12-24"
    (run, *_) = runs(rollout={"chat_template_kwargs": {"enable_thinking": False}})
    renderer = renderer_of(run, tokenizer_of("bytes", QWEN_3))
    assert renderer.tokenizer.decode(renderer.open("", "hello")).endswith("</think>\n\n")
    assert record(renderer_of(run, tokenizer_of("bytes", QWEN_3)))["one_sequence"]
    assert record(renderer_of(runs()[0], tokenizer_of("bytes", QWEN_2_5)))["default_system"].startswith("You are Made")


@pytest.mark.parametrize(
    ("template", "settings", "told"),
    [
        (QWEN_3, {"enable_thinkin": False}, r"^rollout\.chat_template_kwargs: .*did you mean 'enable_thinking'"),
        ("{{ messages[0].content }}", {}, "^model: the chat template of '' has no end of turn"),
        ("{{ raise_exception('no') }}", {}, "^model: the chat template of '' fails on a conversation of two turns"),
        ("{% if %}", {}, "^model: the chat template of '' is no valid Jinja"),
    ],
)
def test_a_template_or_an_argument_that_does_not_serve_is_refused(
    template: str, settings: dict[str, Any], told: str
) -> None:
    (run, *_) = runs(rollout={"chat_template_kwargs": settings})
    with pytest.raises(ConfigError, match=told) as caught:
        renderer_of(run, tokenizer_of("bytes", template))
    assert "\n" not in str(caught.value)


def test_an_arm_that_needs_one_sequence_is_refused_where_the_template_breaks_it() -> None:
    stripped = {"role": "treatment", "interventions": [{"use": "SelfNarration", "loss": "stripped"}]}
    selective = {"role": "treatment", "interventions": [{"use": "SelectiveInoculation", "at": "both"}]}
    arms = {"plain": PLAIN, "swapped": SWAPPED, "same": SAME, "stripped": stripped, "selective": selective}
    by_arm = {run.arm: run for run in runs(arms, rollout={"thoughts": "template"})}
    renderer = renderer_of(by_arm["plain"], tokenizer_of("bytes", QWEN_3))
    for name, run in by_arm.items():
        arm = build_arm(run.arm, run.arm_config)
        if name in ("swapped", "stripped", "selective"):
            with pytest.raises(ConfigError, match=rf"^arms\.{name}: .*set rollout\.thoughts to keep$"):
                check_unbroken(run, arm, renderer)
        else:
            check_unbroken(run, arm, renderer)
    run = {run.arm: run for run in runs(arms)}["swapped"]
    check_unbroken(run, build_arm(run.arm, run.arm_config), renderer_of(run, tokenizer_of("bytes", QWEN_3)))


def test_models_on_this_machine_are_looked_at_before_anything_starts(model: Path, tmp_path: Path) -> None:
    own = shutil.copytree(model, tmp_path / "own")
    check_templates(runs(model=str(own)))
    with pytest.raises(ConfigError, match=r"^rollout\.chat_template_kwargs: .*It reads no argument$"):
        check_templates(runs(model=str(own), rollout={"chat_template_kwargs": {"enable_thinking": False}}))
    check_templates(runs(model="nobody/has-this-model"))


def test_users_are_told_what_is_particular_about_a_template() -> None:
    def told(template: str, tokens: int = 1000, **rollout: Any) -> str:
        (run, *_) = runs(rollout=rollout)
        run = run.model_copy(update={"train": run.train.model_copy(update={"max_tokens": tokens})})
        return "\n".join(notes(run, renderer_of(run, tokenizer_of("bytes", template))))

    assert "no place for a system prompt" in told(GEMMA_2) and "may think" not in told(GEMMA_2, 32)
    assert "train.max_tokens is 32" in told(QWEN_3, 32) and "{enable_thinking: false}" in told(QWEN_3, 32)
    assert "train.max_tokens is 32" in told(R1, 32) and "enable_thinking" not in told(R1, 32)
    assert "may think" not in told(QWEN_3, 32, chat_template_kwargs={"enable_thinking": False})
    assert "may think" not in told(QWEN_3)


def test_thoughts_that_are_cut_off_are_told_once(make_episode: Callable[..., Episode]) -> None:
    episode = make_episode()
    first, second = episode.turns
    thinking = replace(first, overlong=True, action=Span(20, 20))
    cut = replace(episode, turns=(thinking, second))
    assert cut_off_thoughts([cut, episode]) == 0.25 and cut_off_thoughts([]) == 0
    assert cut_off_thoughts([replace(episode, turns=(replace(first, overlong=True), second))]) == 0, "it said an action"
    lines: list[str] = []
    watch = ThoughtWatch(32, lines.append)
    for episodes in ([episode], [cut, episode], [cut]):
        watch.see(episodes)
    assert len(lines) == 1 and lines[0].startswith(
        "25% of the turns are cut off within a thought by train.max_tokens=32"
    )
