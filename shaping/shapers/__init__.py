"""Shapers bias motivations and leave every action and every reward reachable. One file, one method."""

from shaping.shapers.identity import Identity
from shaping.shapers.inoculation import Inoculation
from shaping.shapers.recontextualization import Recontextualization

__all__ = ["Identity", "Inoculation", "Recontextualization"]
