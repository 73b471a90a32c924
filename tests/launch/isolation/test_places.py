"""What an isolated plug-in may read: packages and modules, and never a directory that holds the output."""

from __future__ import annotations

from pathlib import Path

import pytest

from launch.config.isolation import hidden_by
from launch.isolation.places import linked, modules_in, without


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A user's folder: two plug-ins, a package, results, and secrets."""
    for name in (
        "mine.py",
        "pack/__init__.py",
        "pack/deep/more.py",
        "runs/study/run.json",
        ".env",
        "notes.txt",
        "a b.py",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def test_only_modules_and_packages_of_a_folder_are_shown(project: Path) -> None:
    assert {path.name for path in modules_in(project, project / "elsewhere")} == {"mine.py", "pack"}


def test_a_package_that_holds_the_output_is_not_shown(project: Path) -> None:
    assert {path.name for path in modules_in(project, project / "pack" / "deep")} == {"mine.py"}


def test_a_directory_is_cut_around_the_output(project: Path) -> None:
    shown = {path.relative_to(project).as_posix() for path in without(project, project / "runs" / "study")}
    assert shown == {"mine.py", "pack", ".env", "notes.txt", "a b.py"}
    assert list(without(project / "runs" / "study" / "run.json", project / "runs")) == []


def test_a_link_to_the_output_is_followed_before_it_is_shown(project: Path) -> None:
    (project / "sly.py").symlink_to(project / "runs" / "study" / "run.json")
    assert "sly.py" not in {path.name for path in modules_in(project, project / "runs")}


def test_the_search_path_has_links_in_place_of_a_users_folder(
    project: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    inside = tmp_path_factory.mktemp("inside")
    path, readable = linked([str(project), str(project / "absent")], inside, project / "runs")
    (links,) = path
    assert sorted(child.name for child in Path(links).iterdir()) == ["mine.py", "pack"]
    assert set(readable) == {project / "mine.py", project / "pack"}


def test_the_output_of_all_studies_is_hidden_unless_modules_lie_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert hidden_by("runs", "small") == str(tmp_path / "runs")
    assert hidden_by(".", "small") == str(tmp_path / "small")
    assert hidden_by("~/x", "small") == str(Path.home() / "x")
