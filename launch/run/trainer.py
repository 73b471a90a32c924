"""One training run: play, score, learn, audit; then drop everything that is not deployed, and evaluate."""

from __future__ import annotations

import contextlib
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from envs.episode import Episode
from launch.config.compatibility import check_rollout
from launch.config.plugins import build_arm, build_reward
from launch.config.study import RunConfig
from launch.distributed.weights import weights_of
from launch.run.access import access_audit
from launch.run.episodes import slots
from launch.run.evaluate import before_training, deployment, rows
from launch.run.ledger import Ledger, RunError
from launch.run.load_policy import load_policy
from launch.run.monitors import monitor_metrics
from launch.run.recovery import surviving
from launch.run.rng import rng_state, seed_all, set_rng_state
from launch.run.rollouts import LocalRollouts, RolloutGroup, Rollouts, RolloutScheduler
from launch.storage.resume import resume, save
from launch.storage.rundir import RunDirectory, disk_errors
from launch.storage.versions import versions
from launch.tracking.prometheus import record
from launch.tracking.tracking import tracked
from rewards import Reward
from shaping.arm import Arm
from shaping.audits import audit_update, summarise
from shaping.learning.credit import Credited, assign_credit
from shaping.learning.critic import Critic
from shaping.learning.learner import Learner
from shaping.sampling.render import Renderer
from shaping.sampling.transformers_engine import TransformersEngine

if TYPE_CHECKING:
    from launch.distributed.learner_group import LearnerGroup

OnUpdate = Callable[[int, dict[str, Any]], None]


@tracked
def train(
    run: RunConfig, model: Path, directory: RunDirectory, on_update: OnUpdate = lambda *_: None
) -> dict[str, Any]:
    """Train and evaluate one run; everything is written to `directory`. Returns the result, as in result.json.

    Where `directory` holds a training state of this very config, the run goes on from there; so it does when ranks of
    its learner group are lost.
    """
    return surviving(lambda: _train(run, model, directory, on_update), directory, run)


def _train(run: RunConfig, model: Path, directory: RunDirectory, on_update: OnUpdate) -> dict[str, Any]:
    started = time.monotonic()
    before = before_training(run, model)
    with contextlib.closing(Trainer(run, model)) as trainer:
        first, access = _updates(trainer, run, directory, on_update)
        trainer.check_ledger()
    access = access | trainer.access("final")
    evaluate_with_quarantine = trainer.evaluate_with_quarantine(directory)
    trainer.deploy()
    conditions = deployment(run, trainer.policy, trainer.renderer)
    directory.evaluation([*before, *rows(conditions)])
    evaluated = [e for cell in conditions.values() for e in cell]
    directory.episodes("eval", evaluated)
    trainer.policy.save(directory.checkpoint)
    result = {
        "arm": run.arm,
        "label": run.arm_config.label or run.arm,
        "role": run.arm_config.role,
        "family": trainer.arm.family if run.arm_config.role != "reference" or trainer.arm.interventions else "unshaped",
        "sweep_point": run.sweep_point,
        "seed": run.seed,
        "updates": run.train.updates,
        "spent_monitors": [],
        "oracle": trainer.arm.oracle,
        "interventions": [dict(i.state_dict()) for i in trainer.arm.interventions],
        # of what is on disk, so that a run that was resumed says the same as one that was not
        "summary": summarise(directory.rows(), conditions, access)
        | evaluate_with_quarantine
        | monitor_metrics(run, evaluated),
        "attrition": trainer.ledger.as_dict(),
    }
    directory.timings({"phase": "run", "first_update": first, "seconds": round(time.monotonic() - started, 2)})
    directory.finish(result)
    return result


def _updates(
    trainer: Trainer, run: RunConfig, directory: RunDirectory, on_update: OnUpdate
) -> tuple[int, dict[str, float]]:
    """All updates that are left. Returns the first of them, and the initial audit."""
    resumed = resume(trainer, directory, run)
    if resumed is None:
        directory.create(run.model_dump(mode="json"), versions())
    first, access = resumed or (0, trainer.access("initial"))
    for update in range(first, run.train.updates):
        done = trainer.update(update)
        directory.metrics(done.row)
        last, every = update == run.train.updates - 1, run.train.save_episodes_every
        if last or (every and update % every == 0):
            directory.episodes(f"train-{update:06d}", done.episodes)
        every = run.train.checkpoint_every
        if every and (last or (update + 1) % every == 0):
            with _timed(done.seconds, "checkpoint"):
                save(trainer, directory, run, update + 1, access)
        directory.timings({"phase": "train", "update": update, **done.seconds})
        record(run, done.row, done.seconds)
        on_update(update, done.row)
    return first, access


@dataclass(frozen=True, slots=True)
class Updated:
    """What came of one update: its metrics, the episodes it learned from, and the wall seconds of its stages."""

    row: dict[str, Any]
    episodes: list[Episode]
    seconds: dict[str, float]


class Trainer:
    """The state of one run."""

    def __init__(self, run: RunConfig, model: Path) -> None:
        seed_all(run.seed)
        self.run = run
        self.arm: Arm = build_arm(run.arm, run.arm_config)
        check_rollout(run, self.arm)
        self.reward: Reward = build_reward(run.arm, run.arm_config)
        self.policy = load_policy(run, model, self.arm, run.train.device)
        self.renderer = Renderer(self.policy.tokenizer)
        self.engine = TransformersEngine(self.policy.model, self.renderer, slots=slots(run))
        with contextlib.ExitStack() as undo:
            self.learner = self._learner(model)
            if not isinstance(self.learner, Learner):
                undo.callback(self.learner.close)
            self.rollouts = self._rollouts(model)
            undo.callback(self.rollouts.close)
            self._held = undo.pop_all()
        self.scheduler = RolloutScheduler(self.rollouts, run.train.groups, run.rollout.max_staleness)
        self.ledger = Ledger()
        self._synced = False

    def _rollouts(self, model: Path) -> Rollouts:
        if self.run.rollout.workers == 0:
            return LocalRollouts(self.run, self.arm, self.policy, self.renderer, self.engine)
        from launch.distributed.rollouts import RayRollouts  # Ray is for those who use it

        return RayRollouts(self.run, self.arm, model, lambda form: weights_of(self.policy, form))

    def _learner(self, model: Path) -> Learner | LearnerGroup:
        """In this process, or as a group whose trained weights `policy` takes over after every update."""
        if self.run.train.learner_group.strategy != "none":
            from launch.distributed.learner_group import LearnerGroup

            return LearnerGroup(self.run, model, self.policy, self.arm)
        edits = self.arm.edits("training")
        return Learner(self.policy, self.run.learner, interventions=self.arm.interventions, edits=edits)

    def close(self) -> None:
        """End the processes that work for this run."""
        self._held.close()

    def update(self, update: int) -> Updated:
        """One turn of the loop. With `max_staleness`, the next episodes are played meanwhile."""
        row: dict[str, Any] = {"phase": "train", "update": update}
        seconds: dict[str, float] = {}
        if not self._synced:
            self._sync()
        with _timed(seconds, "play"):
            episodes = self._usable(*self._played(self.run.train.updates - update), row)
        with _timed(seconds, "score"):
            credited = self._credit(episodes)
        with _timed(seconds, "learn"):
            row |= self.learner.update(credited.samples)
        with _timed(seconds, "sync"):
            self._sync()
        with _timed(seconds, "audit"):
            # orders and ties are those of what the world pays, also where the arm pays something else
            paid = np.array([e.proxy_return for e in episodes])
            row |= audit_update(episodes, paid, credited.advantages, credited.credit, credited.groups)
            row |= self._readings(episodes)
        return Updated(row, episodes, seconds)

    def check_ledger(self) -> None:
        """All updates are done: every episode that was started must be accounted for."""
        self.ledger.check(self.scheduler.under_way)

    def _sync(self) -> None:
        self.rollouts.sync(self.learner.version)
        self._synced = True

    def state_dict(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """(tensors, JSON-serialisable values): all that an update leaves behind."""
        learner, learner_values = self.learner.state_dict()
        rng, rng_values = rng_state()
        tensors = {f"learner/{name}": t for name, t in learner.items()} | {f"rng/{name}": t for name, t in rng.items()}
        ledger, arm, scheduler = self.ledger.as_dict(), self.arm.state_dict(), self.scheduler.state_dict()
        return tensors, {
            "learner": learner_values,
            "rng": rng_values,
            "ledger": ledger,
            "arm": arm,
            "scheduler": scheduler,
        }

    def load_state_dict(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        self.learner.load_state_dict(_under("learner/", tensors), values["learner"])
        self.arm.load_state_dict(values["arm"])
        self.ledger = Ledger(**values["ledger"] | {"status": Counter(values["ledger"]["status"])})
        set_rng_state(_under("rng/", tensors), values["rng"])
        self._sync()
        self.scheduler.load_state_dict(
            values["scheduler"]
        )  # last: what was under way is played at once, by all of the above

    def _played(self, updates: int) -> tuple[list[Episode], list[Episode]]:
        """The episodes of as many groups as one update learns from, and those that came too late for that.

        Groups are numbered in the order of their work, whatever the order in which they came. `updates` are left.
        """
        groups: list[RolloutGroup] = []
        late: list[Episode] = []
        oldest = self.learner.version - self.run.rollout.max_staleness
        while len(groups) < self.run.train.groups:
            self.scheduler.fill(len(groups), updates)
            played = self.scheduler.next()
            if any(0 <= e.version < oldest for e in played.episodes):
                late += played.episodes
            else:
                groups.append(played)
        groups.sort(key=lambda played: played.work)
        return [replace(e, group=number) for number, played in enumerate(groups) for e in played.episodes], late

    def _usable(self, played: Sequence[Episode], late: Sequence[Episode], row: dict[str, Any]) -> list[Episode]:
        """Failed episodes are left out, and groups that have lost their comparison with them."""
        sound = [e for e in played if not e.status.is_error and e.turns]
        sizes = Counter(e.group for e in sound)
        usable = [e for e in sound if sizes[e.group] > 1]
        counts = {
            "episodes": len(played) + len(late),
            "trained": len(usable),
            "stale": len(late),
            "filtered": len(sound) - len(usable),
            "failed": len(played) - len(sound),
        }
        row |= counts
        if self.run.rollout.max_staleness and usable:
            row["staleness"] = float(np.mean([self.learner.version - e.version for e in usable]))
        self.ledger.add(counts, [*played, *late])
        if counts["failed"] > len(played) // 2 or not usable:
            first = next((e.error for e in played if e.error), "no episode had a turn")
            raise RunError(
                f"{counts['failed']} of {len(played)} episodes failed in update {row['update']}; the first error: "
                f"{first}. Check the world with its options (shaping list), or raise train.step_timeout if it is slow"
            )
        return usable

    def _credit(self, episodes: Sequence[Episode]) -> Credited:
        rewards: list[np.ndarray] = [np.zeros(0)] * len(episodes)
        for group in sorted({e.group for e in episodes}):
            members = [i for i, e in enumerate(episodes) if e.group == group]
            for i, scored in zip(
                members, self.reward.score_group([episodes[i].redacted() for i in members]), strict=True
            ):
                rewards[i] = scored
        learner = self.run.learner
        return assign_credit(
            episodes,
            rewards,
            self.arm,
            self.renderer,
            algorithm=learner.algorithm,
            level=learner.advantage_level,
            critic=Critic(self.learner.values, learner.critic.gamma, learner.critic.gae_lambda),
            kl_context=learner.kl_context if learner.kl > 0 else "training",
            version=self.learner.version,
        )

    def _readings(self, episodes: Sequence[Episode]) -> dict[str, float]:
        """Mean per episode of what the interventions came to know."""
        totals: dict[str, float] = defaultdict(float)
        for intervention in self.arm.interventions:
            for episode in episodes:
                shown = episode if intervention.oracle else episode.redacted()
                for name, values in intervention.readings(shown).items():
                    totals[name] += float(np.sum(values))
        return {name: total / len(episodes) for name, total in totals.items()}

    def access(self, when: str) -> dict[str, float]:
        """The reward-access audit under the arm's own sampler, before (`initial`) or after training (`final`)."""
        self.policy.model.eval()
        self.engine.set_edits(self.arm.edits("sampling"))
        with self.policy.phase("sampling"):
            found = access_audit(
                self.run, self.arm, self.policy, self.renderer, self.engine, trajectories=when == "initial"
            )
        if when == "initial" and "reward_access" in found:
            found["reward_access_initial"] = found.pop("reward_access")
        return found

    def deploy(self) -> None:
        """Contexts, masks, edits and quarantine adapters are dropped: what is evaluated is the bare policy."""
        self.engine.set_edits(())
        for intervention in self.arm.interventions:
            intervention.deploy(self.policy)
        self.policy.deploy()
        self.policy.model.eval()

    def evaluate_with_quarantine(self, directory: RunDirectory) -> dict[str, float]:
        """How the policy behaves with its quarantine adapters still on; they are saved. Empty where there are none."""
        quarantine = self.policy.adapters.names("quarantine")
        if not quarantine:
            return {}
        self.policy.model.eval()
        with self.policy.phase("sampling"):
            conditions = deployment(self.run, self.policy, self.renderer)
        for name in quarantine:
            with disk_errors(directory.path):
                self.policy.adapters.save(name, directory.path / "quarantine" / name)
        return {f"with_quarantine/{metric}": value for metric, value in summarise([], conditions, {}).items()}


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


@contextlib.contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Any:
    start = time.perf_counter()
    yield
    seconds[f"seconds/{stage}"] = round(time.perf_counter() - start, 4)
