"""Runs in which several seats learn: from the draw of who sits where to the games after training."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from envs.store import read_episodes
from launch.config.compatibility import check_rollout
from launch.config.loading import parse_study
from launch.config.plugins import build_arm
from launch.config.study import RunConfig
from launch.errors import ConfigError, UserError
from launch.run.episodes import GroupRequest
from launch.run.execute import execute
from launch.run.models.adapters import adapters_of
from launch.run.models.load_policy import load_trained
from launch.run.seats.games import eval_games, seating_of
from launch.run.seats.players import modes
from launch.run.seats.seating import draw_group, seating
from launch.storage.rundir import RunDirectory
from shaping.seat_records import UNSHAPED, is_learner, player_of, seat_of

DUEL = "seat_worlds:Duel"
PLAYERS: dict[str, Any] = {
    "red": {},
    "blue": {"adapter": "rival"},
    "green": {"learns": 0.5, "opponents": {"unshaped": 1, "past": 1, "loud": 1}},
}
REHEARSES = {"interventions": ["BiasConsistency"]}
DISTILS = {"interventions": ["ContextDistillation"]}
CHOOSES = {"interventions": ["SelectiveInoculation"]}


def config(
    players: Any = PLAYERS,
    *,
    seats: Any = None,
    arm: Any = None,
    learner: Any = None,
    rollout: Any = None,
    worlds: Any = None,
    **train: Any,
) -> RunConfig:
    small = {"updates": 2, "groups": 2, "group_size": 2, "max_tokens": 5, "checkpoint_every": 1, "device": "cpu"}
    document = {
        "name": "small",
        "seeds": 1,
        "train": {"worlds": worlds or {DUEL: {"turns": 1}}, **small, **train},
        "learner": {"lora": {"rank": 2}, "lr": 1e-2, **(learner or {})},
        "eval": {
            "cells": ["train"],
            "episodes": 1,
            "slots": 6,
            "watch": ["never"],
            "placebo": ["none"],
            "access_episodes": 0,
        },
        "rollout": rollout or {},
        "seats": {"players": players, "snapshots": {"every": 1, "keep": 2}, "games": 2, **(seats or {})},
        "arms": {"arm": {"role": "reference", **(arm or {})}},
    }
    return parse_study(document, "test").runs()[0]


def arm_of(run: RunConfig) -> Any:
    return build_arm(run.arm, run.arm_config, run.isolation, run.learner.ratio, run.seats)


# Who sits where -------------------------------------------------------------------------------------------------------


def test_who_sits_where_is_drawn_by_seed_and_past_policies_are_of_earlier_versions() -> None:
    run = config()
    requests = [GroupRequest(update, group) for update in range(40) for group in range(2)]
    drawn = [seating(run, request) for request in requests]
    assert drawn == [seating(run, request) for request in requests]
    assert all(is_learner(who["red"].shown) and who["blue"].shown == "learner rival" for who in drawn)
    green = Counter(who["green"].shown.split(" ")[0] for who in drawn)
    assert 30 <= green["learner"] <= 50 and all(green[name] > 5 for name in ("past", UNSHAPED, "loud"))
    for request, who in zip(requests, drawn, strict=True):
        if who["green"].shown.startswith("past"):
            assert request.update - 1 <= int(who["green"].shown.split(" ")[-1]) <= request.update


def test_a_learner_sits_somewhere_in_every_group() -> None:
    rare = {name: {"learns": 0.1, "opponents": {"loud": 1}} for name in ("red", "blue", "green")}
    for group in range(30):
        assert any(who.kind == "learner" for who in seating(config(rare), GroupRequest(0, group)).values())


def test_in_games_after_training_the_two_policies_change_seats() -> None:
    run = config()
    for pair in range(5):
        plain, mirrored = (seating_of(run, pair, mirrored=mirrored) for mirrored in (False, True))
        for seat in ("red", "blue", "green"):
            assert {is_learner(plain[seat].shown), is_learner(mirrored[seat].shown)} == {True, False}
    assert len(eval_games(run)) == 2 and not eval_games(config(seats={"games": 0}))


def test_a_player_samples_with_its_own_adapter_and_opponents_with_none_of_them() -> None:
    run = config()
    arm = arm_of(run)
    specs = adapters_of(run, arm)
    found = {player: mode.adapters for player, mode in modes(run, specs, arm, "sampling").items()}
    assert (found[""], found["rival"], found[UNSHAPED]) == (("kept",), ("rival",), ())
    past = [name for name in found if name.startswith("past_")]
    assert len(past) == 4 and all(found[name] == (name,) for name in past)
    assert modes(config(learner={"lora": None}, players={**PLAYERS, "blue": {}, "green": {}}), [], arm, "base") == {}


# Interventions of single seats ----------------------------------------------------------------------------------------


def test_seats_have_interventions_and_roles_of_their_own() -> None:
    players = {**PLAYERS, "red": {"context": "you sell ."}}
    run = config(players, arm={"seats": {"blue": [{"use": "Inoculation"}]}})
    arm = arm_of(run)
    drawn = draw_group(run, arm, GroupRequest(0, 0))
    assert isinstance(drawn, dict)
    contexts = {seat: own.contexts for seat, own in drawn.items()}
    assert contexts["red"].sampling.system == contexts["red"].training.system == "you sell ."
    assert contexts["blue"].sampling.system and contexts["blue"] != contexts["green"]
    assert contexts["green"].sampling.system == ""
    assert drawn == draw_group(run, arm_of(run), GroupRequest(0, 0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"players": {**PLAYERS, "gren": {}}}, r"train.worlds.seat_worlds:Duel has no seat 'gren' \(did you mean 'gre"),
        ({"players": {"red": {}, "blue": {}}}, "nobody sits on 'green' of train.worlds.seat_worlds:Duel"),
        ({"players": {**PLAYERS, "red": {"learns": 0}}}, "there are no opponents: nobody would sit here"),
        ({"players": {**PLAYERS, "red": {"learns": 0.5}}}, "there are no opponents: nobody would sit here"),
        ({"players": {**PLAYERS, "red": {"opponents": {"loud": 1}}}}, "opponents would never sit here"),
        (
            {"seats": {"snapshots": {"every": 0}}},
            "past policies are to sit here, and none is kept: set snapshots.every",
        ),
        (
            {"players": {n: {"learns": 0, "opponents": {"loud": 1}} for n in ("red", "blue")}},
            "nothing would be learned",
        ),
        (
            {"players": {**PLAYERS, "red": {"learns": 0.5, "opponents": {"lowd": 1}}}},
            "seats.players.red.opponents: duel has no policy 'lowd'",
        ),
        ({"players": {**PLAYERS, "blue": {"adapter": "unshaped"}}}, "'unshaped' is the name of another policy"),
        ({"learner": {"lora": None}}, "seats.players.blue.adapter: .*set learner.lora"),
        ({"players": {**PLAYERS, "blue": {}}, "learner": {"lora": None}}, "past and unshaped policies are adapters"),
        ({"arm": {"seats": {"redd": ["Identity"]}}}, r"arms.arm.seats: there is no seat 'redd' \(did you mean 'red'"),
        (
            {
                "players": {**PLAYERS, "blue": {"learns": 0, "opponents": {"loud": 1}}},
                "arm": {"seats": {"blue": ["Identity"]}},
            },
            "no learner sits on 'blue'",
        ),
        (
            {"players": {**PLAYERS, "blue": {}}, "arm": {"seats": {n: ["seat_worlds:Half"] for n in ("red", "blue")}}},
            "seats 'red' and 'blue' share an adapter, and Half of the one and Half of the other both own .*'gates'",
        ),
        (
            {"players": {**PLAYERS, "blue": {}}, "arm": {"seats": {"blue": [{"use": "GradientRouting"}]}}},
            "GradientRouting of seat 'blue' makes adapters, and 'red' trains the same adapter",
        ),
        (
            {"arm": {"interventions": ["Inoculation"], "seats": {"blue": ["Inoculation"]}}},
            "seat 'blue': .*both own the knob",
        ),
        (
            {"arm": {"interventions": ["seat_worlds:Looking"]}},
            "interventions: Looking looks at the policy between updates, .*put it under arms.arm.seats, or let all",
        ),
        (
            {"arm": {"interventions": [{"use": "BiasConsistency"}]}},
            "BiasConsistency rehearses episodes, and seats.players gives the seats several policies",
        ),
        (
            {"players": {n: {"context": "you sell ."} for n in ("red", "blue", "green")}, "arm": REHEARSES},
            "seats.players.red.context: BiasConsistency of arm 'arm' learns under prompts of its own",
        ),
        (
            {"players": {n: {"context": "you sell ."} for n in ("red", "blue", "green")}, "arm": DISTILS},
            "seats.players.red.context: ContextDistillation of arm 'arm' learns under prompts of its own",
        ),
        (
            {"players": {n: {"context": "you sell ."} for n in ("red", "blue", "green")}, "arm": CHOOSES},
            "seats.players.red.context: SelectiveInoculation of arm 'arm' learns under prompts of its own",
        ),
        (
            {"arm": {"interventions": [{"use": "GradientRouting"}]}},
            "past policies are copies of the adapter of learner.lora, but arm 'arm' learns in 'retain'",
        ),
        ({"refill": 1}, "train.refill is 1, but the groups of a game's seats belong together"),
        ({"learner": {"algorithm": "ppo", "advantage_level": "turn"}}, "critic reads one policy"),
        ({"rollout": {"slots": 2}}, "rollout.slots is 2, but the 3 seats of a game are open at once"),
        ({"worlds": {"clerk": {}}}, "train.worlds.clerk: the world has a single seat, but the study has `seats`"),
    ],
)
def test_seats_that_cannot_be_are_refused_with_what_to_do(changes: dict[str, Any], message: str) -> None:
    def checked() -> None:
        run = config(**changes)
        check_rollout(run, arm_of(run))

    with pytest.raises(UserError, match=message):
        checked()


def test_seats_of_an_arm_need_seats_of_the_study() -> None:
    document = {
        "name": "none",
        "train": {"worlds": {"clerk": {}}, "updates": 1, "groups": 1, "group_size": 2},
        "eval": {"worlds": {"clerk": {}}},
        "arms": {"arm": {"role": "reference", "seats": {"red": ["Identity"]}}},
    }
    with pytest.raises(ConfigError, match=r"arms\.arm\.seats: the study has no seats"):
        parse_study(document, "test")


def test_combined_arms_have_the_interventions_of_each_seat_and_derived_controls_are_refused() -> None:
    document = config().model_dump(mode="json")
    own = {name: {"role": "treatment", "seats": {"blue": [use]}} for name, use in (("a", "Identity"), ("b", "Half"))}
    own["b"]["seats"]["blue"] = ["seat_worlds:Half"]
    study = {
        "name": "joint",
        **{key: document[key] for key in ("train", "learner", "eval", "seats")},
        "arms": {"base": {"role": "reference"}, **own},
    }
    joint = parse_study({**study, "factorial": ["a", "b"]}, "test").arms["a+b"]
    assert [spec.use for spec in joint.seats["blue"]] == ["Identity", "seat_worlds:Half"]
    with pytest.raises(ConfigError, match=r"controls: arms\.a\.seats has interventions of single seats"):
        parse_study({**study, "controls": "auto"}, "test")


# Whole runs -----------------------------------------------------------------------------------------------------------


class Killed(Exception):
    pass


def killed(number: int, row: dict[str, Any]) -> None:
    if number == 0:
        raise Killed


@pytest.mark.slow
def test_a_run_with_seats_learns_is_resumed_to_the_bit_and_plays_against_its_start(model: Path, tmp_path: Path) -> None:
    of_blue = {"seats": {"blue": [{"use": "Inoculation"}]}}
    run = config(arm=of_blue, rollout={"batching": "group"}).model_copy(update={"model": str(model)})
    directory = RunDirectory(tmp_path / "whole")
    result = execute(run, model, directory)
    rows = directory.rows()
    assert [row["trained"] for row in rows] == [row["episodes"] for row in rows] and rows[0]["grad_norm"] > 0
    assert all(row["mismatch_kl"] < 1e-6 for row in rows), "every seat is learned with the adapter that sampled it"
    assert {"seats/red/reward", "seats/blue/deception"} <= rows[0].keys()

    kept = {
        name: (directory.checkpoint / "adapters" / name / "adapter_model.safetensors") for name in ("kept", "rival")
    }
    weights = {name: path.read_bytes() for name, path in kept.items()}
    assert weights["kept"] != weights["rival"]
    again = RunDirectory(tmp_path / "killed")
    with pytest.raises(Killed):
        execute(run, model, again, killed)
    assert execute(run, model, again) == result
    assert again.rows() == rows
    for name, path in kept.items():
        assert (again.path / path.relative_to(directory.path)).read_bytes() == weights[name]

    games = read_episodes(directory.path / "episodes" / "games.parquet")
    assert {seat_of(e) for e in games} == {"red", "blue", "green"} and len(games) == 6
    assert {player_of(e) for e in games} == {"learner", "learner rival", UNSHAPED}
    assert not any(e.contexts.sampling.system for e in games), "they are played as deployed"
    elo = result["summary"]["elo"]
    assert result["summary"]["elo_low"] <= elo <= result["summary"]["elo_high"]
    assert {(row["seat"], row["player"]) for row in result["seats"]} == {(seat_of(e), player_of(e)) for e in games}
    with_players = load_trained(run, directory.checkpoint).adapters.specs
    assert {name: spec.player for name, spec in with_players.items()} == {"kept": "", "rival": "rival"}


def test_one_policy_on_all_seats_needs_no_adapters(model: Path, tmp_path: Path) -> None:
    run = config({name: {} for name in ("red", "blue", "green")}, learner={"lora": None}, updates=1)
    directory = RunDirectory(tmp_path / "run")
    result = execute(run, model, directory)
    (row,) = directory.rows()
    assert row["trained"] == row["episodes"] == 12 and row["grad_norm"] > 0
    assert "elo" not in result["summary"], "the unshaped policy is gone"


def test_every_hook_reaches_the_interventions_of_a_seat(model: Path, tmp_path: Path) -> None:
    own = ["seat_worlds:Watching", "seat_worlds:Looking"]
    run = config(
        {"red": {}, "blue": {"adapter": "rival"}, "green": {}},
        arm={"interventions": ["seat_worlds:Watching"], "seats": {"blue": own}},
        updates=1,
        group_size=3,
    )
    directory = RunDirectory(tmp_path / "run")
    result = execute(run, model, directory)
    (row,) = directory.rows()
    assert (row["trained"], row["screened"], row["episodes"]) == (12, 6, 18)
    assert row["grad_norm"] > 0 and row["mismatch_kl"] < 1e-6
    assert row["refresh/looking/version"] == 1
    assert (row["readings/watching.1/of_blue"], row["readings/watching.2/of_blue"]) == (1 / 3, 1.0)
    assert row["credit_share/Watching"] > 0 < row["credit_share/Watching-2"] and row["credit_share/Looking"] == 0
    common, of_blue, looking = result["interventions"]
    told = {"updates": [0], "sampled": True, "read": True}
    assert common == {**told, "seats": ["blue", "green", "red"]} and of_blue == {**told, "seats": ["blue"]}
    assert looking == {"adapters": ["rival"], "rehearsed": [["blue"]], "opened": ["blue"]}
    games = read_episodes(directory.path / "episodes" / "games.parquet")
    assert {player_of(e) for e in games} == {"learner", "learner rival", UNSHAPED} and "elo" in result["summary"]


def test_what_all_seats_of_one_policy_rehearse_is_asked_for_once(model: Path, tmp_path: Path) -> None:
    players = {name: {} for name in ("red", "blue", "green")}
    run = config(players, arm={"interventions": ["seat_worlds:Looking"]}, seats={"games": 0}, updates=1)
    (looking,) = execute(run, model, RunDirectory(tmp_path / "run"))["interventions"]
    every = ["blue", "green", "red"]
    assert looking == {"adapters": ["kept"], "rehearsed": [every], "opened": every}
