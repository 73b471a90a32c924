"""Shapers of parameters: which weights, adapters or subspaces learn from what, and what is dropped at deployment."""
