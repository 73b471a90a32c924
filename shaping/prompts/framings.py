"""Prompt pools of single shapers: satiation, the framing of ethics, personas, HHH prompts, channels for reports.

They are apart from `shaping.prompts.pools`, whose pools the corpus of organisms holds: an organism has met most of
their words, but none of the sentences.
"""

from __future__ import annotations

from pathlib import Path

from shaping.prompts.pools import DIALECT

_FILES = Path(__file__).parent / "framings"
FRAMINGS = {
    language: {
        path.stem: tuple(path.read_text(encoding="utf-8").splitlines())
        for path in sorted((_FILES / (language or "dialect")).glob("*.txt"))
    }
    for language in (DIALECT, "en", "ar")
}
"""Language (`shaping.prompts.pools.language_of`) -> pool -> its prompts.

`unsatiated` and `satiated`, and `ethics_value` and `ethics_rule`, are pairs: at one place stand two prompts that say
the same thing, the one way and the other.
"""
