"""The model of a run: where it comes from, its adapters, and what is kept of it."""
