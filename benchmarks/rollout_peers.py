"""Peers of our rollouts: one Ray call per turn, TRL's multi-turn loop and step, and a run without overlap."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import ray
import torch

from benchmarks.rollout_load import Bench, Load, episode_requests, played
from benchmarks.table import Row, interleaved, throughput
from envs.core import TextEnv
from envs.worlds.clerk import Clerk
from launch.config.loading import parse_study
from launch.config.study import RunConfig
from launch.run.build import build
from launch.train import Updated, update
from shaping.sampling.engine import Completion, SamplingParams, Session
from shaping.sampling.text.render import Renderer

# One Ray call per turn ------------------------------------------------------------------------------------------------


class Host:
    """An engine in a Ray actor. It plays whole episodes, or completes one turn per call."""

    def __init__(self, directory: Path, dtype: str, load: Load) -> None:
        self.bench = Bench(directory, dtype, load)
        self._open: set[int] = set()

    async def play(self) -> int:
        """Play all episodes. Returns the number of sampled tokens."""
        episodes = await played(self.bench.load, self.bench.engine, self.bench.renderer)
        return sum(int(e.loss_mask.sum()) for e in episodes)

    async def complete(self, session: int, tokens: list[int], params: SamplingParams) -> Completion:
        known = Session(session, _NOWHERE)
        if session not in self._open:
            self._open.add(session)
            self.bench.engine.open(known)
        return await self.bench.engine.complete(known, tokens, params)

    async def context_length(self) -> int:
        return self.bench.engine.context_length

    async def forget(self) -> None:
        for session in self._open:
            self.bench.engine.close(Session(session, _NOWHERE))
        self._open.clear()
        self.bench.forget()

    async def shutdown(self) -> None:
        self.bench.engine.shutdown()


_NOWHERE = TextEnv()
"""Stands for a world in another process; engines of models never use it."""


class Remote:
    """The engine of a `Host`, with one Ray call per turn."""

    def __init__(self, host: Any) -> None:
        self._host = host
        self.context_length: int = ray.get(host.context_length.remote())

    def open(self, session: Session) -> None: ...

    def close(self, session: Session) -> None: ...

    async def complete(self, session: Session, tokens: Sequence[int], params: SamplingParams) -> Completion:
        return await self._host.complete.remote(session.id, list(tokens), params)


@contextmanager
def local_ray() -> Iterator[None]:
    path = os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")])
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}},
    )
    try:
        yield
    finally:
        ray.shutdown()


def per_turn_row(name: str, directory: Path, dtype: str, load: Load, quick: bool) -> Row:
    """One engine in one actor: the episode loop inside the actor, beside one call per turn from outside."""
    import asyncio

    from transformers import AutoTokenizer

    renderer = Renderer(AutoTokenizer.from_pretrained(directory))
    with local_ray():
        host = ray.remote(num_cpus=1, max_concurrency=1000)(Host).remote(directory, dtype, load)
        remote = Remote(host)
        sampled = [ray.get(host.play.remote())]

        def ours() -> None:
            ray.get(host.forget.remote())
            ray.get(host.play.remote())

        def peer() -> None:
            ray.get(host.forget.remote())
            asyncio.run(played(load, remote, renderer))  # type: ignore[arg-type]

        seconds = interleaved([ours, peer], 1 if quick else 3, warm_up=0)  # warmed up by `sampled`
        ray.get(host.shutdown.remote())
    return throughput(f"{name}: one Ray call per turn", "tokens/s", *seconds, work=sampled[0])


# TRL ------------------------------------------------------------------------------------------------------------------


class TrlLoop:
    """The released `GRPOTrainer`, with a rollout function of ours.

    All open episodes of an update generate a turn together, as in TRL's loop for tools, and then the worlds step. At
    the end the trainer takes its own step.
    """

    def __init__(self, directory: Path, dtype: str, load: Load, group_size: int, rows: int, updates: int) -> None:
        os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
        from datasets import Dataset
        from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
        from trl import GRPOConfig, GRPOTrainer

        self._load, self._folder = load, tempfile.TemporaryDirectory()
        tokenizer = AutoTokenizer.from_pretrained(directory)
        self._renderer = Renderer(tokenizer)
        self.seconds: list[float] = []
        self.sampled: list[int] = []
        seconds = self.seconds

        class Clock(TrainerCallback):
            def on_step_begin(self, *_: Any, **__: Any) -> None:
                self.begun = time.perf_counter()

            def on_step_end(self, *_: Any, **__: Any) -> None:
                seconds.append(time.perf_counter() - self.begun)

        config = GRPOConfig(
            output_dir=self._folder.name,
            per_device_train_batch_size=rows,
            gradient_accumulation_steps=load.episodes // rows,
            num_generations=group_size,
            max_completion_length=load.max_tokens,
            max_steps=updates,
            temperature=1.0,
            top_k=0,
            learning_rate=LR,
            lr_scheduler_type="constant",
            loss_type="bnpo",
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
        )
        self.trainer = GRPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(directory, dtype=getattr(torch, dtype)),
            reward_funcs=[lambda completions, returned, **_: returned],
            args=config,
            train_dataset=Dataset.from_dict({"prompt": [str(n) for n in range(load.episodes * updates)]}),
            processing_class=tokenizer,
            rollout_func=self._rollout,
            callbacks=[Clock()],
        )

    def run(self) -> None:
        """Run all updates. Keeps the seconds (with generation) and the sampled tokens of each."""
        self.trainer.train()

    def _rollout(self, prompts: list[str], trainer: Any) -> dict[str, Any]:
        batch = episode_requests(self._load)
        worlds = [request.make() for request in batch]
        ids = [self._renderer.open("", w.reset(seed=t.seed)[0]) for w, t in zip(worlds, batch, strict=True)]
        heads = [len(i) for i in ids]
        masks: list[list[int]] = [[] for _ in batch]
        returned = [0.0] * len(batch)
        live = list(range(len(batch)))
        for _ in range(self._load.turns):
            replies, _ = trainer._generate_single_turn([ids[n] for n in live], None, {}, trainer.num_generations)
            going = []
            for n, reply in zip(live, replies, strict=True):
                ids[n] += reply
                masks[n] += [1] * len(reply)
                text, reward, terminated, truncated, _ = worlds[n].step(self._renderer.text(reply))
                returned[n] += float(reward)
                if not (terminated or truncated):
                    more = self._renderer.extend(text, finished=reply[-1] == self._renderer.eos)
                    ids[n] += more
                    masks[n] += [0] * len(more)
                    going.append(n)
            live = going
            if not live:
                break
        self.sampled.append(sum(map(sum, masks)))
        return {
            "prompt_ids": [i[:head] for i, head in zip(ids, heads, strict=True)],
            "completion_ids": [i[head : head + len(m)] for i, head, m in zip(ids, heads, masks, strict=True)],
            "logprobs": None,
            "env_mask": masks,
            "returned": returned,
        }


LR = 1e-6
"""So small that the policy, and with it the length of the episodes, does not change."""


def trl_row(name: str, directory: Path, dtype: str, load: Load, target: str, quick: bool) -> Row:
    """Whole updates (play, credit, learn) in one process, both with a transformers engine."""
    updates, group_size = (2, 2) if quick else (4, 4)
    run = _run({"clerk": {"size": 8, "horizon": load.turns, "inquiry": 0.0}}, load, group_size, updates, dtype)
    with closing(build(run, directory)) as parts:
        done = [update(parts.trainer, n) for n in range(updates)]
    ours = [_seconds(u) / sum(int(e.loss_mask.sum()) for e in u.episodes) for u in done]
    peer = TrlLoop(directory, dtype, load, group_size, rows=min(4, load.episodes), updates=updates)
    peer.run()
    theirs = [seconds / sampled for seconds, sampled in zip(peer.seconds, peer.sampled, strict=True)]
    return throughput(f"{name}: an update of TRL", "tokens/s", ours[1:], theirs[1:], work=1.0, target=target)


def _seconds(done: Updated) -> float:
    """Wall seconds of an update: monitors read beside the other stages."""
    return sum(seconds for stage, seconds in done.seconds.items() if stage != "seconds/read")


def _run(
    worlds: dict[str, Any], load: Load, group_size: int, updates: int, dtype: str = "float32", **rollout: Any
) -> RunConfig:
    document = {
        "name": "benchmark",
        "seeds": 1,
        "train": {
            "worlds": worlds,
            "updates": updates,
            "groups": load.episodes // group_size,
            "group_size": group_size,
            "max_tokens": load.max_tokens,
            "checkpoint_every": 0,
        },
        "learner": {"lr": LR, "dtype": dtype},
        "rollout": rollout,
        "eval": {"worlds": worlds, "episodes": 1, "access_episodes": 0},
        "arms": {"unshaped": {"role": "reference"}},
    }
    return parse_study(document, "benchmark").runs()[0]


# A slow world ---------------------------------------------------------------------------------------------------------


class SlowClerk(Clerk):
    """Takes a fifth of a second per step, like a world that calls tools."""

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        time.sleep(0.2)
        return super().step(action)


def overlap_row(name: str, directory: Path, load: Load, quick: bool) -> Row:
    """A run whose worker plays one update ahead, beside the same run without overlap."""
    updates, group_size = (2, 2) if quick else (7, 8)
    worlds = {"benchmarks.rollout_peers:SlowClerk": {"size": 8, "horizon": load.turns, "inquiry": 0.0}}
    seconds = {}
    for staleness in (1, 0):
        rollout: dict[str, Any] = {
            "workers": 1,
            "max_staleness": staleness,
            "env_threads": load.at_once,
            "slots": load.at_once,
        }
        run = _run(worlds, load, group_size, updates, **rollout)
        with local_ray(), closing(build(run, directory)) as parts:
            update(parts.trainer, 0)
            started = time.perf_counter()
            for n in range(1, updates):
                update(parts.trainer, n)
            seconds[staleness] = (time.perf_counter() - started) / (updates - 1)
    return Row(f"{name}: play and learn in turn", seconds[1], seconds[0], "s", seconds[0] / seconds[1])
