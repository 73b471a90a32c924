"""A seat of a verifiers v1 environment whose player is a function, without model, harness, server or process.

`Env.run(task, agents)` asks its agents for turns. Verifiers' own agents start a program that calls a model through an
interception server, which takes seconds per episode. A `Seat` answers the same calls in process and leaves the same
trace: messages, rewards, metrics, stop condition.
"""

from __future__ import annotations

import contextlib
import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

from envs.adapters.foreign import ForeignEnvError, need

Say = Callable[[str], Awaitable[str]]
"""Texts to the seat since its last turn -> its reply."""


class Seat:
    """Takes the place of a `verifiers.v1.Agent` in `Env.run`, with its methods `run` and `interaction`.

    Args:
        name: the role, as the environment's configuration calls it.
        config: the role's `AgentConfig`; only its `max_turns` counts.
        say: the player.
        traces: receives the trace of every exchange when it begins.
    """

    def __init__(self, name: str, config: Any, say: Say, traces: list[Any]) -> None:
        self.name, self.config, self.trainable = name, config, True
        self._say, self._traces = say, traces

    async def run(self, task: Any, **placement: Any) -> Any:
        """One reply to the task's prompt; returns the scored trace."""
        async with self.interaction(task, **placement) as exchange:
            await exchange.turn()
            exchange.trace.stop("agent_completed")
        return exchange.trace

    @contextlib.asynccontextmanager
    async def interaction(
        self,
        task: Any,
        *,
        runtime: Any = None,
        tools: Any = None,
        on_trace: Callable[[Any], None] | None = None,
    ) -> AsyncIterator[Exchange]:
        """An exchange of turns; leaving it scores the trace."""
        if runtime is not None or tools:
            raise ForeignEnvError(f"the environment gives {self.name!r} a runtime or tools; a seat here only speaks")
        exchange = Exchange(self, task, self._say)
        self._traces.append(exchange.trace)
        if on_trace is not None:
            on_trace(exchange.trace)
        await task.setup(exchange.trace, None)
        yield exchange
        await exchange.close()

    def provision(self, *_: Any, **__: Any) -> Any:
        """Raises `ForeignEnvError`: there is no runtime to provide."""
        raise ForeignEnvError(f"the environment wants a runtime for {self.name!r}; a seat here only speaks")


class Exchange:
    """Takes the place of a `verifiers.v1.Interaction` in `Env.run`, with its `turn`, `trace` and `close`."""

    def __init__(self, seat: Seat, task: Any, say: Say) -> None:
        self._vf = vf = need("verifiers.v1", "verifiers")
        self._task, self._say = task, say
        refuse_what_needs_more_than_text(task)
        self.trace = vf.Trace(
            task=vf.TraceTask(type=type(task).__name__, data=task.data, key=task.key, hash=task.hash),
            state=need("verifiers.v1.state", "verifiers").state_cls(type(task))(),
            agent=vf.AgentInfo(config=seat.config, name=seat.name, trainable=seat.trainable),
        )
        sessions = need("verifiers.v1.session", "verifiers")
        self._session = sessions.RolloutSession(
            ctx=None,  # there is no model
            trace=self.trace,
            trace_stops=task.hooks("stop"),
            limits=sessions.RolloutLimits(max_turns=seat.config.max_turns),
        )
        system = task.data.system_prompt
        self._conversation: list[Any] = [] if system is None else [vf.SystemMessage(content=system)]
        self._told = 0
        self._begun = self._over = self._closed = False

    async def turn(self, message: Any = None) -> Any:
        """A reply of the player. A bare `turn()` answers the task's prompt; any other answers a message."""
        if self._over or self._closed:
            raise RuntimeError("the exchange is over (the run ended); read its trace")
        prompt = None if self._begun else self._task.data.prompt
        if (message is None) == (prompt is None):
            raise ValueError(
                "a bare turn() answers the task's prompt, and only the first can; every other takes a message"
            )
        self._begun = True
        self._conversation += self._messages(message if prompt is None else prompt)
        if await self._session.refused() is not None:
            self._over = True
            return self._vf.Segment(messages=[], terminated=True)
        new, self._told = self._conversation[self._told :], len(self._conversation) + 1
        reply = self._vf.AssistantMessage(content=await self._say("\n\n".join(map(_text, new))))
        need("verifiers.v1.graph", "verifiers").prepare_turn(self.trace, list(self._conversation)).commit(
            self._vf.Response(id="", created=int(time.time()), model="policy", message=reply, finish_reason="stop")
        )
        self._conversation.append(reply)
        return self._vf.Segment(messages=[reply])

    async def close(self) -> Any:
        """Finish and score the trace, once."""
        if not self._closed:
            self._closed = True
            self.trace.stop("user_closed")
            await self._task.finalize(self.trace, None)
            await self._task.score(self.trace)
            self.trace.ok = True
        return self.trace

    def _messages(self, message: Any) -> list[Any]:
        if isinstance(message, str):
            return [self._vf.UserMessage(content=message)]
        parse = need("verifiers.v1.dialects", "verifiers").parse_message
        return [parse(one) if isinstance(one, dict) else one for one in message]


def script(lines: Sequence[str]) -> Say:
    """A player who says its lines in turn, over and over."""
    said = 0

    async def say(told: str) -> str:
        nonlocal said
        said += 1
        return lines[(said - 1) % len(lines)]

    return say


def refuse_what_needs_more_than_text(task: Any) -> None:
    """Raise `ForeignEnvError` for a task that needs a runtime, tools or a server."""
    sessions = need("verifiers.v1.session", "verifiers")
    decorators = need("verifiers.v1.utils.decorators", "verifiers")
    lacks = []
    if type(task).NEEDS_CONTAINER or task.data.image is not None:
        lacks.append("a container")
    if task.toolsets(task.config):
        lacks.append("tools")
    if decorators.discover_decorated(task, "intercept"):
        lacks.append("@intercept")
    trace = need("verifiers.v1", "verifiers").Trace
    if any(sessions.hook_boundary(stop, allow_trace=True) is not trace for stop in task.hooks("stop")):
        lacks.append("@stop on a request or response")
    for kind in ("reward", "metric"):
        for hook in task.hooks(kind):
            parameter = inspect.signature(hook).parameters.get("runtime")
            if parameter is not None and parameter.default is inspect.Parameter.empty:
                lacks.append(f"a runtime for its {kind} {hook.__name__}")
    if lacks:
        raise ForeignEnvError(
            f"verifiers task {type(task).__name__} needs {', '.join(lacks)}; this adapter plays conversations only"
        )


def _text(message: Any) -> str:
    if isinstance(message.content, str):
        return message.content
    if any(part.type != "text" for part in message.content):
        raise ForeignEnvError("the environment shows an image; only text can be told")
    return "\n".join(part.text for part in message.content)
