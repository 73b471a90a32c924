"""Shapers that keep what the model does under a wrapper what it does without."""
