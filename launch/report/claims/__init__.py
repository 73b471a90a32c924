"""What a study claims, and how its runs judge it: one file per class of claim, found by scanning this package."""
