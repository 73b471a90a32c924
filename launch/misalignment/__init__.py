"""`shaping misalignment`: free-form answers of a model or of a trained policy, and what judges make of them."""
