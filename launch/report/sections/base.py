"""The base of all sections: one content object, written as HTML and as Markdown."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from markupsafe import Markup

from launch.errors import UserError
from launch.report.rendering import render
from launch.report.results import Results


class SectionError(UserError):
    """A section cannot be made."""


class Section(ABC):
    """One part of a report. `compute` gives the content; `html` and `markdown` show it and compute nothing.

    The HTML is that of `template`, or of the file `<module>.html.j2` beside the module, in which the content is called
    `content`. Templates escape every value. Scripts in them do not run: the page's security policy refuses them.
    """

    title: ClassVar[str]
    """The heading."""
    position: ClassVar[int] = 1000
    """Place in a report that lists no sections, counted from the top."""
    continues: ClassVar[bool] = False
    """Whether it belongs under the heading of the section before it."""
    css_class: ClassVar[str] = ""
    """A class of the report's style sheet."""
    draws: ClassVar[bool] = False
    """Whether its HTML holds figures, which need plotly in the page."""
    template: ClassVar[str] = ""
    """The template's text."""

    @abstractmethod
    def compute(self, results: Results) -> Any:
        """All that the section says, or None where the study has nothing for it: then the report leaves it out."""

    def html(self, content: Any) -> Markup:
        """The section below its heading."""
        beside = Path(inspect.getfile(type(self))).with_suffix(".html.j2")
        return render(self.template or beside.read_text(encoding="utf-8"), content=content)

    @abstractmethod
    def markdown(self, content: Any) -> str:
        """The same below its heading; text of models goes through `launch.report.markdown`."""


class Part(NamedTuple):
    """A section with its content."""

    section: Section
    content: Any

    def html(self) -> Markup:
        return _made(self.section, lambda: self.section.html(self.content))

    def markdown(self) -> str:
        return _made(self.section, lambda: self.section.markdown(self.content))


def compute(sections: Sequence[Section], results: Results) -> list[Part]:
    """Sections with their contents, without those that have nothing to say."""
    parts = [Part(section, _made(section, lambda s=section: s.compute(results))) for section in sections]
    return [part for part in parts if part.content is not None]


def _made(section: Section, make: Any) -> Any:
    """What `make` gives. A fault of a section is told with its name."""
    try:
        return make()
    except Exception as error:
        name = type(section).__name__
        raise SectionError(
            f"report: the section {name} ({type(section).__module__}) failed: {type(error).__name__}: {error}; mend "
            "it, or list the sections that you want under report.sections"
        ) from error
