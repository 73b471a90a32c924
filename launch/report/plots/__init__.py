"""Kinds of figures that several sections draw."""
