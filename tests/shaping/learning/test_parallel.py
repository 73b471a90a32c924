"""Several ranks learn what one rank learns: data parallel and sharded, in two real processes over gloo.

Run as a program, this file is one of the two: `test_parallel.py RANK DATA_PORT FSDP_PORT DIRECTORY`.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch
import waiting
from hypothesis import given
from hypothesis import strategies as st
from memory import Peak
from rank_samples import CONFINED, POISON, gated, partly_read, poisoned, turns, uneven, valued
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from shaping.hooks import ActivationEdit, AdapterSpec, Capture, LossTerm
from shaping.intervention import Shaper
from shaping.learning.config import LearnerConfig
from shaping.learning.learner import Learner
from shaping.learning.policy import Policy
from shaping.learning.ranks.parallel import SINGLE, Ranks, RanksError, Strategy, deal
from shaping.learning.samples.packing import spread
from shaping.learning.samples.sample import Sample
from shaping.organisms.config import OrganismConfig
from shaping.organisms.organism import build

STRATEGIES: tuple[Strategy, ...] = ("data", "fsdp")
EDIT = ActivationEdit(0, "add", np.linspace(-1, 1, 32, dtype=np.float32), 0.5)


class Poisoned(Shaper):
    def auxiliary_loss(self, policy: Policy, batch: Sequence[Sample]) -> LossTerm | None:
        zero = policy.model.get_input_embeddings().weight.sum() * 0.0  # the root is finite there, its slope is not
        return LossTerm("poison", zero.sqrt() if any(len(s) == POISON for s in batch) else zero)


@dataclass
class Case:
    """What is learned: settings of the learner, and how many updates on which samples."""

    config: dict[str, Any]
    samples: Callable[[int], list[Sample]]
    policy: dict[str, Any]
    updates: int = 3
    shapers: tuple[Shaper, ...] = ()
    edits: tuple[ActivationEdit, ...] = ()

    def learner(self, ranks: Ranks) -> Learner:
        config = LearnerConfig(token_budget=40, lr=1e-3, **self.config)
        policy = make_policy(ranks.rank, **self.policy)
        return Learner(policy, config, interventions=self.shapers, edits=self.edits, ranks=ranks)

    def run(self, ranks: Ranks) -> tuple[Learner, list[dict[str, float]]]:
        learner = self.learner(ranks)
        return learner, [learner.update(self.samples(update)) for update in range(self.updates)]


def make_policy(seed: int, **settings: Any) -> Policy:
    """`seed`: of the adapters, which start at random: ranks must agree on rank 0's."""
    small = OrganismConfig(hidden=32, layers=2, heads=4, kv_heads=2, vocabulary=320, context=512)
    policy = build(small, ["turn 1 / 4 . you hold 1 unit .", "wait here a little . ACTION: wait"] * 3)
    torch.manual_seed(seed)
    return Policy(policy.model, policy.tokenizer, **settings)


class Seen(Shaper):
    """Pulls the states of a layer, of whole turns and of what comes before them, towards zero."""

    def captures(self) -> Sequence[Capture]:
        return [Capture("seen", (0, -1)), Capture("asked", "all", "prompt_end")]

    def auxiliary_loss(self, policy: Policy, batch: Sequence[Sample]) -> LossTerm | None:
        seen, asked = (policy.captured[name].states for name in ("seen", "asked"))
        return LossTerm("small", (seen**2).sum() + (asked**2).sum(), 0.01)


ADAPTERS = [AdapterSpec("own", "kept", 4), AdapterSpec("vice", "quarantine", 4)]
CASES = {
    "weights": Case(
        {"kl": 0.1, "entropy_coef": 0.01, "minibatches": 2, "mismatch_correction": "truncate", "max_mismatch_kl": 9.0},
        uneven,
        {},
        edits=(EDIT,),
    ),
    "adapters": Case({"kl": 0.1, "lora": {"rank": 4}, "activation_checkpointing": True}, gated, {"adapters": ADAPTERS}),
    "quarantine": Case({"kl": 0.1}, gated, {"adapters": ADAPTERS[1:]}),
    "confined": Case({"weight_decay": 0.1}, gated, {"adapters": CONFINED}),
    "critic": Case({"algorithm": "ppo", "advantage_level": "token", "critic": {"warmup": 1}}, valued, {"critics": 1}),
    "rounded": Case({"optimizer_states": "bfloat16"}, uneven, {}),
    "reading": Case({}, partly_read, {}),
    "captures": Case({"activation_checkpointing": True}, turns, {"adapters": ADAPTERS[:1]}, 1, (Seen(),), (EDIT,)),
    "poison": Case({}, poisoned, {}, shapers=(Poisoned(),)),
}


FROM_FILES = LearnerConfig(token_budget=40, lr=1e-4, kl=0.1, max_mismatch_kl=99.0)


# one of the two processes


def main(rank: str, *ports_and_directory: str) -> None:
    *ports, out = ports_and_directory
    for strategy, port in zip(STRATEGIES, ports, strict=True):
        where = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        ranks = Ranks.connect(strategy, "cpu", timeout=waiting.patience(60), environment=where)
        for name, case in CASES.items():
            learner, metrics = case.run(ranks)
            whole = sum(p.numel() for p in learner.policy.model.parameters())
            local = sum(_local(p).numel() for p in learner.policy.model.parameters())
            values = [[b.tolist(), a.tolist()] for b, a in learner.values(valued(9))] if name == "critic" else []
            tensors, state = learner.state_dict()
            found = {"metrics": metrics, "state": state, "values": values, "here": local / whole}
            (Path(out) / f"{strategy}-{name}-{rank}.json").write_text(json.dumps(found | {"seen": _seen(learner)}))
            if rank == "0":
                save_file(tensors, Path(out) / f"{strategy}-{name}.safetensors")
            elif tensors:
                raise AssertionError("only rank 0 is given the state")
            if name in ("weights", "adapters"):
                learner.policy.save(Path(out) / f"{strategy}-{name}")
            if name == "weights":
                _resume(case, ranks, Path(out))
        if strategy == "fsdp":
            _from_files(ranks, Path(out))
        ranks.close()


def _from_files(ranks: Ranks, out: Path) -> None:
    """A policy and its reference that are read from their files while they are sharded."""
    with Peak() as peak:
        before = peak.now()
        policy, start = (Policy.load(out / "stored", unread=True) for _ in range(2))
        learner = Learner(policy, FROM_FILES, ranks=ranks, start=start)
    shards = sum(_local(p).nbytes for p in (*policy.model.parameters(), *start.model.parameters()))
    found = {"metrics": [learner.update(uneven(0))], "grown": peak.bytes - before, "shards": shards}
    (out / f"files-{ranks.rank}.json").write_text(json.dumps(found))


def store(directory: Path) -> None:
    """A random model in bfloat16 that is large beside all else that a rank allocates."""
    policy = make_policy(0)
    sizes = {"hidden_size": 512, "intermediate_size": 1024, "num_hidden_layers": 6}
    settings = type(policy.model.config).from_dict(policy.model.config.to_dict() | sizes)
    torch.manual_seed(0)
    Policy(AutoModelForCausalLM.from_config(settings).bfloat16(), policy.tokenizer).save(directory)


def _resume(case: Case, ranks: Ranks, out: Path) -> None:
    """A new learner of two ranks goes on from the state of one: `single.*` is there before we are started."""
    learner = case.learner(ranks)
    learner.load_state_dict(load_file(out / "single.safetensors"), json.loads((out / "single.json").read_text()))
    learner.update(uneven(3))
    tensors, _ = learner.state_dict()
    if tensors:
        save_file(tensors, out / f"{ranks.strategy}-resumed.safetensors")


def _seen(learner: Learner) -> dict[str, Any]:
    return {name: {str(k): mean.tolist() for k, mean in a.turns.items()} for name, a in learner.activations.items()}


def _local(parameter: Tensor) -> Tensor:
    return parameter.to_local() if hasattr(parameter, "to_local") else parameter


# what they must agree with


@pytest.fixture(scope="module")
def alone() -> dict[str, tuple[Learner, list[dict[str, float]]]]:
    """Every case in this process."""
    return {name: case.run(SINGLE) for name, case in CASES.items()}


@pytest.fixture(scope="module")
def states(alone: dict[str, Any]) -> dict[str, dict[str, Tensor]]:
    """The state after each case, before anything else is done with its learner."""
    return {name: learner.state_dict()[0] for name, (learner, _) in alone.items()}


@pytest.fixture(scope="module")
def together(
    tmp_path_factory: pytest.TempPathFactory, alone: dict[str, Any], states: dict[str, dict[str, Tensor]]
) -> Path:
    """Where two processes have left what came of every case under every strategy."""
    out = tmp_path_factory.mktemp("ranks")
    save_file(states["weights"], out / "single.safetensors")
    store(out / "stored")
    (out / "single.json").write_text(json.dumps(alone["weights"][0].state_dict()[1]))
    ports = [_free_port() for _ in STRATEGIES]
    found_in = os.pathsep.join([os.getcwd(), str(Path(waiting.__file__).parent)])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": found_in}
    both = [
        subprocess.Popen(
            [sys.executable, __file__, str(rank), *map(str, ports), str(out)],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        errors = [process.communicate(timeout=waiting.patience(120))[1] for process in both]
    finally:
        for process in both:
            process.kill()
    assert [process.returncode for process in both] == [0, 0], "\n".join(errors)
    return out


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def found(out: Path, strategy: str, name: str, rank: int = 0) -> dict[str, Any]:
    return dict(json.loads((out / f"{strategy}-{name}-{rank}.json").read_text()))


def assert_close(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        difference = (ours[name] - tensor).abs().max()
        assert difference <= 1e-5, f"{name} differs by {difference:.2g}"


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_two_ranks_end_where_one_rank_ends(
    strategy: str, name: str, together: Path, states: dict[str, dict[str, Tensor]]
) -> None:
    """Weights, adapters, value head, reference, and the optimiser's moments."""
    assert_close(load_file(together / f"{strategy}-{name}.safetensors"), states[name])


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_both_ranks_report_the_metrics_of_one_rank(
    strategy: str, name: str, together: Path, alone: dict[str, Any]
) -> None:
    """The gradient norm among them."""
    for rank in range(2):
        for ours, theirs in zip(found(together, strategy, name, rank)["metrics"], alone[name][1], strict=True):
            assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-5, nan_ok=True)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_ranks_round_every_element_as_one_rank_does(
    strategy: str, together: Path, states: dict[str, dict[str, Tensor]]
) -> None:
    """Up to the last bits of their gradients: with random bits of their own, a shard would differ in half of them."""
    ours, theirs = load_file(together / f"{strategy}-rounded.safetensors"), states["rounded"]
    moments = [name for name in theirs if name.endswith("exp_avg")]
    assert moments and {ours[name].dtype for name in moments} == {torch.bfloat16}
    for name in moments:
        assert (ours[name] == theirs[name]).float().mean() > 0.95, name


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_all_ranks_skip_a_step_in_which_one_is_not_finite(strategy: str, together: Path) -> None:
    for rank in range(2):
        metrics = found(together, strategy, "poison", rank)["metrics"]
        assert [row["skipped_steps"] for row in metrics] == [0.0, 1.0, 0.0]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_values_are_shared_out_and_complete(strategy: str, together: Path, alone: dict[str, Any]) -> None:
    single = alone["critic"][0].values(valued(9))
    for rank in range(2):
        for (before, after), theirs in zip(found(together, strategy, "critic", rank)["values"], single, strict=True):
            np.testing.assert_allclose(before, theirs[0], atol=1e-5)
            np.testing.assert_allclose(after, theirs[1], atol=1e-5)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_captured_states_are_those_of_one_rank(strategy: str, together: Path, alone: dict[str, Any]) -> None:
    expected = _seen(alone["captures"][0])
    assert set(expected) == {"seen", "asked"} and len(expected["seen"]) == 4
    for rank in range(2):
        for name, ours in found(together, strategy, "captures", rank)["seen"].items():
            for key, mean in expected[name].items():
                np.testing.assert_allclose(ours[key], mean, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["weights", "adapters"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_saved_policy_is_whole(
    strategy: str, name: str, together: Path, alone: dict[str, Any], tmp_path: Path
) -> None:
    """One plain model, or its kept adapter; written once."""
    alone[name][0].policy.save(tmp_path)

    def read(folder: Path) -> dict[str, Tensor]:
        if name == "weights":
            return dict(Policy.load(folder).model.state_dict())
        return load_file(folder / "adapters/own/adapter_model.safetensors")

    assert_close(read(together / f"{strategy}-{name}"), read(tmp_path))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_state_moves_between_one_rank_and_two(
    strategy: str, together: Path, states: dict[str, dict[str, Tensor]]
) -> None:
    """Two updates, one from each: the state of one rank goes on with two, that of two ranks with one."""
    case = CASES["weights"]
    expected = case.learner(SINGLE)
    expected.load_state_dict(states["weights"], found(together, strategy, "weights")["state"])
    expected.update(uneven(3))
    assert_close(load_file(together / f"{strategy}-resumed.safetensors"), expected.state_dict()[0])

    single = case.learner(SINGLE)
    tensors = load_file(together / f"{strategy}-weights.safetensors")
    single.load_state_dict(tensors, found(together, strategy, "weights")["state"])
    single.update(uneven(3))
    assert_close(single.state_dict()[0], expected.state_dict()[0])


def test_sharded_ranks_hold_a_part_of_the_weights(together: Path) -> None:
    assert found(together, "data", "weights")["here"] == 1.0
    assert found(together, "fsdp", "weights")["here"] == pytest.approx(0.5, abs=0.01)


def test_sharded_ranks_read_a_model_and_its_reference_from_their_files_layer_by_layer(together: Path) -> None:
    """In the type of the config, and with little more memory than their shards."""
    alone = Learner(Policy.load(together / "stored"), FROM_FILES)
    expected = alone.update(uneven(0))
    for rank in range(2):
        read = json.loads((together / f"files-{rank}.json").read_text())
        assert read["metrics"][0] == pytest.approx(expected, rel=1e-4, abs=1e-5, nan_ok=True)
        whole = 2 * sum(p.nbytes for p in alone.policy.model.parameters())
        assert read["shards"] == pytest.approx(whole / 2, rel=0.02)
        assert read["grown"] < 1.2 * whole  # all of it first would be 1.5; threads read a layer each: .8 to 1.03


@given(
    st.lists(st.tuples(st.integers(1, 9000), st.sampled_from("abc")), max_size=40),
    st.integers(1, 9),
)
def test_work_is_dealt_out_evenly(batches: list[tuple[int, str]], ranks: int) -> None:
    costs, kinds = [c for c, _ in batches], [k for _, k in batches]
    hands = deal(costs, kinds, ranks)
    assert sorted(i for hand in hands for i, counts in hand if counts) == list(range(len(batches)))
    for turn in zip(*hands, strict=True):  # equally many, and alike in every round
        assert len({kinds[i] for i, _ in turn}) == 1
        assert any(counts for _, counts in turn)
    loads = [sum(costs[i] for i, counts in hand if counts) for hand in hands]
    assert max(loads) - min(loads) <= max(costs, default=0)


@given(st.lists(st.integers(1, 100), max_size=40), st.integers(1, 5))
def test_micro_batches_fit_and_divide_among_ranks(lengths: list[int], ranks: int) -> None:
    bins = spread(lengths, 100, ranks)
    assert sorted(i for found in bins for i in found) == list(range(len(lengths)))
    assert all(sum(lengths[i] for i in found) <= 100 for found in bins)
    assert ranks == 1 or len(bins) % ranks == 0 or len(bins) == len(lengths)


def test_ranks_are_given_micro_batches_of_equal_length() -> None:
    assert sorted(sum(30 for _ in found) for found in spread([30] * 4, 90, 2)) == [60, 60]  # not 90 and 30


def test_one_rank_is_given_the_batches_as_they_are() -> None:
    assert SINGLE.share([3, 1, 2], lambda _: 0, lambda b: b) == [(3, True), (1, True), (2, True)]


def test_without_its_environment_a_rank_says_how_to_start_it() -> None:
    with pytest.raises(RanksError, match=r"RANK.*torchrun"):
        Ranks.connect("data", "cpu", environment={})
    with pytest.raises(RanksError, match="WORLD_SIZE='two'"):
        Ranks.connect("data", "cpu", environment={"RANK": "0", "WORLD_SIZE": "two"})


def test_a_rank_whose_others_do_not_come_gives_up() -> None:
    where = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    with pytest.raises(RanksError, match=r"rank 0 of 2 did not meet the others"):
        Ranks.connect("data", "cpu", timeout=1, environment={**where, "MASTER_PORT": str(_free_port())})


if __name__ == "__main__":
    main(*sys.argv[1:])
    sys.stderr.flush()
    os._exit(0)  # all is written and closed; torch's own threads now and then abort a process that ends around them
