"""Compiled kernels over flat arrays, built from scalar functions."""
