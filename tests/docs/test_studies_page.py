"""The page on study files says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from launch.config.loading import bundled_studies, load_study, parse_study, parse_yaml
from launch.config.reading.yaml_reader import MAX_CHARACTERS, MAX_DEPTH, MAX_EXPANDED
from launch.config.seeds import MAX_RUNS
from launch.config.study import StudyConfig
from launch.distributed.ray_folder import LIMIT
from launch.distributed.reachable import PATIENCE

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "studies.md").read_text(encoding="utf-8")


def test_its_study_is_one_and_merges_what_it_says() -> None:
    block, points, *_ = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    study = parse_study(parse_yaml(block + points, "studies.md"), "studies.md")
    arms = study.arms
    assert {name: arm.role for name, arm in arms.items()} == {
        "unshaped": "reference", "weak": "treatment", "strong": "treatment",
    }  # fmt: skip
    assert arms["strong"].interventions[0].fields == {"accuracy": 1.0}
    assert {run.point_name for run in study.runs() if run.arm == "strong"} == {
        "strong+point=usual", "strong+point=short",
    }  # fmt: skip


def test_its_factorial_is_one() -> None:
    block, _, arms, *_ = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    document = parse_yaml(block, "studies.md") | parse_yaml(arms, "studies.md")
    assert [name for name in parse_study(document, "studies.md").arms if "+" in name] == [
        "prompt+routing", "prompt+price", "routing+price", "prompt+routing+price",
    ]  # fmt: skip


def test_its_keys_and_limits_are_those_of_the_code() -> None:
    first = TEXT.partition("```")[0]
    listed = re.search(r"one YAML file: (.*?)\. The", first, re.DOTALL)
    assert listed and {key.strip("` \n") for key in listed[1].split(",")} >= set(StudyConfig.model_fields) - {
        "isolated"
    }
    assert f"{MAX_RUNS:,} runs" in TEXT and f"{MAX_CHARACTERS:,} characters" in TEXT and f"{MAX_DEPTH} mappings" in TEXT
    assert MAX_EXPANDED == 1_000_000 and "a million characters" in TEXT
    assert f"waits {PATIENCE:.0f} s" in TEXT and str(LIMIT) in TEXT


def test_what_it_calls_a_number_or_text_is_one() -> None:
    for number in re.findall(r"`(-?\.?\d[^`\n]*)`", TEXT.partition("`010`")[0]):
        assert isinstance(parse_yaml(number, "studies.md"), (int, float))
    for text in ("yes", "no", "on", "off", "1:30", "1_000"):
        assert f"`{text}`" in TEXT and parse_yaml(text, "studies.md") == text


def test_its_table_lists_the_bundled_studies_with_their_runs() -> None:
    listed = {name: int(runs) for name, runs in re.findall(r"^\| `(\w+)` \| [^|]* \| (\d+) \|$", TEXT, re.MULTILINE)}
    assert listed == {name: len(load_study(name).runs()) for name in bundled_studies()}
