"""The command `shaping preference`: training of preference models for rewards."""
