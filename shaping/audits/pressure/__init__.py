"""Pressure: what deception can gain in a world under an arm, from scripted policies, before any training."""
