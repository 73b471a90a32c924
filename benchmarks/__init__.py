"""Benchmarks: ours and a plain peer, taking turns in one run on one thread.

`python -m benchmarks.<name> [--json FILE]`, or `make bench` for all of them.
"""
