"""Learning: tokens/s and memory of `Learner.update`, beside a padded forward and backward pass with full logits."""

from __future__ import annotations

import multiprocessing
import resource
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.padded import Padded
from benchmarks.quickstart import UNSHAPED, Player, episode_requests, organism_config, started, study, unshaped
from benchmarks.table import Row, interleaved, main, throughput
from launch.config.fields import Worlds
from launch.config.study import RunConfig
from shaping.learning.config import LearnerConfig
from shaping.learning.credit.credit import assign_credit
from shaping.learning.learner import Learner
from shaping.learning.policy import Policy
from shaping.learning.samples.sample import Sample

LR = 1e-6
"""So small that the policy stays the one that sampled the episodes, even after many updates."""


def study_samples(player: Player, run: RunConfig, worlds: Worlds) -> list[Sample]:
    """The samples of one update's episodes in `worlds`, with credit for every episode.

    The learner skips the backward pass of groups without credit. Their number depends on the progress of training, so
    the comparison leaves this gain out.
    """
    episodes = player.play(episode_requests(run, worlds))
    rewards = [np.array([turn.reward for turn in episode.turns]) for episode in episodes]
    samples = assign_credit(episodes, rewards, UNSHAPED, player.renderer).samples
    rng = np.random.default_rng(0)
    return [replace(s, advantage=np.full(len(s), rng.normal(), np.float32)) for s in samples]


def wide_samples(like: Sequence[Sample], vocabulary: int, longest: int, count: int) -> list[Sample]:
    """Random tokens with log-normal lengths, a factor of ten between the 5th and the 95th percentile.

    The median length and the share of tokens in the loss equal those of `like`.
    """
    rng = np.random.default_rng(0)
    sigma = np.log(10) / (2 * 1.645)
    lengths = np.exp(rng.normal(np.log(np.median([len(s) for s in like])), sigma, count)).astype(int).clip(8, longest)
    share = sum(int(s.mask.sum()) for s in like) / sum(map(len, like))
    return [
        Sample(
            tokens=rng.integers(0, vocabulary, n),
            mask=rng.random(n) < share,
            old_logprobs=np.full(n, -np.log(vocabulary), np.float32),
            advantage=np.full(n, rng.normal(), np.float32),
            weight=np.ones(n, np.float32),
            masked_tokens=np.zeros((0, 2), np.int64),
            on_policy=False,  # random tokens
        )
        for n in lengths
    ]


def packed_update(directory: Path) -> Callable[[Sequence[Sample]], object]:
    return Learner(Policy.load(directory), LearnerConfig(lr=LR)).update


def padded_update(directory: Path, rows: int) -> Callable[[Sequence[Sample]], object]:
    return Padded(directory, rows, LR).policy_gradient


def peak_memory(directory: Path, samples: Sequence[Sample], rows: int) -> float:
    """MiB that one update needs beyond what is resident before; `rows` 0 is ours. Call it in a new process."""
    update = padded_update(directory, rows) if rows else packed_update(directory)
    before = _resident("VmRSS:")
    update(samples)
    return max(_resident("VmHWM:") - before, 0.1)


def _resident(field: str) -> float:
    """MiB resident now (`VmRSS:`) or at most so far (`VmHWM:`). Without /proc, both are the latter.

    getrusage is wrong on Linux: its maximum is inherited from the parent process.
    """
    try:
        status = Path("/proc/self/status").read_text().split()
        return int(status[status.index(field) + 1]) / 2**10
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (2**20 if sys.platform == "darwin" else 2**10)


def memory_rows(name: str, directory: Path, samples: Sequence[Sample], peers: dict[str, int], quick: bool) -> list[Row]:
    """Peak memory, ours and of `peers` (name -> sequences per padded micro-batch).

    Every variant runs in its own process, since memory freed by one would hide the needs of the next. With `quick` all
    run in this one, which saves seconds.
    """
    variants = (0, *peers.values())
    if quick:
        needed = [peak_memory(directory, samples, rows) for rows in variants]
    else:
        with ExitStack() as stack:
            spawn = multiprocessing.get_context("spawn")
            pools = [stack.enter_context(ProcessPoolExecutor(1, mp_context=spawn)) for _ in variants]
            jobs = [p.submit(peak_memory, directory, samples, n) for p, n in zip(pools, variants, strict=True)]
            needed = [job.result() for job in jobs]
    ours, *others = needed
    return [
        Row(f"{name}: memory, {peer}", ours, other, "MiB", other / ours)
        for peer, other in zip(peers, others, strict=True)
    ]


def rows_of(name: str, directory: Path, samples: list[Sample], *, fours: bool, quick: bool) -> list[Row]:
    """Compare with one padded batch, with padded micro-batches of our token count, and (`fours`) of four sequences."""
    lengths = [len(s) for s in samples]
    tokens, budget = sum(lengths), LearnerConfig().token_budget
    equal = min(max(budget // max(lengths), 1), len(samples))
    peers = {"padded batch": len(samples), f"padded, {equal} at a time": equal}
    if fours:
        peers["padded, 4 at a time"] = 4
    print(
        f"{name}: {len(samples)} episodes of {min(lengths)} to {max(lengths)} tokens, "
        f"{sum(int(s.mask.sum()) for s in samples) / tokens:.0%} sampled; "
        f"{1 - np.mean(lengths) / max(lengths):.0%} of the padded batch is padding"
    )
    variants = [packed_update(directory), *(padded_update(directory, rows) for rows in peers.values())]
    ours, *others = interleaved(
        [lambda u=u: u(samples) for u in variants],  # type: ignore[misc]
        *((1, 0) if quick else (3, 1)),
    )
    rows = [
        throughput(f"{name}: {peer}", "tokens/s", ours, other, work=tokens, target="ratio >= 2" * (i == 0))
        for i, (peer, other) in enumerate(zip(peers, others, strict=True))
    ]
    return rows + memory_rows(name, directory, samples, peers, quick)


def benchmark(quick: bool) -> list[Row]:
    """Learning: one update on the quickstart's episodes and on log-normal lengths, beside padded passes."""
    config = study(quick)
    run, directory = unshaped(config), started(unshaped(config))
    real = study_samples(Player(run, directory), run, run.train.worlds)
    wide = wide_samples(real, organism_config(config).vocabulary, organism_config(config).context, 4 if quick else 24)
    return [
        *rows_of("study", directory, real, fours=True, quick=quick),
        *rows_of("log-normal", directory, wide, fours=False, quick=quick),
    ]


if __name__ == "__main__":
    main(benchmark)
