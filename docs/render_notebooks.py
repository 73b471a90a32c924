"""Runs the notebooks of docs/notebooks and writes their outputs: `python -m docs.render_notebooks [NAME...]`.

What is committed says nothing of the machine: paths are cut, and times and versions of the kernel are left out.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from traitlets.config import Config

from envs.escaping import placeless

FOLDER = Path(__file__).resolve().parent / "notebooks"
SECONDS = 240
"""For one notebook; they take a tenth of it on a quiet core."""
MOST_BYTES = 300_000
NO_WIDGETS = "ignore:IProgress not found"
"""tqdm asks for widgets, which are not needed here."""


def executed(path: Path, seconds: int = SECONDS) -> nbformat.NotebookNode:
    """The notebook with its outputs, run in its folder. Raises `CellExecutionError` at the first cell that fails."""
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as sockets:
        client = NotebookClient(
            notebook,
            timeout=seconds,
            kernel_name="python3",
            startup_timeout=seconds,
            resources={"metadata": {"path": str(path.parent)}},
            config=Config(KernelManager={"transport": "ipc", "ip": f"{sockets}/kernel"}),  # sockets of this user alone
        )
        client.execute(env=os.environ | {"PYTHONWARNINGS": NO_WIDGETS})
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        cell.metadata = {}
        for output in cell.get("outputs", ()):
            _strip(output)
    return notebook


def _strip(output: nbformat.NotebookNode) -> None:
    output.get("metadata", {}).clear()
    for kind, text in output.get("data", {}).items():
        output.data[kind] = placeless(text) if isinstance(text, str) else text
    if "text" in output:
        output["text"] = placeless(output["text"])


def main(names: list[str]) -> None:
    for path in sorted(FOLDER.glob("*.ipynb")):
        if not names or path.stem in names:
            notebook = executed(path)
            nbformat.validate(notebook)
            nbformat.write(notebook, path)
            print(f"{path.name}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(sys.argv[1:])
