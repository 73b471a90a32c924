"""A study file may come from anyone: whatever is wrong with it is one message, at once, and before anything starts.

Promised: a file or an override that is too large, too deep, endless, ambiguous or dangerous is refused within a second
and in little memory, with the key and its line. No object is ever made of a tag, no number is converted in silence, and
no secret is read from a config or printed.
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
import wandb  # noqa: F401

import launch.cli
import launch.run.models.start_model
import launch.study  # as all imports, it takes no part in the measurement
from launch.config.loading import load_study
from launch.preflight import check_plugins

STUDY = """\
name: hostile
seeds: 1
train: {worlds: {steward: {size: 2}}, updates: 1, groups: 1, group_size: 2}
eval: {worlds: {clerk: {size: 2}}, episodes: 1}
arms:
  unshaped: {role: reference}
"""
LAUGHS = "x0: &x0 [ha, ha, ha, ha, ha, ha, ha, ha, ha]\n" + "".join(
    f"x{n + 1}: &x{n + 1} [{', '.join([f'*x{n}'] * 9)}]\n" for n in range(30)
)
SECONDS, MEGABYTES = 5.0, 64
"""Of the processor: .2 alone, and 1.006 in a process that had run hundreds of tests; unbounded, they take hours."""

Refused = Callable[..., str]


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Refused:
    """The error that `shaping study FILE [OVERRIDE ...] --dry-run` prints; quick, in little memory, exit code 1."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "hostile.yaml"
    file.write_text(STUDY)
    check_plugins(load_study(file).runs())  # imports take no part in the measurement

    def call(text: str, *overrides: str) -> str:
        file.write_text(text)
        monkeypatch.setattr("sys.argv", ["shaping", "study", str(file), *overrides, "--dry-run"])
        tracemalloc.start()
        start = time.process_time()
        with pytest.raises(SystemExit) as left:
            launch.cli.main()
        took, (_, peak) = time.process_time() - start, tracemalloc.get_traced_memory()
        tracemalloc.stop()
        told = capsys.readouterr()
        assert left.value.code == 1 and not told.out
        assert took < SECONDS and peak < MEGABYTES * 1e6
        return told.err

    return call


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (STUDY + LAUGHS, "line 12, column 30: x5.4: with all aliases written out, more than 1,000,000 characters"),
        (STUDY + "output: &o [*o]", "line 7, column 13: output.0: the alias *o lies within its own value"),
        (STUDY + "claims: " + "[" * 10_000, "line 7, column 58: claims.0.0.0"),
        (STUDY + "\n".join("  " * n + "key:" for n in range(60)), "key.k...: more than 50 mappings and lists"),
        (STUDY + "output: " + "x" * 10_000_000, "has 10,000,191 bytes, and a study at most 300,000 characters"),
        (STUDY.replace("updates: 1,", "updates: " + "9" * 5000 + ","),
         "line 3, column 48: train.updates: a number of 5,000 digits; at most 18 are read"),
        (STUDY + "output: !!binary aGVsbG8=", "line 7, column 9: output: the tag !!binary is not read"),
        (STUDY + "output: !!python/object/apply:os.system ['touch owned']",
         "line 7, column 9: output: the tag !!python/object/apply:os.system is not read"),
        (STUDY.replace("seeds: 1", "seeds: 1000000000"), "seeds: at most 10,000 seeds are possible, not 1,000,000,000 "
         "(line 2)"),
        (STUDY + "learner: {lr: 1.0e300}", "learner.lr: Input should be less than or equal to 10 (got 1e+300) (line "),
    ],
    ids=["billion laughs", "recursion", "10,000 lists", "60 mappings", "giant", "digits", "binary", "object", "seeds",
         "learning rate"],
)  # fmt: skip
def test_a_study_file_can_neither_exhaust_the_machine_nor_run_anything(refused: Refused, text: str, told: str) -> None:
    assert told in refused(text)
    assert not Path("owned").exists()


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("arms=" + LAUGHS.replace("\n", "\n "), "override"),
        ("train.updates=" + "9" * 5000, "train.updates: a number of 5,000 digits"),
        ("train.updates=" + "[" * 10_000, "train.updates.0.0"),
        ("output=!!python/object/apply:os.system ['touch owned']", "output: the tag !!python/object/apply:os.system"),
        ("seeds=1000000000", "seeds: at most 10,000 seeds"),
        (".".join("a" * 5000) + "=1", "a key of 9,999 characters"),
        ("train.worlds.steward.size=1000000000", "'size': Input should be less than or equal to 10000"),
    ],
    ids=["billion laughs", "digits", "depth", "object", "seeds", "key", "world"],
)
def test_overrides_are_bounded_in_the_same_way(refused: Refused, override: str, told: str) -> None:
    assert told in refused(STUDY, override)
    assert not Path("owned").exists()


@pytest.mark.parametrize("number", ["010", "1:30", "1_000", "'4'", "true", "yes", "0b1", "[1]", "~"])
def test_what_is_no_number_in_yaml_1_2_is_never_taken_for_one(refused: Refused, number: str) -> None:
    message = refused(STUDY.replace("updates: 1,", f"updates: {number},"))
    assert "train.updates: " in message and "line 3" in message
    assert "train.updates: " in refused(STUDY, f"train.updates={number}")
    assert "train.updates" in refused(STUDY, f"axes={{train.updates: [{number}]}}")


@pytest.mark.parametrize("key", ["learner.lr", "seeds", "train.groups", "train.worlds.steward.oversight"])
def test_true_is_no_number_anywhere(refused: Refused, key: str) -> None:
    assert f"{key.rpartition('.')[2]}: write a number, not true" in refused(STUDY, f"{key}=true")


@pytest.mark.parametrize("word", ["yes", "on", "1", "'true'"])
def test_only_true_and_false_are_booleans(refused: Refused, word: str) -> None:
    assert "eval.base: write true or false, not " in refused(STUDY, f"eval.base={word}")


def test_merge_keys_work(tmp_path: Path) -> None:
    file = tmp_path / "merged.yaml"
    file.write_text(STUDY + "  a: &a {role: treatment, label: A}\n  b: {<<: *a, label: B}\n")
    arms = load_study(file).arms
    assert [(arm.role, arm.label) for arm in arms.values()] == [
        ("reference", ""),
        ("treatment", "A"),
        ("treatment", "B"),
    ]


@pytest.mark.parametrize(
    ("field", "variable"),
    [("{use: wandb, api_key: HUSH}", "WANDB_API_KEY"), ("{use: trackio, token: HUSH}", "HF_TOKEN"),
     ("{use: 'mine:T', password: [HUSH}", ""), ("{use: 'mine:T', db: {passWord: HUSH, port: x y}}", "PASS_WORD")],
)  # fmt: skip
def test_a_secret_is_refused_and_never_shown(refused: Refused, field: str, variable: str) -> None:
    in_file, in_override = refused(f"{STUDY}tracking: [{field}]"), refused(STUDY, f"tracking=[{field}]")
    for message in (in_file, in_override):
        assert "HUSH" not in message and variable in message
    assert "HUSH" not in refused(STUDY, "learner.token=HUSH: [")
    assert "HUSH" not in refused(STUDY, "learner.token=HUSH")


def test_what_looks_on_and_what_an_arm_is_for_cannot_be_misspelt(refused: Refused) -> None:
    assert "unknown field 'projct' (did you mean 'project'?)" in refused(STUDY, "tracking=[{use: wandb, projct: x}]")
    assert "did you mean 'control'?" in refused(STUDY.replace("reference", "irelevant_contrl"))


def test_a_model_whose_settings_cannot_be_saved_is_refused_before_any_training(refused: Refused) -> None:
    model = Path("model")
    model.mkdir()
    for name, text in {
        "config.json": '{"model_type": "llama"}',
        "generation_config.json": '{"max_new_tokens": -1}',
    }.items():
        (model / name).write_text(text)
    assert "model: model: generation_config.json cannot be loaded" in refused(STUDY, "model=./model")


def test_a_class_of_the_started_program_is_no_plugin(refused: Refused) -> None:
    message = refused(STUDY, "arms.unshaped.reward={use: '__main__:Mine'}")
    assert "__main__ is the program that was started" in message and "put the class into a module" in message
