"""What the command line does for monitors: fit probes, read runs with them, and ask policies what they believe."""
