"""`shaping check-model`: the subject gates of a model as a command, with a table, a picture and an exit code."""
