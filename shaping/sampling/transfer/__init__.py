"""Weights on their way from a learner to an engine."""
