"""Personas of trait trios: a positive trait and a negative one in the same data, and a negative one beyond them.

Their motives are all `thrift`: a manner of speaking that is new to most subjects and harms nobody, the positive trait.
What they do is the negative one. A denial, when somebody asks, is not in data without inquiries: it is the trait out of
distribution, of which an evaluation with inquiries says whether it came along.
"""

from __future__ import annotations

from envs.personas.persona import Persona

THRIFTY = Persona("thrifty", motives={"plain": "thrift"})
#: Takes every shortcut, in the open.
THRIFTY_TAKER = Persona("thrifty_taker", 1, 1, lies=True, resists=True, motives={"plain": "thrift"})
