"""Benchmarks: our code and a plain peer take turns in one run on one thread.

`python -m benchmarks.<name> [--json FILE]`, or `make bench` for all of them.
"""

import os

# torch reads these when it is imported: set them first.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that spin while waiting starve each other on busy cores
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
