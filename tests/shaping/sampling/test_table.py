"""Games of several seats: who waits for whom, what each seat's episode holds, and what happens when something fails."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from seat_worlds import Duel

from envs.episode import Context, Contexts, Episode, RolloutStatus
from shaping.arm import Arm
from shaping.contract.groups import small_policy
from shaping.hooks import AdapterSpec
from shaping.learning.policy import Policy
from shaping.sampling.embedded.transformers_engine import TransformersEngine
from shaping.sampling.engine import EngineError
from shaping.sampling.play import EpisodeRequest, Limits
from shaping.sampling.players import PlayerMode
from shaping.sampling.table import TableRequest, play_tables
from shaping.sampling.text.render import Renderer
from shaping.sampling.time_limit import time_limits
from shaping.seat_records import RETURNS

MODES = {"a": PlayerMode(("a",)), "b": PlayerMode(("b",)), "unshaped": PlayerMode()}


@pytest.fixture(scope="module")
def policy() -> Policy:
    """Two players whose adapters do something."""
    torch.manual_seed(0)
    made = small_policy([AdapterSpec(name, "kept", rank=2, player=name) for name in ("a", "b")])
    with torch.no_grad():
        for name in ("a", "b"):
            for tensor in made.adapters.tensors(name).values():
                tensor.copy_(torch.randn_like(tensor))
    return made


def table(players: dict[str, str], scripted: dict[str, str], number: int = 0, **options: Any) -> TableRequest:
    seats = [
        EpisodeRequest(
            lambda: Duel(**options), seed=3, sampling_seed=10 * number + index, seat=seat, player=player, world="duel"
        )
        for index, (seat, player) in enumerate(players.items())
    ]
    return TableRequest(tuple(seats), scripted)


def played(policy: Policy, tables: Sequence[TableRequest], slots: int = 6, **limits: Any) -> list[list[Episode]]:
    renderer = Renderer(policy.tokenizer)

    async def playing() -> list[list[Episode]]:
        engine = TransformersEngine(policy.model, renderer, slots=slots)
        engine.set_players(policy.adapters, MODES)
        with time_limits() as limited:
            return await play_tables(
                tables,
                engine,
                renderer,
                lambda request: Arm(f"of {request.seat}"),
                limits=Limits(max_tokens=6, **limits),
                gate=asyncio.Semaphore(slots),
                turnstile=asyncio.Lock(),
                limited=limited,
            )

    with policy.adapters.using(()):
        return asyncio.run(playing())


@pytest.mark.parametrize("in_turn", [False, True], ids=["at once", "in turn"])
def test_every_seat_that_a_policy_plays_is_an_episode_of_its_own(policy: Policy, in_turn: bool) -> None:
    asked = table({"red": "a", "blue": "b"}, {"green": "loud"}, in_turn=in_turn)
    ((red, blue),) = played(policy, [asked])
    for seat, episode in (("red", red), ("blue", blue)):
        assert (episode.status, episode.arm, len(episode.turns)) == (RolloutStatus.COMPLETED, f"of {seat}", 2)
        assert f"you are {seat}" in episode.turns[0].observation
        assert len(episode.truth.open()) == 2
        assert dict(episode.options[RETURNS]) == {"red": red.proxy_return, "blue": blue.proxy_return, "green": 0.0}
    heard = [turn.observation for turn in (red.turns[1], blue.turns[1])]
    assert heard == (["turn 2 . heard 3 .", "turn 2 . heard 4 ."] if in_turn else ["turn 2 . heard 3 ."] * 2)


def test_games_do_not_depend_on_what_is_played_beside_them(policy: Policy) -> None:
    tables = [table({"red": "a", "blue": "b"}, {"green": "quiet"}, number, turns=1) for number in range(3)]
    together, few = played(policy, tables), played(policy, tables, slots=2)
    for one, other in zip(together, few, strict=True):
        for a, b in zip(one, other, strict=True):
            assert np.array_equal(a.tokens, b.tokens), "also where games wait for each other's slots"


def test_a_seat_samples_with_its_player_alone(policy: Policy) -> None:
    """The engine's log-probs are those of the model with exactly the player's adapter on."""
    asked = table({"red": "a", "blue": "b", "green": "unshaped"}, {}, turns=1)
    ((red, blue, green),) = played(policy, [asked])
    for episode, names in ((red, ("a",)), (blue, ("b",)), (green, ())):
        ids = torch.tensor(episode.tokens.astype(np.int64))[None]
        with policy.adapters.using(names), torch.no_grad():
            logits = policy.model(ids, use_cache=False).logits[0].log_softmax(-1)
        places = np.flatnonzero(episode.loss_mask)
        own = logits[places - 1, ids[0, places]].numpy()
        assert np.allclose(own, episode.logprobs[places], atol=1e-4), names


def test_an_error_of_the_world_fails_every_seat_of_its_game_and_no_other(policy: Policy) -> None:
    tables = [table({"red": "a", "blue": "b"}, {"green": "loud"}, fails=fails) for fails in (True, False)]
    broken, sound = played(policy, tables)
    assert [e.status for e in broken] == [RolloutStatus.ERROR] * 2
    assert all("the table breaks" in e.error and "duel" in e.error for e in broken)
    assert [e.status for e in sound] == [RolloutStatus.COMPLETED] * 2


def test_a_seat_whose_context_is_full_leaves_the_others_to_play_on(policy: Policy) -> None:
    asked = table({"red": "a", "green": "b"}, {"blue": "quiet"}, turns=3)
    context = Context("take " * 200, "long")
    long = TableRequest((replace(asked.seats[0], contexts=Contexts(context, context)), asked.seats[1]), asked.scripted)
    ((red, green),) = played(policy, [long], context=150)
    assert (red.status, len(red.turns)) == (RolloutStatus.TRUNCATED_PROMPT_TOO_LONG, 0)
    assert (green.status, len(green.turns)) == (RolloutStatus.COMPLETED, 3)


def test_seats_that_the_world_lacks_and_players_that_the_engine_lacks_are_named(policy: Policy) -> None:
    ((red,),) = played(policy, [table({"red": "a"}, {"blue": "loud"})])
    assert red.status is RolloutStatus.ERROR
    assert "has the seats red, blue, green, and the game is for red, blue" in red.error
    with pytest.raises(EngineError, match="no player is called 'c'; there are 'a', 'b', 'unshaped'"):
        played(policy, [table({"red": "c"}, {"blue": "loud", "green": "loud"})])


def test_a_recorded_step_is_taken_for_no_player(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would hold the adapters of whoever sampled when it was recorded."""
    from shaping.sampling.embedded.decode_graph import DecodeGraphs

    asked: list[int] = []
    monkeypatch.setattr(DecodeGraphs, "logits", lambda *_: asked.append(1))
    played(policy, [table({"red": "a", "blue": "b"}, {"green": "loud"}, turns=1)])
    assert not asked
    monkeypatch.setitem(globals(), "MODES", {})
    played(policy, [table({"red": "", "blue": ""}, {"green": "loud"}, turns=1)])
    assert asked
