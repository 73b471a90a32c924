"""Shapers of contexts: what stands before an episode while it is sampled, learned or deployed."""
