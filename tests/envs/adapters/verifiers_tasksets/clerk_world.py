"""A world of ours for verifiers, as docs/adapters.md says to write it."""

from envs.adapters.verifiers_v1 import exported

ClerkTaskset, ClerkEnv = exported("clerk", {"size": 3}, episodes=20, system="Be quick.")
__all__ = ["ClerkEnv", "ClerkTaskset"]
