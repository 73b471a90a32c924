"""TextArena's games as worlds: single-player games, and games of several seen from one seat.

`TextArena(game="GuessTheNumber-v0")`, `TextArena(game="KuhnPoker-v0", players=2, seat=1)`. A script or chance plays the
other seats. TextArena pays at the end of a game only. It draws from the global generator; here each world has its own
stream of that, and an episode starts from the game's constructor, because some games draw there.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import random
import re
from collections.abc import Callable, Sequence
from typing import Any

from envs.adapters.foreign import Answer, ForeignEnv, ForeignEnvError, Streams, need

Opponent = Callable[[int, str, random.Random], str]
"""(seat, texts since its last move, its random numbers) -> its move."""

LOSS = -1.0
_BRACKETS = re.compile(r"\[[^\[\]\n]{1,24}\]")
_FOREIGN_MOVES = 1000


class TextArena(ForeignEnv):
    """One seat of a TextArena game.

    Args:
        game: its id in TextArena's registry.
        players: number of players; a game's documentation says how many it needs.
        seat: number of the agent's seat.
        others: players of the other seats: `"random"` (a bracketed text the seat was shown, or one of `moves`), a
            sequence of moves said in turn, an `Opponent`, or `"package.module:function"` that names one.
        moves: further moves of `"random"`, for games whose rules show no example.
        game_options: passed to the game's constructor.
        horizon: the agent's turns after which the episode is truncated.
    """

    name = "textarena"

    def __init__(
        self,
        *,
        game: str,
        players: int = 1,
        seat: int = 0,
        others: str | Sequence[str] | Opponent = "random",
        moves: Sequence[str] = (),
        game_options: dict[str, Any] | None = None,
        horizon: int = 100,
    ) -> None:
        super().__init__(horizon=horizon)
        if not 0 <= seat < players:
            raise ValueError(f"world 'textarena', option 'seat': {seat} of {players} players; seats count from 0")
        with Streams(0).swapped():  # the import draws, too
            self._arena = need("textarena", "textarena")
        registry = self._arena.envs.registration.ENV_REGISTRY
        if game not in registry:
            near = ", ".join(difflib.get_close_matches(game, registry, n=3)) or "see textarena.pprint_registry()"
            raise ValueError(f"world 'textarena', option 'game': TextArena has no {game!r}; near: {near}")
        self.game, self.players, self.seat = game, players, seat
        self._moves, self._game_options = tuple(moves), dict(game_options or {})
        self._other = _opponent(others, self._moves)

    def open(self, seed: int) -> str:
        self._streams, self._rng = Streams(seed), random.Random(f"{seed}|others")
        self._invalid = False
        with self._streams.swapped():
            try:
                self._env = self._arena.make(self.game, **self._game_options)
                self._env.reset(num_players=self.players, seed=seed)
            except (Exception, SyntaxError) as error:
                raise ForeignEnvError(
                    f"TextArena cannot open {self.game!r} with {self.players} players: {type(error).__name__}: {error}"
                ) from error
            self._base = self._env
            while isinstance(self._base, self._arena.Wrapper):
                self._base = self._base.env  # wrappers repeat the whole conversation in each observation
            self._state = self._base.state
            self._watch_invalid_moves()
            if self._others_play(False) is not False:
                raise ForeignEnvError(f"TextArena ended {self.game!r} before seat {self.seat} could move")
            return self._told(self.seat)

    def play(self, command: str) -> Answer:
        self._invalid = False
        with self._streams.swapped():
            ended = bool(self._env.step(command)[0])
            invalid = self._invalid
            done = self._others_play(ended)
            if done is None:
                return Answer(self._told(self.seat), truncated=True, invalid=invalid)
            text = self._told(self.seat, over=done)
            if not done:
                return Answer(text, invalid=invalid)
            rewards, game_info = self._env.close()
        reason = str((game_info or {}).get(self.seat, {}).get("reason") or "")
        return Answer(f"{text}\n{reason}".strip(), _reward(rewards, self.seat), terminated=True, invalid=invalid)

    def _others_play(self, done: bool) -> bool | None:
        """Let the other seats move until it is the agent's turn. Is the game over? None: they go on without end."""
        for _ in range(_FOREIGN_MOVES):
            mover = int(self._state.current_player_id)
            if done or mover == self.seat:
                return done
            done = bool(self._env.step(self._other(mover, self._told(mover), self._rng))[0])
        return None

    def _told(self, seat: int, *, over: bool = False) -> str:
        """Texts to a seat since its last turn, without its own moves, which its transcript holds already."""
        messages: Any = self._state.observations[seat] if over else self._base.get_observation()[1]
        if isinstance(messages, str):
            return messages
        names = self._state.role_mapping
        echo = self._arena.ObservationType.PLAYER_ACTION
        return "\n".join(
            f"[{names.get(sender, f'Player {sender}')}] {text}"
            for sender, text, kind in messages
            if isinstance(sender, int) and not (kind == echo and sender == seat)  # some games mix up the arguments
        )

    def _watch_invalid_moves(self) -> None:
        """Record a refused move; no field of the game's state shows it afterwards."""
        refuse = self._state.set_invalid_move

        @functools.wraps(refuse)
        def noted(*args: Any, **kwargs: Any) -> Any:
            self._invalid = True
            if len(args) == 2 and isinstance(args[1], str):  # some games give (reward, reason)
                args = args[::-1]
            return refuse(*args, **kwargs)

        self._state.set_invalid_move = noted


def _reward(rewards: Any, seat: int) -> float:
    """The seat's reward at the end: 0 if the game names none, a loss if the "reward" is a text with the reason."""
    reward = (rewards or {}).get(seat, 0.0)
    return LOSS if isinstance(reward, str) else reward


def _opponent(others: str | Sequence[str] | Opponent, moves: Sequence[str]) -> Opponent:
    if callable(others):
        return others
    if isinstance(others, str) and others == "random":
        return functools.partial(_random_move, moves=tuple(moves))
    if isinstance(others, str):
        module, _, function = others.partition(":")
        try:
            found: Opponent = getattr(importlib.import_module(module), function)
        except (ImportError, AttributeError, ValueError) as error:
            raise ValueError(
                f"world 'textarena', option 'others': {others!r} is neither 'random' nor package.module:function "
                f"({error})"
            ) from error
        return found
    if not others or not all(isinstance(move, str) for move in others):
        raise ValueError("world 'textarena', option 'others': a script is a sequence of at least one text")
    return _Script(others)


class _Script:
    """Says its lines in turn, over and over, from the start in every seat."""

    def __init__(self, lines: Sequence[str]) -> None:
        self._lines = tuple(lines)
        self._said: dict[tuple[int, int], int] = {}

    def __call__(self, seat: int, told: str, rng: random.Random) -> str:
        key = (id(rng), seat)  # an episode has random numbers of its own
        count = self._said[key] = self._said.get(key, -1) + 1
        return self._lines[count % len(self._lines)]


def _random_move(seat: int, told: str, rng: random.Random, *, moves: tuple[str, ...]) -> str:
    shown = [text for text in _BRACKETS.findall(told) if not text.startswith(("[GAME", "[Player"))]
    return rng.choice([*sorted(set(shown)), *moves] or [""])
