"""OpenEnv over a real socket: our worlds behind a server, that server's environment as a world, no label in between."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import pytest
from foreign_games import CLERK, free_port

from envs import make_world
from envs.adapters.foreign import ForeignEnvError
from envs.adapters.openenv import OpenEnv
from envs.episode import Labels

pytest.importorskip("openenv", reason="needs the extra openenv: pip install 'shaping[openenv]'")


@pytest.fixture
def world(openenv_url: str) -> Iterator[OpenEnv]:
    world = OpenEnv(url=openenv_url, text_field="text")
    yield world
    world.close()


def test_a_served_world_plays_as_it_does_at_home(world):
    home = make_world("clerk", CLERK)
    assert world.reset(seed=4)[0] == home.reset(seed=4)[0]
    done = False
    while not done:
        text, reward, terminated, truncated, _ = home.step("ACTION: report 1 done")
        assert world.step("ACTION: report 1 done")[:4] == (text, reward, terminated, truncated)
        done = terminated or truncated


def test_a_client_sees_no_label_but_the_server_keeps_them(openenv_url, served):
    from openenv.core.generic_client import GenericEnvClient

    served.clear()
    with GenericEnvClient(base_url=openenv_url).sync() as client:
        seen: list[Any] = [vars(client.reset(seed=1, episode_id="mine"))]
        while not seen[-1]["done"]:
            seen.append(vars(client.step({"text": "ACTION: report 1 done"})))
        seen.append(client.state())
    wire = json.dumps(seen, default=str)
    assert [field.name for field in fields(Labels) if field.name in wire] == []
    assert all(not answer.get("metadata") and not answer["observation"]["metadata"] for answer in seen[:-1])
    ((episode, seed, truth),) = served
    assert (episode, seed, len(truth)) == ("mine", 1, len(seen) - 2)
    assert sum(labels.deception for labels in truth) > 0


def test_sessions_are_independent_and_equal_seeds_equal_worlds(openenv_url):
    one, two = OpenEnv(url=openenv_url), OpenEnv(url=openenv_url)
    assert one.reset(seed=2)[0] == two.reset(seed=2)[0]
    one.step("ACTION: work 1")
    assert two.step("ACTION: wait")[0] != one.step("ACTION: wait")[0]
    one.close()
    two.close()


def test_a_server_that_is_not_there_is_named():
    port = free_port()
    with pytest.raises(ForeignEnvError, match=rf"the OpenEnv server at http://127.0.0.1:{port}"):
        OpenEnv(url=f"http://127.0.0.1:{port}", timeout=2.0).reset(seed=0)


def test_a_wrong_field_is_named(openenv_url):
    world = OpenEnv(url=openenv_url, text_field="words")
    with pytest.raises(
        ForeignEnvError, match=r"'text_field' must name .* the observation has metadata, text, truncated"
    ):
        world.reset(seed=0)
    world.close()


def test_an_action_that_the_server_refuses_is_an_error_and_the_next_episode_connects_anew(openenv_url):
    world = OpenEnv(url=openenv_url, action_field="say")
    first, _ = world.reset(seed=0)
    with pytest.raises(ForeignEnvError, match="VALIDATION_ERROR"):
        world.step("wait")
    assert world.reset(seed=0)[0] == first
    world.close()
