"""The kinds of claims, one file each, and what several of them share."""
