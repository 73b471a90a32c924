"""Episodes to browse: an index over episode files, pages of them on loopback or as files, and logs for Inspect."""
