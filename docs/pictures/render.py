"""Writes the pictures of the documentation from the code. `python -m docs.pictures.render`; a test compares."""

from __future__ import annotations

from pathlib import Path

from docs.pictures import transcript, update

FOLDER = Path(__file__).parent


def pictures() -> dict[str, str]:
    """File -> its content."""
    return {"update.svg": update.draw(), "transcript.svg": transcript.draw()}


if __name__ == "__main__":
    for name, drawn in pictures().items():
        (FOLDER / name).write_text(drawn, encoding="utf-8")
        print(f"wrote {name}")
