"""Directions of a model's hidden states that stand for a trait: how they are found, kept and used."""
