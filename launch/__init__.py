"""How studies run: configuration, controller, Ray, run directories, report, command line."""

import os

from shaping.together import check_together

# Threads that wait must not spin: on shared cores, spinning slows multi-threaded pre-training ten times. The OpenMP
# runtime reads this once, when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

check_together()
