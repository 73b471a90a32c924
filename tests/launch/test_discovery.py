"""Adding a method, world, metric, claim, section or study is one new file. The files are the examples of CONTRIBUTING.

They are put into the packages that are scanned, or into a package of one's own with entry points.
"""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from plugin_settings import check_settings
from typer.testing import CliRunner
from waiting import wait_until

import launch.config.loading
from envs import WORLDS
from launch.catalogue import CATALOGUE
from launch.check import check_plugin
from launch.cli import app
from launch.config.loading import load_study
from launch.config.plugins import (
    CLAIM,
    INTERVENTION,
    KINDS,
    MONITOR,
    REWARD,
    SECTION,
    WORLD,
    Kind,
    PluginError,
    builtins,
    find_class,
)
from launch.report.build import build
from launch.study import run_study
from shaping.audits.metrics import all_metrics
from shaping.hook_names import misspelt_hook

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
FILES: dict[str, str] = dict(
    re.findall(r"^`((?:envs|rewards|shaping|launch)/\S+)`[^\n]*:\n\n```(?:python|yaml)\n(.*?)^```$", TEXT, re.M | re.S)
)
"""Path -> content of every example."""
EXAMPLES = {
    "shapers": ("StatedMotive", "shaping/shapers/stated_motive.py"),
    "constraints": ("ActPrice", "shaping/constraints/act_price.py"),
    "monitors": ("Haste", "shaping/monitors/haste.py"),
    "rewards": ("Brevity", "rewards/brevity.py"),
    "worlds": ("ledger", "envs/worlds/ledger.py"),
    "metrics": ("motive_words", "shaping/audits/conduct/motive_words.py"),
    "claims": ("KeepsShare", "launch/report/claims/kinds/keeps_share.py"),
    "sections": ("ThinkingAloud", "launch/report/sections/thinking_aloud.py"),
    "studies": ("copying", "launch/studies/copying.yaml"),
}
"""Kind -> name in configs, and the one file that defines it."""
GROUPS = {
    "shapers": "shaping.interventions",
    "constraints": "shaping.interventions",
    "monitors": "shaping.monitors",
    "rewards": "shaping.rewards",
    "worlds": "shaping.envs",
    "metrics": "shaping.metrics",
    "claims": "shaping.claims",
    "sections": "shaping.sections",
}
OBJECTS = {"worlds": "Ledger", "metrics": "MOTIVE_WORDS"}
"""What an entry point names where configs use another name."""


def forget() -> None:
    """Scan again: what was found is kept for a process."""
    WORLDS.forget()  # type: ignore[attr-defined]
    all_metrics.cache_clear()
    importlib.invalidate_caches()


@pytest.fixture
def scanned_again(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test adds is forgotten after it."""
    before = set(sys.modules)
    yield
    monkeypatch.undo()
    for name in set(sys.modules) - before:
        if name.replace(".", "/") + ".py" in FILES or name.startswith("own_package"):
            del sys.modules[name]
    forget()


@pytest.fixture
def built_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scanned_again: None) -> None:
    """The examples stand in the packages that are scanned, as far as those can tell."""
    for path, content in FILES.items():
        file = tmp_path / "tree" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content, encoding="utf-8")
        if file.suffix == ".py":
            package = importlib.import_module(".".join(Path(path).parent.parts))
            monkeypatch.setattr(package, "__path__", [*package.__path__, str(file.parent)])
    monkeypatch.setattr(launch.config.loading, "BUNDLED", tmp_path / "tree" / "launch" / "studies")
    forget()


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scanned_again: None) -> None:
    """The examples are modules of another package, which offers them by entry points."""
    site = tmp_path / "site"
    for folder in ("own_package", "own_package-1.0.dist-info"):
        (site / folder).mkdir(parents=True)
    (site / "own_package" / "__init__.py").touch()
    points: dict[str, list[str]] = {}
    for kind, group in GROUPS.items():
        name, path = EXAMPLES[kind]
        (site / "own_package" / Path(path).name).write_text(FILES[path], encoding="utf-8")
        points.setdefault(group, []).append(f"{name} = own_package.{Path(path).stem}:{OBJECTS.get(kind, name)}")
    text = "\n".join(f"[{group}]\n" + "\n".join(own) + "\n" for group, own in points.items())
    (site / "own_package-1.0.dist-info" / "entry_points.txt").write_text(text)
    (site / "own_package-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: own-package\nVersion: 1.0\n"
    )
    monkeypatch.syspath_prepend(str(site))
    (tmp_path / "copying.yaml").write_text(FILES[EXAMPLES["studies"][1]], encoding="utf-8")
    forget()


def listed(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["list", *arguments])
    assert done.exit_code == 0, done.exception
    return done.output


def line_of(name: str, output: str) -> str:
    (line,) = [line for line in output.splitlines() if line.split()[:1] == [name]]
    return line


def run_and_report(study: str, model: Path, tmp_path: Path) -> Path:
    """Two updates of every arm, and the report. The study's directory."""
    run = ["seeds=1", "train.updates=2", "train.max_tokens=8", f"model={model}", f"output={tmp_path}"]
    look = ["eval.episodes=2", "eval.watch=[never]", "eval.placebo=[off]", "eval.access_episodes=0"]
    done = run_study(load_study(study, [*run, *look]))
    assert len(done.finished) == 4 and not done.failed
    build(done.directory)
    return done.directory


def check_everything_was_used(directory: Path) -> None:
    rows = [json.loads(line) for path in directory.glob("runs/*/seed-0/metrics.jsonl") for line in path.open()]
    assert len(rows) == 4 * 2 and all(row["motive_words"] >= 0 for row in rows)
    results = [json.loads(path.read_text()) for path in directory.glob("runs/*/seed-0/result.json")]
    assert {result["family"] for result in results} == {"unshaped", "motivation", "constraint", "control"}
    assert all("motive_words.ledger" in result["summary"] for result in results)
    assert all("monitor.haste.reward_hack.false_positive_rate" in result["summary"] for result in results)
    (verdict,) = json.loads((directory / "report" / "verdicts.json").read_text())["verdicts"]
    assert verdict["claim"] == "C1" and "0.9 x" in json.dumps(verdict)
    for file in ("report.md", "index.html"):
        text = (directory / "report" / file).read_text(encoding="utf-8")
        for part in ("words per motive", "Thinking aloud", "The arm keeps nine tenths of the reward"):
            assert part in text, (file, part)
        assert re.search(r"stated_motive: [\d.]+.* words", text), file


def test_every_kind_has_an_example_of_one_file() -> None:
    assert {path for _, path in EXAMPLES.values()} == set(FILES)
    assert all(len(content.splitlines()) <= 125 for content in FILES.values())
    assert {*EXAMPLES, "personas", "prompts"} == set(CATALOGUE)


@pytest.mark.parametrize("kind", EXAMPLES)
def test_a_file_in_its_package_is_listed(built_in: None, kind: str) -> None:
    name, _ = EXAMPLES[kind]
    assert len(line_of(name, listed()).split()) > 3
    assert len(line_of(name, listed(kind)).split()) > 3


@pytest.mark.parametrize("kind", GROUPS)
def test_an_entry_point_of_another_package_is_listed(installed: None, kind: str) -> None:
    assert len(line_of(EXAMPLES[kind][0], listed(kind)).split()) > 3


def test_files_in_their_packages_are_used_in_a_run_and_seen_in_its_report(
    built_in: None, model: Path, tmp_path: Path
) -> None:
    check_everything_was_used(run_and_report("copying", model, tmp_path))


def test_another_package_is_used_in_a_run_and_seen_in_its_report(installed: None, model: Path, tmp_path: Path) -> None:
    check_everything_was_used(run_and_report(str(tmp_path / "copying.yaml"), model, tmp_path))


@pytest.mark.parametrize("kind", ["shapers", "constraints", "monitors", "rewards"])
def test_the_settings_of_the_examples_are_described(built_in: None, kind: str) -> None:
    name, path = EXAMPLES[kind]
    check_settings(getattr(importlib.import_module(path.removesuffix(".py").replace("/", ".")), name))


@pytest.mark.parametrize(
    ("kind", "options"),
    [("shapers", ["phrase=honestly"]), ("constraints", []), ("monitors", []), ("rewards", []), ("worlds", ["size=3"])],
)
def test_the_examples_keep_their_contracts(built_in: None, kind: str, options: list[str]) -> None:
    checked = check_plugin(EXAMPLES[kind][0], options, seeds=1, step_seconds=1.0)
    assert [each for each in checked.results if not each.ok] == []


def test_a_file_that_does_not_import_is_named(built_in: None, tmp_path: Path) -> None:
    (tmp_path / "tree" / "shaping" / "shapers" / "broken.py").write_text("import no_such_module\n")
    forget()
    told = str(CliRunner().invoke(app, ["list", "shapers"]).exception)
    assert "the built-in interventions cannot be listed" in told
    assert "broken.py, line 1" in told


def test_a_module_that_another_thread_still_imports_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = """
        import time
        from pathlib import Path
        Path(__file__).with_suffix(".begun").touch()
        while not Path(__file__).with_suffix(".end").exists():
            time.sleep(0.001)
        from envs.worlds.clerk import Clerk
        class Slow(Clerk):
            pass
    """
    file = tmp_path / "slow_module_of_a_world.py"
    file.write_text(textwrap.dedent(source))
    monkeypatch.syspath_prepend(tmp_path)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(find_class, f"{file.stem}:Slow", WORLD)
        wait_until(file.with_suffix(".begun").exists)
        others = [pool.submit(find_class, f"{file.stem}:Slow", WORLD) for _ in range(3)]
        time.sleep(0.2)
        file.with_suffix(".end").touch()
        assert {each.result() for each in (first, *others)} == {sys.modules[file.stem].Slow}
    del sys.modules[file.stem]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.noun)
def test_no_built_in_has_a_misspelt_hook(kind: Kind) -> None:
    if kind is not WORLD:
        assert [fault for found in builtins(kind).values() if (fault := misspelt_hook(found, kind.base_class()))] == []


def test_all_kinds_of_classes_are_plugins() -> None:
    assert set(KINDS) == {WORLD, INTERVENTION, REWARD, MONITOR, CLAIM, SECTION}


def test_the_list_of_metrics_is_the_registry() -> None:
    output = listed("metrics")
    for metric in all_metrics():
        assert metric.definition in output and f"unit: {metric.unit}" in output
    assert output.count("direction: ") == output.count("label: ") == len(all_metrics())


def test_to_list_everything_imports_neither_torch_nor_ray() -> None:
    code = (
        "import sys; from launch.catalogue import lines; [*lines()]\n"
        "print(*{'torch', 'ray', 'transformers'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize(
    ("kind", "method", "hook"),
    [
        (REWARD, "scor_group", "score_group"),
        (MONITOR, "suspect", "suspects"),
        (CLAIM, "problem", "problems"),
        (SECTION, "markdwn", "markdown"),
    ],
    ids=lambda value: getattr(value, "noun", value),
)
def test_a_misspelt_method_of_another_plug_in_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scanned_again: None, kind: Kind, method: str, hook: str
) -> None:
    module, _, base = kind.base.partition(":")
    source = f"from {module} import {base}\n\nclass Slip({base}):\n    def {method}(self):\n        pass\n"
    (tmp_path / "own_package_slip.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(PluginError, match=rf"Slip defines {method}\(\), .* did you mean {hook}\(\)"):
        find_class("own_package_slip:Slip", kind)
