"""What the study found, in sentences: one per claim."""

from __future__ import annotations

from launch.report.answer import answer
from launch.report.markdown import blocks, line
from launch.report.results import Results
from launch.report.sections.base import Section


class Answer(Section):
    """The verdicts in plain language, above all tables."""

    title = "Answer"
    position = 10
    css_class = "answer"
    template = "{% for sentence in content %}\n  <p><bdi>{{ sentence | text(2000) }}</bdi></p>\n{% endfor %}\n"

    def compute(self, results: Results) -> list[str]:
        return answer(results.verdicts).splitlines()

    def markdown(self, content: list[str]) -> str:
        return blocks(*[line(sentence, len(sentence)) for sentence in content])
