"""The command `shaping preference`: training of preference models, and how they scale."""
