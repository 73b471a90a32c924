"""Rollouts in workers: the same episodes as in one process, whatever happens to the workers meanwhile."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray
from rollout_groups import equal, other_weights, played, rows, tokens
from waiting import patience

from launch.config.loading import parse_study
from launch.config.study import RunConfig
from launch.distributed.weights import PolicyWeights
from launch.distributed.workers.evaluation import WorkerEvalPlayer
from launch.distributed.workers.rollouts import RayRollouts
from launch.errors import UserError
from launch.run.build import Parts, build
from launch.run.episodes import GroupRequest
from launch.run.evaluation.access import access_parts
from launch.run.evaluation.eval_plan import EvalPart
from launch.run.evaluation.evaluate import deployment_part
from launch.run.execute import execute
from launch.run.rollouts import RolloutError, RolloutGroup
from launch.storage.rundir import RunDirectory
from shaping.sampling.transfer.broadcast import Broadcaster, WeightTransfer

VOWELS = {"controller_worlds:Vowels": {}}
WORKS = [GroupRequest(0, number) for number in range(4)]


@pytest.fixture(scope="module", autouse=True)
def _ray() -> Iterator[None]:
    ray.init(address="local", num_cpus=6, include_dashboard=False, object_store_memory=100 * 2**20, log_to_driver=False)
    yield
    ray.shutdown()


def config(worlds: Any = None, learner: Any = None, arm: Any = None, train: Any = None, **rollout: Any) -> RunConfig:
    small = {"updates": 3, "groups": 4, "group_size": 3, "max_tokens": 8, "checkpoint_every": 1}
    document = {
        "name": "small",
        "seeds": 1,
        "train": {"worlds": worlds or VOWELS, **small, **(train or {})},
        "learner": learner or {},
        "eval": {"worlds": VOWELS, "episodes": 1, "access_episodes": 0},
        "rollout": rollout,
        "arms": {"arm": {"role": "reference", **(arm or {})}},
    }
    return parse_study(document, "test").runs()[0]


@contextlib.contextmanager
def workers(run: RunConfig, model: Path, told: list[str] | None = None) -> Iterator[tuple[RayRollouts, Parts]]:
    """Workers of their own beside a run that plays in this process, with the same weights."""
    here = run.model_copy(update={"rollout": run.rollout.model_copy(update={"workers": 0})})
    parts = build(here, model)
    tell = (told if told is not None else []).append
    rollouts = RayRollouts(run, parts.arm, model, PolicyWeights(run, parts.policy, model, tell), tell)
    with contextlib.closing(rollouts):
        rollouts.sync(0)
        parts.trainer.rollouts.sync(0)
        yield rollouts, parts


# Equality -------------------------------------------------------------------------------------------------------------


MASKED = {
    "interventions": ["Inoculation", "MotiveProposal", {"use": "ActionMask", "commands": ["wait"]}],
}


@pytest.fixture(scope="module")
def two(model: Path) -> Iterator[tuple[RayRollouts, Parts]]:
    """Two workers under an arm with a context, a motive for each member, a mask and an adapter of its own kind."""
    with workers(config(arm=MASKED, learner={"lora": {"rank": 2}}, workers=2, batching="group"), model) as both:
        yield both


def test_two_workers_play_what_one_process_plays_bit_for_bit(two: tuple[RayRollouts, Parts]) -> None:
    rollouts, parts = two
    found, expected = played(rollouts, WORKS), played(parts.trainer.rollouts, WORKS)
    assert equal(found, expected)
    assert len({e.tokens.tobytes() for p in found for e in p.episodes}) > 8, "the episodes are all alike"
    assert {len(rollouts.workers())} == {2}


def test_new_weights_reach_every_worker_under_their_version(two: tuple[RayRollouts, Parts]) -> None:
    rollouts, parts = two
    before = played(rollouts, WORKS)
    other_weights(parts.policy, two[0], parts.trainer.rollouts, version=1)
    found, expected = played(rollouts, WORKS), played(parts.trainer.rollouts, WORKS)
    assert equal(found, expected)
    assert not equal(found, before)
    assert {e.version for p in found for e in p.episodes} == {1}
    assert {status.version for status in rollouts.workers()} == {1}


def evaluation(parts: Parts) -> tuple[RunConfig, list[EvalPart]]:
    run = config(arm=MASKED, learner={"lora": {"rank": 2}}, workers=2, batching="group")
    run = run.model_copy(update={"eval": run.eval.model_copy(update={"episodes": 4, "access_episodes": 2})})
    return run, [*access_parts(run, parts.arm), deployment_part(run, "base"), deployment_part(run, "deployed")]


def test_workers_play_an_evaluation_as_this_process_does(two: tuple[RayRollouts, Parts]) -> None:
    """With the adapters and masks of each policy; afterwards they sample as in training again."""
    rollouts, parts = two
    other_weights(parts.policy, two[0], parts.trainer.rollouts, version=2)
    run, wanted = evaluation(parts)
    expected, trained = parts.player.play(wanted), played(parts.trainer.rollouts, WORKS)
    player = WorkerEvalPlayer(run, parts.arm, rollouts, lambda: 2)
    rollouts.submit(WORKS[:2])  # under way, as in an asynchronous run
    assert tokens(player.play(wanted)) == tokens(expected)
    assert equal(sorted((rollouts.next() for _ in range(2)), key=lambda p: p.request), trained[:2])
    assert equal(played(rollouts, WORKS), trained)
    assert len({str(of_part[0]) for of_part in tokens(expected)}) == 3, "the policies play alike"


@pytest.mark.slow
def test_workers_that_come_back_have_the_newest_weights_also_in_an_evaluation(two: tuple[RayRollouts, Parts]) -> None:
    rollouts, parts = two
    other_weights(parts.policy, two[0], parts.trainer.rollouts, version=3)
    run, wanted = evaluation(parts)
    for status in rollouts.workers():
        os.kill(status.pid, signal.SIGKILL)
    found = WorkerEvalPlayer(run, parts.arm, rollouts, lambda: 3).play(wanted)
    assert tokens(found) == tokens(parts.player.play(wanted))
    assert equal(played(rollouts, WORKS), played(parts.trainer.rollouts, WORKS))


# Whole runs -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def alone(model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, Any]], bytes]:
    """Metrics and weights of a run in one process."""
    path = tmp_path_factory.mktemp("alone") / "run"
    fused = {"ray_worlds:Fused": {"fuse": "", "spare": os.getpid()}}
    execute(config(fused, batching="group"), model, RunDirectory(path))
    return rows(path), (path / "checkpoint" / "model.safetensors").read_bytes()


def test_a_run_whose_worker_is_killed_in_mid_update_ends_as_if_nothing_had_happened(
    model: Path, tmp_path: Path, alone: tuple[list[dict[str, Any]], bytes], capfd: pytest.CaptureFixture[str]
) -> None:
    """Its one worker: the run needs the one that comes back, and needs it with the newest weights."""
    fuse = tmp_path / "fuse"
    fused = {"ray_worlds:Fused": {"fuse": str(fuse), "spare": os.getpid()}}

    def light(update: int, row: dict[str, Any]) -> None:
        if update == 0:
            fuse.touch()

    result = execute(config(fused, workers=1, batching="group"), model, RunDirectory(tmp_path / "run"), light)
    assert not fuse.exists(), "no worker was killed"
    assert "died" in capfd.readouterr().err
    assert rows(tmp_path / "run") == alone[0]
    assert (tmp_path / "run" / "checkpoint" / "model.safetensors").read_bytes() == alone[1]
    counted = {key: value for key, value in result["attrition"].items() if key not in ("evaluation", "status")}
    assert {key: value for key, value in counted.items() if value} == {"episodes": 36, "trained": 36}
    assert result["attrition"]["status"] == {"completed": 36}


@pytest.mark.slow
def test_twenty_random_kills_lose_nothing_and_repeat_nothing(model: Path) -> None:
    """Every group comes back once, and as it would have been without kills."""
    slow = {"ray_worlds:Slow": {}}
    run = config(slow, workers=3, batching="group", slots=6, retries=12)
    requests = [GroupRequest(update, group) for update in range(40) for group in range(4)]
    dice, killed, over = random.Random(5), Counter[int](), threading.Event()

    def hunt(rollouts: RayRollouts) -> None:
        while killed.total() < 20 and not over.is_set():
            up = [status.pid for status in rollouts.workers() if status.pid not in killed]
            if up:
                victim = dice.choice(up)
                killed[victim] += 1
                with contextlib.suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGKILL)
            time.sleep(dice.uniform(0.2, 1.2))

    with workers(run, model) as (rollouts, parts):
        hunter = threading.Thread(target=hunt, args=(rollouts,))
        hunter.start()
        back: list[RolloutGroup] = []
        try:
            while killed.total() < 20 and requests:
                back += played(rollouts, requests[:8])
                requests = requests[8:]
        finally:
            over.set()
            hunter.join()
        assert killed.total() == 20 and max(killed.values()) == 1
        assert len({p.request for p in back}) == len(back)
        assert equal(back, played(parts.trainer.rollouts, [p.request for p in back]))


@pytest.mark.slow
def test_a_world_that_kills_its_process_is_reported_by_name(model: Path, tmp_path: Path) -> None:
    (tmp_path / "fuse").touch()
    fused = {"ray_worlds:Fused": {"fuse": str(tmp_path / "fuse"), "spare": os.getpid(), "burns": False}}
    told: list[str] = []
    blame = r"group \d of update 0 \(world 'ray_worlds:Fused', seed \d+\) has lost its worker 3 times"
    run = config(fused, workers=2, batching="group", retries=3)
    with workers(run, model, told) as (rollouts, _), pytest.raises(RolloutError, match=blame):
        played(rollouts, WORKS[:2])
    assert sum("died" in line for line in told) >= 3


@pytest.mark.slow
def test_a_worker_whose_world_holds_the_interpreter_is_replaced_and_its_groups_are_played_again(
    model: Path, tmp_path: Path
) -> None:
    fuse, told = tmp_path / "fuse", list[str]()
    fuse.touch()
    worlds = {"hostile_worlds:Catastrophic": {"fuse": str(fuse)}}
    run = config(worlds, train={"step_timeout": patience(0.5)}, workers=1, batching="group")
    with workers(run, model, told) as (rollouts, parts):
        found = played(rollouts, WORKS[:2])
        assert not fuse.exists() and equal(found, played(parts.trainer.rollouts, WORKS[:2]))
    assert any("died" in line for line in told)


@pytest.mark.slow
def test_a_worker_in_which_late_calls_do_not_end_finishes_its_groups_and_is_replaced(model: Path) -> None:
    told: list[str] = []
    run = config({"ray_worlds:Stuck": {"spare": os.getpid()}}, train={"step_timeout": patience(0.5)}, workers=1)
    with workers(run, model, told) as (rollouts, _):
        (first,) = played(rollouts, WORKS[:1])
        before = [worker.pid for worker in rollouts.workers()]
        (second,) = played(rollouts, WORKS[1:2])
        after = [worker.pid for worker in rollouts.workers()]
    assert {e.status.value for e in (*first.episodes, *second.episodes)} == {"error_timeout"}
    assert [line for line in told if "calls of ray_worlds:Stuck do not end" in line and "restarted" in line]
    assert not set(before) & set(after)


# Time -----------------------------------------------------------------------------------------------------------------


def test_groups_that_come_too_late_are_dropped_by_name_and_the_ledger_sums(model: Path, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    worlds = {"ray_worlds:Straggler": {"gate": str(gate), "spare": os.getpid()}}
    run = config(
        worlds, train={"updates": 5, "groups": 2, "step_timeout": 100.0}, workers=1, max_staleness=1, env_threads=4
    )

    def opened(update: int, row: dict[str, Any]) -> None:
        if update == 1:  # its first tokens are of version 0, and the policy is at version 2
            gate.touch()

    result = execute(run, model, RunDirectory(tmp_path / "run"), opened)
    found = rows(tmp_path / "run")
    assert [row["stale"] for row in found[:2]] == [0, 0]
    attrition = result["attrition"]
    assert attrition["stale"] >= 3 and attrition["trained"] == 30, str(attrition)
    assert sum(attrition[name] for name in ("trained", "stale", "filtered", "failed")) == attrition["episodes"]
    assert sum(row["episodes"] for row in found) == attrition["episodes"] == sum(attrition["status"].values())
    assert all(0 <= row["staleness"] <= 1 for row in found)
    assert any(row["staleness"] > 0 for row in found)


@pytest.mark.slow
def test_an_asynchronous_run_that_stops_goes_on_from_its_state(model: Path, tmp_path: Path) -> None:
    run = config({"ray_worlds:Slow": {}}, train={"updates": 4, "groups": 2}, workers=1, max_staleness=1)

    def stop(update: int, row: dict[str, Any]) -> None:
        if update == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute(run, model, RunDirectory(tmp_path / "run"), stop)
    result = execute(run, model, RunDirectory(tmp_path / "run"))
    assert [row["update"] for row in rows(tmp_path / "run")] == [0, 1, 2, 3]
    assert result["attrition"]["trained"] == 24
    assert result["attrition"]["episodes"] == 24 + result["attrition"]["stale"]


@pytest.mark.slow
def test_a_stage_that_takes_too_long_ends_the_run_with_thread_dumps(model: Path) -> None:
    told: list[str] = []
    run = config(
        {"ray_worlds:Stuck": {"spare": os.getpid()}},
        train={"step_timeout": 500.0},
        workers=1,
        stage_timeout=patience(25.0),
    )
    blame = r"world 'stuck' .*: step in turn 1 .*stage_timeout"
    with workers(run, model, told) as (rollouts, _), pytest.raises(RolloutError, match=blame):
        played(rollouts, WORKS[:1])
    assert any("waiting for a group" in line and "step in turn 1" in line for line in told)
    assert any("wait_for_ever" in line for line in told if line.startswith("--- thread dump"))


# vLLM -----------------------------------------------------------------------------------------------------------------


def kill_engines() -> None:
    """The processes in which vLLM computes for our workers, not the workers."""
    import psutil

    found = psutil.Process().children(recursive=True)
    cores = [p for p in found if "EngineCore" in " ".join([p.name(), *p.cmdline()])]
    assert cores, "vLLM has no process of its own"
    for core in cores:
        core.kill()


@pytest.mark.slow
@pytest.mark.parametrize("sync", ["full", "lora"])
def test_a_vllm_worker_trains_a_run_and_its_engine_may_die(vllm_model: Path, tmp_path: Path, sync: str) -> None:
    """Log-probs agree with the learner's at every version, so what is sampled from is what was learned."""
    pytest.importorskip("psutil")
    pytest.importorskip("vllm")
    learner = {"lr": 1e-2} | ({"lora": {"rank": 4}} if sync == "lora" else {})
    engine = {"kv_cache_gib": 0.1, "max_num_seqs": 8}
    run = config(learner=learner, train={"updates": 3}, workers=1, engine="vllm", sync=sync, vllm=engine)

    def sabotage(update: int, row: dict[str, Any]) -> None:
        if update == 1 and sync == "full":
            kill_engines()

    result = execute(run, vllm_model, RunDirectory(tmp_path / "run"), sabotage)
    found = rows(tmp_path / "run")
    assert result["attrition"]["trained"] == 36
    assert max(row["mismatch_kl"] for row in found) < 1e-5
    assert all(row["grad_norm"] > 0 for row in found)


@pytest.mark.slow
def test_weights_by_broadcast_train_the_run_that_weights_by_file_train(
    vllm_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """To the bit, though one transfer comes to nothing and the engine dies once: episodes one by one are repeatable."""
    pytest.importorskip("psutil")
    pytest.importorskip("vllm")
    engine = {"kv_cache_gib": 0.1, "max_num_seqs": 1}
    arrived: list[bool] = []
    offer, settle = Broadcaster.offer, Broadcaster.settle

    def offered(self: Broadcaster, receiver: Any, state: Any) -> WeightTransfer:
        made = offer(self, receiver, state)
        return replace(made, session="of nobody", timeout=1.0) if len(arrived) == 1 else made

    def settled(self: Broadcaster, receiver: Any, whether: bool) -> None:
        arrived.append(whether)
        settle(self, receiver, whether)

    monkeypatch.setattr(Broadcaster, "offer", offered)
    monkeypatch.setattr(Broadcaster, "settle", settled)

    def sabotage(update: int, row: dict[str, Any]) -> None:
        if update == 1:
            kill_engines()

    for transfer in ("file", "broadcast"):
        run = config(
            learner={"lr": 1e-2},
            train={"updates": 4, "groups": 1},
            **{"workers": 1, "engine": "vllm", "slots": 1, "transfer": transfer, "vllm": engine},
        )
        execute(
            run, vllm_model, RunDirectory(tmp_path / transfer), sabotage if transfer == "broadcast" else lambda *_: None
        )
    assert rows(tmp_path / "broadcast") == rows(tmp_path / "file")
    stored = [tmp_path / name / "checkpoint" / "model.safetensors" for name in ("file", "broadcast")]
    assert stored[0].read_bytes() == stored[1].read_bytes()
    # the engine's death is noticed by the next transfer, or by a completion before it; then no second one has failed
    assert arrived[:2] == [True, False] and arrived[-1] and arrived.count(False) <= 2, arrived
    told = capfd.readouterr().err
    assert "have not arrived by broadcast: " in told and "it has read them from the object store" in told
    assert "it is restarted" in told


# What cannot work -----------------------------------------------------------------------------------------------------


def test_more_workers_than_the_cluster_has_room_for_are_refused(model: Path) -> None:
    with pytest.raises(UserError, match=r"12 CPUs are needed .* and the cluster has 6"):
        build(config(workers=4, cpus=3), model)


@pytest.mark.slow
def test_what_a_worker_cannot_do_is_told_with_its_name(model: Path) -> None:
    here = build(config(), model)
    run = config(workers=1)
    rollouts = RayRollouts(run, here.arm, Path("nowhere"), PolicyWeights(run, here.policy, model, print))
    with contextlib.closing(rollouts), pytest.raises(RolloutError, match=r"worker 0: nowhere is not on "):
        rollouts.sync(0)
