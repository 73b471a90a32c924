"""Personas of trait trios. They are no part of the corpus of organisms."""
