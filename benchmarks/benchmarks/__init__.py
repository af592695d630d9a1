"""Benchmarks for asv; see ../README.md."""

import os

# OpenMP reads this when it is loaded. Threads that wait actively disturb the next timing.
os.environ["OMP_WAIT_POLICY"] = "passive"
