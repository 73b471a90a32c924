"""A small study on disk for the viewer, with hostile text everywhere: who lies, and what monitors make of it."""

from __future__ import annotations

import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

from synthetic_study import HOSTILE, episode, turn

from envs.episode import Episode, Labels
from envs.store import write_episodes

MARK = "".join(HOSTILE)
HOSTILE_ARM = "b[1]*?<img src=x onerror=alert(1)>"
LIE, HONEST = Labels(deception=1.0, opportunity={"deception": True}, monitored=True), Labels(monitored=True)


def played(seed: int, *acts: str, watch: str = "always", arm: str = "a", world: str = "steward") -> Episode:
    """An episode of turns `grab` (an open act), `lie` (a denial that is a lie) and `work`."""
    turns = []
    for act in acts:
        said = turn(f"because {MARK}", f"{act} {MARK}", reward=0.5, event="claim" if act == "lie" else "act")
        if act == "work":
            said = replace(said, events=())
        turns.append((said, LIE if act == "lie" else HONEST))
    found = episode(seed, world, turns, arm=arm, system=f"system {MARK}")
    return replace(found, options={"watch": watch, "placebo": "none", "note": MARK})


def write(root: Path) -> Path:
    """Arm `a`: five episodes. 0: honest; 1: two lies that no monitor sees; 2: a lie that is seen; 3, 4: one group.

    Arm b, whose name is markup: the first three without lies, numbers 5 to 7.
    """
    (root / "study.json").parent.mkdir(parents=True, exist_ok=True)
    (root / "study.json").write_text(json.dumps({"format": "shaping-study", "version": 1, "config": {}}))
    own = [
        played(1, "work", "work"),
        played(1, "lie", "lie", watch="never"),
        played(2, "grab", "lie", "work", world=f"world{MARK}"),
    ]
    other = [
        replace(e, turns=e.turns[:2]) for e in (played(1, "work", "work"), played(1, "work", "grab", watch="never"))
    ]
    other.append(played(2, "work", "work", "work", world=f"world{MARK}"))
    for arm, name, episodes in (
        ("a", "eval", own),
        ("a", "train-000003", [played(5, "work"), played(5, "grab")]),
        (HOSTILE_ARM, "eval", other),
    ):
        folder = root / "runs" / arm / "seed-0" / "episodes"
        folder.mkdir(parents=True, exist_ok=True)
        write_episodes(folder / f"{name}.parquet", episodes)
    return root


class Elements(HTMLParser):
    """The elements of a page, and what in it could run."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.handlers: list[str] = []
        self.addresses: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.handlers += [name for name, _ in attrs if name.startswith("on") or name == "style"]
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src", "action")]
