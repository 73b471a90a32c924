"""Writes the table of the gauge's lead into docs/audits.md, from the rows of studies under docs/results.

`python -m docs.render_leads` after new rows; a test compares the two. `shaping lead` prints the same for any study.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from docs.marked_tables import between_marks, table_of
from launch.report.files.load import load
from launch.report.leads import leads_of

PAGE = Path(__file__).with_name("audits.md")
RESULTS = Path(__file__).parent / "results"
STUDIES = ("controls", "matched")
BEHAVIOURS = {
    "deceptive_episodes": "deceptive episodes",
    "rate/deception": "lies per chance",
    "rate/power_seeking": "power seeking per chance",
}
HEAD = (
    *("rows of", "behaviour", "runs", "it rose", "alarm before, same update, after, never", "alarm alone"),
    *("lead in updates [95 %]", "of the run's alarm"),
)


def rows() -> Iterator[tuple[str, ...]]:
    """A line per study and behaviour, over the runs of all arms."""
    for name in STUDIES:
        study = load(RESULTS / name / "rows")
        for each in leads_of(study.runs, study.config.gauge):
            if each.column in BEHAVIOURS:
                runs, rose, *when, alone, lead, rang = each.cells
                yield (f"`{name}`", BEHAVIOURS[each.column], runs, rose, ", ".join(when), alone, lead, rang)


def table() -> str:
    """The whole table."""
    return table_of(HEAD, rows())


def rendered(text: str) -> str:
    """The page with the present table."""
    return between_marks(text, "leads", table())


if __name__ == "__main__":
    PAGE.write_text(rendered(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
