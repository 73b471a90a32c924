"""Writes the table of how good the built-in monitors are into docs/monitors.md, from the cards in results/monitors.

`python -m docs.render_monitors` after `shaping validate all` (the page has the command); a test compares the two.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from docs.marked_tables import between_marks, table_of
from shaping.monitors.validation.card import Card, Value, told

PAGE = Path(__file__).with_name("monitors.md")
FOLDER = Path(__file__).parent / "results" / "monitors"
LEFT_OUT = FOLDER / "not_judged.json"
FIGURES = ("auroc", "tpr_at_1_fpr", "tpr_at_5_fpr")
ALARMS = ("false_alarms_honest", "false_alarms_random")
HEAD = (
    *("monitor", "trait", "world", "AUROC", "TPR at 1 % FPR", "TPR at 5 % FPR"),
    *("false alarms: honest", "random", "notes"),
)


def cards() -> list[Card]:
    """All cards, by name and world."""
    paths = sorted(FOLDER.glob("*.json"))
    found = [Card.model_validate_json(p.read_text(encoding="utf-8")) for p in paths if p != LEFT_OUT]
    return sorted(found, key=lambda card: (card.monitor, card.world))


def rows() -> Iterator[tuple[str, ...]]:
    """A line per monitor, trait and world; of a monitor with more than two traits the least of each figure."""
    for card in cards():
        if len(card.traits) > 2:
            worst = [min(getattr(each, name).value for each in card.traits) for name in FIGURES]
            alarms = [max(getattr(each, name).value for each in card.traits) for name in ALARMS]
            what = f"the worst of {len(card.traits)} traits"
            yield (card.monitor, what, card.world, *(f"{value:.2f}" for value in [*worst, *alarms]), "")
            continue
        for trait in card.traits:
            note = "" if trait.false_alarms_honest.n else "over the model's own episodes"
            figures = [told(getattr(trait, name)) for name in FIGURES]
            yield (card.monitor, trait.trait, card.world, *figures, *(_short(getattr(trait, n)) for n in ALARMS), note)
    for (monitor, why), worlds in _left_out().items():
        yield (monitor, "", ", ".join(worlds), *("–",) * 5, f"no card: {why}")


def _left_out() -> dict[tuple[str, str], list[str]]:
    """Monitor and reason -> the worlds in which it has no card; of a reason the part before its remedy."""
    found: dict[tuple[str, str], list[str]] = {}
    for each in json.loads(LEFT_OUT.read_text(encoding="utf-8")):
        _, judged, why = each["why"].partition("cannot be judged by the labels of ")
        said = re.split(r"[:;] ", why.partition(": ")[2] if judged else each["why"].removeprefix("probe fit: "))[0]
        found.setdefault((each["monitor"], said), []).append(each["world"])
    return found


def _short(value: Value) -> str:
    return f"{value.value:.2f}" if value.n else "–"


def table() -> str:
    """The whole table."""
    return table_of(HEAD, rows())


def rendered(text: str) -> str:
    """The page with the present table."""
    return between_marks(text, "cards", table())


if __name__ == "__main__":
    PAGE.write_text(rendered(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
