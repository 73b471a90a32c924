"""The SLURM script, run by bash among programs that only write down how they are called."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from waiting import interruptible_children, patience, wait_until

import launch

SCRIPT = Path(launch.__file__).parent / "cluster" / "slurm.sbatch"

STUBS = {
    "scontrol": """
        echo "scontrol $*" >>"$CALLS"
        [[ $1 == show ]] && printf '%s\\n' $NODES
        exit 0
    """,
    # starts what comes behind its options, as one step
    "srun": """
        options=()
        while [[ $1 == -* ]]; do options+=("$1"); shift; done
        [[ $1 == hostname ]] && { echo "fe80::1 10.0.0.1"; exit; }
        role=worker; [[ $* == *--head* ]] && role=head
        echo "start $role: ${options[*]} -- $*" >>"$CALLS"
        [[ -n $RAY_AUTH_TOKEN && $RAY_AUTH_MODE == token ]] && echo "token" >>"$CALLS"
        [[ $DEAD == "$role" ]] && { echo "address in use" >&2; exit 1; }
        trap 'echo "stop $role" >>"$CALLS"; kill $!; exit 143' TERM
        sleep 1000 &
        touch "$CALLS.$role"
        wait
    """,
    "ray": """
        [[ $1 == health-check && -e $CALLS.head ]] || exit 1
        echo "head answers" >>"$CALLS"
    """,
    "shaping": """
        if [[ $1 == nodes ]]; then
          until [[ -e $CALLS.head && ( $NODES == n1 || -e $CALLS.worker ) ]]; do sleep 0.05; done
        fi
        echo "shaping $*" >>"$CALLS"
        if [[ $1 == nodes ]]; then
          [[ $NODES_CODE == hangs ]] && exec sleep 1000
          exit "$NODES_CODE"
        fi
        [[ $STUDY == ends* ]] && exit "${STUDY#ends }"
        [[ $STUDY == hangs ]] && { trap '' TERM; exec sleep 1000; }
        trap 'echo "study stops" >>"$CALLS"; kill $!; exit 130' TERM
        sleep 1000 & wait
    """,
}


@dataclass
class Job:
    process: subprocess.Popen[str]
    log: Path

    def calls(self) -> list[str]:
        return [line for line in self.log.read_text().splitlines() if line != "token"] if self.log.exists() else []

    def reaches(self, beginning: str) -> None:
        wait_until(lambda: any(line.startswith(beginning) for line in self.calls()), 30)

    def ends(self) -> tuple[int, list[str], str]:
        """Exit code, the calls by their first words, and what was printed."""
        _, err = self.process.communicate(timeout=patience(60))
        return self.process.returncode, [" ".join(line.split()[:2]).rstrip(":") for line in self.calls()], err


Submit = Callable[..., Job]


@pytest.fixture
def sbatch(tmp_path: Path) -> Submit:
    for name, text in STUBS.items():
        stub = tmp_path / "bin" / name
        stub.parent.mkdir(exist_ok=True)
        stub.write_text("#!/bin/bash\n" + text)
        stub.chmod(0o755)

    def submit(*arguments: str, **environment: str) -> Job:
        given = {
            "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
            "CALLS": str(tmp_path / "calls"),
            "VENV": str(tmp_path / "none"),
            "NODES": "n1 n2 n3",
            "SLURM_JOB_ID": "77",
            "SLURM_JOB_NODELIST": "n[1-3]",
            "SLURM_CPUS_PER_TASK": "8",
            "NODES_CODE": "0",
            "STUDY": "ends 0",
            "DEAD": "",
            "START_TIMEOUT": str(int(patience(20))),
            "STOP_TIMEOUT": str(int(patience(20))),
        }
        command = ["bash", str(SCRIPT), *(arguments or ("study", "quickstart", "seeds=2"))]
        with interruptible_children():  # bash cannot trap a signal that it was started to ignore
            process = subprocess.Popen(command, stderr=-1, text=True, env=given | environment)
        return Job(process, tmp_path / "calls")

    return submit


UP = ["scontrol show", "start head", "head answers", "start worker", "shaping nodes", "shaping study"]


def same(calls: list[str], expected: list[str]) -> bool:
    """In this order; the two steps of Ray stop at once, in either order."""
    ours, theirs = ([c for c in found if not c.startswith("stop ")] for found in (calls, expected))
    return ours == theirs and sorted(calls) == sorted(expected)


def test_bash_can_read_it() -> None:
    subprocess.run(["bash", "-n", str(SCRIPT)], check=True)


def test_head_then_workers_then_all_nodes_then_the_study_then_everything_stops(sbatch: Submit) -> None:
    job = sbatch()
    code, calls, _ = job.ends()
    assert code == 0
    assert same(calls, [*UP, "stop head", "stop worker"]), calls
    assert calls.index("stop head") > calls.index("shaping study")


def test_what_is_started_is_started_where_and_how_it_should_be(sbatch: Submit) -> None:
    from command_lines import parse
    from ray.scripts.scripts import cli

    job = sbatch(START_TIMEOUT="200")
    job.ends()
    head, worker = (line.partition(" -- ") for line in job.calls() if line.startswith("start"))
    assert head[0] == "start head: --nodes=1 --ntasks=1 --nodelist=n1"
    assert worker[0] == "start worker: --nodes=2 --ntasks=2 --exclude=n1"
    name, given = parse(cli, head[2].split()[1:])
    assert (name, given["head"], given["node_ip_address"], given["num_cpus"]) == ("start", True, "10.0.0.1", 8)
    assert given["block"], "the step lasts as long as Ray does"
    _, given = parse(cli, worker[2].split()[1:])
    assert (given["head"], given["address"], given["block"]) == (False, "10.0.0.1:6379", True)
    assert "shaping nodes --address 10.0.0.1:6379 --wait 3 --timeout 200" in job.calls()
    assert job.calls().count("shaping study quickstart seeds=2 --address 10.0.0.1:6379") == 1
    assert job.log.read_text().splitlines().count("token") == 2, "both steps are given the token"
    assert not [line for line in job.calls() if len(line) > 200], "which is on no command line"


def test_one_node_has_no_workers(sbatch: Submit) -> None:
    code, calls, _ = sbatch(NODES="n1").ends()
    assert code == 0
    assert same(calls, [call for call in UP if call != "start worker"] + ["stop head"]), calls


def test_a_study_that_fails_ends_the_job_with_its_code_and_stops_ray(sbatch: Submit) -> None:
    code, calls, _ = sbatch(STUDY="ends 1").ends()
    assert code == 1
    assert same(calls, [*UP, "stop head", "stop worker"]), calls


def test_nodes_that_do_not_come_or_differ_stop_it_before_the_study(sbatch: Submit) -> None:
    code, calls, _ = sbatch(NODES_CODE="1").ends()
    assert code == 1
    assert same(calls, [*UP[:-1], "stop head", "stop worker"]), calls


def test_a_head_that_does_not_start_is_told(sbatch: Submit) -> None:
    code, calls, err = sbatch(DEAD="head").ends()
    assert code == 2
    assert calls == ["scontrol show", "start head"]
    assert "the head did not start; the reason is above" in err
    assert "address in use" in err


@pytest.mark.usefixtures("deaf_to_interrupts")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_stops_the_study_first_and_then_ray(sbatch: Submit, number: signal.Signals, code: int) -> None:
    job = sbatch(STUDY="runs")
    job.reaches("shaping study")
    job.process.send_signal(number)
    ended, calls, _ = job.ends()
    assert ended == code
    assert same(calls, [*UP, "study stops", "stop head", "stop worker"]), calls
    assert calls.index("study stops") < min(calls.index("stop head"), calls.index("stop worker"))


def test_a_signal_while_nodes_are_waited_for_stops_ray(sbatch: Submit) -> None:
    job = sbatch(NODES_CODE="hangs")
    job.reaches("shaping nodes")
    job.process.send_signal(signal.SIGTERM)
    code, calls, _ = job.ends()
    assert code == 143
    assert same(calls, [*UP[:-1], "stop head", "stop worker"]), calls


def test_a_study_that_does_not_stop_is_killed(sbatch: Submit) -> None:
    job = sbatch(STUDY="hangs", STOP_TIMEOUT="1")
    job.reaches("shaping study")
    job.process.send_signal(signal.SIGTERM)
    code, calls, _ = job.ends()
    assert code == 143
    assert same(calls, [*UP, "stop head", "stop worker"]), calls


def test_out_of_time_it_stops_cleanly_and_requeues_itself_last(sbatch: Submit) -> None:
    job = sbatch(STUDY="runs")
    job.reaches("shaping study")
    job.process.send_signal(signal.SIGUSR1)
    code, calls, _ = job.ends()
    assert code == 0
    assert same(calls, [*UP, "study stops", "stop head", "stop worker", "scontrol requeue"]), calls
    assert job.calls()[-1] == "scontrol requeue 77"


def test_it_does_not_requeue_itself_forever(sbatch: Submit) -> None:
    job = sbatch(STUDY="runs", SLURM_RESTART_COUNT="20")
    job.reaches("shaping study")
    job.process.send_signal(signal.SIGUSR1)
    _, calls, err = job.ends()
    assert "scontrol requeue" not in calls
    assert "requeued 20 times already" in err


@pytest.mark.parametrize(
    ("arguments", "environment", "told"),
    [
        (("report", "runs/x"), {}, "give a command: study CONFIG"),
        (("study", "quickstart"), {"SLURM_JOB_ID": ""}, "this is a SLURM script"),
    ],
)
def test_a_wrong_call_is_told_before_anything_starts(
    sbatch: Submit, arguments: tuple[str, ...], environment: dict[str, str], told: str
) -> None:
    code, calls, err = sbatch(*arguments, **environment).ends()
    assert (code, calls) == (2, [])
    assert told in err
