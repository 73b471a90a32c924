"""What templates do beside putting messages one after the other, and the one rule for each."""

from __future__ import annotations

from datetime import date

import pytest
from templates import FAMILIES, GEMMA_2, GRANITE, LLAMA_3, MISTRAL, QWEN_2_5, QWEN_3, R1, tokenizer_of

from shaping.sampling.text.render import Renderer
from shaping.sampling.text.template import ChatTemplate, Message, TemplateError, TemplateSettings

OWN = "You are Made, created by Makers."


def template(source: str, **settings: object) -> ChatTemplate:
    return ChatTemplate(tokenizer_of("bytes", source), TemplateSettings(**settings))  # type: ignore[arg-type]


def said(source: str, system: str = "", **settings: object) -> str:
    """A conversation of one message under a system prompt."""
    made = template(source, **settings)
    return made.text(made.placed([*[Message("system", system)] * bool(system), Message("user", "turn 1 .")]))


def test_a_system_prompt_that_the_template_inserts_stays_before_every_context() -> None:
    """The fault: a context replaced it, so that an arm with a context differed from its reference in both."""
    assert template(QWEN_2_5).default_system == OWN
    without, under = said(QWEN_2_5), said(QWEN_2_5, "be honest .")
    start, _, rest = under.partition("\n\nbe honest .")
    assert without == start + rest and OWN in start
    assert f"system prompt {OWN!r}" in "".join(template(QWEN_2_5).notes)


@pytest.mark.parametrize("family", ["Qwen3", "R1", "Gemma 2", "Gemma 3", "Llama 3", "Mistral", "Phi-3"])
def test_other_templates_insert_none(family: str) -> None:
    assert template(FAMILIES[family]).default_system == ""


@pytest.mark.parametrize("source", [GEMMA_2, MISTRAL], ids=["refused", "moved to the last message"])
def test_a_context_without_a_place_stands_before_the_first_message(source: str) -> None:
    assert not template(source).has_system and "no place for a system prompt" in "".join(template(source).notes)
    assert "be honest .\n\nturn 1 ." in said(source, "be honest .")
    assert template(source).stable


def test_templates_read_the_same_date_every_day() -> None:
    assert "Today Date: 01 Jan 2025" in said(LLAMA_3)
    assert "Today Date: 24 Dec 2026" in said(LLAMA_3, clock=date(2026, 12, 24))
    assert "January 01, 2025.\nYou are Grain.\n\nbe honest ." in said(GRANITE, "be honest .")
    assert "every day is 2025-01-01 (rollout.clock)" in "".join(template(GRANITE).notes)
    assert "clock" not in "".join(template(QWEN_2_5).notes)


def test_an_argument_reaches_every_rendering() -> None:
    closed = Renderer(tokenizer_of("bytes", QWEN_3), TemplateSettings(arguments={"enable_thinking": False}))
    for ids in (closed.open("", "hello"), closed.extend("hello", finished=True)):
        assert closed.tokenizer.decode(ids).endswith("assistant\n<think>\n\n</think>\n\n")
    assert closed.stable and not closed.opened


@pytest.mark.parametrize(
    ("source", "name", "told"),
    [
        (QWEN_3, "enable_thinkin", "did you mean 'enable_thinking'. It reads enable_thinking$"),
        (QWEN_2_5, "enable_thinking", r"does not read 'enable_thinking'\. It reads no argument$"),
        (LLAMA_3, "messages", r"does not read 'messages'\. It reads date_string$"),
    ],
)
def test_an_argument_that_the_template_does_not_read_is_refused(source: str, name: str, told: str) -> None:
    with pytest.raises(TemplateError, match=told):
        template(source, arguments={name: False})


@pytest.mark.parametrize("source", [QWEN_3, R1])
def test_templates_that_drop_thoughts_are_appended_to_unless_a_study_wants_the_template(source: str) -> None:
    kept, literal = template(source), template(source, thoughts="template")
    assert kept.stable and not literal.stable
    assert "here they stay (rollout.thoughts: keep)" in "".join(kept.notes)
    assert "every turn becomes a sequence of its own" in "".join(literal.notes)


@pytest.mark.parametrize("family", ["Qwen2.5", "Gemma 2", "Gemma 3", "Llama 3", "Granite", "Mistral", "Phi-3"])
def test_templates_that_keep_thoughts_are_the_same_in_both(family: str) -> None:
    assert template(FAMILIES[family]).stable and template(FAMILIES[family], thoughts="template").stable


@pytest.mark.parametrize("family", FAMILIES)
def test_a_message_is_not_rendered_anew_if_it_is_known_what_would_come_out(family: str) -> None:
    made = template(FAMILIES[family])
    for message in ("", "\n", " a\tb \u2003", "turn 1 .", "\x1c c"):
        assert made.after_reply(message) == made._talk(message).partition("sentinel reply two")[2]
    rendered: list[object] = []
    made.text = lambda *_, **__: rendered.append(1) or ""  # type: ignore[method-assign,func-returns-value]
    assert "turn 2 ." in made.after_reply("turn 2 .") and not rendered


def test_a_template_that_changes_messages_in_another_way_is_rendered_for_each() -> None:
    lower = QWEN_3.replace("{{ m.content }}", "{{ m.content | lower | trim }}")
    assert "turn 2 ." in template(lower).after_reply(" Turn 2 . ")


def test_a_template_that_is_no_jinja_is_refused() -> None:
    with pytest.raises(TemplateError, match="is no valid Jinja"):
        template("{% for m in messages %}")


def test_tags_that_only_transformers_knows_are_read_over() -> None:
    marked = QWEN_3.replace("{{ m.content }}", "{% generation %}{{ m.content }}{% endgeneration %}")
    assert template(marked).arguments == ["enable_thinking"]
