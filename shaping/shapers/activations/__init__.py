"""Shapers that add directions to hidden states, take them out, or bound them."""
