"""Studies that look at their claims more than once, and stop when all are decided."""
