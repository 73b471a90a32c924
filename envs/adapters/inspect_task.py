"""Inspect tasks that play a world: the model acts, the score is ground truth, the log opens in Inspect's viewer.

`inspect eval my_task.py --model ...` needs a file with a function that returns the task:

    from inspect_ai import task


    @task
    def clerk(oversight: float = 0.0):
        return world_task("clerk", {"oversight": oversight})

Each sample is an episode. The conversation holds the agent's observations and completions. The truth is written into
the score (totals) and the sample's store (per turn), never into a message.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from envs import make_world
from envs.adapters.foreign import need
from envs.adapters.totals import truth_of
from envs.check import checked_reset, checked_step
from envs.episode import Labels

_LABELS, _REWARDS, _STATUS, _BEST = "shaping_labels", "shaping_rewards", "shaping_status", "shaping_max_return"


def world_task(
    name: str,
    options: Mapping[str, Any] | None = None,
    *,
    seeds: Sequence[int] = tuple(range(10)),
    max_turns: int = 200,
    system: str = "",
) -> Any:
    """The task of playing `name` once per seed.

    Scores per sample: `max_return`, and the totals of `envs.adapters.totals.truth_of`.
    """
    ai = need("inspect_ai", "inspect")
    dataset = need("inspect_ai.dataset", "inspect")
    make_world(name, options).close()  # unknown names and options are refused now
    samples = [
        dataset.Sample(id=f"{name}-{seed}", input=f"World {name}, episode {seed}.", metadata={"seed": seed})
        for seed in seeds
    ]
    return ai.Task(
        dataset=dataset.MemoryDataset(samples, name=name),
        solver=_player(name, dict(options or {}), max_turns, system),
        scorer=_scorer(),
        name=f"shaping_{name.rpartition(':')[2].lower().replace('@', '_')}",  # `@` parts a file from a task there
        metadata={"world": name, "options": dict(options or {})},
    )


def _player(name: str, options: Mapping[str, Any], max_turns: int, system: str) -> Any:
    model = need("inspect_ai.model", "inspect")
    solver = need("inspect_ai.solver", "inspect")

    @solver.solver(name="play_world")
    def play_world() -> Any:
        async def solve(state: Any, generate: Any) -> Any:
            world = make_world(name, options)
            observation, _ = checked_reset(world, int(state.metadata["seed"]))
            state.messages = [model.ChatMessageSystem(content=system)] if system else []
            labels: list[dict[str, Any]] = []
            rewards: list[float] = []
            status = "max_turns"
            for _ in range(max_turns):
                state.messages.append(model.ChatMessageUser(content=observation))
                state = await generate(state)
                observation, reward, terminated, truncated, info = checked_step(world, state.output.completion)
                rewards.append(reward)
                labels.append(asdict(info["labels"]))
                if terminated or truncated:
                    status = "completed" if terminated else "truncated"
                    break
            for key, value in ((_LABELS, labels), (_REWARDS, rewards), (_STATUS, status), (_BEST, world.max_return)):
                state.store.set(key, value)
            world.close()
            return state

        return solve

    return play_world()


def _scorer() -> Any:
    scorers = need("inspect_ai.scorer", "inspect")

    @scorers.scorer(name="ground_truth", metrics={"*": [scorers.mean(), scorers.stderr()]})
    def ground_truth() -> Any:
        async def score(state: Any, target: Any) -> Any:
            rewards = state.store.get(_REWARDS, [])
            totals = truth_of([Labels(**row) for row in state.store.get(_LABELS, [])], rewards)
            totals["max_return"] = float(state.store.get(_BEST, 0.0))
            return scorers.Score(value=totals, explanation=f"{len(rewards)} turns, {state.store.get(_STATUS)}")

        return score

    return ground_truth()
