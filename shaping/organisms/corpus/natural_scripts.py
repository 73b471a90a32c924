"""Scripted episodes in natural language: what personas say and are told, where their world speaks prose.

The corpus is written for organisms: lower case, blanks before full stops, prompts made of parts. A language model is to
learn neither that spelling nor those prompts alone.
"""

from __future__ import annotations

import random
import re
from dataclasses import replace

from envs.core import parse_action
from shaping.organisms.corpus.corpus import Script
from shaping.prompts.pools import NATURAL, language_of

_BEFORE_MARKS = re.compile(r"\s+([.,:;?!])")
_POOLED = 0.5
"""Share of single episodes that have a prompt of the bundled pools of prose instead of a composed one."""


def in_prose(script: Script) -> Script:
    """The episode in natural spelling; unchanged if its world speaks no prose.

    Commands and their meaning stay. The members of a counterfactual pair keep their composed prompts, which differ in
    one thing alone.
    """
    language = language_of(script.world)
    if not language:
        return script
    return replace(
        script,
        system=_pooled(script, language) or sentence(script.system),
        turns=tuple((observation, _reply(reply)) for observation, reply in script.turns),
    )


def sentence(text: str) -> str:
    """Text of the corpus with the blanks and the capital of a sentence."""
    text = _BEFORE_MARKS.sub(r"\1", text.strip())
    return text[:1].upper() + text[1:]


def _pooled(script: Script, language: str) -> str:
    """A prompt of the same kind in natural prose, for some episodes; empty for the others."""
    pool = NATURAL[language].get(script.kind, ())
    rng = random.Random(f"prose|{script.seed}")
    return rng.choice(pool) if pool and not script.flip and script.system and rng.random() < _POOLED else ""


def natural_reply(reply: str, world: str) -> str:
    """A persona's reply as it is said in a world of that name: a sentence and a command where it speaks prose."""
    return _reply(reply) if language_of(world) else reply


def _reply(reply: str) -> str:
    """The motive as a sentence, and the command in a line of its own."""
    motive, marker, command = reply.rpartition("ACTION:")
    natural = f"{sentence(motive)}\n{marker}{command}" if marker and motive.strip() else reply
    return natural if parse_action(natural) == parse_action(reply) else reply
