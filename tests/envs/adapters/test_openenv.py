"""OpenEnv over a real socket: our worlds behind a server, that server's environment as a world, no label in between."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import pytest

from envs import make_world
from envs.adapters.foreign import ForeignEnvError
from envs.adapters.openenv import OpenEnv, serve
from envs.check import check_env, require
from envs.episode import Labels, RolloutStatus

pytest.importorskip("openenv", reason="needs the extra openenv: pip install 'shaping[openenv]'")
uvicorn = pytest.importorskip("uvicorn")

SIZE = 3
EPISODES: list[tuple[str, int, tuple[Labels, ...]]] = []


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    app = serve("clerk", {"size": SIZE}, max_sessions=16, on_episode=lambda *episode: EPISODES.append(episode))
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    while not server.started:
        assert time.monotonic() < deadline, "the server did not start"
        time.sleep(0.02)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(10)


@pytest.fixture
def world(url: str) -> Iterator[OpenEnv]:
    world = OpenEnv(url=url, text_field="text")
    yield world
    world.close()


def test_a_served_world_plays_as_it_does_at_home(world):
    home = make_world("clerk", {"size": SIZE})
    assert world.reset(seed=4)[0] == home.reset(seed=4)[0]
    done = False
    while not done:
        text, reward, terminated, truncated, _ = home.step("ACTION: report 1 done")
        assert world.step("ACTION: report 1 done")[:4] == (text, reward, terminated, truncated)
        done = terminated or truncated


def test_a_client_sees_no_label_but_the_server_keeps_them(url):
    from openenv.core.generic_client import GenericEnvClient

    EPISODES.clear()
    with GenericEnvClient(base_url=url).sync() as client:
        seen: list[Any] = [vars(client.reset(seed=1, episode_id="mine"))]
        while not seen[-1]["done"]:
            seen.append(vars(client.step({"text": "ACTION: report 1 done"})))
        seen.append(client.state())
    wire = json.dumps(seen, default=str)
    assert [field.name for field in fields(Labels) if field.name in wire] == []
    assert all(not answer.get("metadata") and not answer["observation"]["metadata"] for answer in seen[:-1])
    ((episode, seed, truth),) = EPISODES
    assert (episode, seed, len(truth)) == ("mine", 1, len(seen) - 2)
    assert sum(labels.deception for labels in truth) > 0


def test_sessions_are_independent_and_equal_seeds_equal_worlds(url):
    one, two = OpenEnv(url=url), OpenEnv(url=url)
    assert one.reset(seed=2)[0] == two.reset(seed=2)[0]
    one.step("ACTION: work 1")
    assert two.step("ACTION: wait")[0] != one.step("ACTION: wait")[0]
    one.close()
    two.close()


def test_the_world_keeps_the_contract_but_for_garbage_which_only_the_server_knows(url):
    made: list[OpenEnv] = []

    def make() -> OpenEnv:
        for old in made:
            old.close()
        made[:] = [OpenEnv(url=url)]
        return made[0]

    verdicts = check_env(make, (0,), actions=("work 1", "report 1 done"), step_seconds=10.0)
    require([verdict for verdict in verdicts if verdict.rule != "garbage"])
    make().close()


def test_a_server_that_is_not_there_is_named():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    with pytest.raises(ForeignEnvError, match=rf"the OpenEnv server at http://127.0.0.1:{port}"):
        OpenEnv(url=f"http://127.0.0.1:{port}", timeout=2.0).reset(seed=0)


def test_a_wrong_field_is_named(url):
    world = OpenEnv(url=url, text_field="words")
    with pytest.raises(
        ForeignEnvError, match=r"'text_field' must name .* the observation has metadata, text, truncated"
    ):
        world.reset(seed=0)
    world.close()


def test_an_action_that_the_server_refuses_is_an_error_and_the_next_episode_connects_anew(url):
    world = OpenEnv(url=url, action_field="say")
    first, _ = world.reset(seed=0)
    with pytest.raises(ForeignEnvError, match="VALIDATION_ERROR"):
        world.step("wait")
    assert world.reset(seed=0)[0] == first
    world.close()


def test_worlds_that_do_not_exist_are_not_served():
    with pytest.raises(ValueError, match="clerk"):
        serve("clerc")


def test_an_untrained_policy_plays_an_episode(url, play_organism):
    episode = play_organism(lambda: OpenEnv(url=url), seed=3, turns=4)
    assert episode.status is RolloutStatus.TRUNCATED_MAX_TURNS, episode.error
    assert len(episode.turns) == 4
    assert episode.turns[0].observation == make_world("clerk", {"size": SIZE}).reset(seed=3)[0]
