"""Shapers of motives: what is stated before an act, and what stating it is worth."""
