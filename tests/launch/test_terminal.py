"""Nothing that a plug-in says or prints acts on the terminal, and nothing is printed past this module."""

from __future__ import annotations

import ast
import io
import logging
import sys
import warnings
from pathlib import Path

import pytest
from rich.console import Console

import launch
from launch.terminal import SafeStream, guarded, raw, say
from launch.tracking.progress import Display

PACKAGE = Path(launch.__file__).parent
HOSTILE = "\x1b]52;c;QUJD\x07\x9b2J\u202e"
SHOWN = r"\x1b]52;c;QUJD\x07\x9b2J\u202e"


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def _writes(tree: ast.AST) -> list[str]:
    """Calls of print and echo, and uses of the streams by name."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in (
            "print",
            "typer.echo",
            "typer.secho",
            "click.echo",
        ):
            found.append(ast.unparse(node.func))
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("sys.stdout.write", "sys.stderr.write"):
            found.append(ast.unparse(node))
    return found


def test_all_output_of_the_program_goes_through_one_module() -> None:
    files = [path for path in PACKAGE.rglob("*.py") if path.name != "terminal.py"]
    assert len(files) > 50
    found = {str(path): writes for path in files if (writes := _writes(ast.parse(path.read_text(encoding="utf-8"))))}
    assert not found


def test_messages_are_safe_and_short(capsys: pytest.CaptureFixture[str]) -> None:
    say(HOSTILE)
    say("x" * 1_000_000, err=True)
    told = capsys.readouterr()
    assert told.out == SHOWN + "\n"
    assert len(told.err) < 1100 and "characters left out" in told.err


def _show(message: Warning | str, kind: type[Warning], file_name: str, line: int, *_: object) -> None:
    """What Python does with a warning, where pytest does not collect it."""
    sys.stderr.write(warnings.formatwarning(message, kind, file_name, line))


def test_prints_warnings_and_logs_of_plugins_are_safe(capsys: pytest.CaptureFixture[str]) -> None:
    with guarded(), warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = _show
        print(HOSTILE)
        warnings.warn(HOSTILE, stacklevel=1)
        logger = logging.Logger("plugin")  # no handler of its own
        logging.lastResort and logger.addHandler(logging.lastResort)
        logger.warning(HOSTILE)
        print("10%\r20%")
        print("y" * 1_000_000)
        assert not sys.stdout.isatty()
    told = capsys.readouterr()
    assert "\x1b" not in told.out + told.err and "\x9b" not in told.out + told.err
    assert told.out.startswith(f"{SHOWN}\n10%\n20%\n")
    assert told.err.count(SHOWN) >= 2
    assert len(told.out) < 5000


def test_a_guard_is_taken_away_again() -> None:
    before = sys.stdout
    with guarded(), guarded():
        assert isinstance(sys.stdout, SafeStream)
        assert raw(sys.stdout) is before
    assert sys.stdout is before


@pytest.mark.parametrize("terminal", [True, False])
def test_the_progress_shows_names_and_messages_as_text(terminal: bool) -> None:
    stream = Terminal() if terminal else io.StringIO()
    console = Console(file=stream, force_terminal=terminal, color_system=None, width=200)
    with Display(console) as display:
        display.stage(1, 2, f"pre-training, {HOSTILE}")
        display.begin(1)
        display.start(f"{HOSTILE}[red]", 3)
        display.note(f"{HOSTILE} :smile: [bold]not bold[/bold] " + "z" * 1_000_000)
        print(f"from a plug-in {HOSTILE}", file=sys.stderr)
        display.end(f"{HOSTILE}[red]", ok=True)
    text = stream.getvalue()
    assert "]52;c;QUJD\x07" not in text and "\x9b" not in text and "\u202e" not in text
    assert "\x1b]52" not in text
    assert f"{SHOWN} :smile: [bold]not bold[/bold] zzz" in text
    assert "[red]" in text
    assert len(text) < 20_000
