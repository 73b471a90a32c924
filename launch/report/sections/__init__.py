"""The sections of a report: one file each, found by scanning this package."""
