"""Several seats in the loop: who sits where, what each player samples with, and games after training."""
