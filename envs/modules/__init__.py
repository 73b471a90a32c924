"""Modules of a user: found by path, and told from those of this project."""
