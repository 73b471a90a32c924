"""Writes the pictures of the documentation, and the table beside them, from the code. `python -m docs.pictures.render`.

A test compares.
"""

from __future__ import annotations

import inspect
from pathlib import Path

from docs.marked_tables import between_marks, table_of
from docs.pictures import transcript, update
from envs import WORLDS
from shaping.organisms.corpus.corpus_options import SIZES

FOLDER = Path(__file__).parent
PAGE = FOLDER.parent / "start" / "pictures.md"


def pictures() -> dict[str, str]:
    """File -> its content."""
    return {"update.svg": update.draw(), "transcript.svg": transcript.draw()}


def worlds() -> str:
    """The worlds that organisms know: what the agent does, and what the overseer asks."""
    rows = [
        (
            f"[{name}](../worlds/{name}.md)",
            (inspect.getdoc(WORLDS[name]) or "").partition("\n")[0],
            WORLDS[name].question,
        )
        for name in SIZES
    ]
    return table_of(("world", "what the agent does", "what the overseer asks"), rows)


def rendered(page: str) -> str:
    """The page with the present table."""
    return between_marks(page, "worlds", worlds())


if __name__ == "__main__":
    for name, drawn in pictures().items():
        (FOLDER / name).write_text(drawn, encoding="utf-8")
        print(f"wrote {name}")
    PAGE.write_text(rendered(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
