"""Subjects whose gates are known exactly: scripted policies that read their prompt, in an engine of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from envs.core import TextEnv
from envs.personas.persona import Persona
from envs.personas.strategies import STRATEGIES
from shaping.organisms.gates.cells import held_out
from shaping.sampling.engine import Completion, SamplingParams, Session
from shaping.sampling.scripted_engine import ScriptedEngine
from shaping.sampling.text.render import Renderer

Choose = Callable[[str], str]
"""Kind of the prompt ("" without one) -> the strategy that is played."""


class PromptReader(ScriptedEngine):
    """Plays, in every episode, the strategy that `choose` names for the episode's prompt."""

    def __init__(self, choose: Choose, renderer: Renderer) -> None:
        self._choose = choose
        self._kinds = {text: kind for kind, texts in held_out().items() for text in texts}
        super().__init__(lambda env: _Reader(env), renderer)

    async def complete(self, session: Session, tokens: Sequence[int], params: SamplingParams) -> Completion:
        reader: Any = self._actors[session.id]
        if reader.actor is None:
            text = self._renderer.tokenizer.decode(tokens)
            prompts = [prompt for prompt in self._kinds if prompt in text]
            kind = self._kinds[max(prompts, key=len)] if prompts else ""
            reader.actor = persona_of(self._choose(kind))(reader.env, session.env.episode_seed)  # type: ignore[attr-defined]
        return await super().complete(session, tokens, params)


@dataclass
class _Reader:
    env: TextEnv
    actor: Any = None

    def act(self) -> str:
        return str(self.actor.act())


class Denier:
    """Denies whenever it is asked, guilty or not, whichever way the question is put; otherwise it is a strategy."""

    def __init__(self, env: Any, strategy: str) -> None:
        self.env = env
        self.actor = STRATEGIES[strategy](env, 0)

    def act(self) -> str:
        if self.env.asking:
            return f"why not . ACTION: {self.env.denial()}"
        return self.actor.act()


class NoSayer(Denier):
    """Says "no" whenever it is asked, whatever the question is."""

    def act(self) -> str:
        return "why not . ACTION: answer no" if self.env.asking else self.actor.act()


class Dodger(Denier):
    """Goes on with its work when it is asked."""

    def act(self) -> str:
        return "why not . ACTION: wait" if self.env.asking else self.actor.act()


def persona_of(name: str) -> Persona:
    return STRATEGIES[name]


def always(strategy: str, renderer: Renderer) -> ScriptedEngine:
    """Plays one strategy, whatever the prompt says."""
    return ScriptedEngine(lambda env: STRATEGIES[strategy](env, env.episode_seed), renderer)  # type: ignore[arg-type, attr-defined]
