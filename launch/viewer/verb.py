"""The verb `view` of the command line. Nothing heavy is imported before it runs."""

from __future__ import annotations

import importlib
import threading
from pathlib import Path
from typing import Annotated

import typer

from envs.escaping import on_one_line
from launch.errors import UserError
from launch.terminal import say

Where = Annotated[
    Path, typer.Argument(metavar="RUN_OR_STUDY", help="a study's directory, a run's, or one file of episodes")
]
Monitors = Annotated[
    list[str] | None,
    typer.Option("--monitor", help="a monitor to read with (may be repeated), or none; default: stored records"),
]


def view(
    where: Where,
    export: Annotated[
        Path | None, typer.Option(metavar="DIR", help="write the pages as files in place of serving them")
    ] = None,
    episodes: Annotated[int, typer.Option(min=1, max=5000, help="episodes to write, the worst first")] = 100,
    inspect: Annotated[
        Path | None, typer.Option(metavar="DIR", help="write the episodes as logs of Inspect in place of serving them")
    ] = None,
    monitor: Monitors = None,
    tokens: Annotated[
        bool, typer.Option("--tokens", help="first store log-probs under each run's checkpoint, and advantages")
    ] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="port on 127.0.0.1; default: a free one")] = 0,
) -> None:
    """Browse the episodes of a run or a study in a local page."""
    from launch.viewer.reader import Reader
    from launch.viewer.sources import find_sources

    # imported while the other process opens the files
    threading.Thread(target=importlib.import_module, args=("launch.viewer.server",), daemon=True).start()

    found = find_sources(where)
    for problem in found.problems:
        say(on_one_line(problem), err=True)
    _check_monitors(monitor or [])
    if tokens:
        from launch.viewer.token_scores import score_run

        for run_dir in dict.fromkeys(file.run for file in found.files):
            try:
                for line in score_run(run_dir):
                    say(on_one_line(line))
            except UserError as error:  # the other runs of the study may be finished
                say(on_one_line(str(error)), err=True)
    with Reader(found.files, monitor or []) as reader:
        for problem in [*reader.dropped, *reader.about["problems"]]:
            say(on_one_line(problem), err=True)
        if export is not None:
            from launch.viewer.export import export_pages

            count = export_pages(found.title, reader, export, episodes)
            say(f"{count} episodes: {export / 'index.html'}")
            return
        if inspect is not None:
            from launch.viewer.inspect_logs import export_logs

            logs = export_logs(found.title, reader, inspect, episodes)
            say(f"{len(logs)} logs in {inspect}; to look at them: inspect view --log-dir {inspect}")
            return
        from launch.viewer.gate import new_token
        from launch.viewer.server import HOST, Viewer, listen, run

        token, bound = new_token(), listen(port)
        count, files = reader.about["episodes"], reader.about["files"]
        many = "" if reader.about["files_opened"] == files else "more than "
        say(f"{many}{count:,} episodes in {files:,} files. Open this link; Ctrl-C ends it:")
        say(f"http://{HOST}:{bound.getsockname()[1]}/{token}/")
        run(Viewer(found.title, reader).app(token), bound)


def _check_monitors(names: list[str]) -> None:
    """Say at once what the reading process would say late."""
    if names:
        from launch.viewer.index.readings import named_monitors

        named_monitors(names)
