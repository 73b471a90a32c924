"""The files of a study as untrusted input, read into records."""
