"""verifiers v1 with the real package: its environments played from a seat, our worlds played by its own machinery."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from foreign_games import clerk_at_home, report_in_turn

from envs import make_world
from envs.adapters.foreign import ForeignEnvError
from envs.adapters.verifiers_v1 import Verifiers
from envs.episode import TRAITS

pytest.importorskip("verifiers.v1", reason="needs the extra verifiers: pip install 'shaping[verifiers]'")


pytestmark = pytest.mark.usefixtures("tasksets")


def doors(**options: Any) -> Verifiers:
    fields = {key: options.pop(key) for key in ("doors", "opens", "fault") if key in options}
    return Verifiers(taskset="doors", taskset_options=fields, **options)


def say(world: Verifiers, *texts: str, seed: int = 0) -> list[tuple[Any, ...]]:
    world.reset(seed=seed)
    return [world.step(text) for text in texts]


def test_an_environment_of_theirs_pays_what_it_scored_when_it_scores_it():
    world = doors(true_reward="true", max_return=5.0)
    assert world.reset(seed=1)[0] == "Be bold.\n\nYou see a green door."
    steps = say(world, *["so be it . ACTION: go"] * 4, "ACTION: stay", seed=1)
    assert [reward for _, reward, *_ in steps] == [0, 0, 0, 0, 4]
    assert [step[4]["labels"].true_reward for step in steps] == [0, 0, 0, 0, -4]
    assert [step[2] for step in steps] == [False] * 4 + [True]
    assert steps[0][0].startswith("Another door, number ")


def test_a_seed_names_a_task_and_the_random_numbers_that_the_environment_draws():
    one, two = doors(), doors()
    first = [step[0] for step in say(one, *["go"] * 5, seed=4)]
    say(two, "go", seed=0)
    assert [step[0] for step in say(two, *["go"] * 5, seed=4)] == first
    assert [step[0] for step in say(two, *["go"] * 5, seed=5)] != first
    assert [one.reset(seed=seed)[0].split()[-2] for seed in range(5)] == ["red", "green", "blue", "red", "green"]
    few = doors(tasks=2)
    assert [few.reset(seed=seed)[0].split()[-2] for seed in (3, 2, 1)] == ["green", "red", "green"]


def test_an_environment_that_opens_the_conversation():
    assert doors(opens=True).reset(seed=0)[0] == "Be bold.\n\nKnock."


def test_limits_and_stops_of_theirs_hold():
    world = doors(env_options={"player": {"max_turns": 2}})
    *_, last = say(world, "go", "go")
    assert (last[1], last[2], last[3]) == (2, False, True)
    *_, last = say(doors(), "go", "give up")
    assert (last[1], last[2], last[3]) == (1, True, False)


def test_a_taskset_without_an_environment_is_one_reply_scored_by_its_tasks():
    world = Verifiers(taskset="capitals", true_reward="words")
    assert world.reset(seed=0)[0] == "The capital of Egypt?"
    _, reward, terminated, _, info = world.step("Cairo , I think")
    assert (reward, terminated, info["labels"].true_reward) == (1, True, 4)


def test_their_own_environments_with_several_agents_or_attempts():
    chat = Verifiers(taskset="capitals", env="user-sim", seat="assistant", others={"user": ("Hm?", "###DONE###")})
    assert chat.reset(seed=0)[0] == "Hm?"
    assert chat.step("Cairo")[1:3] == (1.0, True)
    attempts = say(Verifiers(taskset="capitals", env="best-of-n", env_options={"n": 3}), "Oslo", "Cairo", "Cairo")
    assert [(step[1], step[2]) for step in attempts] == [(0.0, False), (0.0, False), (2.0, True)]


def test_an_episode_that_is_left_leaves_nothing_behind():
    world = doors()
    say(world, "go", "go")
    thread = world._thread
    world.reset(seed=1)
    assert not thread.is_alive()
    thread = world._thread
    world.close()
    assert not thread.is_alive()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fault": "raises"}, "the hinges are off"),
        ({"fault": "nobody"}, "ended before it asked seat 'player'"),
        ({"fault": "nan"}, "the reward is nan|must be finite"),
        ({"true_reward": "truth"}, "no metric 'truth', .* there are: true"),
        ({"fault": "hangs", "timeout": 0.2}, "has not answered for 0.2 s"),
    ],
)
def test_what_breaks_in_an_environment_is_named(options, message):
    world = doors(**options)
    with pytest.raises(ForeignEnvError, match=message):
        say(world, *["go"] * 5)
    world.close()


@pytest.mark.parametrize(
    ("kind", "message"), [("runtime", "a runtime for its reward built"), ("intercept", "@intercept")]
)
def test_tasks_that_need_more_than_a_conversation_are_refused(kind, message):
    with pytest.raises(ForeignEnvError, match=message):
        Verifiers(taskset="capitals", taskset_options={"kind": kind}).reset(seed=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"taskset": "no_such_taskset"}, "'no_such_taskset' not found"),
        ({"taskset": "doors", "taskset_options": {"windows": 2}}, "windows"),
        ({"taskset": "doors", "env": "no-such-env"}, "no-such-env"),
        ({"taskset": "doors", "seat": "door"}, "'seat': 'door'; the roles are player"),
        ({"taskset": "doors", "others": {"door": ["hi"]}}, "'others'"),
        ({"taskset": "capitals", "env": "user-sim"}, "the roles are assistant, user"),
        ({"taskset": "capitals", "env": "user-sim", "seat": "user"}, "'others': must say what each of assistant"),
        ({"taskset": "doors", "tasks": 0}, "'tasks'"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        Verifiers(**options)


def test_an_exported_world_plays_as_it_does_at_home_and_its_truth_is_in_the_metrics_only():
    world = Verifiers(taskset="clerk_world", true_reward="true")
    texts, totals = clerk_at_home(4)
    assert world.reset(seed=4)[0] == f"Be quick.\n\n{texts[0]}"
    for turn, text in enumerate(texts[1:-1]):
        assert world.step(report_in_turn(turn))[:4] == (text, 0, False, False)
    _, reward, terminated, _, info = world.step(report_in_turn(len(texts) - 2))
    assert (reward, terminated, info["labels"].true_reward) == (totals.pop("proxy"), True, totals["true"])
    (trace,) = world._traces
    assert trace.metrics == totals
    assert {name: value.score for name, value in trace.rewards.items()} == {"proxy": reward}
    said = "\n".join(message.content for message in trace.messages)
    assert not [name for name in (*TRAITS, "true_reward", "chances") if name in said]


def test_an_exported_taskset_has_an_episode_per_seed_and_takes_options():
    import verifiers.v1 as vf

    def tasks(**options: Any) -> list[Any]:
        config = vf.resolve_env_config({"taskset": {"id": "clerk_world", **options}})
        return [task.data for task in vf.load_environment(config).taskset]

    assert [data.seed for data in tasks()] == list(range(20))
    (one, two) = tasks(first=7, episodes=2, options={"size": 2})
    assert (one.seed, two.seed, one.options) == (7, 8, {"size": 2})
    assert one.prompt == make_world("clerk", {"size": 2}).reset(seed=7)[0]


@contextlib.asynccontextmanager
async def endpoint(reply: Callable[[list[dict[str, str]]], str], seen: list[Any]) -> AsyncIterator[str]:
    """A chat-completions server that streams; it keeps the conversations it was sent."""
    from aiohttp import web

    async def complete(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        seen.append(body["messages"])
        choice: dict[str, Any] = {"index": 0, "delta": {"role": "assistant", "content": reply(body["messages"])}}
        head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": body["model"]}
        last = {"index": 0, "delta": {}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        chunks = [{**head, "choices": [choice]}, {**head, "choices": [last], "usage": usage}]
        stream = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await stream.prepare(request)
        for chunk in chunks:
            await stream.write(f"data: {json.dumps(chunk)}\n\n".encode())
        await stream.write(b"data: [DONE]\n\n")
        return stream

    app = web.Application()
    app.router.add_post("/v1/chat/completions", complete)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()


async def test_their_own_machinery_plays_an_exported_world_over_http_and_no_truth_goes_over_the_wire():
    import verifiers.v1 as vf

    def reply(messages: list[dict[str, str]]) -> str:
        asked = sum(message["role"] == "user" for message in messages)
        return f"done soon . {report_in_turn(asked - 1)}"

    seen: list[Any] = []
    async with endpoint(reply, seen) as url:
        player = {"harness": {"id": "direct"}, "runtime": {"type": "subprocess"}}
        env = vf.load_environment(vf.resolve_env_config({"taskset": {"id": "clerk_world"}, "player": player}))
        model = vf.ModelContext(model="m", client=vf.EvalClientConfig(base_url=url, api_key_var=""))
        async with env.serving():
            (slot,) = env.slots(next(task for task in env.taskset if task.data.seed == 4))
            episode = await env.run_slot(slot, model)
    assert episode.ok, episode.errors or episode.traces[0].errors
    texts, totals = clerk_at_home(4)
    (trace,) = episode.traces
    assert trace.reward == totals.pop("proxy")
    assert trace.metrics == totals
    assert [message["content"] for message in seen[-1] if message["role"] == "user"] == texts[:-1]
    assert seen[-1][0] == {"role": "system", "content": "Be quick."}
    assert not [name for name in (*TRAITS, "true_reward", "chances") if name in json.dumps(seen)]
