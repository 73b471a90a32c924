"""The scripted engine: a function writes the completions, not a model. For tests, corpora and audits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from envs.actions import THOUGHT_END
from envs.core import TextEnv
from shaping.hooks import ActivationEdit
from shaping.sampling.engine import Completion, SamplingParams, Session
from shaping.sampling.text.render import Renderer


class Actor(Protocol):
    """Plays one episode."""

    def act(self) -> str:
        """Return the next completion as text."""


class ScriptedEngine:
    """An engine whose completions come from actors.

    Args:
        make_actor: makes the actor of an episode from its world.
        renderer: turns completions into token ids.
        context_length: longest episode in tokens.
    """

    def __init__(
        self, make_actor: Callable[[TextEnv], Actor], renderer: Renderer, *, context_length: int = 1 << 20
    ) -> None:
        self._make_actor = make_actor
        self._renderer = renderer
        self._actors: dict[int, Actor] = {}
        self.context_length = context_length
        self.version = 0

    def open(self, session: Session) -> None:
        self._actors[session.id] = self._make_actor(session.env)

    def close(self, session: Session) -> None:
        del self._actors[session.id]

    def set_edits(self, edits: Sequence[ActivationEdit]) -> None:
        if edits:
            raise ValueError("the scripted engine has no activations to edit")

    async def load_weights(self, state: dict[str, Any], version: int) -> str:
        self.version = version
        return ""

    async def load_adapter(self, directory: Path | None, version: int) -> str:
        self.version = version
        return ""

    def shutdown(self) -> None:
        pass

    async def complete(self, session: Session, tokens: Sequence[int], params: SamplingParams) -> Completion:
        text = self._actors[session.id].act()
        if self._renderer.opened:  # by the template, for every reply; what stands in a thought would be no action
            text = f"{THOUGHT_END}{text}"
        ids = [*self._renderer.plain(text)[: params.max_tokens - 1], self._renderer.eos]
        return Completion(
            tokens=np.array(ids, np.int32),
            logprobs=np.zeros(len(ids), np.float32),
            policy_versions=np.full(len(ids), self.version, np.int32),
            finished=True,
        )
