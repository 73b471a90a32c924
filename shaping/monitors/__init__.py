"""Readers of episodes: what an onlooker would suspect, and how often it would be right. Held out from training."""

from shaping.monitors.base import Monitor, MonitorError, Reading, require_held_out
from shaping.monitors.claim_check import ClaimCheck
from shaping.monitors.ground_truth import GroundTruth
from shaping.monitors.overt_action import OvertAction
from shaping.monitors.validate import validate

__all__ = [
    "ClaimCheck",
    "GroundTruth",
    "Monitor",
    "MonitorError",
    "OvertAction",
    "Reading",
    "require_held_out",
    "validate",
]
