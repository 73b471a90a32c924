"""The command line with a fake trainer, organism and report, for tests that need a process of its own."""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import launch_fakes

import launch.cli
import launch.report.build
import launch.study


def build(directories: list[Path], out: Path | None = None) -> Path:
    folder = out or directories[0] / "report"
    folder.mkdir(exist_ok=True)
    verdict = {"claim": "H1", "statement": "constraints deceive", "verdict": "inconclusive", "point": ""}
    (folder / "verdicts.json").write_text(json.dumps({"verdicts": [verdict]}))
    (folder / "index.html").write_text("<html></html>")
    return folder / "index.html"


if __name__ == "__main__":  # only here: whoever imports `build` must not get a patched program
    launch.report.build.build = build
    launch.study.run_study = functools.partial(
        launch.study.run_study, trainer=launch_fakes.TRAINER, start_model=launch_fakes.START_MODEL
    )
    launch.cli.main()
