"""Conflicts between settings of different parts of a run."""

from __future__ import annotations

from launch.config.arms.seat_checks import check_seats
from launch.config.rollout import RANKS
from launch.config.study import RunConfig
from launch.errors import ConfigError
from shaping.arm import Arm
from shaping.hooks import InterventionError, RatioMode
from shaping.intervention import Intervention


def check_rollout(run: RunConfig, arm: Arm) -> None:
    """Raise `ConfigError` if the arm, the learner and the sampler of a run are incompatible."""
    try:
        _check_rollout(run, arm)
    except InterventionError as error:  # an intervention that raises, or answers what no hook can
        raise ConfigError(f"arms.{run.arm}: {error}") from error


def _check_rollout(run: RunConfig, arm: Arm) -> None:
    rollout, ratio = run.rollout, _ratio(run, arm)
    if rollout.slots and rollout.batching == "group" and rollout.slots < run.train.group_size:
        raise ConfigError(
            f"rollout.slots is {rollout.slots}, but with batching=group a whole group of {run.train.group_size} is "
            "open at once: raise it to train.group_size"
        )
    if rollout.max_staleness and ratio != "sampler" and run.learner.mismatch_correction == "none":
        raise ConfigError(
            f"rollout.max_staleness is {rollout.max_staleness}, and the policy ratio of arm {arm.name!r} "
            f"({ratio}) ignores how far older episodes are off-policy: set learner.mismatch_correction to "
            "truncate, which weights them and changes nothing for arms with ratio sampler, or max_staleness to 0"
        )
    if run.train.refill and rollout.max_staleness:
        raise ConfigError(
            f"train.refill is {run.train.refill}, but with rollout.max_staleness={rollout.max_staleness} groups come "
            "back in no fixed order, so a resumed run would replace others: set one of the two to 0"
        )
    if run.train.refill and run.learner.algorithm == "ppo":
        raise ConfigError(
            f"train.refill is {run.train.refill}, but ppo compares with its critic and learns from groups in which "
            "nothing varies, too: set train.refill to 0"
        )
    check_seats(run, arm)
    if run.eval.average_last > 1:
        _check_average(run, arm)
    _check_experts(run, arm)
    if rollout.sync == "lora":
        _check_sent_adapters(run, arm)
    if rollout.engine == "vllm" and arm.edits("sampling"):
        eager = rollout.vllm_config().enforce_eager
        if eager is False or (eager is None and rollout.gpus > 0):
            raise ConfigError(
                f"arm {arm.name!r} edits activations while it samples, and vLLM's compiled model does not call hooks: "
                "set rollout.vllm.enforce_eager=true (sampling gets slower), or rollout.engine=transformers"
            )


def _ratio(run: RunConfig, arm: Arm) -> RatioMode:
    """The arm's ratio mode; of several seats one that is not the sampler's, if there is any. Refuses unknown modes."""
    seats = run.seats.learned if run.seats else [""]
    return next((mode for seat in seats if (mode := arm.of(seat).ratio_mode()) != "sampler"), "sampler")


def _check_experts(run: RunConfig, arm: Arm) -> None:
    """Adapters of experts are added to tensors of all experts at once, which neither vLLM nor shards can do."""
    adapters: dict[str, tuple[str, ...]] = {spec.name: tuple(spec.targets) for spec in arm.adapters()}
    if run.learner.lora:
        adapters["learner.lora"] = run.learner.lora.targets
    adapted = [(name, target) for name, targets in adapters.items() for target in targets if "." in target]
    if not adapted:
        return
    name, target = adapted[0]
    if run.rollout.engine == "vllm" and run.rollout.sync == "lora":
        raise ConfigError(
            f"{name} adapts {target}, and vLLM takes adapters of experts in another form than peft makes: set "
            "rollout.sync=full, which merges them, or rollout.engine=transformers, or leave the experts out"
        )
    if run.train.learner_group.strategy == "fsdp":
        raise ConfigError(
            f"{name} adapts {target}, which peft adds to a whole tensor of experts, and fsdp keeps only parts of it: "
            "set train.learner_group.strategy=data, or leave the experts out"
        )


def _check_sent_adapters(run: RunConfig, arm: Arm) -> None:
    """Several adapters go to vLLM as one, whose rank is the sum of theirs."""
    lora, own = run.learner.lora, list(arm.adapters())
    if lora is None and not any(spec.role == "kept" for spec in own):
        raise ConfigError(
            "rollout.sync=lora sends the adapters alone, but the run trains its base weights, too: set learner.lora, "
            "or sync=full"
        )
    if run.rollout.engine != "vllm":
        return
    ranks = {"learner.lora": lora.rank} if lora is not None else {}
    together = [[s for s in own if s.role == role] for role in ("kept", "frozen", "quarantine")]  # as evaluated
    largest = max([s for s in own if "sampling" in s.phases], *together, key=lambda specs: sum(s.rank for s in specs))
    ranks |= {f"{spec.name!r} of arm {arm.name!r}": spec.rank for spec in largest}
    parts, total = " + ".join(f"{rank} ({name})" for name, rank in ranks.items()), sum(ranks.values())
    if total == 0:
        raise ConfigError(
            f"rollout.sync=lora sends the adapters of sampling, and arm {arm.name!r} samples with none: use sync=full"
        )
    asked = run.rollout.vllm.get("max_lora_rank", RANKS[-1])
    if total > RANKS[-1]:
        raise ConfigError(
            f"the adapters of arm {arm.name!r} go to vLLM as one of rank {total} = {parts}, but vLLM supports at most "
            f"{RANKS[-1]}: lower the ranks, or sample with rollout.engine=transformers"
        )
    if isinstance(asked, int) and total > asked:
        raise ConfigError(
            f"rollout.vllm.max_lora_rank is {asked}, but the adapters of arm {arm.name!r} go to vLLM as one of rank "
            f"{total} = {parts}: raise it, or leave it out"
        )


def _check_average(run: RunConfig, arm: Arm) -> None:
    count = run.eval.average_last
    if run.train.stop_at_reward is not None:
        raise ConfigError(
            f"eval.average_last is {count}, but with train.stop_at_reward nobody knows beforehand which updates are "
            "the last: set average_last to 1, or stop_at_reward to null"
        )
    if left := [type(i).__name__ for i in arm.interventions if type(i).deploy is not Intervention.deploy]:
        raise ConfigError(
            f"eval.average_last is {count}, but {left[0]} of arm {arm.name!r} leaves something on the policy that it "
            "undoes only after training (deploy): set average_last to 1"
        )
