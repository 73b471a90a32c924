"""The examples of the documentation work as printed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from envs.episode import Episode, Span, SpanKind
from launch.config.loading import bundled_studies, load_study
from launch.config.plugins import INTERVENTION, REWARD, build_arm, find_class, load
from launch.config.study import PluginSpec
from shaping.arm import compose
from shaping.hooks import Gates, Group
from shaping.intervention import Shaper

ROOT = Path(__file__).resolve().parents[2]
STUDY = ROOT / "docs" / "examples" / "my_study.yaml"
SHAPER = "docs.examples.my_shaper:StatedMotive"


@pytest.fixture(autouse=True)
def _in_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(str(ROOT))


def stating(episode: Episode, motive: str) -> Episode:
    """The same episode with `motive` stated in its first turn only."""
    first = replace(episode.turns[0], completion=f"{motive} ACTION: wait", motive=Span(0, len(motive)))
    return replace(episode, turns=(first, *episode.turns[1:]))


def test_the_study_loads_and_its_arms_compose() -> None:
    study = load_study(STUDY)
    arms = {name: build_arm(name, config) for name, config in study.arms.items()}
    assert [type(i).__name__ for i in arms["stated_motive"].interventions] == ["StatedMotive"]
    assert arms["unshaped"].interventions == ()
    assert arms["stated_motive"].family == "motivation"


def test_the_shaper_is_found_by_module_and_class() -> None:
    assert issubclass(find_class(SHAPER, INTERVENTION), Shaper)


def test_it_credits_motive_tokens_of_who_states_the_motive(make_episode: Callable[..., Episode]) -> None:
    shaper = load(PluginSpec(use=SHAPER, phrase="honestly", bonus=1.0), INTERVENTION, "arms.a")
    episodes = (stating(make_episode([0.0, 0.0]), "finish it honestly ."), make_episode([0.0, 0.0]))
    credit = shaper.credit(Group(episodes, np.zeros(2), np.zeros(2)))
    for episode, stream, expected in zip(episodes, credit.advantage, (0.25, -0.25), strict=True):
        motive = episode.span_kind == SpanKind.MOTIVE
        assert motive.any()
        assert (stream[motive] == expected).all()
        assert not stream[~motive].any()


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)


def test_the_page_on_plug_ins_prints_the_files_as_they_are() -> None:
    printed = blocks("docs/plugins.md", "python") + blocks("docs/plugins.md", "yaml")
    assert (ROOT / "docs" / "examples" / "my_shaper.py").read_text() in printed
    assert STUDY.read_text() in printed


def test_the_shaper_in_the_readme_works(
    make_episode: Callable[..., Episode], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source,) = blocks("README.md", "python")
    (tmp_path / "readme_shaper.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    shaper = load(PluginSpec(use="readme_shaper:Patience"), INTERVENTION, "arms.a")
    episode = make_episode([0.0] * 4)
    (weight,) = shaper.credit(Group((episode,), np.zeros(1), np.zeros(1))).weight
    assert weight.tolist() == [1.0] * 10 + [2.0] * 10


def test_the_reward_in_the_docs_works(make_episode: Callable[..., Episode], tmp_path: Path) -> None:
    (source,) = (block for block in blocks("docs/plugins.md", "python") if "class Brevity" in block)
    (tmp_path / "docs_reward.py").write_text(source)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        reward = load(PluginSpec.model_validate({"use": "docs_reward:Brevity", "price": 0.5}), REWARD, "arms.a")
    assert reward.score_group([make_episode([0.0, 1.0])])[0].tolist() == [-0.5, 0.5]


def test_the_quarantine_in_the_docs_works(make_episode: Callable[..., Episode], tmp_path: Path) -> None:
    (source,) = (block for block in blocks("docs/plugins.md", "python") if "class Quarantine" in block)
    (tmp_path / "docs_quarantine.py").write_text(source)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        arm = compose("arm", [load(PluginSpec(use="docs_quarantine:Quarantine"), INTERVENTION, "arms.a")])
    assert [(spec.name, spec.role) for spec in arm.adapters()] == [("keep", "kept"), ("drop", "quarantine")]
    assert [arm.gates(make_episode([r])) for r in (2.0, 0.5)] == [Gates(kept=0.0), Gates(quarantine=0.0)]


def studies_of_commands() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Study and overrides of every `shaping study` that a page or an example says, if the study exists."""
    docs = ROOT / "docs"
    for path in (ROOT / "README.md", *docs.rglob("*.md"), *(docs / "examples").glob("*.yaml")):
        text = re.sub(r" *\\\n[# ]*", " ", path.read_text(encoding="utf-8"))
        for said in re.findall(r"^(?:#\s*)?shaping study ([^`\n]+)$", text, re.MULTILINE):
            name, *words = shlex.split(said, comments=True)
            if name in bundled_studies() or (ROOT / name).exists():
                yield name, tuple(word for word in words if re.match(r"[a-z_.]+=", word))


def test_every_study_that_a_command_names_loads_with_its_overrides() -> None:
    said = set(studies_of_commands())
    assert len(said) > 10 and any("rollout.engine=vllm" in overrides for _, overrides in said)
    for name, overrides in sorted(said):
        load_study(name, list(overrides))
