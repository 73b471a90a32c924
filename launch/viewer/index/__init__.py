"""The reading side: a process of its own that alone opens episode files, which are untrusted."""
