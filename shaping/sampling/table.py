"""`play_tables()`: games with several seats. The seats of a game are played together, each as an episode of its own.

A seat that a policy plays is a coroutine as any other episode (`shaping.sampling.play`): it samples its completion, and
waits until the world can answer. The world steps once all seats that are due have acted; scripted seats act then. So
turns of several seats, and of many games, interleave in the engine's batches.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from envs.answers import WorldContractError, finite_number
from envs.core import TextEnv
from envs.episode import Episode
from envs.seated import SeatedWorld, still_due
from envs.text import valid
from shaping.arm import Arm
from shaping.sampling.engine import Engine
from shaping.sampling.play import EpisodeRequest, Limits, Rollout, Watch, WorldError
from shaping.sampling.text.render import Renderer
from shaping.sampling.text.split import MarkerSplitter, Splitter, behind
from shaping.sampling.time_limit import Limited, TimeLimitExceeded
from shaping.seat_records import RETURNS

Call = Callable[[Callable[[], Any], str], Awaitable[Any]]
"""Calls the world within its time limit: (call, what it is)."""


@dataclass(frozen=True, slots=True)
class TableRequest:
    """One game to play."""

    seats: tuple[EpisodeRequest, ...]
    """The seats that policies play. They share world, seed and options."""
    scripted: Mapping[str, str] = field(default_factory=dict)
    """Seat -> the scripted policy that plays it."""


class Table:
    """The world of one game, and the seats that wait for it.

    A seat that stops early (its context is full) does nothing in the rest of the game. An error of the world is raised
    in every seat.
    """

    def __init__(self, request: TableRequest) -> None:
        self._request = request
        self._policies = {seat.seat for seat in request.seats}
        self._world: SeatedWorld | None = None
        self._starting: asyncio.Task[None] | None = None
        self._due: set[str] = set()
        self._actions: dict[str, str] = {}
        self._answers: dict[str, asyncio.Future[Any]] = {}
        self._opened: set[str] = set()
        self._left: set[str] = set()
        self._over: set[str] = set()
        self._stepping = asyncio.Lock()
        self._error: BaseException | None = None
        self.returns: dict[str, float] = {}

    async def enter(self, seat: str, call: Call) -> tuple[SeatedWorld, Any, Any]:
        """(world, the seat's opening, `max_return`), once the seat is due. The first seat that enters starts it."""
        if self._starting is None:
            loop = asyncio.get_running_loop()
            self._answers = {name: loop.create_future() for name in self._policies}
            self._starting = asyncio.create_task(self._guarded(self._start(call)))
        await self._starting
        answer = await self._answers[seat]
        assert self._world is not None
        return self._world, answer, getattr(self._world, "max_return", 1.0)

    async def act(self, seat: str, text: str, what: str, call: Call) -> Any:
        """The world's answer to what a seat does."""
        if self._error is not None:
            raise self._error
        future = self._answers[seat] = asyncio.get_running_loop().create_future()
        self._actions[seat] = text
        await self._guarded(self._advance(what, call))
        return await future

    async def leave(self, seat: str, call: Call) -> None:
        """The seat's episode has ended: the others go on without it. The last one closes the world."""
        self._left.add(seat)
        self._over.add(seat)
        if self._error is None and self._left < self._policies:
            await self._guarded(self._advance("step without a seat", call))
        if self._left >= self._policies and self._world is not None:
            await call(self._world.close, "close")

    async def _guarded(self, going: Awaitable[None]) -> None:
        """Raise an error of the world in all seats."""
        try:
            await going
        except (TimeLimitExceeded, WorldError, WorldContractError) as error:
            self._error = error
            for future in self._answers.values():
                if not future.done():
                    future.set_exception(error)
                    future.exception()  # a seat that has left does not ask for it

    async def _start(self, call: Call) -> None:
        first = self._request.seats[0]
        world = await call(first.make, "its constructor")
        if not isinstance(world, SeatedWorld):
            raise WorldContractError(
                f"world {first.world!r} ({type(world).__name__}) has a single seat: with `seats` in the study, all "
                "worlds that it trains in must be envs.seated.SeatedWorld"
            )
        self._world, self.returns = world, dict.fromkeys(world.seats, 0.0)
        taken = [*self._policies, *self._request.scripted]
        if sorted(taken) != sorted(world.seats):
            raise WorldContractError(
                f"world {world.name!r} has the seats {', '.join(world.seats)}, and the game is for {', '.join(taken)}"
            )
        opened = await call(lambda: world.open(first.seed), "reset")
        self._due = set(opened)
        for seat, opening in opened.items():
            self._open(seat, opening)
        await self._advance("reset", call)

    async def _advance(self, what: str, call: Call) -> None:
        """Step the world as long as nobody who is due has still to act."""
        async with self._stepping:
            while self._due and not self._awaited() and not self._policies <= self._over:
                await self._step(what, call)

    async def _step(self, what: str, call: Call) -> None:
        world = self._world
        assert world is not None
        actions = {seat: self._actions.pop(seat, "") for seat in world.seats if seat in self._due & self._policies}
        for seat in [name for name in world.seats if name in self._due and name in self._request.scripted]:
            policy = self._request.scripted[seat]
            actions[seat] = await call(partial(world.scripted, seat, policy), f"policy {policy}")
        self._due -= actions.keys()
        answers = await call(partial(world.play, actions), what)
        _check(answers, world)
        self._due = still_due(self._due, answers)
        for seat, answer in answers.items():
            self._answer(seat, answer)
            self._over |= {seat} if answer[2] or answer[3] else set()
        if not self._due:
            self._finish()

    def _awaited(self) -> bool:
        """Has a policy that is due still to act?"""
        return any(seat not in self._actions and seat not in self._left for seat in self._due & self._policies)

    def _answer(self, seat: str, answer: Any) -> None:
        if seat not in self._opened and seat in self._policies:
            self._open(seat, (answer[0], answer[4]))
            return
        self._opened.add(seat)
        self.returns[seat] += finite_number(answer[1], "reward", f"seat {seat}")
        self._give(seat, answer)

    def _open(self, seat: str, opening: Any) -> None:
        self._opened.add(seat)
        self._give(seat, opening)

    def _give(self, seat: str, answer: Any) -> None:
        future = self._answers.get(seat)
        if future is not None and not future.done():
            future.set_result(answer)

    def _finish(self) -> None:
        """The game is over: whoever still waits was never answered."""
        for seat, future in self._answers.items():
            if not future.done():
                future.set_exception(WorldContractError(f"seat {seat!r} got no answer before the game ended"))
                future.exception()


def _check(answers: Any, world: SeatedWorld) -> None:
    """Refuse what `play` of a world must not return; each seat looks at its own answer more closely."""
    where = f"world {world.name!r}: play"
    if not isinstance(answers, Mapping):
        raise WorldContractError(f"{where} must return a mapping from seats to answers, not a {type(answers).__name__}")
    for seat, answer in answers.items():
        if seat not in world.seats:
            raise WorldContractError(f"{where} answers {seat!r}, which is no seat: {', '.join(world.seats)}")
        if not isinstance(answer, (tuple, list)) or len(answer) != 5:
            raise WorldContractError(f"{where} must answer seat {seat!r} with five values, as step of a world does")


class SeatRollout(Rollout):
    """Plays one seat of a game."""

    def __init__(self, table: Table, request: EpisodeRequest, *parts: Any) -> None:
        super().__init__(request, *parts)
        self._table = table

    async def _enter(self) -> tuple[TextEnv, Any, Any]:
        world, answer, best = await self._table.enter(self._request.seat, self._limited)
        self._env, self._kind, self._world = world, type(world), valid(str(world.name))
        return world, answer, best

    async def _act(self, text: str, turn: int) -> Any:
        self._note(f"waiting for the other seats in turn {turn}", samples=True)
        return await self._table.act(self._request.seat, text, f"step in turn {turn}", self._limited)

    async def _leave(self) -> None:
        await self._table.leave(self._request.seat, self._limited)


async def play_tables(
    requests: Sequence[TableRequest],
    engine: Engine,
    renderer: Renderer,
    arm: Callable[[EpisodeRequest], Arm],
    *,
    limits: Limits,
    gate: asyncio.Semaphore,
    turnstile: asyncio.Lock,
    limited: Limited,
    splitter: Splitter | None = None,
    watch: Watch | None = None,
) -> list[list[Episode]]:
    """Play every game. The episodes of a game are those of its policies, in the order of its request.

    The options of each hold what every seat of its game has earned (`RETURNS`).

    Args:
        requests: the games to play.
        engine: samples the completions of all players.
        renderer: of the engine's tokenizer.
        arm: the interventions under which a seat is sampled.
        limits: limits of every episode.
        gate: episodes open at once, over all calls that share it. A game needs one place for each of its policies.
        turnstile: lets one game at a time wait for places, so that no two wait for each other.
        limited: calls worlds.
        splitter: as of `play`.
        watch: as of `play`.
    """
    split = behind(splitter or MarkerSplitter(), renderer.opened)
    stages: Watch = {} if watch is None else watch

    async def game(request: TableRequest) -> list[Episode]:
        table = Table(request)
        async with contextlib.AsyncExitStack() as places:
            async with turnstile:
                for _ in request.seats:
                    await places.enter_async_context(gate)
            rollouts = [
                SeatRollout(table, seat, engine, renderer, arm(seat), limits, split, limited, stages)
                for seat in request.seats
            ]
            episodes = await together([rollout.run() for rollout in rollouts])
        return [replace(e, options={**e.options, RETURNS: dict(table.returns)}) for e in episodes]

    return await together([game(request) for request in requests])


async def together(coroutines: Sequence[Any]) -> list[Any]:
    """The results of all; if one raises, the others are cancelled first."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        return list(await asyncio.gather(*tasks))
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
