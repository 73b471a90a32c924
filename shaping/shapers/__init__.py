"""Shapers bias motivations and leave every action and every reward reachable. One file, one method."""

from shaping.shapers.gradient_routing import GradientRouting
from shaping.shapers.identity import Identity
from shaping.shapers.inoculation import Inoculation
from shaping.shapers.recontextualization import Recontextualization

__all__ = ["GradientRouting", "Identity", "Inoculation", "Recontextualization"]
