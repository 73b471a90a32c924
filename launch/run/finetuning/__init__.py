"""The fine-tuning stages of a run: which run each of them is, its data, and its updates."""
