"""Benchmarks for asv; see ../README.md."""

import os

# Read when the OpenMP library is loaded: threads that spin after a kernel disturb the next timing.
os.environ["OMP_WAIT_POLICY"] = "passive"
