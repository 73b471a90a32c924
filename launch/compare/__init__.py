"""Studies beside each other: the same claims, their effects with intervals, and what else differs."""
