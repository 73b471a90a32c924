"""A game of the MACHIAVELLI benchmark (arXiv 2304.03279), read from a folder that the user supplies.

The games' texts belong to their publisher and are not part of this package. Three files of the benchmark's `game_data`
are read: `trees/<game>_game_tree.json` (scene -> `children`, `parents`), `scenarios/<game>_scenarios_bfs_filled.json`
(scene -> text, whose first line is the choice that leads there) and `annotations_clean/<game>.json` (`scenes` -> scene
-> `morality` -> annotation in [0, 1]).

The games' own scripts are not run. Conditions on variables are ignored, so every choice of the tree is open. The
achievements that the scripts pay are unknown here; `points` says which scenes pay.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from envs.adapters.foreign import Answer, ForeignEnv

#: Annotations that count as harm; `deception` is a trait of its own, the others have none.
HARM = ("killing", "physical_harm", "nonphysical_harm", "intending_harm")


class Machiavelli(ForeignEnv):
    """One game. The seed changes nothing: every episode starts at the same scene.

    Labels are the largest annotations of the scenes that a choice leads through: `deception`, and `harm` as the largest
    of `HARM`. A language model wrote them; they describe the protagonist's acts.

    Args:
        folder: the benchmark's `game_data`.
        game: e.g. `"dragon"`.
        points: scene -> points for reaching it the first time (None: `<folder>/points/<game>.json`, the same mapping).
        horizon: choices after which the episode is truncated.
    """

    name = "machiavelli"

    def __init__(
        self, *, folder: str, game: str, points: Mapping[str, float] | None = None, horizon: int = 500
    ) -> None:
        super().__init__(horizon=horizon)
        self.game, root = game, Path(folder).expanduser()
        if not (root / "trees").is_dir():
            raise ValueError(
                f"world 'machiavelli', option 'folder': {root} has no folder 'trees'; it must be the `game_data` "
                "folder of the MACHIAVELLI benchmark, which its authors distribute"
            )
        if not (root / "trees" / f"{game}_game_tree.json").is_file():
            known = sorted(path.name.removesuffix("_game_tree.json") for path in root.glob("trees/*_game_tree.json"))
            raise ValueError(f"world 'machiavelli', option 'game': no {game!r} in {root}; there: {', '.join(known)}")
        tree = _read(root / "trees" / f"{game}_game_tree.json")
        self._texts = {k: str(v) for k, v in _read(root / "scenarios" / f"{game}_scenarios_bfs_filled.json").items()}
        notes = root / "annotations_clean" / f"{game}.json"
        self._traits = {scene: _traits(note, scene, notes) for scene, note in _table(_read(notes), "scenes", notes)}
        self._children = _children(tree, root / "trees" / f"{game}_game_tree.json")
        self._first = _first(tree, root)
        if points is None:
            points = _read(root / "points" / f"{game}.json", "or give `points`, {} to play without")
        self._points = {scene: float(value) for scene, value in points.items()}
        if strange := [s for s, v in self._points.items() if s not in self._children or not math.isfinite(v)]:
            raise ValueError(
                f"world 'machiavelli', points: {strange[0]!r} is no scene of {game!r}, or no finite number"
            )
        self.max_return = sum(value for value in self._points.values() if value > 0)

    def open(self, seed: int) -> str:
        self._seen: set[str] = set()
        text, _, _ = self._follow(self._first)
        return text

    def play(self, command: str) -> Answer:
        if not (command.isascii() and command.isdecimal() and 1 <= int(command[:6]) <= len(self._choices)):
            return Answer(f"Say the number of a choice.\n{self._menu()}", invalid=True)
        possible = {trait for choice in self._choices for trait, value in self._ahead(choice) if value}
        text, reward, traits = self._follow(self._choices[int(command) - 1])
        happened = tuple((trait, value) for trait, value in traits if value)
        return Answer(text, reward, not self._choices, traits=happened, opportunity=frozenset(possible))

    def _chain(self, scene: str) -> list[str]:
        """The scenes from this one to the next that offers a choice or ends the game."""
        chain = [scene]
        while len(following := self._children[chain[-1]]) == 1 and following[0] not in chain:
            chain.append(following[0])
        return chain

    def _ahead(self, scene: str) -> list[tuple[str, float]]:
        """The traits annotated on the way to the next choice, the largest of each."""
        rows = [self._traits.get(each, {}) for each in self._chain(scene)]
        return [(trait, max(row.get(trait, 0.0) for row in rows)) for trait in ("deception", "harm")]

    def _follow(self, scene: str) -> tuple[str, float, list[tuple[str, float]]]:
        """Go on to the next choice. Returns the text on the way, the points for it, and the traits shown."""
        chain, traits = self._chain(scene), self._ahead(scene)
        reward = sum(self._points.get(each, 0.0) for each in set(chain) - self._seen)
        self._seen |= set(chain)
        following = self._children[chain[-1]]
        self._choices = following if len(following) > 1 else ()
        told = [self._texts[each].strip() for each in chain if each in self._texts]
        return "\n".join([*told, self._menu()]), reward, traits

    def _menu(self) -> str:
        if not self._choices:
            return "the end ."
        lines = [(self._texts.get(each, "").strip().splitlines() or ["go on"])[0] for each in self._choices]
        return "\n".join(f"{number} : {line}" for number, line in enumerate(lines, 1))


def _read(path: Path, otherwise: str = "") -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(f"world 'machiavelli': {path} is missing; supply it {otherwise}".rstrip()) from error
    except (OSError, ValueError) as error:
        raise ValueError(f"world 'machiavelli': {path} is not readable JSON ({error})") from error
    if not isinstance(content, dict):
        raise ValueError(f"world 'machiavelli': {path} must hold an object, not {type(content).__name__}")
    return content


def _table(content: Mapping[str, Any], key: str, path: Path) -> Iterable[tuple[str, Any]]:
    if not isinstance(content.get(key), dict):
        raise ValueError(f"world 'machiavelli': {path} must have an object {key!r}")
    items: Iterable[tuple[str, Any]] = content[key].items()
    return items


def _traits(note: Any, scene: str, path: Path) -> dict[str, float]:
    try:
        morality = {str(key): float(value) for key, value in note["morality"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"world 'machiavelli': {path}, scene {scene!r}: `morality` must be numbers ({error})"
        ) from error
    if not all(0 <= value < math.inf for value in morality.values()):
        raise ValueError(f"world 'machiavelli': {path}, scene {scene!r}: annotations must be finite and not negative")
    return {
        "deception": morality.get("deception", 0.0),
        "harm": max((morality.get(key, 0.0) for key in HARM), default=0.0),
    }


def _children(tree: Mapping[str, Any], path: Path) -> dict[str, tuple[str, ...]]:
    children: dict[str, tuple[str, ...]] = {}
    for scene, node in tree.items():
        following = node.get("children") if isinstance(node, dict) else None
        if not isinstance(following, list):
            raise ValueError(f"world 'machiavelli': {path}, scene {scene!r}: `children` must be a list")
        if unknown := [each for each in following if each not in tree]:
            raise ValueError(
                f"world 'machiavelli': {path}, scene {scene!r} leads to {unknown[0]!r}, which is not there"
            )
        children[scene] = tuple(following)
    return children


def _first(tree: Mapping[str, Any], root: Path) -> str:
    """The scene without parents; of several, the first in the file."""
    found = next((scene for scene, node in tree.items() if not node.get("parents")), None)
    if found is None:
        raise ValueError(f"world 'machiavelli': the tree in {root} has no scene without `parents` to start from")
    return found
