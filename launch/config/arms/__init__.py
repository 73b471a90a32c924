"""The arms of a study and what multiplies them: axes, factorials, generated controls, seats."""
