"""Constraints limit or price actions. One file, one method."""

from shaping.constraints.action_mask import ActionMask
from shaping.constraints.overseer_penalty import OverseerPenalty

__all__ = ["ActionMask", "OverseerPenalty"]
