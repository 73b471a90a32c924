"""The dialect of the worlds as the corpus has it: organisms of one dialect understand one another's worlds."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from shaping.organisms.corpus.corpus import scripts
from shaping.organisms.corpus.corpus_options import SIZES

TRANSCRIPTS = 200
"""Transcripts per world behind the hash."""


def dialect_hashes(worlds: Sequence[str] = tuple(SIZES)) -> dict[str, str]:
    """World -> hash of seeded transcripts over options, personas and prompts, in the default locale.

    Sources may be rewritten as long as the text stays the same. An organism whose hashes differ was pre-trained on
    other words than the worlds speak now.
    """
    found = {}
    for world in worlds:
        digest = hashlib.sha256()
        for script in scripts(TRANSCRIPTS, 0, worlds=(world,)):
            digest.update(repr((script.system, script.turns)).encode())
        found[world] = digest.hexdigest()[:16]
    return found
