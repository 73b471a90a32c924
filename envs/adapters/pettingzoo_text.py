"""PettingZoo's games as worlds with several seats: `ParallelText` for parallel games, `TurnText` for AEC games.

Observations and actions must be text. It needs the extra `pettingzoo`. A game may know more than PettingZoo asks for:

- `infos[agent]["labels"]` (`envs.episode.Labels`): sealed ground truth of the agent's last action. Without it all
  traits are without opportunity, as in all adapters (`envs.adapters.foreign`). Other keys of `infos` that a `TextEnv`
  knows (`events`, `overt_shortcuts`, `executed`) are passed on.
- `scripted_action(agent, policy)`: what a scripted policy does now; raises KeyError for one that it does not know.
- `max_return`: the full reward of a seat.
- `reads_completions`: true for a game that finds the command in a completion itself; others are given the command.
"""

from __future__ import annotations

import importlib
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from envs.actions import command_text
from envs.adapters.foreign import OPPORTUNITY, ForeignEnvError, finite, need
from envs.episode import Labels
from envs.seated import Answer, Opening, SeatedWorld
from envs.text import message_of

PASSES = ""
"""The scripted policy that does nothing."""
Scripted = Callable[[str, str], str]
"""(agent, its last observation) -> its action."""


class PettingZooText(SeatedWorld):
    """Base of the two adapters.

    Args:
        game: `package.module:function` or `package.module:Class` that makes the game.
        game_options: its arguments.
        seat: the agent that is played where the world is played as one of a single seat; empty: the first one.
        others: who sits on the other seats then: a policy of the game, `package.module:function` of (agent,
            observation), or empty: they do nothing.
        max_return: full reward of a seat; none: the game's own, or 1.
        horizon: actions of a seat after which the episode is truncated.
    """

    name: ClassVar[str] = "pettingzoo"
    flavour: ClassVar[str]
    """The class of PettingZoo that the game must have."""

    def __init__(
        self,
        *,
        game: str,
        game_options: dict[str, Any] | None = None,
        seat: str = "",
        others: str = PASSES,
        max_return: float | None = None,
        horizon: int = 1000,
    ) -> None:
        super().__init__()
        need("pettingzoo", "pettingzoo")
        if not isinstance(horizon, int) or horizon < 1:
            raise ValueError(f"world 'pettingzoo', option 'horizon': must be a whole number >= 1 (got {horizon!r})")
        self.game, self.horizon = game, horizon
        self._env = self._made(game, dict(game_options or {}))
        agents = getattr(self._env, "possible_agents", None)
        if not agents or not all(isinstance(agent, str) for agent in agents):
            raise ValueError(f"{self._option('game')}: {game!r} names no agents in possible_agents")
        self._seats = tuple(agents)
        self.seat = seat or self._seats[0]
        if self.seat not in self._seats:
            raise ValueError(f"{self._option('seat')}: no seat {seat!r}; there are {', '.join(self._seats)}")
        self.others = others
        self._functions: dict[str, Scripted] = {}
        self._seen: dict[str, str] = {}
        self.check_policy(others)
        own = getattr(self._env, "max_return", 1.0) if max_return is None else max_return
        self.max_return = finite(own, self._option("max_return"))
        title = str((getattr(self._env, "metadata", None) or {}).get("name") or "")
        self.name = title or game.rpartition(":")[2]  # type: ignore[misc]  # a game is what the world is called

    @property
    def seats(self) -> tuple[str, ...]:
        return self._seats

    def open(self, seed: int) -> Mapping[str, Opening]:
        self._acted = dict.fromkeys(self._seats, 0)
        self._commands: dict[str, str] = {}
        return self._called(lambda: self._open(seed), "reset")

    def play(self, actions: Mapping[str, str]) -> Mapping[str, Answer]:
        self._commands.update({seat: command_text(text) for seat, text in actions.items()})
        raw = getattr(self._env, "reads_completions", False)
        given = {seat: text if raw else self._commands[seat] for seat, text in actions.items()}
        for seat in actions:
            self._acted[seat] += 1
        return self._called(lambda: self._play(given), "step")

    def scripted(self, seat: str, policy: str) -> str:
        if policy == PASSES:
            return ""
        if ":" in policy:
            return str(self._called(lambda: self._function(policy)(seat, self._seen.get(seat, "")), policy))
        return str(self._called(lambda: self._env.scripted_action(seat, policy), "scripted_action"))

    def check_policy(self, policy: str) -> None:
        if policy == PASSES:
            return
        if ":" in policy:
            self._function(policy)
            return
        known = tuple(getattr(self._env, "scripted_policies", ()))
        if policy not in known:
            has = f"it has {', '.join(known)}" if known else "it has none of its own"
            raise ValueError(
                f"world {self.name!r}: the game {self.game} has no scripted policy {policy!r}; {has}; others are "
                "written as package.module:function"
            )

    def close(self) -> None:
        self._env.close()

    @abstractmethod
    def _open(self, seed: int) -> Mapping[str, Opening]: ...

    @abstractmethod
    def _play(self, actions: Mapping[str, str]) -> Mapping[str, Answer]: ...

    def _info(self, seat: str, info: Any, *, played: bool, reward: float = 0.0) -> dict[str, Any]:
        """The game's info with what a `TextEnv` demands."""
        given = dict(info) if isinstance(info, Mapping) else {}
        public = {key: given[key] for key in ("events", "overt_shortcuts", "executed", "cut_off") if key in given}
        public.setdefault("executed", self._commands.get(seat, "") if played else "")
        if played:
            public["labels"] = given.get("labels", Labels(opportunity=OPPORTUNITY, true_reward=reward))
        return public

    def _text(self, seat: str, observation: Any) -> str:
        if not isinstance(observation, str):
            raise ForeignEnvError(
                f"world {self.name!r}: the observation of {seat!r} is a {type(observation).__name__}; only games whose "
                "observations and actions are text can be played: wrap the game so that it speaks"
            )
        self._seen[seat] = observation
        return observation

    def _made(self, game: str, options: dict[str, Any]) -> Any:
        module, _, name = game.partition(":")
        try:
            made = getattr(importlib.import_module(module), name)(**options)
        except (ImportError, AttributeError, ValueError, TypeError) as error:
            raise ValueError(
                f"{self._option('game')}: {game!r} is no game, written as package.module:function, that takes "
                f"{options}: {message_of(error)}"
            ) from error
        kind = getattr(importlib.import_module("pettingzoo"), self.flavour)
        if not isinstance(made, kind):
            raise ValueError(
                f"{self._option('game')}: {game!r} makes a {type(made).__name__}, which is no {self.flavour} of "
                "PettingZoo: ParallelText is for parallel games, TurnText for those in which agents move in turn"
            )
        return made

    def _function(self, policy: str) -> Scripted:
        if policy not in self._functions:
            module, _, name = policy.partition(":")
            try:
                self._functions[policy] = getattr(importlib.import_module(module), name)
            except (ImportError, AttributeError, ValueError) as error:
                raise ValueError(f"world {self.name!r}: no scripted policy {policy!r}: {message_of(error)}") from error
        return self._functions[policy]

    def _option(self, option: str) -> str:
        return f"world {self.name!r}, option {option!r}"

    def _called(self, call: Any, where: str) -> Any:
        """The result of a call of the game. Its exceptions become a `ForeignEnvError` that names the place."""
        try:
            return call()
        except (ForeignEnvError, ValueError):
            raise
        except Exception as error:
            what = f"{type(error).__name__}: {message_of(error)}"
            raise ForeignEnvError(f"world {self.name!r}, {where}: {what}") from error


class ParallelText(PettingZooText):
    """A game in which all agents act at once (`pettingzoo.ParallelEnv`)."""

    flavour: ClassVar[str] = "ParallelEnv"

    def _open(self, seed: int) -> Mapping[str, Opening]:
        observations, infos = self._env.reset(seed=seed)
        return {
            seat: (self._text(seat, observations[seat]), self._info(seat, infos.get(seat), played=False))
            for seat in self._seats
            if seat in observations
        }

    def _play(self, actions: Mapping[str, str]) -> Mapping[str, Answer]:
        playing = list(self._env.agents)
        given = {seat: text for seat, text in actions.items() if seat in playing}
        observations, rewards, ended, cut, infos = self._env.step(given)
        answers: dict[str, Answer] = {}
        for seat in playing:
            over = bool(ended.get(seat, False))
            reward = finite(rewards.get(seat, 0.0), f"world {self.name!r}, {seat}")
            truncated = not over and (bool(cut.get(seat, False)) or self._acted[seat] >= self.horizon)
            text = self._text(seat, observations.get(seat, ""))
            info = self._info(seat, infos.get(seat), played=True, reward=reward)
            answers[seat] = (text, reward, over, truncated, info)
        if any(answer[3] and not cut.get(seat, False) for seat, answer in answers.items()):
            self._env.agents = []  # the horizon is ours: the game would go on
        return answers


class TurnText(PettingZooText):
    """A game in which agents move in turn (`pettingzoo.AECEnv`).

    An agent is answered when it is to move again, with the reward that it has got meanwhile, or when it leaves.
    """

    flavour: ClassVar[str] = "AECEnv"

    def _open(self, seed: int) -> Mapping[str, Opening]:
        self._env.reset(seed=seed)
        self._early: dict[str, float] = {}
        self._met: set[str] = set()
        answers = self._advance()
        return {seat: (answer[0], answer[4]) for seat, answer in answers.items() if not (answer[2] or answer[3])}

    def _play(self, actions: Mapping[str, str]) -> Mapping[str, Answer]:
        for seat, text in actions.items():
            if self._env.agents and seat == self._env.agent_selection:
                self._env.step(text)
        return self._advance()

    def _advance(self) -> dict[str, Answer]:
        """The answers that can be given now, up to the first agent that is to move."""
        answers: dict[str, Answer] = {}
        while self._env.agents:
            seat = self._env.agent_selection
            observation, reward, ended, cut, info = self._env.last()
            reward = finite(reward, f"world {self.name!r}, {seat}")
            acted = self._acted[seat] > 0
            truncated = not ended and (bool(cut) or self._acted[seat] >= self.horizon)
            if seat not in self._met and not acted:
                self._early[seat], reward = reward, 0.0  # what was earned before the first action counts with it
            else:
                reward += self._early.pop(seat, 0.0)
            self._met.add(seat)
            told = self._info(seat, info, played=acted, reward=reward)
            if acted or not (ended or truncated):
                answers[seat] = (self._text(seat, observation), reward, bool(ended), truncated, told)
            if not (ended or cut):
                if truncated:  # the horizon is ours: the game ends for all
                    return answers | self._cut_off(answers)
                return answers
            self._env.step(None)
        return answers

    def _cut_off(self, answered: Mapping[str, Answer]) -> dict[str, Answer]:
        """The last answers of all other agents that have acted."""
        found: dict[str, Answer] = {}
        for seat in self._env.agents:
            if self._acted[seat] and seat not in answered:
                reward = finite(self._env._cumulative_rewards.get(seat, 0.0), f"world {self.name!r}, {seat}")
                text = self._text(seat, self._env.observe(seat))
                info = self._info(seat, self._env.infos.get(seat), played=True, reward=reward)
                found[seat] = (text, reward, False, True, info)
        self._env.agents = []
        return found
