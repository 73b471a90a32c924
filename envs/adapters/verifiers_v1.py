"""verifiers v1 in both directions: its environments as worlds, and our worlds as a taskset with an environment.

A verifiers environment plays in a thread of its own, where the agent's seat waits for `step` to reply
(`envs.adapters.verifiers_seat`). Nothing is served and no program is started.

A world of ours, for their command line, is a module of your own at the top level of the path, e.g. `clerk_world.py`:

    from envs.adapters.verifiers_v1 import exported

    ClerkTaskset, ClerkEnv = exported("clerk", {"oversight": 0.2})
    __all__ = ["ClerkEnv", "ClerkTaskset"]
"""

from __future__ import annotations

import asyncio
import itertools
import queue
import threading
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from envs import make_world
from envs.adapters.foreign import Answer, ForeignEnv, ForeignEnvError, Streams, finite, need
from envs.adapters.totals import truth_of
from envs.adapters.verifiers_seat import Seat, script
from envs.check import checked_reset, checked_step
from envs.episode import Labels


class _Asked(NamedTuple):
    """The environment waits for the seat's reply, or has ended."""

    text: str
    """The next observation."""
    reward: float
    """The score so far."""
    true: float
    """The true score so far."""
    reply: asyncio.Future[str] | None = None
    """Takes the reply; None: the environment has ended."""
    error: BaseException | None = None
    """The exception that ended it."""
    truncated: bool = False
    """Was it cut off?"""


class Verifiers(ForeignEnv):
    """One seat of a verifiers v1 environment. A turn pays its increase of the score, which most raise at the end only.

    Args:
        taskset: id of the taskset: the name of an installed module, or one of verifiers' own.
        taskset_options: fields of the taskset's configuration.
        env: id of an environment to pair with it (empty: the taskset's own, else one reply per task).
        env_options: fields of the environment's configuration.
        seat: the role that the agent plays; needed where there are several.
        others: lines of the other roles, said in turn: `{"user": ("hello", "bye")}`.
        tasks: number of tasks to play; seed s plays task s modulo that number.
        true_reward: name of a metric that holds the true reward, if there is one (else it is the reward).
        max_return: the largest reward, if known.
        timeout: seconds to wait for the environment.
        horizon: turns after which the episode is truncated.
    """

    name = "verifiers"

    def __init__(
        self,
        *,
        taskset: str,
        taskset_options: Mapping[str, Any] | None = None,
        env: str = "",
        env_options: Mapping[str, Any] | None = None,
        seat: str = "",
        others: Mapping[str, Sequence[str]] | None = None,
        tasks: int = 100,
        true_reward: str = "",
        max_return: float = 1.0,
        timeout: float = 30.0,
        horizon: int = 100,
    ) -> None:
        super().__init__(horizon=horizon)
        if not isinstance(tasks, int) or tasks < 1:
            raise ValueError(f"world 'verifiers', option 'tasks': must be a whole number >= 1 (got {tasks!r})")
        self._vf = need("verifiers.v1", "verifiers")
        self.max_return = float(max_return)
        self._true, self._timeout, self._count = true_reward, timeout, tasks
        self._others = {role: tuple(lines) for role, lines in (others or {}).items()}
        with Streams(0).swapped():
            self._env = self._made({**(env_options or {}), "id": env}, {**(taskset_options or {}), "id": taskset})
            self._source = iter(self._env.taskset)
        self.seat = self._checked_seat(seat)
        self._tasks: list[Any] = []
        self._thread: threading.Thread | None = None

    def open(self, seed: int) -> str:
        self.close()
        self._streams = Streams(seed)
        with self._streams.swapped():
            self._events: queue.SimpleQueue[_Asked] = queue.SimpleQueue()
            self._traces: list[Any] = []
            task = self._task(seed)
            self._thread = threading.Thread(target=asyncio.run, args=(self._episode(task),), daemon=True)
            self._thread.start()
            self._asked = self._heard()
        if self._asked.reply is None:
            raise ForeignEnvError(f"the environment ended before it asked seat {self.seat!r} for anything")
        return self._asked.text

    def play(self, command: str) -> Answer:
        before = self._asked
        assert before.reply is not None
        with self._streams.swapped():
            before.reply.get_loop().call_soon_threadsafe(before.reply.set_result, command)
            self._asked = now = self._heard()
        over = now.reply is None
        return Answer(
            now.text,
            now.reward - before.reward,
            terminated=over and not now.truncated,
            truncated=over,
            true_reward=now.true - before.true if self._true else None,
        )

    def close(self) -> None:
        thread, self._thread = self._thread, None
        if thread is not None and thread.is_alive():
            loop, task = self._running
            loop.call_soon_threadsafe(task.cancel)
            thread.join(self._timeout)

    def _made(self, env: dict[str, Any], taskset: dict[str, Any]) -> Any:
        try:
            return self._vf.load_environment(self._vf.resolve_env_config({**env, "taskset": taskset}))
        except (ImportError, AttributeError, TypeError, ValueError) as error:
            raise ValueError(
                f"world 'verifiers', taskset {taskset['id']!r} with environment {env['id'] or 'of its own'!r}: {error}"
            ) from error

    def _checked_seat(self, seat: str) -> str:
        roles = [name for name, value in self._env.config if isinstance(value, self._vf.AgentConfig)]
        if not seat and len(roles) == 1:
            seat = roles[0]
        if seat not in roles:
            raise ValueError(f"world 'verifiers', option 'seat': {seat!r}; the roles are {', '.join(roles)}")
        silent = [role for role in roles if role != seat and not self._others.get(role)]
        if silent or set(self._others) - set(roles):
            raise ValueError(
                f"world 'verifiers', option 'others': must say what each of "
                f"{', '.join(role for role in roles if role != seat) or 'no other role'} says (got {self._others})"
            )
        return seat

    def _task(self, seed: int) -> Any:
        """The task of a seed. It never changes, although the number of tasks shows only late."""
        number = seed % self._count
        self._tasks += itertools.islice(self._source, max(0, number + 1 - len(self._tasks)))
        if not self._tasks:
            raise ForeignEnvError(f"taskset {type(self._env.taskset).__name__} has no tasks")
        return self._tasks[number % len(self._tasks)]

    async def _episode(self, task: Any) -> None:
        """The thread's coroutine."""
        self._running = asyncio.get_running_loop(), asyncio.create_task(self._play(task))
        await asyncio.wait([self._running[1]])

    async def _play(self, task: Any) -> None:
        """Setup, run and finalize, as verifiers itself calls them."""
        vf, env = self._vf, self._env
        try:
            if env.taskset.toolsets(env.taskset.config):
                raise ForeignEnvError(f"taskset {type(env.taskset).__name__} has tools; only conversations are played")
            agents = vf.Agents(env.config, self._agent)
            await env.start()
            try:
                await env.setup(agents)
                await env.run(task, agents)
                record = vf.TraceTask(type=type(task).__name__, data=task.data, key=task.key, hash=task.hash)
                await env.finalize(task, vf.Episode(task=record, traces=self._traces))
            finally:
                await env.stop()
            truncated = any(trace.is_truncated for trace in self._mine())
            self._events.put(_Asked("The episode is over.", *self._score(over=True), truncated=truncated))
        except BaseException as error:  # `step` is waiting, so it must learn of any error
            self._events.put(_Asked("", 0.0, 0.0, error=error))

    def _agent(self, role: str, config: Any) -> Seat:
        return Seat(role, config, self._say if role == self.seat else script(self._others[role]), self._traces)

    async def _say(self, told: str) -> str:
        reply = asyncio.get_running_loop().create_future()
        self._events.put(_Asked(told, *self._score(), reply=reply))
        return str(await reply)

    def _mine(self) -> list[Any]:
        return [trace for trace in self._traces if trace.agent.name == self.seat]

    def _score(self, *, over: bool = False) -> tuple[float, float]:
        """(reward, true reward) so far, over all exchanges of the seat."""
        mine = self._mine()
        reward = sum((finite(trace.reward, f"task {trace.task.type}") for trace in mine), 0.0)
        if over and self._true and not any(self._true in trace.metrics for trace in mine):
            known = ", ".join(sorted({name for trace in mine for name in trace.metrics})) or "none"
            raise ForeignEnvError(f"no metric {self._true!r}, which option 'true_reward' names; there are: {known}")
        values = [trace.metrics.get(self._true) for trace in mine]
        return reward, sum((finite(value, f"metric {self._true}") for value in values if value is not None), 0.0)

    def _heard(self) -> _Asked:
        try:
            asked = self._events.get(timeout=self._timeout)
        except queue.Empty:
            raise ForeignEnvError(f"the environment has not answered for {self._timeout:g} s") from None
        if asked.error is not None:
            if isinstance(asked.error, ForeignEnvError):
                raise asked.error
            raise ForeignEnvError(f"{type(asked.error).__name__}: {asked.error}") from asked.error
        return asked


def exported(
    world: str,
    options: Mapping[str, Any] | None = None,
    *,
    episodes: int = 100,
    max_turns: int = 200,
    system: str = "",
) -> tuple[type, type]:
    """(taskset class, environment class) of a world, for verifiers to run and train on.

    A task is an episode by its seed: 0 to `episodes` - 1, or as `--env.taskset.first` and `.episodes` say.
    `--env.taskset.options` add to `options`. The reward is `proxy`, the world's own. The other totals of
    `envs.adapters.totals.truth_of` are metrics of the trace. No message holds them, so no model sees them.
    """
    vf: Any = need("verifiers.v1", "verifiers")
    fixed, number = dict(options or {}), episodes
    make_world(world, fixed).close()  # unknown names and options are refused now

    class WorldConfig(vf.TasksetConfig):
        first: int = 0
        episodes: int = number
        options: dict[str, Any] = {}

    class WorldData(vf.TaskData):
        world: str
        seed: int
        options: dict[str, Any]

    class WorldTask(vf.Task[WorldData, vf.State, vf.TaskConfig]):
        pass

    class WorldTaskset(vf.Taskset[WorldTask, WorldConfig]):
        def load(self) -> Any:
            chosen = {**fixed, **self.config.options}
            played = make_world(world, chosen)
            for seed in range(self.config.first, self.config.first + self.config.episodes):
                text, _ = checked_reset(played, seed)
                data = WorldData(
                    name=f"{world}-{seed}",
                    prompt=text,
                    system_prompt=system or None,
                    world=world,
                    seed=seed,
                    options=chosen,
                )
                yield WorldTask(data, self.config.task)
            played.close()

    class WorldEnvConfig(vf.EnvConfig):
        player: vf.AgentConfig = vf.AgentConfig(harness={"id": "null"}, runtime={"type": "subprocess"})

    class WorldEnv(vf.Env[WorldEnvConfig]):
        async def run(self, task: Any, agents: Any) -> None:
            await _play_task(task.data, agents.player.interaction(task), max_turns)

    return WorldTaskset, WorldEnv


async def _play_task(data: Any, interaction: Any, max_turns: int) -> None:
    """Play the episode of a task with the agent behind the interaction. The truth goes into its trace."""
    world = make_world(data.world, data.options)
    checked_reset(world, data.seed)
    labels: list[Labels] = []
    rewards: list[float] = []
    try:
        async with interaction as exchange:
            segment = await exchange.turn()
            while not segment.terminated:
                text, reward, terminated, truncated, info = checked_step(world, segment.last_reply)
                rewards.append(reward)
                labels.append(info["labels"])
                if terminated or truncated or len(rewards) >= max_turns:
                    break
                segment = await exchange.turn(text)
        totals = truth_of(labels, rewards)
        exchange.trace.record_reward("proxy", totals.pop("proxy"))
        exchange.trace.record_metrics({**totals, "max_return": world.max_return})
    finally:
        world.close()
