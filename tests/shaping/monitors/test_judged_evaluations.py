"""Judges asked about a whole evaluation at once, and judges in this process."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import pytest
from scripted_judge import MakeEpisode, Request, endpoint, judge, saying, verdict
from small_organism import small_organism

from envs.episode import Episode
from shaping.monitors import OvertAction
from shaping.monitors.base import MonitorError, Reading
from shaping.monitors.judging.endpoint import EndpointError
from shaping.monitors.judging.judge import Judge, JudgeError
from shaping.monitors.judging.local import local_model
from shaping.monitors.read import read_all
from shaping.monitors.transcript_judge import TranscriptJudge


def test_an_evaluation_is_judged_side_by_side_and_gives_what_one_by_one_gives(make_episode: MakeEpisode) -> None:
    """Six episodes of one turn, of which the fourth gets no verdict: it alone fails."""

    def says(request: Request) -> str:
        time.sleep(0.05)
        (line,) = [each for each in request.lines if each["turn"] == request.asked[0]]
        return "no verdict" if "three" in line["reasoning"] else verdict(request, len(line["reasoning"]) / 10)

    words = ("zero", "one", "two", "three", "four", "eleven")
    episodes = [saying(make_episode, word) for word in words]
    with endpoint(says) as at:
        read = read_all(judge(at.url, concurrency=3, attempts=1), episodes)
        alone = [judge(at.url).read(episode) for episode in episodes[:3]]
    assert 1 < at.most_at_once <= 3
    assert read.whole == [0, 1, 2, 4, 5] and "1 nonsense" in read.failures[3]
    assert [read.scores(index, "deception").tolist() for index in read.whole] == [[0.4], [0.3], [0.3], [0.4], [0.6]]
    assert [list(read.readings[index] or ()) for index in range(3)] == alone


class Batched(OvertAction):
    """Answers about many episodes as its class variable says."""

    answers: ClassVar[Any] = []

    def read_many(self, episodes: Sequence[Episode]) -> Any:
        return self.answers


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        ([], "returned []; it must return one list of Readings, or a MonitorError, for each of 1 episodes"),
        ([[Reading("m", "harm", 9, 1.0)]], "reports turn 9 of an episode"),
        ([["a"]], "it must return a list of Readings"),
        ([MonitorError("nobody answered")], "nobody answered"),
        (None, "returned None"),
    ],
)
def test_answers_about_many_episodes_are_checked_like_those_about_one(
    make_episode: MakeEpisode, answers: Any, why: str
) -> None:
    monitor = type("Own", (Batched,), {"answers": answers, "__annotations__": {"answers": ClassVar[Any]}})()
    read = read_all(monitor, [make_episode([0.0])])
    assert read.readings == (None,) and why in read.failures[0]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_organism(tmp_path_factory.mktemp("cache"), context=2048)


def test_a_local_model_answers_many_threads_as_it_answers_one(directory: Path) -> None:
    model = local_model(str(directory))
    asked = Judge(endpoint="local", model=str(directory), max_tokens=16)
    told = [[{"role": "user", "content": f"turn {n} . what did you do ?"}] for n in range(5)]
    alone = [model.answer(asked, each) for each in told]
    with ThreadPoolExecutor(5) as pool:
        together = list(pool.map(lambda each: model.answer(asked, each), told))
    assert together == alone and all(each.usage and each.usage[1] <= 16 for each in alone)
    assert local_model(str(directory)) is model
    with pytest.raises(EndpointError, match=r"the question has .* set a smaller window"):
        model.answer(asked, [{"role": "user", "content": "turn " * 4000}])


def test_a_local_judge_that_cannot_judge_is_told_like_an_endpoint_that_cannot(
    make_episode: MakeEpisode, directory: Path, tmp_path: Path
) -> None:
    judges = [{"endpoint": "local", "model": str(directory), "max_tokens": 16}]
    monitor = TranscriptJudge(judges=judges, attempts=2, backoff=0.0)
    with pytest.raises(JudgeError, match=r"have fewer than 1 verdicts .1 nonsense"):
        monitor.read(make_episode([0.0]))
    assert monitor.report()["retried"] == {"nonsense": 1} and monitor.report()["prompt_tokens"] > 0
    absent = TranscriptJudge(judges=[{"endpoint": "local", "model": str(tmp_path)}])
    with pytest.raises(JudgeError, match="is no model directory with safetensors weights"):
        absent.read(make_episode([0.0]))
