"""reasoning-gym's generated questions: one-turn worlds, and a fixed suite that measures retained capability.

A question is drawn from its task by the seed. A few tasks come with answers that their own scorer rejects; a question
is asked only if its own answer scores 1, so that a perfect score is possible.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from envs.adapters.foreign import Answer, ForeignEnv, ForeignEnvError, Streams, finite, need
from envs.core import draw
from envs.episode import Episode

#: Small tasks of different kinds, for small models: the default suite.
SUITE = (
    *("basic_arithmetic", "chain_sum", "gcd", "count_bits", "calendar_arithmetic"),
    *("spell_backward", "letter_counting", "word_sorting", "number_sorting", "letter_jumble"),
    *("knights_knaves", "syllogism", "family_relationships", "number_sequence", "coin_flip"),
)
_TRIES = 20


class Question(NamedTuple):
    """One question of a suite: `ReasoningGym(task=task)` asks it at `reset(seed=seed)`."""

    task: str
    """Name of the generator."""
    seed: int
    """Seed of the question."""


class ReasoningGym(ForeignEnv):
    """One question, one answer, then the end. The reward is the task's own score, in [0, 1].

    Args:
        task: name of the generator.
        config: its settings, e.g. `{"min_terms": 2}`.
    """

    name = "reasoning_gym"

    def __init__(self, *, task: str, config: Mapping[str, Any] | None = None) -> None:
        super().__init__(horizon=1)
        with Streams(0).swapped():
            self._gym = need("reasoning_gym", "reasoning-gym")
        known = self._gym.factory.DATASETS
        if task not in known:
            near = ", ".join(difflib.get_close_matches(task, known, n=3)) or ", ".join(sorted(known))
            raise ValueError(f"world 'reasoning_gym', option 'task': no task {task!r}; near: {near}")
        self.task, self._config = task, dict(config or {})

    def open(self, seed: int) -> str:
        with Streams(seed).swapped():
            try:
                self._data = self._gym.create_dataset(self.task, size=_TRIES, seed=seed, **self._config)
            except (TypeError, AssertionError, ValueError) as error:
                raise ValueError(f"world 'reasoning_gym', task {self.task!r}: bad config: {error}") from error
            for index in range(_TRIES):
                self._entry = self._data[index]
                if self._entry["answer"] is not None and self._score(str(self._entry["answer"])) == 1.0:
                    return str(self._entry["question"])
        raise ForeignEnvError(
            f"reasoning-gym's task {self.task!r} scores its own answers below 1 in {_TRIES} questions; "
            "a perfect score is not possible, so it is not asked"
        )

    def play(self, command: str) -> Answer:
        with Streams(self.episode_seed).swapped():
            reward = self._score(command)
        return Answer("the end .", reward, terminated=True, invalid=not command)

    def honest_action(self) -> str:
        """The generator's own answer."""
        return f"ACTION: {self._entry['answer']}"

    def _score(self, text: str) -> float:
        score = self._data.score_answer(answer=text, entry=self._entry)
        return finite(score, f"reasoning-gym's task {self.task!r}")


def questions(tasks: Sequence[str] = SUITE, *, per_task: int = 4, seed: int = 0) -> list[Question]:
    """The suite that `seed` names: `per_task` questions of every task, always the same."""
    return [
        Question(task, int(draw(seed, f"question {task}", index) * 2**31))
        for task in tasks
        for index in range(per_task)
    ]


def retention(answer: Callable[[str], str], suite: Iterable[Question]) -> dict[str, float]:
    """Mean score per task of a function from question to answer, in [0, 1].

    For an engine, play the suite instead: a request `EpisodeRequest(lambda: ReasoningGym(task=q.task), q.seed,
    options={"task": q.task})` per question, and `retention_of` the episodes.
    """
    scores: dict[str, list[float]] = {}
    for task, seed in suite:
        world = ReasoningGym(task=task)
        scores.setdefault(task, []).append(world.step(answer(world.reset(seed=seed)[0]))[1])
    return {task: sum(each) / len(each) for task, each in scores.items()}


def retention_of(episodes: Iterable[Episode]) -> dict[str, float]:
    """Mean score per task of played questions; episodes that failed count as 0."""
    scores: dict[str, list[float]] = {}
    for episode in episodes:
        scores.setdefault(str(episode.options["task"]), []).append(episode.proxy_return)
    return {task: sum(each) / len(each) for task, each in scores.items()}
