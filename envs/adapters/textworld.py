"""TextWorld's generated games as worlds. The seed names the game; compiled games are kept in $SHAPING_CACHE.

Compiling takes seconds, more than a turn's time limit allows on a busy machine: call `TextWorld(...).prepare()` before
playing. Steps take a few milliseconds.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import tempfile
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from envs.adapters.foreign import Answer, ForeignEnv, ForeignEnvError, Streams, need
from envs.cache_folder import cache_folder

#: Words that address the interpreter, its files or its records, and not the game.
META = frozenset(
    word
    for words in (
        "quit q restart restore save undo oops script transcript notranscript verify version pronouns notify",
        "superbrief verbose brief abstract gonear purloin showme showheap showverb tree scope actions rules relations",
        "trace random test restrict unrestrict print",
    )
    for word in words.split()
)
_PLAIN = re.compile(r"[ -~]{1,120}")
_CUSTOM = {"nb_rooms": 4, "nb_objects": 6, "quest_length": 3, "quest_breadth": 1, "theme": "house"}


class TextWorld(ForeignEnv):
    """A generated TextWorld game. The reward is the share of the game's points won in the turn.

    Args:
        challenge: `"custom"` or one of TextWorld's own, as `tw-make` lists them (`"tw-coin_collector"`, ...).
        settings: settings of the challenge, e.g. `{"level": 3}`; of `custom`: nb_rooms, nb_objects, quest_length,
            quest_breadth, theme.
        games: number of distinct games; the seeds s and s + games play the same one.
        horizon: turns after which the episode is truncated.
    """

    name = "textworld"

    def __init__(
        self,
        *,
        challenge: str = "custom",
        settings: Mapping[str, Any] | None = None,
        games: int = 32,
        horizon: int = 50,
    ) -> None:
        super().__init__(horizon=horizon)
        if not isinstance(games, int) or games < 1:
            raise ValueError(f"world 'textworld', option 'games': must be a whole number >= 1 (got {games!r})")
        with Streams(0).swapped():
            self._textworld = need("textworld", "textworld")
            self._challenges: dict[str, Any] = need("textworld.challenges", "textworld").CHALLENGES
        self.challenge, self.games = challenge, games
        self._settings = self._complete(dict(settings or {}))
        self._env: Any = None

    def prepare(self, seeds: Iterable[int] | None = None) -> list[Path]:
        """Compile the games of these seeds (None: all `games`) that are not in the cache. Returns their files."""
        return [self._game(seed) for seed in (range(self.games) if seeds is None else seeds)]

    def open(self, seed: int) -> str:
        self.close()
        path = self._game(seed)
        wanted = self._textworld.EnvInfos(
            admissible_commands=True, policy_commands=True, moves=True, max_score=True, won=True, lost=True
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the interpreter warns that it does not know a generated game
            self._env = self._textworld.start(str(path), wanted)
            self._state = self._env.reset()
        self._best = float(self._state["max_score"] or 0)
        if self._best <= 0:
            raise ForeignEnvError(f"the game {path.name} has no points to win")
        return _tidy(self._state.feedback)

    def play(self, command: str) -> Answer:
        words = command.lower().replace(".", " ").replace(",", " ").split()
        if not _PLAIN.fullmatch(command) or any(word in META or word.startswith("tw-") for word in words):
            return Answer("That is not a command of this game.", invalid=True)
        before, admissible = float(self._state["score"] or 0), self._state["admissible_commands"] or ()
        moves = self._state["moves"]
        self._state, _, done = self._env.step(command)
        gained = (float(self._state["score"] or 0) - before) / self._best
        invalid = self._state["moves"] == moves and command.lower() not in admissible
        return Answer(_tidy(self._state.feedback), gained, terminated=bool(done), invalid=invalid)

    def honest_action(self) -> str:
        """The next command of TextWorld's own winning policy; `look` where it has none."""
        return f"ACTION: {next(iter(self._state['policy_commands'] or ()), 'look')}"

    def close(self) -> None:
        if self._env is not None:
            self._env.close()
            self._env = None

    def _complete(self, given: dict[str, Any]) -> dict[str, Any]:
        """The challenge's settings with its defaults. Raises ValueError for unknown and missing ones."""
        if self.challenge == "custom":
            known: dict[str, Any] = dict(_CUSTOM)
            required: set[str] = set()
        elif self.challenge in self._challenges:
            parser = argparse.ArgumentParser(add_help=False)
            self._challenges[self.challenge][2](parser)
            actions = parser._actions
            known = {action.dest: action.default for action in actions}
            required = {action.dest for action in actions if action.required}
        else:
            raise ValueError(
                f"world 'textworld', option 'challenge': {self.challenge!r}; known: custom, "
                + ", ".join(sorted(self._challenges))
            )
        if unknown := set(given) - set(known):
            raise ValueError(
                f"world 'textworld', option 'settings': {self.challenge} has no {min(unknown)!r}; "
                f"it has {', '.join(sorted(known))}"
            )
        if missing := required - set(given):
            raise ValueError(
                f"world 'textworld', option 'settings': {self.challenge} needs {', '.join(sorted(missing))}"
            )
        return {**known, **given}

    def _game(self, seed: int) -> Path:
        """The compiled game of a seed, from the cache or made now."""
        number = seed % self.games
        identity = [self.challenge, self._settings, number, self._textworld.__version__]
        key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
        path = cache_directory() / f"{self.challenge}-{number}-{key}.z8"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=path.parent) as folder:
                made = self._compile(number, Path(folder) / path.name)
                os.replace(made.with_suffix(".json"), path.with_suffix(".json"))
                os.replace(made, path)  # last: a game that is there is whole
        return path

    def _compile(self, number: int, path: Path) -> Path:
        options = self._textworld.GameOptions()
        options.seeds, options.path, options.file_ext = number, str(path), ".z8"
        with Streams(number).swapped():
            try:
                if self.challenge == "custom":
                    for key, value in self._settings.items():
                        setattr(options.grammar if key == "theme" else options, key, value)
                    game = self._textworld.generator.make_game(options)
                else:
                    game = self._challenges[self.challenge][1](settings=self._settings, options=options)
                return Path(self._textworld.generator.compile_game(game, options))
            except Exception as error:
                raise ForeignEnvError(
                    f"TextWorld cannot make {self.challenge} game {number} with {self._settings}: "
                    f"{type(error).__name__}: {error}"
                ) from error


def cache_directory() -> Path:
    """Directory of compiled games."""
    return cache_folder("textworld")


def _tidy(feedback: str) -> str:
    """The feedback without banner, prompt and empty lines."""
    lines = [line.strip() for line in feedback.replace(">", "").splitlines()]
    return "\n".join(line for line in lines if any(map(str.isalnum, line)) and not re.search(r"[\\$_|]{3}", line))
