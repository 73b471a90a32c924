"""The notebooks run, and what is committed is small, complete and says nothing of the machine."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import nbformat
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # docs are written from the repository, not installed

from docs.render_notebooks import FOLDER, MOST_BYTES, executed

NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
PLACES = re.compile(r"(?<![\w.])/(?:home|work|root|tmp|usr|opt|Users)/")


def test_there_are_both() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["one_update_by_hand", "reading_a_study"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_is_committed_is_small_and_complete(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.encode()) < MOST_BYTES
    assert not PLACES.search(text) and not re.search(r"/work\w*/", text)
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1)), "run from top to bottom"
    assert all(output.output_type != "error" for cell in code for output in cell.outputs)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_and_shows_what_is_committed(path: Path) -> None:
    """Its own assertions hold, and every cell shows outputs of the same kinds as those that are committed."""
    before, now = nbformat.read(path, as_version=4), executed(path)

    def shown(notebook: nbformat.NotebookNode) -> list[set[str]]:
        outputs = [cell.get("outputs", ()) for cell in notebook.cells]
        return [{kind for each in own for kind in each.get("data", {"stream": ""})} for own in outputs]

    assert shown(now) == shown(before)
    assert [cell.source for cell in now.cells] == [cell.source for cell in before.cells]
