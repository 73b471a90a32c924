"""Log-probs, losses and distances of packed batches."""
