"""The command line: `shaping study`, `train`, `launch`, `report`, `power`, `list`, `check` and others."""

from __future__ import annotations

import json
import shlex
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from envs.escaping import on_one_line
from launch.console import dotted_flag, first_line, in_words, print_version, set_volume, silence_libraries
from launch.errors import UserError
from launch.report.verbs import Config, Overrides
from launch.terminal import guarded, say
from launch.verbs import add_verbs

if TYPE_CHECKING:
    from launch.config.study import RunConfig
    from launch.storage.rundir import RunDirectory
    from launch.study import StudyResult

INTERRUPTED = 130

app = typer.Typer(
    help="Train language agents with RL; compare shaping their motivations with constraining their actions.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_debug = False

Address = Annotated[str | None, typer.Option(help="a running Ray cluster: host:6379, ray://host:10001 or auto")]
Dashboard = Annotated[str, typer.Option(help="a running Ray cluster: http://host:8265, ray://host:10001 or host:6379")]
Isolated = Annotated[
    bool, typer.Option("--isolated", help="run rewards and interventions that are not built in apart: docs/security.md")
]
Only = Annotated[list[str] | None, typer.Option(help="an arm or a cell to run (may be repeated)")]
Seeds = Annotated[str, typer.Option(metavar="SEEDS", help="seeds to run, e.g. 0-3,7; default: all of the study")]
Force = Annotated[bool, typer.Option("--force", help="go on in a directory that was started with another config")]


@app.callback()
def _options(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="show tracebacks of errors")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="results, warnings and errors alone")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="also what is logged on the way")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="print the version and stop")
    ] = False,
) -> None:
    global _debug
    _debug = debug
    set_volume(quiet=quiet, verbose=verbose)
    if not {"-h", "--help"} & set(sys.argv):  # help is ours, and coloured
        context.with_resource(guarded())


@app.command()
def study(
    config: Config,
    overrides: Overrides = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="print the resolved config and the runs, and stop")
    ] = False,
    only: Only = None,
    seeds: Seeds = "",
    cpus: Annotated[int | None, typer.Option(min=1, help="cores of the local Ray; default: all")] = None,
    address: Address = None,
    isolated: Isolated = False,
    force: Force = False,
) -> None:
    """Run every arm, seed and cell that is not finished yet, then write the report."""
    from launch.config.loading import load_study
    from launch.slices.seeds import parse_seeds

    loaded = load_study(config, _with_isolation(overrides, isolated))
    chosen = parse_seeds(seeds) if seeds else []
    if dry_run:
        from launch.dry_run import print_plan

        print_plan(loaded, only or [], chosen)
        return
    from launch.distributed.local import RaySettings
    from launch.looks.run import run_looks
    from launch.study import run_study

    def run(seeds: Sequence[int]) -> StudyResult:
        return run_study(loaded, only=only or [], seeds=seeds, cluster=RaySettings(cpus, address), force=force)

    # a slice of a study looks at nothing: it has not all arms
    _tell(_run(lambda: run(chosen) if chosen or only else run_looks(loaded, run, say)))


@app.command()
def train(
    config: Config,
    arm: Annotated[str, typer.Option(help="the arm, or the cell where axes multiply it")],
    overrides: Overrides = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    address: Address = None,
    isolated: Isolated = False,
    force: Force = False,
) -> None:
    """Train one run of a study in this process, or on a cluster. The study keeps it."""
    from launch.config.loading import load_study
    from launch.distributed.local import RaySettings
    from launch.study import run_study, select

    loaded = load_study(config, _with_isolation(overrides, isolated))
    chosen = select(loaded, [arm], [seed])
    if len(chosen) > 1:
        names = ", ".join(run.point_name for run in chosen)
        raise UserError(f"arm {arm!r} has {len(chosen)} cells; give one of them as --arm: {names}")
    cluster = RaySettings(address=address) if address else None
    result = _run(lambda: run_study(loaded, only=[arm], seeds=[seed], cluster=cluster, force=force))
    say(str(result.directory / "runs" / chosen[0].directory_name))
    _tell_failures(result)


@app.command()
def launch(
    config: Config,
    address: Dashboard,
    overrides: Overrides = None,
    only: Only = None,
    seeds: Seeds = "",
    working_dir: Annotated[Path | None, typer.Option(help="sent whole: the study, and modules of your own")] = None,
    env: Annotated[list[str] | None, typer.Option(help="KEY=VALUE for the job, or KEY as it is set here")] = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="print the job's id and leave")] = False,
    force: Force = False,
) -> None:
    """Run a study as a job of a Ray cluster; the same again goes on with it. Docs: docs/clusters.md."""
    from launch.distributed.submit import connect, environment_of, prepared

    arguments = [word for arm in only or [] for word in ("--only", arm)] + (["--seeds", seeds] if seeds else [])
    arguments += ["--force"] if force else []
    given = environment_of(env or [])
    with prepared(config, overrides or [], arguments=arguments, folder=working_dir, environment=given) as submission:
        cluster = connect(address)
        cluster.submit(submission)
    say(f"job: {submission.id}")
    if no_wait:
        say(f"to follow it: {_job_command(submission.id, address)} (with --stop: to stop it)")
    else:
        _follow(cluster, submission.id, address)


@app.command()
def job(
    name: Annotated[str, typer.Argument(help="the id that `shaping launch` printed")],
    address: Dashboard,
    stop: Annotated[bool, typer.Option("--stop", help="stop it: finished runs are kept, the others can go on")] = False,
) -> None:
    """Follow a job that was launched before, or stop it."""
    from launch.distributed.submit import connect

    cluster = connect(address)
    if stop:
        cluster.stop(name)
    _follow(cluster, name, address)


@app.command()
def nodes(
    address: Annotated[str, typer.Option(help="a running Ray cluster: host:6379, ray://host:10001 or auto")] = "auto",
    wait: Annotated[int, typer.Option(min=1, help="nodes that must have joined")] = 1,
    timeout: Annotated[float, typer.Option(min=0, help="seconds to wait for them")] = 0.0,
) -> None:
    """Wait for the nodes of a cluster, and check that they all run this program with the same packages."""
    from launch.distributed.local import RaySettings, running_ray
    from launch.distributed.nodes import check_nodes, wait_for_nodes

    with running_ray(RaySettings(address=address), check=False):
        wait_for_nodes(wait, timeout, typer.echo)
        for name in check_nodes():
            say(f"ok    {name}")


@app.command("eval")
def evaluate(
    run_dir: Annotated[Path, typer.Argument(help="a finished run: runs/<study>/runs/<arm>/seed-<k>")],
    device: Annotated[str, typer.Option(help="auto, cpu or cuda; auto: a GPU if there is one")] = "auto",
) -> None:
    """Evaluate a run's checkpoint again and replace its eval.jsonl."""
    from launch.storage import jsonl

    run, directory = _finished(run_dir)
    from launch.run.evaluation.evaluate import evaluate as evaluate_policy

    with directory.locked(patience=0.0):
        evaluate_policy(run, directory.checkpoint, directory, device)
    for cell in jsonl.read(run_dir / "eval.jsonl"):
        # phase: of the model before training, if at all
        shown = ("phase", "world", "watch", "placebo", "cell", "reward")
        say(on_one_line("  ".join(f"{key} {cell[key]}" for key in shown if key in cell)))


def _finished(run_dir: Path) -> tuple[RunConfig, RunDirectory]:
    from launch.config.reading.recorded import recorded_run
    from launch.storage.finished import finished_run

    directory = finished_run(run_dir)
    run = recorded_run(directory.config())
    return run, directory


@app.command()
def report(
    study_dirs: Annotated[
        list[Path], typer.Argument(help="where `shaping study` or `shaping rows` wrote; slices of one study are joined")
    ],
    out: Annotated[Path | None, typer.Option(help="folder of the report; default: report/ in the directory")] = None,
) -> None:
    """Write the report of a study from the runs that are finished."""
    _build_report(study_dirs, out)


@app.command()
def rows(
    study_dir: Annotated[Path, typer.Argument(help="the directory that `shaping study` wrote")],
    out: Annotated[Path | None, typer.Option(help="folder of the rows; default: rows/ in the directory")] = None,
) -> None:
    """Keep what reports need of the finished runs, without episodes and weights: one small file per run."""
    from launch.slices.write import write_study

    written = write_study(study_dir, out)
    for line in written.left_out:
        say(on_one_line(f"left out: {line}"))
    say(f"rows: {written.runs} runs, {written.largest:,} bytes at most, in {written.folder}")


@app.command("list")
def list_plugins(
    kind: Annotated[str, typer.Argument(help="one kind alone, e.g. metrics, or one plug-in with its fields")] = "",
) -> None:
    """Show what studies can name: worlds, shapers, constraints, rewards, monitors, metrics, claims, studies ..."""
    from launch import one_plugin
    from launch.catalogue import CATALOGUE, lines
    from launch.errors import nearest

    known = ["", *CATALOGUE] if kind in ("", *CATALOGUE) else one_plugin.names()
    if ":" not in kind and kind.partition("@")[0] not in known:
        near = nearest(kind, [*known, *CATALOGUE])
        raise UserError(f"there is nothing called {kind!r}{near}; kinds are {', '.join(CATALOGUE)}")
    for line in lines(kind) if kind in ("", *CATALOGUE) else one_plugin.lines(kind):
        say(on_one_line(line))


@app.command()
def check(
    name: Annotated[str, typer.Argument(help="package.module:Class, or the name of a world, shaper, reward ...")],
    options: Annotated[list[str] | None, typer.Argument(help="key=value ..., e.g. size=4 oversight=0.5")] = None,
    action: Annotated[list[str] | None, typer.Option(help="a command to try in a world (may be repeated)")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="of a world 3; of others 2 in each built-in world")] = None,
    step_ms: Annotated[float, typer.Option(min=0, help="limit of a world's median step, in milliseconds")] = 10.0,
) -> None:
    """Check that a world, intervention, reward or monitor keeps its contract: one line per rule; exit code 1 if not."""
    from launch.check import check_plugin

    checked = check_plugin(name, options or [], actions=action or [], seeds=seeds, step_seconds=step_ms / 1e3)
    if checked.headline:
        say(on_one_line(f"{name}: {checked.headline}"))
    for result in checked.results:
        what = checked.rules[result.rule] if result.detail == "ok" else result.detail
        say(on_one_line(f"{'ok  ' if result.ok else 'FAIL'}  {result.rule:<12} {what}"))
    if not checked.ok:
        raise typer.Exit(1)


add_verbs(app)


@app.command()
def doctor(
    full: Annotated[bool, typer.Option("--full", help="import all of vLLM, and wait for slow packages")] = False,
) -> None:
    """Check the machine and the installation; say what to do about each problem."""
    from launch.doctor import examine

    healthy = True
    for finding in examine(full=full):
        mark = {"ok": "ok  ", "warning": "warn", "error": "FAIL"}[finding.level]
        for line in (f"{mark}  {finding.what}: {finding.text}", f"      {finding.remedy}"):
            if line.strip():
                say(on_one_line(line))
        healthy &= finding.level != "error"
    if not healthy:
        raise typer.Exit(1)


def _with_isolation(overrides: list[str] | None, isolated: bool) -> list[str]:
    return [*(overrides or []), *(["isolated=true"] if isolated else [])]


def main() -> None:
    """Entry point: one message on stderr and exit code 1 for whatever goes wrong."""
    silence_libraries()
    try:
        if hint := dotted_flag(sys.argv[1:]):
            raise UserError(hint)
        with first_line(sys.argv[1:]):
            app()
    except UserError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        say("interrupted", err=True)
        sys.exit(INTERRUPTED)
    except Exception as error:
        _fail(in_words(error) or f"unexpected {type(error).__name__}: {error}\n`shaping --debug ...` shows where")


def _fail(message: str) -> None:
    if _debug:
        say(traceback.format_exc(), err=True, whole=True)
        sys.exit(1)
    say(f"error: {message}", err=True)
    sys.exit(1)


def _run(call: Any) -> StudyResult:
    """Ctrl-C: say how to go on."""
    try:
        return call()
    except KeyboardInterrupt:
        command = shlex.join(["shaping", *sys.argv[1:]])
        kept = "finished runs are kept, half-written ones go on from their last saved state"
        say(f"\nstopped; {kept}. To go on: {command}", err=True)
        raise typer.Exit(INTERRUPTED) from None


def _follow(cluster: Any, name: str, address: str) -> None:
    """Ctrl-C leaves the job alone."""
    from launch.distributed.submit import follow

    try:
        ended = follow(cluster, name)
    except KeyboardInterrupt:
        say(f"\n{name} goes on; to follow it again: {_job_command(name, address)}", err=True)
        raise typer.Exit(INTERRUPTED) from None
    if ended.code:
        raise UserError(f"{name} failed: {ended.reason}")
    say(f"{name} has finished")


def _job_command(name: str, address: str) -> str:
    return shlex.join(["shaping", "job", name, "--address", address])


def _tell(result: StudyResult) -> None:
    if result.finished or result.kept:
        try:
            _build_report([result.directory])
        except UserError as error:
            say(f"error: the report could not be written: {error}", err=True)
            _tell_failures(result)
            raise typer.Exit(1) from None
    _tell_failures(result)


def _tell_failures(result: StudyResult) -> None:
    if not result.failed:
        return
    say(f"error: {len(result.failed)} runs failed; the same command tries them again:", err=True)
    for failure in result.failed:
        say(f"  {failure.name}: {failure.message}\n    log: {failure.log}", err=True)
    raise typer.Exit(1)


def _build_report(directories: list[Path], out: Path | None = None) -> None:
    """Write the report; print where it is and what it says."""
    from launch.report.answer import verdict_lines
    from launch.report.build import build

    page = build(directories, out)
    for line in verdict_lines(json.loads((page.parent / "verdicts.json").read_text(encoding="utf-8"))):
        say(on_one_line(line))
    say(f"report: {page}")


if __name__ == "__main__":
    main()
