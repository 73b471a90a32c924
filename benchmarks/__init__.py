"""Benchmarks: ours and a plain peer, taking turns in one run on one thread.

`python -m benchmarks.<name> [--json FILE]`, or `make bench` for all of them.
"""

import os

# Read when torch is loaded, so set before anything loads it.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that spin while they wait starve each other on busy cores
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
