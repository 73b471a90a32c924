"""Steps of the optimiser: AdamW, learning rates, rounding, limits of adapters."""
