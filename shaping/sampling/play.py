"""`play()`: many episodes at once, one coroutine each.

A turn is: mask, sample, filter, step, seal. Turns of many episodes interleave in the engine's batches, and the next
episode starts as soon as one ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from envs.actions import normalise, parse_action
from envs.answers import StepResult, WorldContractError, opened, positive_number, step_result
from envs.core import TextEnv, draw
from envs.episode import Contexts, Episode, Labels, RolloutStatus
from envs.escaping import placeless
from envs.text import message_of, valid
from shaping.arm import Arm
from shaping.hooks import ActionDecision, InterventionError, Knob, Prefill, TurnContext
from shaping.sampling.engine import Completion, Engine, SamplingParams, Session
from shaping.sampling.text.forbid import NothingLeftError
from shaping.sampling.text.render import Renderer
from shaping.sampling.text.split import MarkerSplitter, Splitter, behind
from shaping.sampling.time_limit import CallRaised, Limited, TimeLimitExceeded, time_limits
from shaping.sampling.transcript import Transcript
from shaping.sampling.truncation import Truncation


@dataclass(frozen=True, slots=True)
class EpisodeRequest:
    """One episode to play."""

    make: Callable[[], TextEnv]
    """Makes the world."""
    seed: int
    """Seed of the world."""
    group: int = 0
    """Advantage group of the episode."""
    contexts: Contexts = Contexts()
    """Sampling and training context; the first one is in the prompt."""
    sampling_seed: int = 0
    """Seed of the completions."""
    options: dict[str, Any] = field(default_factory=dict)
    """Options of the world, recorded with the episode."""
    prefill: Prefill | None = None
    """Text that opens its completions."""
    world: str = "?"
    """What a config calls the world: its name until it is made."""
    seat: str = ""
    """The seat that it plays, of a world with several (`envs.seated`); its interventions may differ (`Arm.of`)."""
    player: str = ""
    """Who samples: a player of the engine (`shaping.sampling.players`); empty: the only one."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one episode, and its sampling temperature."""

    max_tokens: int = 32
    """Tokens per completion."""
    max_turns: int = 1000
    """Turns per episode."""
    step_seconds: float = 10.0
    """Seconds per call of the world."""
    context: int | None = None
    """Tokens per episode, if fewer than fit into the engine's context."""
    max_resamples: int = 8
    """Refused completions per turn before the replacement is sent."""
    temperature: float = 1.0
    """Temperature of sampling; 0 is greedy."""
    truncation: Truncation = Truncation()
    """Which tokens can be drawn."""


@dataclass(frozen=True, slots=True)
class Stage:
    """The call that an episode is waiting for."""

    group: int
    """Advantage group of the episode."""
    world: str
    """Name of the world."""
    seed: int
    """Seed of the world."""
    what: str
    """The call, e.g. `step in turn 3`."""
    since: float
    """Start of the call, by the monotonic clock."""
    samples: bool
    """True for a call of the engine, False for a call of the world."""


Watch = dict[int, Stage]
"""Running episodes, by session."""


class WorldError(RuntimeError):
    """A world broke its contract: it raised, or it returned an invalid value."""


_sessions = itertools.count()


async def play(
    requests: Sequence[EpisodeRequest],
    engine: Engine,
    renderer: Renderer,
    arm: Arm,
    *,
    limits: Limits = Limits(),
    concurrency: int | asyncio.Semaphore = 64,
    splitter: Splitter | None = None,
    env_threads: int | None = None,
    limited: Limited | None = None,
    watch: Watch | None = None,
) -> list[Episode]:
    """Play every request. A failed episode carries its status and error.

    Args:
        requests: the episodes to play.
        engine: samples the completions.
        renderer: of the engine's tokenizer.
        arm: gives masks and filters of actions.
        limits: limits of every episode.
        concurrency: episodes open at once; a semaphore is shared with other calls of `play`.
        splitter: splits completions into motive and action, and says what the world receives; by default at action
            markers. A thought that the chat template opens is known to it.
        env_threads: threads for the worlds, beside the engine. None: the built-in worlds in the event loop, which is
            faster, and all others in one thread, while the event loop waits. 0: all in the event loop.
        limited: a way to call worlds that several calls of `play` share; replaces `env_threads`.
        watch: filled with the call that each running episode waits for.
    Returns: one episode per request, in the order of the requests.
    """
    gate = concurrency if isinstance(concurrency, asyncio.Semaphore) else asyncio.Semaphore(concurrency)
    split = behind(splitter or MarkerSplitter(), renderer.opened)
    stages: Watch = {} if watch is None else watch
    with contextlib.ExitStack() as stack:
        call = limited or stack.enter_context(time_limits(env_threads))

        async def one(request: EpisodeRequest) -> Episode:
            async with gate:
                own = arm.of(request.seat)
                return await Rollout(request, engine, renderer, own, limits, split, call, stages).run()

        tasks = [asyncio.create_task(one(request)) for request in requests]
        try:
            return list(await asyncio.gather(*tasks))
        except BaseException:  # cancel the remaining episodes; the caller's loop keeps running
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            raise


class Rollout:
    """Plays one episode."""

    def __init__(
        self,
        request: EpisodeRequest,
        engine: Engine,
        renderer: Renderer,
        arm: Arm,
        limits: Limits,
        splitter: Splitter,
        limited: Limited,
        watch: Watch,
    ) -> None:
        self._call = limited
        self._watch = watch
        self._request = request
        self._engine = engine
        self._renderer = renderer
        self._arm = arm
        self._limits = limits
        self._splitter = splitter
        self._session = next(_sessions)  # engines serve several calls of play() at once
        self._truth: list[Labels] = []
        self._options: dict[str, Any] = dict(request.options)
        self._world = request.world
        self._kind: type[TextEnv] | None = None
        self._env: TextEnv | None = None

    async def run(self) -> Episode:
        try:
            return await self._run()
        finally:
            self._watch.pop(self._session, None)

    async def _run(self) -> Episode:
        transcript: Transcript | None = None
        try:
            env, answer, best = await self._enter()
            observation, overt = opened(answer, f"{self._described()}: reset")
            self._options["max_return"] = positive_number(best, "max_return", self._described())
            transcript = self._opened(observation)
            session = Session(self._session, env, self._request.player)
            self._engine.open(session)
            try:
                status, error = await self._turns(session, transcript, observation, overt), ""
                if tokens := transcript.unread:
                    self._note("states of the last completion", samples=True)
                    await self._engine.complete(session, tokens, SamplingParams(max_tokens=0))
            finally:
                self._engine.close(session)
        except TimeLimitExceeded as failure:
            status, error = RolloutStatus.ERROR_TIMEOUT, f"{self._described()}: {failure}"
        except (WorldError, WorldContractError) as failure:
            status, error = RolloutStatus.ERROR, str(failure)
        finally:
            with contextlib.suppress(TimeLimitExceeded, WorldError):  # the played turns count even if close() fails
                await self._leave()
        return (transcript or self._opened("")).episode(
            world=self._world,
            seed=self._request.seed,
            group=self._request.group,
            arm=self._arm.name,
            status=status,
            truth=self._truth,
            options=self._options,
            error=placeless(error),
        )

    async def _enter(self) -> tuple[TextEnv, Any, Any]:
        """The world, its answer to `reset`, and its `max_return`."""
        env, name = await self._limited(self._made, "its constructor")
        self._env, self._kind, self._world = env, type(env), name
        answer, best = await self._limited(
            lambda: (env.reset(seed=self._request.seed), getattr(env, "max_return", 1.0)), "reset"
        )
        return env, answer, best

    async def _act(self, text: str, turn: int) -> Any:
        """The world's answer to a completion."""
        env = self._env
        assert env is not None
        return await self._limited(lambda: env.step(text), f"step in turn {turn}")

    async def _leave(self) -> None:
        """The episode has ended, however it has."""
        if self._env is not None:
            await self._limited(self._env.close, "close")

    def _made(self) -> tuple[TextEnv, str]:
        """The world, and its name."""
        env = self._request.make()
        return env, valid(str(getattr(env, "name", type(env).__name__)))

    def _opened(self, observation: str) -> Transcript:
        """A transcript with room for one more completion, whatever has been said."""
        longest = min(self._engine.context_length, self._limits.context or self._engine.context_length)
        forced = self._renderer.plain(self._request.prefill.text) if self._request.prefill else []
        limit = longest - self._limits.max_tokens - len(forced)
        return Transcript(self._renderer, self._splitter, self._request.contexts, observation, limit)

    async def _turns(
        self, session: Session, transcript: Transcript, observation: str, overt: tuple[str, ...]
    ) -> RolloutStatus:
        if transcript.full:
            return RolloutStatus.TRUNCATED_PROMPT_TOO_LONG
        for turn in range(self._limits.max_turns):
            public = TurnContext(self._world, self._request.seed, turn, observation, overt)
            completion, command, rejected = await self._sample(session, transcript, public)
            sampled = transcript.act(observation, completion, overt_shortcuts=public.overt_shortcuts, rejected=rejected)
            text = self._splitter.sent(sampled.completion) if command is None else f"ACTION: {command}"
            response = await self._act(text, turn)
            result: StepResult = step_result(response, f"{self._described()}, turn {turn}: step")
            self._truth.append(result.labels)
            transcript.settle(executed=result.executed, reward=result.reward, events=result.events)
            if result.terminated:
                return RolloutStatus.COMPLETED
            if result.truncated and not result.cut_off:
                return RolloutStatus.TRUNCATED_MAX_TURNS
            observation, overt = result.observation, result.overt_shortcuts
            if result.truncated or turn + 1 == self._limits.max_turns:
                transcript.conclude(observation, self._limits.max_tokens)
                return RolloutStatus.TRUNCATED_CUT_OFF
            if not transcript.observe(observation):
                transcript.conclude(observation, self._limits.max_tokens)
                return RolloutStatus.TRUNCATED_PROMPT_TOO_LONG
        return RolloutStatus.TRUNCATED_CUT_OFF

    async def _sample(
        self, session: Session, transcript: Transcript, turn: TurnContext
    ) -> tuple[Completion, str | None, int]:
        """(completion, command that replaces the sampled one or None, number of refused completions)."""
        masked = self._arm.allow(turn, None)
        forbid = masked.commands if masked.kind == "mask" else ()
        if forbid and not self._splitter.maskable:
            raise InterventionError(
                f"arm {self._arm.name!r} masks commands while they are sampled, but {type(self._splitter).__name__} "
                "reads completions in a way of its own, in which masks would not find them: use rollout.splitter "
                "marker or think_tags, or refuse commands after sampling (ActionMask with mode resample or replace)"
            )
        if (prefill := self._request.prefill) is not None and (prefill.turns == "every" or turn.turn == 0):
            self._refuse_begun(prefill, forbid)
            transcript.force(prefill)
        for attempt in range(self._limits.max_resamples + 1):
            seed = int(draw(self._request.sampling_seed, f"completion {turn.turn}", attempt) * 2**63)
            self._note(f"completion in turn {turn.turn}", samples=True)
            limits = self._limits
            params = SamplingParams(limits.max_tokens, limits.temperature, seed, forbid, limits.truncation)
            try:
                completion = await self._engine.complete(session, transcript.tokens, params)
            except NothingLeftError as error:
                raise self._all_masked(turn, str(error)) from error
            said = self._splitter.sent(transcript.text(completion))
            decision: ActionDecision = self._arm.allow(turn, parse_action(said))
            if decision.kind == "pass":
                return completion, None, attempt
            self._check_replacement(turn, decision)
            if decision.kind == "replace":
                return completion, decision.replacement, attempt
            if decision.kind != "resample":
                raise InterventionError(
                    f"arm {self._arm.name!r}: allow() answered a sampled action with {decision.kind!r}; after sampling "
                    "it may only pass, replace or resample (return a mask from the call with action=None)"
                )
        return completion, decision.replacement, attempt + 1  # every completion was refused

    def _check_replacement(self, turn: TurnContext, decision: ActionDecision) -> None:
        """Raises `InterventionError` if what is sent in place of refused commands would be refused itself."""
        sent = parse_action(f"ACTION: {decision.replacement}")
        if decision.kind in ("replace", "resample") and self._arm.allow(turn, sent).kind != "pass":
            raise self._all_masked(turn, f"what it sends in place of a refused command, {sent!r}, is refused as well")

    def _all_masked(self, turn: TurnContext, why: str) -> InterventionError:
        owner = type(self._arm.owner.get(Knob.ACTIONS)).__name__
        return InterventionError(
            f"arm {self._arm.name!r}: {owner} masks every action in turn {turn.turn} of world {self._world!r} (seed "
            f"{self._request.seed}): {why}; leave the policy a command, and let the fallback be one that passes"
        )

    def _refuse_begun(self, prefill: Prefill, forbid: Sequence[str]) -> None:
        """Raise for a text that begins a masked command: masks read what is sampled, and would not find the rest."""
        last = " ".join(normalise(prefill.text.splitlines()[-1]).lower().split())
        begun = [c for c in forbid if last and (f"{c} ".startswith(last) or f"{last} ".startswith(f"{c} "))]
        if begun and not prefill.text.endswith("\n"):
            raise InterventionError(
                f"arm {self._arm.name!r} masks the command {begun[0]!r}, and the text {prefill.text!r} that opens "
                "completions begins it: end the text with a full stop or a line end"
            )

    def _note(self, what: str, *, samples: bool = False) -> None:
        request = self._request
        self._watch[self._session] = Stage(request.group, self._world, request.seed, what, time.monotonic(), samples)

    async def _limited(self, call: Callable[[], Any], what: str) -> Any:
        """Call a world within the time limit. Its exceptions become a `WorldError` that names class and call."""
        self._note(what)
        try:
            return await self._call(call, self._limits.step_seconds, self._kind, f"{self._described()}: {what}")
        except TimeLimitExceeded as late:
            raise TimeLimitExceeded(f"{late} in {what}") from None
        except CallRaised as raised:
            error = raised.error
            raise WorldError(
                f"{self._described()} raised in {what}: {type(error).__name__}: {message_of(error)}"
            ) from error

    def _described(self) -> str:
        kind = "" if self._kind is None else f"{self._kind.__module__}:{self._kind.__qualname__}, "
        return f"world {self._world!r} ({kind}seed {self._request.seed})"
