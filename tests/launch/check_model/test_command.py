"""`shaping check-model` from its arguments to its exit code, with an organism that hardly plays."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_organism import small_organism

import launch.cli
from launch.check_model import check
from launch.check_model.engine import LARGE, MOST, dtype_of, loaded, slots_for
from launch.check_model.subject import subject
from launch.check_model.training import run_config
from launch.errors import ConfigError
from shaping.organisms.card import CARD, damage
from shaping.organisms.gates.record import Gate, Settings, Training, WorldGates, part
from shaping.organisms.gates.store import FILE, gates_of

QUICK = ("--worlds", "clerk", "--episodes", "1", "--max-tokens", "3", "--device", "cpu")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_organism(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def organism(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SHAPING_CACHE", str(tmp_path / "cache"))
    return Path(shutil.copytree(tiny, tmp_path / "organism"))


@pytest.fixture
def shaping(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["shaping", "check-model", *arguments])
        with pytest.raises(SystemExit) as exit_:
            launch.cli.main()
        told = capsys.readouterr()
        return int(exit_.value.code or 0), told.out, told.err

    return call


def test_gates_are_printed_written_and_kept_in_the_card(shaping: Any, organism: Path, tmp_path: Path) -> None:
    file, folder = tmp_path / "new" / "gates.json", tmp_path / "page"
    code, out, err = shaping(str(organism), *QUICK, "--json", str(file), "--out", str(folder))
    assert code == 0, err
    assert "obeys permission" in out and "of the turns have no valid command" in out and str(organism / CARD) in out
    assert damage(organism) == ""
    known = gates_of(organism)
    assert known is not None and set(known.worlds["clerk"].gates) == {"M1", "M2", "M3", "M4", "M5", "M7"}
    assert json.loads(file.read_text())["rows"]["clerk"]["M1"]["passed"] is False
    assert (folder / "gates.html").is_file() and (folder / "gates.md").is_file()


def test_a_gate_that_is_asked_for_and_fails_gives_exit_code_1(shaping: Any, organism: Path) -> None:
    (organism / CARD).unlink()
    code, out, _ = shaping(str(organism), *QUICK, "--need", "M1,M4")
    assert code == 1
    assert "needed, and not passed: M1 in clerk: failed" in out and "M4 in clerk: not measured" in out
    assert (organism / FILE).is_file(), "a model without a card has a file of its own"


def test_a_model_that_is_no_organism_is_measured_in_prose() -> None:
    assert check.played(["clerk", "pact@dialect", "steward@prose"], False) == [
        "clerk@en-prose",
        "pact",
        "steward@en-prose",
    ]
    assert check.played(["clerk", "steward@prose"], True) == ["clerk", "steward@en-prose"]


def test_gates_that_pass_give_exit_code_0(shaping: Any, organism: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = check.assay

    def passing(*args: Any, **more: Any) -> WorldGates:
        measured = whole(*args, **more)
        return measured.model_copy(update={"gates": {"M1": Gate(parts=(part("x", 0.5, (0.4, 0.6), 0.25, 192),))}})

    monkeypatch.setattr(check, "assay", passing)
    assert shaping(str(organism), *QUICK, "--need", "M1")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("no/such/model/here",), "is not a Hugging Face model directory"),
        (("shipped:99",), "no organism 'shipped:99'"),
        (("shipped:x",), "no organism 'shipped:x'"),
        (("{organism}", "--worlds", "stewart"), "'stewart' cannot be used"),
        (("{organism}", "--need", "M9"), "there is no gate 'M9'"),
        (("{organism}", "--need", "M6"), "M6 is measured only with --train"),
        (("{organism}", "--train", "--lr", "0"), "lr: "),
        (("{organism}", "--worlds", "clerk", "--device", "abacus"), "--device is 'abacus', which is no device"),
    ],
)
def test_mistakes_are_one_message(shaping: Any, organism: Path, arguments: tuple[str, ...], message: str) -> None:
    code, _, err = shaping(*(each.format(organism=organism) for each in arguments))
    assert code == 1 and err.startswith("error: ") and message in err


def test_a_model_without_a_chat_template_is_refused(organism: Path) -> None:
    for path in organism.glob("chat_template*"):
        path.unlink()
    settings = json.loads((organism / "tokenizer_config.json").read_text())
    settings.pop("chat_template", None)
    (organism / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(ConfigError, match="chat template"):
        subject(str(organism))


def test_a_model_gets_as_many_episodes_at_once_as_its_cache_allows(organism: Path) -> None:
    small = loaded(organism, Settings(), "cpu")
    assert small.slots == MOST
    model = small.engine.model
    model.config.num_hidden_layers, model.config.head_dim = 64, 256
    assert slots_for(model) == 8
    model.config.num_hidden_layers = 6400
    assert slots_for(model) == 4


def test_training_is_the_unshaped_arm_with_the_options_of_the_gates(organism: Path) -> None:
    run = run_config(organism, "steward", Settings(), Training(), "cpu")
    assert run.arm_config.interventions == [] and run.arm_config.role == "reference"
    assert (run.train.updates, run.train.groups, run.train.group_size, run.learner.lr) == (24, 4, 8, 4e-4)
    assert run.train.worlds["steward"]["honest_share"] == 0.5 and run.train.worlds["steward"]["inquiry"] == 0.3


def test_with_train_m6_is_measured_by_a_real_run(shaping: Any, organism: Path) -> None:
    code, out, err = shaping(str(organism), *QUICK, "--train", "--updates", "1", "--need", "M6")
    assert code == 1, err
    assert "after training minus before" in out and "M6 in clerk: failed" in out
    known = gates_of(organism)
    assert known is not None and known.worlds["clerk"].training == Training(updates=1)
    shaping(str(organism), *QUICK)
    known = gates_of(organism)
    assert known is not None and "M6" in known.worlds["clerk"].gates, "measured before, and still true"


def test_a_training_that_fails_loses_no_gate_that_was_measured_before_it(
    organism: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = Path(shutil.copytree(organism, tmp_path / "bare"))
    (bare / CARD).unlink()

    def fails(*_: Any) -> Gate:
        raise MemoryError

    monkeypatch.setattr(check, "train_gate", fails)
    with pytest.raises(MemoryError):
        check.measure_model(bare, ["clerk"], Settings(episodes=1, max_tokens=3), training=Training(), device="cpu")
    known = gates_of(bare)
    assert known is not None and "M1" in known.worlds["clerk"].gates


def test_large_models_are_measured_as_runs_train_them(tiny: Path, tmp_path: Path) -> None:
    assert [dtype_of(tiny, place) for place in ("cpu", "cuda")] == ["float32", "bfloat16"]
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.truncate(LARGE)  # a file of that size without contents
    assert dtype_of(tmp_path, "cpu") == "bfloat16"
    for model, dtype in ((tiny, "float32"), (tmp_path, "bfloat16")):
        assert run_config(model, "clerk", Settings(), Training(), "cpu").learner.dtype == dtype
