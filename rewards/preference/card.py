"""The name of the file that makes a directory a preference model."""

CARD = "preference.json"
