"""Markdown of a report renders every text as itself, and is not littered with backslashes before it is rendered."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token
from synthetic_study import HOSTILE

from launch.report.escaping import visible
from launch.report.markdown import bullets, cell, inline, line, table

MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
PROSE = (
    "5.0e-4",
    "a_b and snake_case_name, f(x) = x_1 - 2",
    "(x)",
    "-0.09 [-1.95, +1.78]",
    "+0.21 [+0.16, +0.26] (H1 supported.)",
    "P(harm | unwatched) - P(harm | watched)",
    "R&D at 3 < 5 > 2, 5 * 3, 100%, #12, C#",
    "it costs $5!",
    "clerk@ar-1850: a {b} ^ c = d ~ e",
    "…and “quotes” – dashes −, مرحبا",
    "1.5 of 3; 2) is no list within a line",
)
WORSE = (
    *HOSTILE,
    "*a* _b_ **c** __d__ ~~e~~ ~f~ `g` ``h`` ***",
    "[a](b) [a][b] [a]: b ![i](j) [^1] [^1]: note [ ] task",
    "<b>x</b> <!-- --> <?php <http://a.example> <a@b.example> a<b",
    "&amp; &lt; &#60; &#x3c; &copy;",
    r"\*a\* \\ \| \` \[a](b) ends with \ ",
    "http://evil.example https://evil.example ftp://x www.evil.example WWW.evil.example a@evil.example @mention",
    "# head",
    "###### ",
    "> quote",
    "- item",
    "-",
    "+ item",
    "* item",
    "1. item",
    "12) item",
    "---",
    "- - -",
    "***",
    "___",
    "===",
    "~~~ fence",
    "``` fence",
    "[x] task",
    "[ref]: /url",
    "| --- | --- |",
    "a | b\n| --- | --- |\n| c | d |",
    "a\n\n# b\n\n    code",
    "    code",
    "ends with a head #",
    "ends with ]",
    "ends with `",
    "ends with <",
    "$a$ and $b$",
    "\u202ea\u2066b\u2069",
    "|" * 9,
    "\\" * 9,
    "\\|" * 9,
)
TEXTS = st.text(st.sampled_from("ab1 \n\\`*_~[]()<>&#+-=.!|$@:/^{}\"'é—"), max_size=40) | st.text(max_size=40)


def plain(text: str) -> str:
    return " ".join(visible(text).split())


def only_text(token: Token) -> str:
    """The text of an inline token that holds nothing else."""
    assert {child.type for child in token.children or ()} <= {"text"}, token.children
    return token.content and "".join(child.content for child in token.children or ())


def paragraph(document: str) -> str:
    tokens = MARKDOWN.parse(document)
    assert [token.type for token in tokens] in ([], ["paragraph_open", "inline", "paragraph_close"])
    return only_text(tokens[1]) if tokens else ""


def rows(document: str) -> list[list[str]]:
    """The cells of a document that is one table."""
    tokens = MARKDOWN.parse(document)
    assert (tokens[0].type, tokens[-1].type) == ("table_open", "table_close")
    assert sum(token.type == "table_open" for token in tokens) == 1
    found: list[list[str]] = []
    for token in tokens:
        if token.type == "tr_open":
            found.append([])
        elif token.type == "inline":
            found[-1].append(only_text(token))
    return found


@pytest.mark.parametrize("text", PROSE)
def test_ordinary_prose_is_left_as_it_is(text: str) -> None:
    assert line(text) == text
    assert cell(text) == text.replace("|", r"\|")


@pytest.mark.parametrize("text", PROSE + WORSE)
def test_text_renders_as_itself(text: str) -> None:
    assert paragraph(line(text)) == plain(text)
    assert paragraph(f"A {inline(text)} z") == f"A {plain(text)} z".replace("  ", " ")
    assert rows(table(("head", text), [(text, "x")])) == [["head", plain(text)], [plain(text), "x"]]


@given(TEXTS)
@example("a\\")
def test_any_text_renders_as_itself(text: str) -> None:
    assert paragraph(line(text)) == plain(text)
    assert paragraph(f"A{inline(text)}z") == f"A{plain(text)}z"
    assert rows(table(("head", text), [(text, "x")])) == [["head", plain(text)], [plain(text), "x"]]


@given(st.lists(TEXTS.filter(lambda text: plain(text)), min_size=1, max_size=4))
def test_lists_have_an_item_per_text(texts: list[str]) -> None:
    tokens = MARKDOWN.parse(bullets(texts))
    assert [only_text(token) for token in tokens if token.type == "inline"] == [
        " ".join(visible(text, len(text)).split()) for text in texts
    ]
    kinds = {token.type.rpartition("_")[0] for token in tokens if token.type != "inline"}
    assert kinds == {"bullet_list", "list_item", "paragraph"}


@pytest.mark.parametrize("text", WORSE)
def test_no_address_links_itself(text: str) -> None:
    for found in (line(text), cell(text)):
        assert not re.search(r"(https?|ftp)://|www\.|(?<!\\)<[a-z/!?]", found, re.IGNORECASE)
        assert not re.search(r"(?<![\w\\])@\w|\w@\w+\.", found)


def test_a_line_break_ends_no_cell_and_invisible_signs_are_shown() -> None:
    assert cell("a\r\nb\u2028c\x1b[31m\u202e") == r"a b\u2028c\x1b[31m\u202e"


def test_tables_line_up_before_they_are_rendered() -> None:
    text = table(("arm", "deception"), [("Action mask", "0.2"), ("Unshaped", "0.18 [0.1, 0.3]")])
    assert text.splitlines() == [
        "| arm         | deception       |",
        "| ----------- | --------------- |",
        "| Action mask | 0.2             |",
        "| Unshaped    | 0.18 [0.1, 0.3] |",
    ]


def test_a_long_column_is_not_padded() -> None:
    lines = table(("turn", "motive"), [("1", "x" * 60), ("2", "y")]).splitlines()
    assert lines[-1] == "| 2    | y   |"
