"""What a study shows and publishes only says something; it never acts, and it tells nothing about the machine.

- Text of a model, a plug-in or a file never reaches the terminal as a control sequence. It cannot move the cursor, fill
  the clipboard, or turn the direction of the text around it; and a message of a million characters is cut.
- A cell of a CSV file is never a formula.
- The page and the other published files show marks that turn or hide text, also in the configuration and the figures.
- Files of a study say nothing about where it ran: no home, no folder of the output, no user. What a user has written
  into the config stays in study.json and run.json, which resume needs; the page shows the last part of a path alone.
"""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from launch_fakes import START_MODEL, TRAINER
from launch_fakes import study as fake_study
from synthetic_study import config, write_study

from launch.report.build import build
from launch.study import run_study

ACTS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
MARKS = "\u202ekcab\u200f\u2066"
PLUGIN = """
import logging
import warnings

from envs.core import TextEnv


class Loud(TextEnv):
    def __init__(self):
        print("printed \\x9b2J")
        warnings.warn("warned \\x1b[31m")
        logging.getLogger("loud").warning("logged \\x1b]52;c;QUJD\\x07")
        raise RuntimeError("\\x1b]52;c;QUJD\\x07\\r\\u202e" + "x" * 1_000_000)
"""


def shaping(folder: Path, *arguments: str) -> str:
    """Everything that a command wrote to the terminal."""
    done = subprocess.run(
        [sys.executable, "-m", "launch.cli", *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *sys.path])},
        capture_output=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 1
    return (done.stdout + done.stderr).decode()


@pytest.mark.parametrize("debug", [(), ("--debug",)], ids=["", "with --debug"])
def test_a_plugin_cannot_steer_the_terminal(tmp_path: Path, debug: tuple[str, ...]) -> None:
    (tmp_path / "loud_plugin.py").write_text(PLUGIN)
    text = shaping(tmp_path, *debug, "check", "loud_plugin:Loud")
    assert not ACTS.search(text)
    for word in ("printed", "warned", "logged", "RuntimeError"):
        assert word in text
    assert r"\x1b]52;c;QUJD\x07" in text and r"\u202e" in text
    assert len(text) < (20_000 if debug else 3_000)
    assert "characters left out" in text


def test_a_spreadsheet_computes_nothing_from_a_published_table(tmp_path: Path) -> None:
    names = ["=HYPERLINK(1)", "+1", "-1+1", "@SUM(A1)", " =1", "\uff1d1", "\t=1", "bad\x1b\x00\rname", "two\nlines"]
    study = config(seeds=2)
    write_study(tmp_path / "study", study, updates=2, episodes=False, summary=dict.fromkeys(names, -0.5))
    with (build(tmp_path / "study").parent / "arms.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    cells = {cell for row in rows[1:] for cell in (row[0], row[1], *row[6:])}
    assert not [cell for cell in cells if cell.strip()[:1] in tuple("=+-@\uff1d")]
    assert not ACTS.search("".join(cells).replace("\n", "\x00"))
    assert {"'=HYPERLINK(1)", "'-1+1", r"bad\x1b\x00\rname", r"two\nlines"} <= cells
    assert {row[2] for row in rows[1:] if row[1] == "'+1"} == {"-0.5"}  # a negative number is a number


def test_published_files_show_marks_that_turn_the_text(tmp_path: Path) -> None:
    arms = {"unshaped": {"role": "reference", "label": f"Base{MARKS}"}, "action_mask": {"role": "treatment"}}
    study = config(seeds=1, arms=arms)
    worlds = {"steward": {"note": f"{MARKS}\u2028"}, "nightwatch": {}}
    study = study.model_copy(update={"train": study.train.model_copy(update={"worlds": worlds})})
    write_study(tmp_path / "study", study, updates=2, result={"label": f"Arm{MARKS}", "family": "unshaped"})
    for path in build(tmp_path / "study").parent.iterdir():
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".html":  # plotly's own source may hold any character
            text = "".join(part for part in re.split(r"(?s)<script>.*?</script>", text))
            assert r"\u202ekcab\u200f\u2066\u2028" in text.replace("\\\\", "\\")  # the configuration
            assert r"Arm\u202ekcab\u200f\u2066" in text
        assert not ACTS.search(text), path.name


def _tells(folder: Path, *words: str) -> list[str]:
    """The files that hold one of the words. Logs are not published: they hold whole tracebacks."""
    files = [path for path in folder.rglob("*") if path.is_file() and "logs" not in path.parts]
    assert len(files) > 3
    return [path.name for path in files if any(word.encode() in path.read_bytes() for word in words)]


def test_the_files_of_a_study_do_not_say_where_it_ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home-of-xq7v"
    (home / "work").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("FAKE_MODEL", str(home / "models" / "small"))
    monkeypatch.chdir(home / "work")
    study = fake_study(home / "out", {"unshaped": "", "mask": "raises"}, seeds=1)
    result = run_study(study, trainer=TRAINER, start_model=START_MODEL)
    assert len(result.finished) == 1 and len(result.failed) == 1
    assert not _tells(home / "out" / "small", "xq7v", str(tmp_path))
    assert run_study(study, trainer=TRAINER, start_model=START_MODEL).kept == result.finished  # it is still the same


def test_the_page_names_a_model_and_not_its_place(tmp_path: Path) -> None:
    home = tmp_path / "home-of-xq7v"
    study = config(seeds=2, arms={"unshaped": {"role": "reference"}, "inoculation": {"role": "treatment"}})
    study = study.model_copy(update={"output": str(home / "out"), "model": str(home / "models" / "small")})
    path = write_study(home / "out" / study.name, study, updates=1)
    run = path / "runs" / "inoculation"
    (run / "seed-0" / "run.json").write_text(f'{{"format": "shaping-run", "version": "{home}"}}')
    (run / "seed-1" / "episodes" / "eval.parquet").unlink()
    build(path)
    assert not _tells(path / "report", "xq7v", str(tmp_path))
    page = (path / "report" / "index.html").read_text(encoding="utf-8")
    assert "&#34;model&#34;: &#34;small&#34;" in page
