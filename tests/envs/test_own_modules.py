"""Plug-ins are found beside a study's file, in the working directory and by path, and none is hidden in silence."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from envs.modules import own_modules
from envs.modules.own_modules import OwnModuleError, import_class, look_beside, named
from launch.config.loading import load_study
from launch.config.plugin_sources import plugin_code
from launch.config.plugins import REWARD, PluginError, find_class
from launch.errors import UserError

ROOT = Path(own_modules.__file__).parents[2]
SOURCE = """
from rewards.base import Reward

class Mine(Reward):
    where: str = {where!r}

    def score(self, episode):
        return [1.0 for turn in episode.turns]
"""
STUDY = """
name: small
train: {{worlds: {{clerk: {{}}}}, updates: 1, groups: 1, group_size: 2}}
eval: {{worlds: {{clerk: {{}}}}}}
arms: {{one: {{role: reference, reward: {use}}}}}
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory, with another folder beside it; the path and the modules are as before afterwards."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(own_modules, "_beside", {})
    known = set(sys.modules)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    yield tmp_path / "work"
    for name in set(sys.modules) - known:
        del sys.modules[name]


def write(file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(SOURCE.format(where=file.parent.name))
    return file


def test_a_module_beside_the_study_is_found_from_everywhere(here: Path) -> None:
    write(here.parent / "studies" / "paying.py")
    study = here.parent / "studies" / "small.yaml"
    study.write_text(STUDY.format(use="paying:Mine"))
    (run,) = load_study(study, ["seeds=1"]).runs()
    assert find_class("paying:Mine", REWARD)().where == "studies"
    assert plugin_code(run)["paying:Mine"]["files"].keys() == {"paying.py"}


def test_a_file_is_named_by_its_path_from_the_study_or_the_working_directory(here: Path) -> None:
    write(here / "envs" / "paying.py")
    write(here.parent / "studies" / "own" / "paying.py")
    first = import_class("./envs/paying.py:Mine")
    look_beside(here.parent / "studies")
    second = import_class("./own/paying.py:Mine")
    assert (first().where, second().where) == ("envs", "own")
    assert named(first) == "./envs/paying.py:Mine" and import_class("./envs/paying.py:Mine") is first


@pytest.mark.parametrize("name", ["rewards.py", "rewards/__init__.py", "envs/market.py", "launch/own.py"])
def test_a_file_that_one_of_our_packages_hides_is_an_error_with_both_files(here: Path, name: str) -> None:
    file = write(here / name)
    module = name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    with pytest.raises(PluginError) as told:
        find_class(f"{module}:Mine", REWARD)
    for part in (str(file), str(ROOT / module.partition(".")[0]), f"./{name}:Mine"):
        assert part in str(told.value)
    assert find_class(f"./{name}:Mine", REWARD)().where == file.parent.name


def test_two_files_of_one_name_are_an_error_with_both(here: Path) -> None:
    files = [write(here.parent / "studies" / "paying.py"), write(here / "paying.py")]
    look_beside(files[0].parent)
    with pytest.raises(OwnModuleError) as told:
        import_class("paying:Mine")
    assert all(str(file) in str(told.value) for file in files)


def test_a_file_that_an_installed_module_hides_is_named(here: Path) -> None:
    file = write(here / "colorsys.py")
    with pytest.raises(PluginError, match=r"colorsys has no class 'Mine'.*is hidden by.*colorsys\.py") as told:
        find_class("colorsys:Mine", REWARD)
    assert str(file) in str(told.value)


def test_what_is_nowhere_is_told_with_the_places(here: Path) -> None:
    with pytest.raises(PluginError, match=f"neither installed nor in {here}"):
        find_class("nothing_here:Mine", REWARD)
    with pytest.raises(PluginError, match=r"there is no file '\./nothing\.py'"):
        find_class("./nothing.py:Mine", REWARD)


@pytest.mark.parametrize("name", ["launch.py", "envs/__init__.py"])
def test_a_module_that_hides_one_of_our_packages_is_an_error_with_both_files(tmp_path: Path, name: str) -> None:
    file = write(tmp_path / name)
    path = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    done = subprocess.run([sys.executable, "-m", "shaping"], env=path, cwd=ROOT.parent, capture_output=True, text=True)
    ours = ROOT / Path(name).parts[0].removesuffix(".py")
    assert done.returncode == 1 and done.stderr.startswith(f"error: {file} hides")
    assert str(ours) in done.stderr and "rename it" in done.stderr


def test_workers_of_ray_find_our_packages_before_the_working_directory(tmp_path: Path) -> None:
    """Ray puts the driver's working directory before everything else."""
    write(tmp_path / "rewards.py")
    code = (
        f"import sys; sys.argv = ['x/default_worker.py']; sys.path.insert(0, {str(tmp_path)!r})\n"
        "import launch, rewards.base; print(sys.path[-1])"
    )
    path = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=path, cwd=tmp_path.parent, capture_output=True, text=True)
    assert done.stdout.strip() == str(tmp_path), done.stderr


def test_a_package_hidden_from_workers_is_refused_before_ray_starts(here: Path) -> None:
    from launch.distributed.local import RaySettings, running_ray

    file = write(here / "launch.py")
    with pytest.raises(UserError, match="from the workers of this run") as told, running_ray(RaySettings()):
        pass
    assert str(file) in str(told.value)
