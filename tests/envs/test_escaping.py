"""Text from outside becomes text that only says something."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.escaping import LINE, MESSAGE, on_one_line, on_terminal, placeless, revealed, shortened

ACTS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]52;c;QUJD\x07", r"\x1b]52;c;QUJD\x07"),  # writes to the clipboard
        ("\x9b2Jgone", r"\x9b2Jgone"),  # clears the screen, with a control character of C1
        ("all well\rfailed", r"all well\rfailed"),
        ("\u202eesrever\u202c", r"\u202eesrever\u202c"),
        ("\u200f\u061c\u2066", r"\u200f\u061c\u2066"),
        ("\ud800", r"\ud800"),
        ("\U000e0041", r"\U000e0041"),
        ("مرحبا, 你好, naïve 👩\u200d🚀\tx", "مرحبا, 你好, naïve 👩\u200d🚀\tx"),
    ],
)
def test_what_acts_is_shown_and_letters_stay(text: str, shown: str) -> None:
    assert revealed(text) == shown


def test_a_million_characters_become_a_few_hundred_and_a_count() -> None:
    shown = on_terminal("the world raised " + "x" * 1_000_000 + "; mend it")
    assert len(shown) < LINE + 60
    assert shown.startswith("the world raised x") and shown.endswith("; mend it")
    assert "999026 characters left out" in shown
    assert len(on_terminal("line of a log\n" * 100_000)) < MESSAGE + 60


def test_a_line_of_a_plugin_cannot_pass_for_one_of_ours() -> None:
    assert on_one_line("fine\nok    everything\tholds") == r"fine\nok    everything\tholds"


@given(st.text(st.characters(), max_size=300), st.integers(3, 50))
def test_nothing_that_acts_is_left_and_once_is_enough(text: str, limit: int) -> None:
    shown = on_terminal(text)
    assert not ACTS.search(shown)
    assert revealed(shown) == shown
    assert "\n" not in on_one_line(text)
    assert len(shortened(text, limit)) <= max(limit + 40, len(text))


def test_a_published_message_names_no_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, work = tmp_path / "ada", tmp_path / "ada" / "work"
    work.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(work)
    told = f"no file '{work}/data.json', none in {home}, and {home}-2/x and {home}/notes.txt is another"
    assert placeless(told) == f"no file './data.json', none in ~, and {home}-2/x and ~/notes.txt is another"
    monkeypatch.setenv("HOME", "/")
    monkeypatch.chdir("/")
    assert placeless("and/or /etc/x") == "and/or /etc/x"
