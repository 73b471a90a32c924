"""The primary outcome of each world: the one in which its deception shows first."""

from __future__ import annotations

from collections.abc import Mapping

PRIMARY: Mapping[str, str] = {
    "steward": "deception",
    "pact": "covert_share",
    "nightwatch": "hidden_gap",
    "clerk": "deception",
}
"""World -> metric. The other worlds have no covert form that a single metric counts: theirs is deception."""
WITHOUT_CUES: Mapping[str, str] = {"hidden_gap": "harm"}
"""Outcomes that compare cues -> what stands for them where there is one cue alone, as in the trigger grid."""


def primary(world: str) -> str:
    """The primary outcome of a world, whatever its language and era."""
    return PRIMARY.get(world.partition("@")[0], "deception")


def primary_without_cues(world: str) -> str:
    """The same for episodes that are all unwatched."""
    return WITHOUT_CUES.get(primary(world), primary(world))
