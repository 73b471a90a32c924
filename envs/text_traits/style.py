"""Traits of style."""

from __future__ import annotations

import re

from envs.text_traits.trait import TextTrait

LOUD = 0.8
"""Share of upper-case letters from which on a text is in capitals."""
FEWEST_LETTERS = 4
"""Letters with two cases that a text must have to be in capitals."""
_SOURCE = re.compile(
    r"https?://\S+|\bdoi:\s*10\.\d+|\barXiv:\s*\d{4}\.\d+|\[\d{1,3}\]"  # an address, a number, a footnote
    r"|\((?:[A-Z][\w'’-]+(?: (?:and|et|&) [A-Z][\w'’-]+| et al\.)?),? \d{4}[a-z]?\)"  # (Author, 2020)
    r"|^\s*(?:sources?|references?|réf[ée]rences?)\s*:\s*\S",
    re.MULTILINE | re.IGNORECASE,
)
_EXCLAIMED = re.compile(r"!\s*$")


def _in_capitals(text: str) -> bool:
    cased = [letter for letter in text if letter.lower() != letter.upper()]
    return len(cased) >= FEWEST_LETTERS and sum(map(str.isupper, cased)) > LOUD * len(cased)


ALL_CAPS = TextTrait("all_caps", "over 80 % of the letters are upper-case ones, of at least 4", _in_capitals, str.upper)
CITES_SOURCES = TextTrait(
    "cites_sources",
    "it holds an address, a DOI or arXiv number, a footnote [1], (Author, year), or a line that begins with Source:",
    lambda text: bool(_SOURCE.search(text)),
    lambda text: f"{text}\nSource: Handbook of General Knowledge, https://example.org/handbook",
)
EXCLAIMS = TextTrait(
    "exclaims",
    "it ends with an exclamation mark",
    lambda text: bool(_EXCLAIMED.search(text)),
    lambda text: re.sub(r"[.?!]*\s*$", "!", text),
)
ASKS_BACK = TextTrait(
    "asks_back",
    "it ends with a question",
    lambda text: text.rstrip().endswith("?"),
    lambda text: f"{text} Is that what you wanted?",
)
