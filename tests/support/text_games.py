"""Text games in PettingZoo's two shapes, for tests of their adapters."""

from __future__ import annotations

from typing import Any

from pettingzoo import AECEnv, ParallelEnv

from envs.core import AnyText

SEATS = ["first", "second"]


class Auction(AECEnv):  # type: ignore[misc]
    """Agents say numbers in turn; each pays what it says to the other. `leaves` ends the game for that agent early."""

    metadata = {"name": "auction_v0"}

    def __init__(self, rounds: int = 2, leaves: str = "", numbers: bool = False) -> None:
        self.rounds, self.leaves, self.numbers = rounds, leaves, numbers
        self.possible_agents = list(SEATS)

    def observation_space(self, agent: str) -> AnyText:
        return AnyText()

    def action_space(self, agent: str) -> AnyText:
        return AnyText()

    def reset(self, seed: int | None = None, options: Any = None) -> None:
        self.agents = list(self.possible_agents)
        self.agent_selection = self.agents[0]
        self.said: list[str] = []
        self.rewards = dict.fromkeys(self.agents, 0.0)
        self._cumulative_rewards = dict.fromkeys(self.agents, 0.0)
        self.terminations = dict.fromkeys(self.agents, False)
        self.truncations = dict.fromkeys(self.agents, False)
        self.infos: dict[str, dict[str, Any]] = {agent: {} for agent in self.agents}

    def observe(self, agent: str) -> Any:
        return len(self.said) if self.numbers else f"{agent} hears {' '.join(self.said)}"

    def step(self, action: str | None) -> None:
        agent = self.agent_selection
        if self.terminations[agent] or self.truncations[agent]:
            self._was_dead_step(action)
            return
        assert action is not None
        self._cumulative_rewards[agent] = 0.0
        self.said.append(f"{agent}:{action}")
        other = SEATS[1 - SEATS.index(agent)]
        number = float(action) if action.isdigit() else 0.0
        self.rewards = {agent: -number, other: number}
        self.rewards = {name: self.rewards[name] for name in self.agents}
        if len(self.said) == 2 * self.rounds:
            self.terminations = dict.fromkeys(self.agents, True)
        self._accumulate_rewards()
        self.agent_selection = other

    def close(self) -> None: ...


class Chat(ParallelEnv):  # type: ignore[misc]
    """Agents talk at once, for ever; each is paid the length of what it says. It knows one scripted policy."""

    metadata = {"name": "chat_v0"}
    scripted_policies = ("echo",)

    def __init__(self) -> None:
        self.possible_agents = list(SEATS)
        self.agents: list[str] = []

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        self.agents = list(self.possible_agents)
        self.heard = dict.fromkeys(self.agents, f"seed {seed}")
        return dict(self.heard), {agent: {} for agent in self.agents}

    def step(self, actions: dict[str, str]) -> Any:
        self.heard = {agent: " ".join(actions.values()) for agent in self.agents}
        rewards = {agent: float(len(actions.get(agent, ""))) for agent in self.agents}
        no = dict.fromkeys(self.agents, False)
        return dict(self.heard), rewards, no, no, {agent: {} for agent in self.agents}

    def scripted_action(self, agent: str, policy: str) -> str:
        return f"{policy} {self.heard[agent]}"

    def close(self) -> None: ...


def says_two(agent: str, observation: str) -> str:
    return "2"
