"""Preference models: which of two answers to one situation is better, learned from examples (arXiv:2112.00861)."""
